"""Single spins with thermal noise, infinitely many of them, against an independent prototype and closed forms."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq

import nrjax
from nrjax import (
    Boundary,
    ClassicalBath,
    FokkerPlanckMagnet,
    LayeredMagnet,
    Phase,
    boundary,
    hanai2025_bilayer,
    steady_state,
)
from nrjax.rotation import indicator
from nrjax.rotation.collinear_distributions import collinear_distributions, tilt_growth
from tests.differences import slope
from tests.magnets import classical_bilayer
from tests.refusal import assert_refused

WEAK, CLEAR = (5.0, 3.0, 0.05), (6.0, 2.0, 0.08)
COLD = LayeredMagnet([[10.0]], 0.1, -10.0, 0.0, 1.0, 0.3, bath=ClassicalBath())
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
    assert [int(state.phase) for state in states] == [Phase.UNRESOLVED, Phase.UNRESOLVED, Phase.CHIRAL]
    with pytest.raises(RuntimeError, match="a greater lmax"):
        steady_state(FokkerPlanckMagnet(classical_bilayer(*CLEAR, gyro=2.0), 4))
    # In the cold too few make the only state seem unstable.
    with pytest.raises(RuntimeError, match="a greater lmax"):
        steady_state(FokkerPlanckMagnet(COLD))


@pytest.mark.long
def test_harmonics_that_are_enough_in_the_cold():
    """|m| = L(|m| j/T)."""
    m: Any = brentq(lambda m: 1.0 / np.tanh(m / 0.03) - 0.03 / m - m, 0.5, 1.0)
    found = steady_state(FokkerPlanckMagnet(COLD, 20))
    assert float(found.residual) < 1e-5
    np.testing.assert_allclose(found.lengths, [m], rtol=5.0 * float(found.residual))


@pytest.mark.parametrize("gyro", [pytest.param(0.0, marks=pytest.mark.long), 2.0])
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
    pytest.param(CLEAR, 2.0, (201.368, 1.29307), marks=pytest.mark.long),
]


@pytest.mark.parametrize(("point", "gyro", "expected"), NOISE)
def test_the_published_linewidths(point, gyro, expected):
    """N D_par and N D_perp in meV."""
    found = nrjax.linewidth(FokkerPlanckMagnet(classical_bilayer(*point, gyro=gyro), 8), 1.0)
    np.testing.assert_allclose([found.parallel, found.perpendicular], expected, rtol=5e-6)


@pytest.mark.long
def test_derivatives_and_sweeps():
    @jax.jit
    def seen(loss):
        state = steady_state(FokkerPlanckMagnet(classical_bilayer(6.0, 2.0, loss, 2.0)))
        return jnp.stack([state.chase_frequency, state.growth_rate])

    np.testing.assert_allclose(jax.jacfwd(seen)(0.08), slope(seen, 0.08, 1e-4), rtol=1e-6)
    found = nrjax.sweep(
        lambda loss: FokkerPlanckMagnet(classical_bilayer(6.0, 2.0, loss, 2.0)),
        {"loss": [0.0, 0.05, 0.08]},
        progress=False,
    )
    assert found.phase.values[-1] == Phase.CHIRAL and found.phase.values[0] == Phase.ALIGNED
    np.testing.assert_allclose(found.chase_frequency[-1], seen(0.08)[0], rtol=1e-9)


# Where the chase begins, and for weak exchange ends again, at T = 3 meV and gyro = 2, by an independent prototype.
ONSETS = [
    (1.5, 3.0, []),
    (1.5, 3.5, [0.034372, 0.07201]),
    (1.5, 4.0, [0.027861]),
    (1.5, 5.0, [0.024004]),
    (1.5, 7.0, [0.02177]),
    (1.0, 3.5, []),
    (1.0, 4.0, []),
    (1.0, 5.0, [0.026701]),
    (1.0, 7.0, [0.022632]),
]
# Half of the last digit of an onset, and of an end.
DIGITS = np.array([5.1e-7, 5.1e-6])
CLOSURES = [(3.0, []), (3.5, [0.035574, 0.07106]), (4.0, [0.028329]), (5.0, [0.024242]), (7.0, [0.021911])]


def single_spins(loss, exchange, factor=1.5):
    return FokkerPlanckMagnet(classical_bilayer(exchange, 3.0, loss, 2.0), 6, factor)


def onsets(build, **fixed):
    return boundary(build, Boundary.ANTIALIGNED_CHIRAL, "loss", (0.0, 0.12), **fixed)


def test_the_published_onsets():
    for factor, exchange, expected in ONSETS:
        found = onsets(single_spins, exchange=exchange, factor=factor)
        assert found.shape == (len(expected),) and np.all(np.abs(found - expected) < DIGITS[: len(expected)])
    for exchange, expected in CLOSURES:
        found = onsets(lambda loss, exchange: single_spins(loss, exchange).magnet, exchange=exchange)
        assert found.shape == (len(expected),) and np.all(np.abs(found - expected) < DIGITS[: len(expected)])


def test_boundaries_separate_the_phases():
    """Next to each onset, and to where moments vanish: the states that Newton's method finds from the closure's."""
    # The last four lie where the closure is in the other of the two phases.
    for loss, exchange, factor, expected in (
        (0.0237, 5.0, 1.5, Phase.ANTIALIGNED),
        (0.0243, 5.0, 1.5, Phase.CHIRAL),
        (0.035, 3.5, 1.5, Phase.CHIRAL),
        (0.0718, 3.5, 1.5, Phase.CHIRAL),
        (0.04, 3.5, 1.0, Phase.ANTIALIGNED),
        (0.04, 4.0, 1.0, Phase.ANTIALIGNED),
    ):
        state = steady_state(single_spins(loss, exchange, factor))
        assert bool(state.valid) and int(state.phase) == expected, (loss, exchange, factor)
    # Also from a start that is turned: m_A along its own, m_B on its side.
    start = np.array([[0.3, 0.0, 0.0], [0.0, 0.1, 0.0]])
    m = np.asarray(steady_state(single_spins(0.035, 3.5), start).m)
    assert m[0, 0] > 0.1 and m[1, 1] > 1e-3 and np.abs(m[:, 2]).max() < 1e-6 and abs(m[0, 1]) < 0.01 * m[0, 0]
    model = single_spins(0.021, 5.0)
    state = steady_state(model)
    upright = collinear_distributions(model, -1.0)
    np.testing.assert_allclose(np.abs(upright.m), state.lengths, rtol=1e-9)
    np.testing.assert_allclose(tilt_growth(model, -1.0), state.growth_rate, rtol=1e-6)
    # Small moments at c = 3/2 are the closure's.
    for kind in (Boundary.CHIRAL_PARAMAGNETIC, Boundary.ALIGNED_ANTIALIGNED):
        of_both = [
            boundary(build, kind, "loss", (0.0, 0.5), exchange=6.0)
            for build in (single_spins, lambda loss, exchange: single_spins(loss, exchange).magnet)
        ]
        assert of_both[0].size == 1
        np.testing.assert_allclose(*of_both, rtol=1e-12)


@pytest.mark.parametrize("cosine", [-1.0, 1.0])
def test_collinear_states_of_either_sense(cosine):
    """Weakly coupled in darkness there are two, each with Langevin's lengths."""
    dark = FokkerPlanckMagnet(classical_bilayer(0.3, 1.5, 0.0, 2.0), 16)
    m = np.asarray(collinear_distributions(dark, cosine).m)
    x = np.array([[10.0, 0.3], [0.3, 5.0]]) @ m / 1.5
    np.testing.assert_allclose(m, 1.0 / np.tanh(x) - 1.0 / x, rtol=1e-9)
    assert m[0] > 0 and m[1] * cosine > 0.1


