import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import constants

from nrjax import (
    Chirped,
    Constant,
    Gaussian,
    Laser,
    LocalMoment,
    OpticalTransition,
    Square,
    Tabulated,
    hanai2025_bilayer,
    units,
)
from tests.refusal import assert_refused
from tests.systems import microscopic


def test_units_from_si():
    intensity = 3.7e9  # W/cm^2
    field = np.sqrt(2 * intensity * 1e4 / (constants.epsilon_0 * constants.c))  # V/m
    laser = Laser(intensity, 1550.0)
    assert float(laser.peak_field) == pytest.approx(field * 1e-8, rel=1e-9)
    rabi = OpticalTransition(1500.0, 2.5, 80.0).rabi_energy(laser)
    assert float(rabi) == pytest.approx(2.5 * constants.angstrom * field * 1e3, rel=1e-9)
    watt = constants.e * 1e-3 / (constants.hbar / (constants.e * 1e-3))  # meV^2/hbar in W
    assert units.nW == pytest.approx(1e-9 / watt, rel=1e-9)


@pytest.mark.parametrize("detuning", [0.0, 40.0, -170.0])
def test_elimination_of_the_upper_level(detuning):
    """kappa and the light shift are those of the exact eigenvalue, to second order in Omega_R."""
    transition = OpticalTransition(1550.0, 1.0, 100.0)
    errors = []
    for intensity in (1e8, 1e7):
        laser = Laser(intensity, 1550.0 + detuning)
        exact = microscopic.driven_doublon(float(transition.rabi_energy(laser)), detuning, 100.0)
        kappa, shift = float(transition.pump_rate(laser)), float(transition.light_shift(laser))
        errors.append(abs(-2 * exact.imag - kappa) / kappa)
        assert exact.real == pytest.approx(shift, rel=5e-3, abs=1e-12)
        assert errors[-1] < 3 * float(transition.admixture(laser))
    assert errors[1] < 0.11 * errors[0]


def test_singlet_of_the_projection():
    """2 g - 2 i gamma is the singlet's energy, up to (v/U)^2."""
    errors = []
    for v in (100.0, 31.6):
        moment = LocalMoment(-1500.0, 4000.0, v, OpticalTransition(1550.0, 1.0, 100.0))
        laser = Laser(4e10, 1570.0)
        exact = microscopic.singlet(v, 2500.0, 1500.0, float(moment.pump_rate(laser)))
        projected = 2 * float(moment.sd_coupling(laser)) - 2j * float(moment.loss_rate(laser))
        errors.append((abs(exact.real / projected.real - 1), abs(exact.imag / projected.imag - 1)))
    assert errors[0][0] < 4e-2 and errors[0][1] < 4e-2
    assert errors[1][0] < 0.11 * errors[0][0] and errors[1][1] < 0.11 * errors[0][1]


def test_section_on_consistent_parameters():
    """Omega_R = sqrt(kappa Gamma) on resonance: 44.7 meV, 4.47 MV/cm, 2.65e10 W/cm^2 give gamma = kappa/400 = 0.05."""
    field = np.sqrt(20.0 * 100.0) / units.MV_per_cm
    intensity = (field * 1e8) ** 2 * constants.epsilon_0 * constants.c / 2 * 1e-4
    laser = Laser(intensity, 1550.0)
    moment = LocalMoment(-2000.0, 4000.0, 100.0, OpticalTransition(1550.0, 1.0, 100.0))
    assert float(moment.pump_rate(laser)) == pytest.approx(20.0, rel=1e-9)
    assert float(moment.loss_rate(laser)) == pytest.approx(0.05, rel=1e-3)
    assert float(moment.sd_coupling(laser)) == pytest.approx(-10.0, rel=1e-3)
    assert float(moment.sd_coupling()) == pytest.approx(-10.0, rel=1e-12)
    assert float(laser.peak_field) == pytest.approx(4.47, rel=1e-3)
    assert float(laser.intensity) == pytest.approx(2.65e10, rel=2e-3)


def test_virtual_doublons_ask_for_a_broad_upper_level():
    """With the upper level kept, a virtual doublon is lost as the closed form says only if Gamma exceeds Delta_2, or if
    the light is resonant with the virtual state: then the photon energy on resonance is Delta_2 higher."""
    v, cost, rabi = 10.0, 2000.0, 30.0

    def lost(linewidth, detuning):
        kappa = rabi**2 / linewidth
        closed = kappa * v**2 / (cost**2 + kappa**2 / 4)
        return -2 * microscopic.driven_virtual_doublon(v, cost, rabi, detuning, linewidth).imag / closed

    assert lost(2e5, 0.0) == pytest.approx(1.0, rel=2e-3)
    assert lost(100.0, 0.0) == pytest.approx((50.0 / 2000.0) ** 2, rel=1e-2)
    assert lost(100.0, cost) == pytest.approx(1.0, rel=2e-3)


