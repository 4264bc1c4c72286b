"""Two and more condensates against their free energy, closed forms and the cubic of their deviations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nrjax import CoupledCondensates, Phase, ShapeDynamics, simulate, steady_state, steady_states
from nrjax.magnets import Gram
from nrjax.presets import two_band_superconductor
from nrjax.rotation.shape_solver import state_near_gram
from tests.refusal import assert_refused

# Gamma, a, b, eta, (Lambda_12, Lambda_21), loss.
CHASING = {
    "reciprocal light, unequal rates": ([1.0, 0.1], [-1.0, -1.0], [1.0, 1.0], 0.3, (-0.1, -0.1), [0.1, 0.1]),
    "second band above its own onset": ([1.0, 0.1], [-1.0, 0.5], [1.0, 1.0], 1.0, (-0.3, -0.3), [0.3, 0.3]),
    "one-sided light": ([0.7, 0.4], [-1.0, -0.8], [1.2, 0.9], 0.25, (0.0, -0.4), [0.0, 0.1]),
}


def condensates(rate, linear, quartic, josephson, light, loss):
    return CoupledCondensates(rate, linear, quartic, josephson, [[0.0, light[0]], [light[1], 0.0]], loss)


def closed_form(rate, linear, quartic, josephson, light, loss):
    """Lengths, angle, |omega| of the chase, and the largest real part of the cubic of its deviations."""
    rate, linear, quartic, loss = map(np.asarray, (rate, linear, quartic, loss))
    (p1, p2), (b1, b2) = -rate * linear - loss, rate * quartic
    a, b = rate * josephson + np.asarray(light)
    q = -b / a
    first = (p1 + p2) / (b1 + b2 * q)
    w = (b2 * q * p1 - b1 * p2) / (b1 + b2 * q)
    omega = np.sqrt(-a * b - w**2)
    u, v = 2 * b1 * first, 2 * b2 * first * q
    cubic = [1.0, u + v, u * v - w * (v - u) + 4 * omega**2, 2 * omega**2 * (u + v)]
    angle = np.arccos(-w * np.sign(a) / np.sqrt(-a * b))
    return np.sqrt([first, first * q]), angle, omega, np.roots(cubic).real.max()


def test_chasing_condensates_in_closed_form():
    models = [condensates(*numbers) for numbers in CHASING.values()]
    states = steady_states(jax.tree.map(lambda *x: jnp.stack(x), *models))
    assert np.asarray(states.valid).all() and (np.asarray(states.phase) == Phase.CHIRAL).all()
    for i, numbers in enumerate(CHASING.values()):
        lengths, angle, omega, growth = closed_form(*numbers)
        np.testing.assert_allclose(states.lengths[i], lengths, rtol=1e-9)
        np.testing.assert_allclose(states.angle[i], angle, rtol=1e-9)
        np.testing.assert_allclose(jnp.abs(states.angular_velocity[i]), [0.0, 0.0, omega], rtol=1e-9)
        np.testing.assert_allclose(states.growth_rate[i], growth, rtol=1e-9)
        # Pairs that light converts are those that friction takes: the charge of a stationary state is conserved.
        (one, two), rate = np.asarray(states.m[i]), np.asarray(numbers[0])
        current = (numbers[4][0] / rate[0] - numbers[4][1] / rate[1]) * (one[0] * two[1] - one[1] * two[0])
        friction = float(states.angular_velocity[i, 2]) * (one @ one / rate[0] + two @ two / rate[1])
        assert friction == pytest.approx(current, rel=1e-9)
    np.testing.assert_allclose(
        states.lengths[:2], [[0.9325048082, 0.5516772844], [0.5833333333, 0.3118047822]], rtol=1e-9
    )


def test_the_preset_is_the_first_of_them():
    """Reciprocal light on bands of unequal rates, by every number."""
    made, wanted = two_band_superconductor(), condensates(*CHASING["reciprocal light, unequal rates"])
    for one, other in zip(jax.tree.leaves(made), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)
    # The chase is there between Gamma_2 eta = 0.03 (and the amplitudes' edge above it) and 0.165, where order ends.
    phases = [int(steady_state(two_band_superconductor(g), throw=False).phase) for g in (0.02, 0.1, 0.17)]
    assert phases[1] == Phase.CHIRAL and Phase.CHIRAL not in (phases[0], phases[2])


def test_where_the_chase_becomes_modulated():
    """The growth rate of the chase vanishes at gamma = 0.0587298506; below, amplitudes keep swinging."""
    for gamma, grows in ((0.0587298, True), (0.0587299, False)):
        numbers = ([1.0, 0.1], [-1.0, -1.0], [1.0, 1.0], 0.3, (-gamma, -gamma), [gamma, gamma])
        (a, b), angle, _, growth = closed_form(*numbers)
        model = condensates(*numbers)
        gram = Gram(*map(jnp.asarray, (a * a, b * b, a * b * np.cos(angle))))
        state = state_near_gram(model, gram, jnp.asarray(False), jnp.eye(2))
        assert (growth > 0) == grows == (float(state.growth_rate) > 0)
        assert float(state.growth_rate) == pytest.approx(growth, abs=1e-12)
    swinging = steady_state(condensates([1.0, 1.0], [-0.5, -0.22], [1.0, 0.05], 0.3, (0.0, -0.6), [0.0, 0.0]))
    assert swinging.phase == Phase.MODULATED and bool(swinging.valid)


def test_in_darkness_the_velocity_goes_down_the_free_energy():
    rate, linear, quartic = np.array([0.7, 0.4, 1.3]), np.array([-1.0, 0.2, -0.3]), np.array([1.2, 0.9, 0.4])
    eta = np.array([[0.0, 0.3, 0.1], [0.3, 0.0, -0.2], [0.1, -0.2, 0.0]])

    def energy(psi):
        squares = jnp.sum(psi**2, axis=1)
        return jnp.sum(linear * squares + 0.5 * quartic * squares**2) - jnp.sum(eta * (psi @ psi.T))

    psi = jnp.asarray([[0.3, -0.2], [0.5, 0.1], [-0.4, 0.6]])
    model = CoupledCondensates(rate, linear, quartic, eta)
    np.testing.assert_allclose(model.vector_field(0.0, psi), -0.5 * rate[:, None] * jax.grad(energy)(psi), rtol=1e-13)
    end = simulate(model, psi, 5.0).ms[-1]
    assert float(energy(end)) < float(energy(psi))


def test_scalar_products_have_the_equation_of_three_components():
    """dG/dt = W G + G W^T follows from the velocity for n = 2 as for n = 3."""
    model = condensates(*CHASING["one-sided light"])
    psi = jnp.asarray([[0.3, -0.2], [0.5, 0.1]])
    _, rate = jax.jvp(lambda m: m @ m.T, (psi,), (model.vector_field(0.0, psi),))
    g = psi @ psi.T
    shape = ShapeDynamics(model)
    gram = Gram(g[0, 0], g[1, 1], g[0, 1])
    np.testing.assert_allclose(jnp.stack(shape.rates(gram)), [rate[0, 0], rate[1, 1], rate[0, 1]], rtol=1e-12)
    _, jacobian, _ = shape.linearize(gram)
    expected = jax.jacfwd(lambda x: shape.vector_field(0.0, x))(jnp.stack(gram))
    np.testing.assert_allclose(jnp.asarray(jacobian), expected, rtol=1e-12)


def test_a_ring_of_condensates_turns():
    """Each drives the next by A and the one before by B: with phases k a apart, |psi|^2 = 1 + (A + B) cos k and
    omega = (A - B) sin k for Gamma = -a = b = 1."""
    ahead, back, n = 0.2, -0.4, 3
    drive = ahead * np.roll(np.eye(n), 1, axis=1) + back * np.roll(np.eye(n), -1, axis=1)
    state = steady_state(CoupledCondensates(np.ones(n), -1.0, 1.0, 0.0, drive))
    k = 2.0 * np.pi / n
    assert state.phase == Phase.CHIRAL and bool(state.valid)
    np.testing.assert_allclose(state.lengths**2, 1.0 + (ahead + back) * np.cos(k), rtol=1e-9)
    np.testing.assert_allclose(jnp.abs(state.angular_velocity[2]), abs((ahead - back) * np.sin(k)), rtol=1e-9)


@pytest.mark.parametrize("double", [False, True])
def test_the_unit_of_psi_is_free(double):
    """The same ring with |psi|^2 in units of its own: psi goes like b^(-1/2), and omega stays."""
    quartic = np.array([1e-16, 1.0, 1e8, 1e18])
    drive = 0.2 * np.roll(np.eye(3), 1, axis=1) - 0.4 * np.roll(np.eye(3), -1, axis=1)
    start = np.array([[1.0, 0.0], [-0.5, 0.8], [-0.4, -0.9]])
    with jax.enable_x64(double):

        def solve(b):
            ring = CoupledCondensates(np.ones(3), -1.0, b, 0.0, drive)
            return steady_state(ring, start / jnp.sqrt(b), throw=False)

        found = jax.tree.map(np.asarray, jax.vmap(solve)(jnp.asarray(quartic)))
    assert found.valid.all() and (found.phase == Phase.CHIRAL).all()
    rtol = 1e-9 if double else 1e-4
    np.testing.assert_allclose(np.abs(found.angular_velocity[:, 2]), 0.6 * np.sqrt(0.75), rtol=rtol)
    np.testing.assert_allclose(found.lengths * np.sqrt(quartic)[:, None], np.full((4, 3), np.sqrt(1.1)), rtol=rtol)


def test_scalars_are_shared_by_all():
    ring = CoupledCondensates(1.0, -1.0, 1.0, np.zeros((3, 3)))
    assert ring.layers == 3 and CoupledCondensates(1.0, -1.0, 1.0, 0.2).layers == 2


def test_bad_input():
    good = CHASING["one-sided light"]
    assert_refused(lambda: condensates(0.0, *good[1:]), ["rate", "0", "greater than 0"])
    assert_refused(lambda: CoupledCondensates(1.0, -1.0, 0.0, 0.3), ["quartic", "0"])
    assert_refused(
        lambda: CoupledCondensates(1.0, -1.0, 1.0, [[0.1, 0.3], [0.3, 0.0]]), ["diagonal of josephson", "0.1"]
    )
    assert_refused(lambda: CoupledCondensates(1.0, -1.0, 1.0, 0.3, 0.0, -0.1), ["loss", "-0.1"])
    assert_refused(lambda: steady_state(condensates(*good), np.eye(3)), ["m0", "(3, 3)", "(2, 2)", "(x, y)"])
