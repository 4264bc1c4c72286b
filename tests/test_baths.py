import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nrjax import (
    RESULTS,
    AbstractBath,
    ClassicalBath,
    LayeredMagnet,
    Phase,
    QuantumBath,
    hanai2025_bilayer,
    steady_state,
)
from tests import differences


def phi_quantum(h, temperature):
    return h / np.tanh(h / temperature)


def phi_classical(h, temperature):
    x = h / temperature
    return h / (1 / np.tanh(x) - 1 / x)


@pytest.mark.parametrize("bath, phi", [(QuantumBath(), phi_quantum), (ClassicalBath(), phi_classical)])
def test_relaxation_rate_is_its_definition(bath, phi):
    # Dense around the field where the series takes over (x = 0.3); the naive formula is exact to 1e-12 there.
    h = np.concatenate([np.linspace(0.05, 4, 400), [20.0, 300.0]]) * 7.0
    rate = bath.relaxation_rate(jnp.asarray(h**2), jnp.asarray(7.0))
    np.testing.assert_allclose(rate, phi(h, 7.0), rtol=2e-12)


@pytest.mark.parametrize("bath, limit, slope", [(QuantumBath(), 1.0, 1 / 3), (ClassicalBath(), 3.0, 1 / 5)])
def test_zero_field_limits(bath, limit, slope):
    # phi = T (1 + x^2/3) and T (3 + x^2/5) for small x = h/T.
    value, derivative = jax.value_and_grad(lambda s: bath.relaxation_rate(s, jnp.asarray(2.0)))(jnp.asarray(0.0))
    assert value == pytest.approx(2.0 * limit, rel=1e-15)
    assert derivative == pytest.approx(slope / 2.0, rel=1e-14)
    second = jax.grad(jax.grad(lambda s: bath.relaxation_rate(s, jnp.asarray(2.0))))(jnp.asarray(0.0))
    assert np.isfinite(second)


@pytest.mark.parametrize("bath", [QuantumBath(), ClassicalBath()])
def test_slope_agrees_with_differences_on_both_sides_of_the_series(bath):
    for s in (0.02, 0.0899, 0.0901, 3.0, 90.0):
        f = lambda x: bath.relaxation_rate(jnp.asarray(x), jnp.asarray(1.0))  # noqa: E731
        # The difference's own error is below 1e-11.
        assert jax.grad(f)(s) == pytest.approx(float(differences.slope(f, s, 1e-3 * s)), rel=1e-9)


@pytest.mark.parametrize("bath", [QuantumBath(), ClassicalBath()])
def test_inverse(bath):
    h = jnp.asarray([0.5, 3.0, 9.0, 40.0, 2000.0])
    temperature = jnp.full(5, 9.0)
    rate = bath.relaxation_rate(h**2, temperature)
    np.testing.assert_allclose(jnp.sqrt(bath.field_squared_at_rate(rate, temperature)), h, rtol=1e-10)


def test_equilibrium_length():
    h, temperature = jnp.asarray([0.3, 5.0, 50.0]), jnp.full(3, 4.0)
    np.testing.assert_allclose(QuantumBath().equilibrium_length(h, temperature), np.tanh(h / 4.0), rtol=1e-14)
    x = np.asarray(h) / 4.0
    np.testing.assert_allclose(ClassicalBath().equilibrium_length(h, temperature), 1 / np.tanh(x) - 1 / x, rtol=1e-12)


class Stiff(AbstractBath):
    """A bath with an energy scale of its own, E = 4 meV, which no f(|h|^2/T^2) describes."""

    def reduced_rate(self, s):
        return QuantumBath().reduced_rate(s)


def test_the_scaling_of_a_bath_cannot_be_broken_unnoticed():
    with pytest.raises(TypeError, match="reduced_rate"):

        class Own(AbstractBath):
            def reduced_rate(self, s):
                return 1.0 + s

            def relaxation_rate(self, field_squared, temperature):
                return temperature + jnp.sqrt(field_squared + 16.0)

    # Whoever gets round it is told: what decides is the magnet's own equation of motion.
    Stiff.relaxation_rate = lambda self, field_squared, temperature: temperature + field_squared / (temperature + 4.0)
    state = steady_state(hanai2025_bilayer(0.05, 6.0, bath=Stiff()), throw=False)
    assert not bool(state.valid) and int(state.phase) == Phase.UNRESOLVED
    assert state.result == RESULTS.inconsistent and float(state.residual) > 1e-3
    good = steady_state(hanai2025_bilayer(0.05, 6.0))
    assert bool(good.valid) and float(good.residual) < 1e-12


class Saturating(AbstractBath):
    """phi(h) = sqrt(T^2 + h^2)."""

    def reduced_rate(self, s):
        return jnp.sqrt(1.0 + s)


@pytest.mark.parametrize("bath, factor", [(QuantumBath(), 1.0), (ClassicalBath(), 3.0), (Saturating(), 1.0)])
def test_what_a_free_moment_forgets_is_the_bath_s_own(bath, factor):
    """At m = 0 the equation of motion relaxes at 2 alpha phi(0) + gamma n; phi(0) is T, or 3 T for vectors."""
    magnet = LayeredMagnet([[0.0]], 0.1, -10.0, 0.03, 1.2, 7.0, bath=bath)
    small = jnp.asarray([[0.0, 0.0, 1e-6]])
    rate = -float(magnet.vector_field(0.0, small)[0, 2]) / 1e-6
    assert float(magnet.free_relaxation()[0]) == pytest.approx(rate, rel=1e-9)
    assert rate == pytest.approx(0.2 * factor * 7.0 + 0.036, rel=1e-9)
