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
    illuminated_bilayer,
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


@pytest.mark.parametrize(
    "rabi, detuning, linewidth", [(44.7, 0.0, 100.0), (200.0, 0.0, 50.0), (20.0, -400.0, 100.0), (300.0, 250.0, 80.0)]
)
def test_doublon_and_upper_level_eliminated_together(rabi, detuning, linewidth):
    """2 g - 2 i gamma is the singlet's energy with the upper level kept: the error falls as v^2, at kappa/Gamma from
    0.0006 to 16, on resonance and off."""
    intensity = rabi**2 / float(Laser(1.0, 1550.0).field_squared)
    laser, transition = Laser(intensity, 2500.0 + detuning), OpticalTransition(2500.0, 1.0, linewidth)
    errors = []
    for v in (8.0, 4.0):
        moment = LocalMoment(-1500.0, 3500.0, v, transition)
        exact = microscopic.singlet_with_upper_level(v, 2000.0, 1500.0, rabi, detuning, linewidth)
        projected = 2 * float(moment.sd_coupling(laser)) - 2j * float(moment.loss_rate(laser))
        errors.append((abs(exact.real / projected.real - 1), abs(exact.imag / projected.imag - 1)))
    assert max(errors[1]) < 2e-3
    np.testing.assert_allclose(np.divide(*errors), 4.0, rtol=0.05)


@pytest.mark.parametrize("rabi", [0.0, 300.0])
def test_potential_scattering(rabi):
    """2 K is the energy of the moment under two conduction electrons (one of them may hop on it), less that under none
    (its own may hop away): exact two-level energies, doublon cheaper or dearer than the hole, dark or lit."""
    laser = Laser(rabi**2 / float(Laser(1.0, 1550.0).field_squared), 1550.0)
    for level in (-1500.0, -2200.0):
        moment = LocalMoment(level, 3500.0, 3.0, OpticalTransition(1550.0, 1.0, 100.0))
        kappa = float(moment.pump_rate(laser))
        doublon = microscopic.slowest_eigenvalue(np.array([[0.0, 3.0], [3.0, 3500.0 + level - 1j * kappa]])).real
        hole = microscopic.slowest_eigenvalue(np.array([[0.0, 3.0], [3.0, -level]])).real
        assert float(moment.potential_scattering(laser)) == pytest.approx(0.5 * (doublon - hole), rel=1e-4)


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


def test_which_resonance():
    """The energy of a transition is that of the virtual doublon; the published condition is Delta_2 lower, and at it a
    narrow upper level hardly takes virtual doublons away."""
    level, repulsion, upper, fermi = -1800.0, 4000.0, 3900.0, 100.0
    virtual = OpticalTransition.of_virtual_doublon(upper, 1.0, 100.0, fermi)
    real = OpticalTransition.of_real_doublon(upper, level, repulsion, 1.0, 100.0)
    moment = LocalMoment(level, repulsion, 10.0, virtual, fermi)
    assert float(virtual.energy) == 3800.0 and float(real.energy) == 1700.0
    assert float(virtual.energy - real.energy) == float(moment.doublon_cost)
    lost = [float(moment.loss_rate(Laser(1e10, energy))) for energy in (3800.0, 1700.0)]
    exact = [
        -0.5
        * microscopic.singlet_with_upper_level(
            10.0, 2100.0, 1900.0, float(virtual.rabi_energy(Laser(1e10, 1.0e3))), energy - 3800.0, 100.0
        ).imag
        for energy in (3800.0, 1700.0)
    ]
    np.testing.assert_allclose(lost, exact, rtol=1e-3)
    assert lost[1] < 1e-3 * lost[0]


def test_a_moment_may_have_any_number_for_each_layer():
    """An array in the transition alone stands for both layers, as one in the level does."""
    laser, wanted = Laser(2.65e10, 1550.0), illuminated_bilayer()
    for moment in (
        LocalMoment(-2000.0, 4000.0, 100.0, OpticalTransition([1850.0, 1550.0], 1.0, 100.0)),
        LocalMoment([-2000.0, -2000.0], 4000.0, 100.0, OpticalTransition([1850.0, 1550.0], 1.0, 100.0)),
    ):
        np.testing.assert_allclose(
            hanai2025_bilayer().with_light(moment, laser).loss_rate, wanted.loss_rate, rtol=1e-12
        )


def test_validity_names_what_is_not_small():
    moment = LocalMoment(-2000.0, 4000.0, 100.0, OpticalTransition(1550.0, 1.0, 100.0))
    # kappa/Gamma = 0.75 is no matter for virtual doublons.
    assert not moment.validity(Laser(1e11, 1550.0)).warnings
    narrow = LocalMoment(-2000.0, 4000.0, 100.0, OpticalTransition(1550.0, 1.0, 2.0))
    strong = narrow.validity(Laser(1e11, 1550.0))
    assert set(strong.warnings) == {"loss rate / linewidth"}
    assert "lower the intensity" in str(strong) and "0.05" in str(strong)
    broad = LocalMoment(-200.0, 4000.0, 400.0).validity(None)
    assert set(broad.warnings) == {"hybridization / doublon cost", "hybridization / hole cost"}
    assert float(broad["hybridization / hole cost"]) == pytest.approx(2.0)
    assert len(broad) == 2 and dict(broad).keys() == broad.parameters.keys()
    # One layer of which it is said is enough.
    stack = LocalMoment([-2000.0, -200.0], 4000.0, [100.0, 400.0]).validity(None)
    assert set(stack.warnings) == set(broad.warnings) and "= 2" in str(stack)
    # Light 25 meV below resonance shifts each of the doublon's electrons by -I d^2/..., and so its cost by twice that.
    shifted = Laser(1e13, 1550.0 - 25.0)
    quarter = 0.25 * float(shifted.field_squared)
    cost = 2000.0 - 2.0 * 25.0 * quarter / (25.0**2 + 50.0**2) - 1j * 100.0 * quarter / (25.0**2 + 50.0**2)
    measured = float(moment.validity(shifted)["hybridization / doublon cost"])
    assert measured == pytest.approx(100.0 / abs(cost), rel=1e-12)


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
    assert Laser(1.0, 1550.0).at(3.0).is_constant and not own.is_constant and own.plateau().is_constant


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
            lambda: hanai2025_bilayer().with_light(LocalMoment([-2000.0] * 3, 4000.0, 100.0), Laser(1.0, 1550.0)),
            ["(3,)", "2 layers"],
        ),
        (
            lambda: hanai2025_bilayer().with_light([LocalMoment(-2000.0, 4000.0, 100.0)] * 3, Laser(1.0, 1550.0)),
            ["3 moments", "2 layers"],
        ),
        (
            lambda: hanai2025_bilayer().with_light(LocalMoment(-2000.0, 4000.0, 100.0), Laser([1.0, 2.0], 1550.0)),
            ["one laser", "vmap"],
        ),
    ],
)
def test_bad_input(make, words):
    assert_refused(make, words)
