"""steady_state against long time integration on random magnets: two roads that share only the equation of motion.

Fixed seed in the suite; `pytest tests/test_random_agreement.py --random-seed 7` takes another.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nrjax import LayeredMagnet, Phase, classify_trajectory, simulate, simulate_many, steady_state, units

POINTS = 300
# Of these the last, which are watched while they precess.
PRECESSING = 50


def build(exchange, damping, loss_rate, temperature, **options):
    return LayeredMagnet(exchange, damping, -10.0, loss_rate, 1.0, temperature, **options)


@pytest.mark.long
def test_labels_agree(random_seed):
    rng = np.random.default_rng(random_seed)
    uniform = lambda low, high, *shape: rng.uniform(low, high, (POINTS, *shape))  # noqa: E731
    exchange = np.stack([uniform(0, 12), uniform(-8, 12), uniform(-8, 12), uniform(0, 12)], axis=1).reshape(-1, 2, 2)
    damping = 10 ** uniform(-2.7, -0.7, 2)
    loss_rate = uniform(0, 0.15, 2) * (uniform(0, 1, 2) < 0.7)
    parameters = (exchange, damping, loss_rate, uniform(3, 9))
    starts = rng.normal(size=(POINTS, 2, 3))
    starts = starts / np.linalg.norm(starts, axis=-1, keepdims=True) * uniform(0.1, 0.9, 2)[..., None]

    solve = jax.jit(jax.vmap(lambda p, m: steady_state(build(*p), m, throw=False)))
    states = solve(parameters, starts)
    labels = np.asarray(states.phase)

    near_boundary = np.zeros(POINTS, dtype=bool)
    for which in range(len(parameters)):
        for factor in (0.99, 1.01):
            moved = tuple(p * factor if i == which else p for i, p in enumerate(parameters))
            near_boundary |= np.asarray(solve(moved, starts).phase) != labels
    assert near_boundary.mean() < 0.1

    growth = np.abs(np.asarray(states.growth_rate))
    wait = np.where(np.isfinite(growth), np.clip(30.0 / np.maximum(growth, 1e-12), 500.0, 20000.0), 8000.0)
    # Precession turns the whole magnet (test_shape.py) and costs most of the time: it rests while lengths and angle
    # settle, and all but the last magnets are watched without it.
    resting = jax.vmap(functools.partial(build, gyro=0.0))(*parameters)
    late = simulate_many(resting, starts, wait / units.ps, max_steps=None, progress=False)
    gyro = np.where(np.arange(POINTS) < POINTS - PRECESSING, 0.0, 2.0)
    magnets = jax.vmap(lambda p, g: build(*p, gyro=g))(parameters, gyro)
    watched = simulate_many(
        magnets, late.ms[:, -1], 600.0, saveat=np.linspace(0, 600, 1200), max_steps=None, progress=False
    )
    told = np.asarray(jax.vmap(classify_trajectory)(jax.tree.map(jnp.asarray, watched)).phase)

    compared = ~near_boundary
    agree = (told == labels)[compared]
    different = np.flatnonzero(compared & (told != labels))
    detail = [(int(i), int(labels[i]), int(told[i])) for i in different]
    assert compared.sum() >= 200
    assert agree.mean() >= 0.995, f"(point, steady_state, simulate): {detail}"
    # Whatever steady_state says with confidence is never another label: a doubt is UNRESOLVED.
    valid = np.asarray(states.valid)
    assert np.asarray(states.residual)[valid].max() < 1e-9
    assert len(set(labels[valid])) >= 4


def test_a_chase_that_grows_from_almost_nothing():
    """Its tilt decays to 1e-54 while a collinear cycle draws it in, and then grows: a simulation that follows the tilt
    itself ends where steady_state says, one that leaves it to rounding cycles for ever."""
    exchange = [[11.615114279095756, 2.5204449723575024], [-6.525179732043881, 9.091159029985485]]
    damping, loss = [0.0029479352108246707, 0.02909411546462894], [0.0, 0.0359263433208392]
    magnet = build(exchange, damping, loss, 7.538881975014512, gyro=0.0)
    start = [[0.3452983, -0.3163718, -0.5932276], [-0.4501318, -0.2021284, 0.0562879]]
    state = steady_state(magnet, start)
    assert int(state.phase) == Phase.CHIRAL
    end = 50_000.0 / units.ps
    with pytest.warns(UserWarning, match="less than thermal motion leaves"):
        followed = simulate(magnet, start, end, saveat=np.asarray([end]), max_steps=None)
    np.testing.assert_allclose(np.linalg.norm(followed.ms[-1], axis=1), state.lengths, rtol=1e-5)


def test_a_cycle_is_not_the_weakly_stable_state_beside_it():
    """Found among random magnets: next to a Hopf bifurcation both are attractors, and from this start the moments keep
    cycling, while the coarse steps of the search end in the state."""
    exchange = [[6.03822437, -0.53271133], [11.38899439, 2.50771499]]
    magnet = build(exchange, [0.02328285, 0.01402679], [0.0, 0.0], 4.69218567, gyro=0.0)
    start = [[0.3845, -0.157, -0.1453], [0.4256, 0.3751, -0.1725]]
    times = np.linspace(19000.0, 20000.0, 500) / units.ps
    lengths = np.linalg.norm(simulate(magnet, start, times[-1], saveat=times, max_steps=None).ms, axis=2)
    assert lengths.max() > 10.0 * lengths.min(), "it does not cycle: the test has lost its point"
    state = steady_state(magnet, start, throw=False)
    assert int(state.phase) in (Phase.UNRESOLVED, Phase.MODULATED)
    assert not bool(state.valid)
