"""Which two moments tell phase, angle and chase, in stacks whose first two do not span a plane."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nrjax import LayeredMagnet, Phase, classify_trajectory, simulate, steady_state, units
from nrjax.motion.rigid_rotation import leading_pair

# Two like layers, and one under light that couples to both of them: A, A', B.
LIKE = np.array([[8.0, 2.0, 3.0], [2.0, 8.0, 3.0], [3.0, 3.0, 5.0]])
DAMPING, LIGHT = np.array([0.1, 0.1, 0.002]), np.array([0.0, 0.0, 0.05])


def stack(order=(0, 1, 2), light=1.0):
    some = list(order)
    return LayeredMagnet(LIKE[np.ix_(some, some)], DAMPING[some], -10.0, light * LIGHT[some], 1.0, 9.0, gyro=0.3)


@pytest.mark.parametrize("seed", [0, 1])
def test_parallel_layers_chase_as_one(seed):
    """|n . Omega|, n the normal of the plane of all three: the same in whatever order layers are counted."""
    start = 0.3 * np.random.default_rng(seed).normal(size=(3, 3))
    chase = []
    for order in ((0, 1, 2), (0, 2, 1), (2, 0, 1)):
        state = steady_state(stack(order), start[list(order)])
        assert bool(state.valid) and int(state.phase) == Phase.CHIRAL
        m, omega = np.asarray(state.m), np.asarray(state.angular_velocity)
        lit, dark = order.index(2), order.index(0)
        normal = np.cross(m[dark], m[lit])
        expected = abs(normal @ omega) / np.linalg.norm(normal)
        chase.append(float(state.chase_frequency))
        assert chase[-1] == pytest.approx(expected / units.GHz, rel=1e-9)
    np.testing.assert_allclose(chase, chase[0], rtol=1e-6)


def test_derivative_where_the_first_two_are_parallel():
    start = 0.3 * np.random.default_rng(0).normal(size=(3, 3))

    def chase(light):
        return steady_state(stack(light=light), start).chase_frequency

    slope = (float(chase(1.001)) - float(chase(0.999))) / 0.002
    assert float(jax.grad(chase)(1.0)) == pytest.approx(slope, rel=1e-4)


def test_a_layer_between_two_opposite_ones_has_no_angle():
    """Frustration: the middle moment vanishes, and rounding tells nothing."""
    exchange = [[10.0, 3.0, 0.0], [3.0, 5.0, 3.0], [0.0, 3.0, 10.0]]
    magnet = LayeredMagnet(exchange, [0.1, 0.002, 0.1], -10.0, [0.0, 0.05, 0.0], 1.0, 9.0, gyro=0.3)
    for seed in range(3):
        state = steady_state(magnet, 0.3 * np.random.default_rng(seed).normal(size=(3, 3)))
        assert bool(state.valid) and int(state.phase) == Phase.ALIGNED
        assert float(state.lengths[1]) < 1e-12 < float(state.lengths[2])
        assert float(state.angle) == 0
        moved = simulate(magnet, state.m + 1e-9, 5.0, saveat=np.linspace(0.0, 5.0, 33), watch_tilt=False)
        told = classify_trajectory(moved)
        assert int(told.phase) == Phase.ALIGNED and np.sin(float(told.angle)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("size", [1.0, 1e-12])
def test_of_any_size(size):
    """Small moments have a plane as well: what vanishes does so beside the others."""
    m = size * jnp.asarray([[1.0, 0.0, 0.0], [2.0, 0.0, 1e-9], [0.0, 0.5, 0.0]])
    pair = leading_pair(m)
    np.testing.assert_allclose(pair.normal, [0.0, 0.0, 1.0], atol=1e-8)
    assert float(pair.angle) == pytest.approx(5e-10, rel=1e-3)
    nothing = leading_pair(jnp.asarray([[1.0, 0.0, 0.0], [1e-17, 3e-17, 0.0]]) * size)
    assert float(nothing.second) == 0 == float(nothing.angle) and not np.any(nothing.normal)
    assert not np.any(jax.jacfwd(lambda m: leading_pair(m).normal)(jnp.zeros((3, 3))))
