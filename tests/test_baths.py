import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nrjax import ClassicalBath, QuantumBath


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
        h = 1e-3 * s
        # Fourth-order difference: its own error is below 1e-11.
        difference = (8 * (f(s + h) - f(s - h)) - (f(s + 2 * h) - f(s - 2 * h))) / (12 * h)
        assert jax.grad(f)(s) == pytest.approx(float(difference), rel=1e-9)


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
