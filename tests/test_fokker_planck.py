"""Single spins with thermal noise, infinitely many of them, against an independent prototype and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nrjax
from nrjax import FokkerPlanckMagnet, Phase, hanai2025_bilayer, steady_state
from tests.differences import slope
from tests.magnets import classical_bilayer
from tests.refusal import assert_refused

WEAK, CLEAR = (5.0, 3.0, 0.05), (6.0, 2.0, 0.08)
# Point, c, gyro, and m_A = a e3, m_B = c e1 + d e3, Omega, all in that frame.
PUBLISHED = [
    (WEAK, 1.5, 2.0, (0.27095460, 0.03476634, -0.03106092, -0.34820068, 0.13011911, -2.39845671)),
    pytest.param(
        *(WEAK, 1.0, 2.0, (0.23018508, 0.02322444, -0.03215633, -0.23247893, 0.06798052, -1.97996277)),
        marks=pytest.mark.long,
    ),
    (CLEAR, 1.5, 0.0, (0.68947079, 0.13461297, -0.08530169, 0.0, 0.26595156, 0.0)),
    (CLEAR, 1.5, 2.0, (0.69097758, 0.13399019, -0.08356490, -1.61250129, 0.26960500, -7.28592945)),
]


@pytest.mark.parametrize(("point", "factor", "gyro", "expected"), PUBLISHED)
def test_the_published_rotations(point, factor, gyro, expected):
    state = steady_state(FokkerPlanckMagnet(classical_bilayer(*point, gyro=gyro), 10, factor))
    m, omega = np.asarray(state.m), np.asarray(state.angular_velocity)
    third = m[0] / np.linalg.norm(m[0])
    along = m[1] @ third
    first = m[1] - along * third
    first /= np.linalg.norm(first)
    second = np.cross(third, first)
    found = [m[0] @ third, m[1] @ first, along, omega @ first, omega @ second, omega @ third]
    np.testing.assert_allclose(found, expected, rtol=0, atol=5e-8)
    assert int(state.phase) == Phase.CHIRAL and float(state.residual) < 1e-10
    np.testing.assert_allclose(state.chase_frequency * nrjax.units.GHz, abs(omega @ second), rtol=1e-9)


def test_harmonics_left_out_are_told():
    """The residual is the error of fewer harmonics, to its order; too few are not valid."""
    exact = steady_state(FokkerPlanckMagnet(classical_bilayer(*CLEAR, gyro=2.0), 10))
    states = [
        steady_state(FokkerPlanckMagnet(classical_bilayer(*CLEAR, gyro=2.0), lmax), throw=False) for lmax in (2, 4, 6)
    ]
    errors = [float(np.abs(state.lengths - exact.lengths).max() / exact.lengths.max()) for state in states]
    assert errors[0] > 10 * errors[1] > 100 * errors[2]
    for state, error in zip(states, errors, strict=True):
        assert 0.2 < float(state.residual) / error < 5.0
    assert [bool(state.valid) for state in states] == [False, False, True]


@pytest.mark.parametrize("gyro", [0.0, 2.0])
def test_equilibrium_is_that_of_boltzmann(gyro):
    """In darkness every gyro and c gives Langevin's lengths, and deviations decay."""
    for factor in (1.0, 1.5):
        state = steady_state(FokkerPlanckMagnet(classical_bilayer(6.0, 2.0, 0.0, gyro), 12, factor))
        x = np.asarray([10.0, 6.0, 6.0, 5.0]).reshape(2, 2) @ np.asarray(state.lengths) / 2.0
        np.testing.assert_allclose(state.lengths, 1.0 / np.tanh(x) - 1.0 / x, rtol=1e-7)
        assert int(state.phase) == Phase.ALIGNED and float(state.growth_rate) < 0.0
        assert not np.any(state.angular_velocity)


def test_free_spins_forget_with_the_rates_of_diffusion():
    """Harmonics of degree l decay at l (l + 1) D, and small moments at c = 3/2 like the closure's."""
    model = FokkerPlanckMagnet(classical_bilayer(0.0, 20.0, 0.05, 0.0), 4)
    generators = np.asarray(model.generators(jnp.zeros((2, 3)), jnp.zeros(3)))
    diffusion = np.asarray([1.5 * 2 * 0.1 * 20.0, 1.5 * 2 * 0.002 * 20.0 + 0.025])
    degrees = np.repeat(np.arange(5), 2 * np.arange(5) + 1)
    for layer in range(2):
        np.testing.assert_allclose(generators[layer], np.diag(-degrees * (degrees + 1) * diffusion[layer]), atol=1e-12)
    # W(0) = 2 alpha j + Lambda - (2 alpha 3 T + loss): of the first layer alone.
    state = steady_state(model)
    closure = steady_state(model.magnet)
    assert int(state.phase) == Phase.PARAMAGNETIC
    np.testing.assert_allclose(state.growth_rate, closure.growth_rate, rtol=1e-9)


NOISE = [
    pytest.param(WEAK, 0.0, (18.0087, 19.3878), marks=pytest.mark.long),
    (WEAK, 2.0, (9463.86, 11.0800)),
    (CLEAR, 0.0, (1.23596, 1.66053)),
    (CLEAR, 2.0, (201.368, 1.29307)),
]


@pytest.mark.parametrize(("point", "gyro", "expected"), NOISE)
def test_the_published_linewidths(point, gyro, expected):
    """N D_par and N D_perp in meV."""
    found = nrjax.linewidth(FokkerPlanckMagnet(classical_bilayer(*point, gyro=gyro), 8), 1.0)
    np.testing.assert_allclose([found.parallel, found.perpendicular], expected, rtol=5e-6)


def test_derivatives_and_sweeps():
    def frequency(loss):
        return steady_state(FokkerPlanckMagnet(classical_bilayer(6.0, 2.0, loss, 2.0), 6)).chase_frequency

    np.testing.assert_allclose(jax.grad(frequency)(0.08), slope(frequency, 0.08, 1e-4), rtol=1e-6)
    found = nrjax.sweep(
        lambda loss: FokkerPlanckMagnet(classical_bilayer(6.0, 2.0, loss, 2.0)),
        {"loss": [0.0, 0.05, 0.08]},
        progress=False,
    )
    assert found.phase.values[-1] == Phase.CHIRAL and found.phase.values[0] == Phase.ALIGNED
    np.testing.assert_allclose(found.chase_frequency[-1], frequency(0.08), rtol=1e-9)


def test_what_it_refuses():
    classical = classical_bilayer(*CLEAR, gyro=2.0)
    assert_refused(lambda: FokkerPlanckMagnet(hanai2025_bilayer()), ["QuantumBath", "ClassicalBath()"])
    assert_refused(
        lambda: FokkerPlanckMagnet(classical_bilayer(*CLEAR, gyro=2.0, field=[0.0, 0.0, 1.0])), ["isotropic", "Zeeman"]
    )
    assert_refused(lambda: FokkerPlanckMagnet(classical, 1), ["lmax = 1", "2 or greater"])
    assert_refused(lambda: FokkerPlanckMagnet(classical, 6, 0.0), ["llg_factor", "greater than 0"])
    with pytest.raises(NotImplementedError, match="steady_state"):
        nrjax.simulate(FokkerPlanckMagnet(classical), [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0]], 1.0)
