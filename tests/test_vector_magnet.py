"""Moments of one, two and three components: baths in closed form, one shape for all, and what one component does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import ive

from nrjax import (
    ClassicalBath,
    Phase,
    PlanarBath,
    QuantumBath,
    VectorMagnet,
    classify_trajectory,
    hanai2025_bilayer,
    simulate,
    steady_state,
)
from tests.differences import slope
from tests.refusal import assert_refused

MAGNET = hanai2025_bilayer(0.05, 6.0)


def test_baths_are_ratios_of_bessel_functions():
    """phi/T = x I_(n/2-1)(x)/I_(n/2)(x); at x = 1 by numbers from elsewhere; and the slope."""
    for n, bath, at_one in (
        (1, QuantumBath(), 1.313035285499),
        (2, PlanarBath(), 2.240193723870),
        (3, ClassicalBath(), 3.194528049465),
    ):
        assert float(bath.reduced_rate(jnp.asarray(1.0))) == pytest.approx(at_one, rel=1e-12)
        assert float(bath.reduced_rate(jnp.asarray(0.0))) == pytest.approx(n, rel=1e-15)
        x = np.concatenate([np.geomspace(1e-3, 60.0, 200), [1.9999, 2.0, 2.0001]])
        expected = x * ive(n / 2 - 1, x) / ive(n / 2, x)
        np.testing.assert_allclose(bath.reduced_rate(jnp.asarray(x**2)), expected, rtol=1e-13)
    bath = PlanarBath()
    for s in (0.3, 3.9, 4.1, 50.0, 900.0):
        found = jax.grad(bath.reduced_rate)(jnp.asarray(s))
        np.testing.assert_allclose(found, slope(lambda s: bath.reduced_rate(jnp.asarray(s)), s, 1e-2 * s), rtol=1e-7)
    # 2 + s/4 - ...
    assert float(jax.grad(bath.reduced_rate)(jnp.asarray(0.0))) == pytest.approx(0.25, rel=1e-14)


@pytest.mark.parametrize("components", [2, 3])
def test_the_shape_knows_no_components(components):
    """With one bath lengths, angle and chase are those of the magnet; without precession there is no other turning."""
    state = steady_state(VectorMagnet.like(MAGNET, components))
    known = steady_state(MAGNET)
    assert int(state.phase) == Phase.CHIRAL and bool(state.valid) and state.m.shape == (2, components)
    for name in ("lengths", "angle", "chase_frequency", "growth_rate"):
        np.testing.assert_allclose(getattr(state, name), getattr(known, name), rtol=1e-9)
    np.testing.assert_allclose(state.rotation_frequency, state.chase_frequency, rtol=1e-9)


@pytest.mark.long
def test_an_easy_plane_chases_at_its_own_rate():
    """The chase of classical moments in a plane, followed through time."""
    planar = VectorMagnet.like(hanai2025_bilayer(0.05, 6.0, temperature=4.0), 2, PlanarBath())
    state = steady_state(planar)
    assert int(state.phase) == Phase.CHIRAL and bool(state.valid)
    course = simulate(planar, state.m, 40.0, rtol=1e-10)
    lengths = np.linalg.norm(course.ms[-1], axis=1)
    np.testing.assert_allclose(lengths, state.lengths, rtol=1e-6)
    omega = float(state.angular_velocity[2])
    turned = omega * state.m @ jnp.array([[0.0, 1.0], [-1.0, 0.0]])
    np.testing.assert_allclose(planar.vector_field(0.0, state.m), turned, atol=1e-12)
    # A layer of two components in its own exchange of 10 meV loses its order at 10/2.
    for factor, ordered in ((0.98, True), (1.02, False)):
        found = steady_state(VectorMagnet([[10.0]], 0.1, factor * 5.0, components=2), throw=False)
        assert bool(found.valid) and (float(found.lengths[0]) > 0.05) == ordered, factor


def test_one_component_cannot_turn():
    """What would chase swings through zero; the scalar products have no tilt that could break the line."""
    swinging = VectorMagnet.like(MAGNET, 1)
    assert not swinging.shape_closes
    state = steady_state(swinging, throw=False)
    assert int(state.phase) != Phase.CHIRAL
    unstable = VectorMagnet([[10.0, 8.0], [-8.0, 10.0]], 0.1, 6.0, components=1)
    moving = steady_state(unstable, throw=False)
    assert int(moving.phase) == Phase.MODULATED
    course = simulate(unstable, np.array([[0.3], [0.1]]), 60.0, saveat=np.linspace(30.0, 60.0, 601))
    assert course.ms.shape == (601, 2, 1) and float(course.ms.min()) < -0.1 and float(course.ms.max()) > 0.1
    assert int(classify_trajectory(course).phase) == Phase.MODULATED


def test_bad_input():
    assert_refused(lambda: VectorMagnet([[1.0]], 0.1, 1.0, components=4), ["components", "4", "1, 2 or 3"])
    assert_refused(lambda: VectorMagnet([1.0, 2.0], 0.1, 1.0), ["exchange", "(2,)", "square"])
    assert_refused(lambda: VectorMagnet([[1.0]], 0.1, -1.0), ["temperature", "-1"])
    assert_refused(lambda: VectorMagnet([[1.0]], -0.1, 1.0), ["damping", "-0.1"])
    assert_refused(lambda: VectorMagnet([[1.0]], 0.1, 1.0, loss=-2.0), ["loss", "-2"])