def test_validity_names_what_is_not_small():
    moment = LocalMoment(-2000.0, 4000.0, 100.0, OpticalTransition(1550.0, 1.0, 100.0))
    assert not moment.validity(Laser(1e8, 1550.0)).warnings
    strong = moment.validity(Laser(1e11, 1550.0))
    assert set(strong.warnings) == {"pump rate / linewidth"}
    assert "lower the intensity" in str(strong) and "0.05" in str(strong)
    broad = LocalMoment(-200.0, 4000.0, 400.0).validity(None)
    assert set(broad.warnings) == {"hybridization / doublon cost", "hybridization / hole cost"}
    assert float(broad["hybridization / hole cost"]) == pytest.approx(2.0)
    assert len(broad) == 3 and dict(broad).keys() == broad.parameters.keys()


def test_darkness_is_reciprocal_and_its_derivative_finite():
    moment = LocalMoment(-2000.0, 4000.0, 100.0, OpticalTransition(1550.0, 1.0, 100.0))
    slope = jax.grad(lambda i: moment.loss_rate(Laser(i, 1550.0)))(0.0)
    assert float(slope) == pytest.approx(float(moment.loss_rate(Laser(1e4, 1550.0))) / 1e4, rel=1e-6)
    dark = hanai2025_bilayer(0.0, 6.0).with_light(moment, Laser(0.0, 1550.0))
    untouched = hanai2025_bilayer(0.0, 6.0).with_light(LocalMoment(-2000.0, 4000.0, 100.0), Laser(1e12, 1550.0))
    for magnet in (dark, untouched, dark.with_light(moment, Laser(1e12, 1550.0)).without_light()):
        np.testing.assert_array_equal(magnet.loss_rate, 0.0)
        np.testing.assert_allclose(magnet.sd_coupling, -10.0, rtol=1e-12)


def test_envelopes():
    t = np.linspace(-50.0, 150.0, 401)
    gaussian = Gaussian(40.0, 20.0)
    np.testing.assert_allclose([gaussian(x) for x in (30.0, 40.0, 50.0)], [0.5, 1.0, 0.5], rtol=1e-12)
    np.testing.assert_array_equal(Constant()(t), 1.0)
    square = Square(10.0, 90.0, 4.0)
    np.testing.assert_allclose(
        square(np.array([9.9, 12.0, 14.0, 90.0, 92.0, 94.1])), [0, 0.5, 1, 1, 0.5, 0], atol=1e-12
    )
    table = Tabulated([0.0, 10.0, 30.0], [0.0, 1.0, 0.5])
    np.testing.assert_allclose(table(np.array([-5.0, 5.0, 20.0, 99.0])), [0.0, 0.5, 0.75, 0.5])
    chirped = Laser(1e10, 1550.0, Chirped(2.0, 40.0, gaussian))
    assert float(chirped.at(50.0).photon_energy) == pytest.approx(1570.0)
    assert float(chirped.at(50.0).intensity) == pytest.approx(0.5e10)
    own = Laser(1e10, 1550.0, lambda t: jnp.cos(t) ** 2)
    assert float(own.at(1.0).intensity) == pytest.approx(1e10 * np.cos(1.0) ** 2)
    assert Laser(1.0, 1.0).at(3.0).is_constant and not own.is_constant and own.plateau().is_constant


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: Laser(-1.0, 1550.0), ["intensity", "-1", "0 or greater"]),
        (lambda: Laser(np.nan, 1550.0), ["intensity", "nan"]),
        (lambda: Laser(1.0, 0.0), ["photon_energy", "greater than 0"]),
        (lambda: Laser(1.0, 1550.0, 3.0), ["envelope", "not callable"]),
        (lambda: OpticalTransition(1550.0, 1.0, 0.0), ["linewidth", "greater than 0"]),
        (lambda: OpticalTransition(1550.0, -1.0, 1.0), ["dipole", "-1"]),
        (lambda: OpticalTransition(-5.0, 1.0, 1.0), ["transition energy", "-5"]),
        (lambda: LocalMoment(100.0, 4000.0, 100.0), ["level", "100", "no moment"]),
        (lambda: LocalMoment(-2000.0, 1900.0, 100.0), ["level + repulsion", "-100", "raise the repulsion"]),
        (lambda: LocalMoment(-2000.0, 4000.0, 100.0, fermi_energy=-2500.0), ["level", "500"]),
        (lambda: LocalMoment(-2000.0, 4000.0, np.inf), ["hybridization", "inf"]),
        (lambda: Gaussian(0.0, 0.0), ["width", "greater than 0"]),
        (lambda: Square(0.0, 10.0, 0.0), ["rise", "greater than 0"]),
        (lambda: Square(0.0, 1.0, 2.0), ["stop - start - rise", "risen"]),
        (lambda: Tabulated([0.0, 0.0], [1.0, 1.0]), ["times", "Sort"]),
        (lambda: Tabulated([0.0, 1.0], [1.0, -1.0]), ["values", "-1"]),
        (lambda: Tabulated([0.0], [1.0]), ["times", "(1,)"]),
        (
            lambda: hanai2025_bilayer().with_light([LocalMoment(-2000.0, 4000.0, 100.0)] * 3, Laser(1.0, 1.0)),
            ["3 moments", "2 layers"],
        ),
        (
            lambda: hanai2025_bilayer().with_light(LocalMoment(-2000.0, 4000.0, 100.0), Laser([1.0, 2.0], 1.0)),
            ["one laser", "vmap"],
        ),
    ],
)
def test_bad_input(make, words):
    assert_refused(make, words)