def test_derivatives_of_a_boundary():
    def growth(loss):
        return indicator(single_spins(loss, 5.0), Boundary.ANTIALIGNED_CHIRAL)

    np.testing.assert_allclose(jax.grad(growth)(0.03), slope(growth, 0.03, 1e-5), rtol=1e-6)


def test_what_it_refuses():
    classical = classical_bilayer(*CLEAR, gyro=2.0)
    assert_refused(lambda: FokkerPlanckMagnet(hanai2025_bilayer()), ["QuantumBath", "ClassicalBath()"])
    assert_refused(
        lambda: FokkerPlanckMagnet(classical_bilayer(*CLEAR, gyro=2.0, field=[0.0, 0.0, 1.0])), ["isotropic", "Zeeman"]
    )
    assert_refused(lambda: FokkerPlanckMagnet(classical, 1), ["lmax = 1", "2 or greater"])
    assert_refused(lambda: FokkerPlanckMagnet(classical, 6, 0.0), ["llg_factor", "greater than 0"])
    three = LayeredMagnet(jnp.ones((3, 3)), 0.1, -10.0, 0.0, 1.0, 3.0, bath=ClassicalBath())
    for other in (three, FokkerPlanckMagnet(three), classical_bilayer(*CLEAR, field=[0.0, 0.0, 1.0])):
        onset = functools.partial(indicator, other, Boundary.ANTIALIGNED_CHIRAL)
        assert_refused(onset, ["two magnetic layers", "Sweep it"])
    with pytest.raises(NotImplementedError, match="steady_state"):
        nrjax.simulate(FokkerPlanckMagnet(classical), [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0]], 1.0)
