"""The largest real part of a spectrum, against LAPACK and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nrjax._numerics.spectral_abscissa import largest_real_part

SIZES = (1, 2, 3, 6, 9, 12)
many = jax.jit(jax.vmap(largest_real_part))
slopes = jax.jit(jax.vmap(jax.grad(largest_real_part)))


def leading(matrix):
    """The eigenvalue of LAPACK, and tr(P dA) as a matrix of derivatives, from its left and right vectors."""
    values, right = np.linalg.eig(matrix)
    which = np.argmax(np.real(values))
    left = np.linalg.inv(right)[which]
    return np.real(values[which]), np.real(np.outer(left, right[:, which]))


@pytest.mark.parametrize("n", SIZES)
def test_random_matrices(n):
    """Real and complex leading eigenvalues, of all sizes, and their derivatives."""
    rng = np.random.default_rng(n)
    matrices = rng.normal(size=(40, n, n)) * 10.0 ** rng.uniform(-3, 3, (40, 1, 1))
    sizes = np.linalg.norm(matrices, axis=(1, 2))
    found, slope = np.asarray(many(jnp.asarray(matrices))), np.asarray(slopes(jnp.asarray(matrices)))
    pairs = 0
    for i, matrix in enumerate(matrices):
        rate, derivative = leading(matrix)
        assert abs(found[i] - rate) < 1e-11 * sizes[i]
        np.testing.assert_allclose(slope[i], derivative, atol=1e-9 * max(np.abs(derivative).max(), 1.0))
        pairs += np.iscomplexobj(np.linalg.eigvals(matrix)) and n > 1
    assert n < 3 or pairs > 5


def test_small_next_to_large():
    """A rate of 1e-9 beside frequencies of 10 and a decay of 100: what decides next to a boundary."""
    rng = np.random.default_rng(0)
    for rate in (1e-9, -1e-9, 0.0):
        inner = np.zeros((6, 6))
        inner[:2, :2] = [[rate, 10.0], [-10.0, rate]]
        inner[2:, 2:] = np.diag([-100.0, -1e-3, -5.0, -100.0])
        turn = np.linalg.qr(rng.normal(size=(6, 6)))[0]
        assert float(largest_real_part(jnp.asarray(turn @ inner @ turn.T))) == pytest.approx(rate, abs=1e-12)


def test_special_matrices():
    """Nothing at all, several equal eigenvalues (their mean derivative), and one that lacks a vector."""
    assert abs(float(largest_real_part(jnp.zeros((4, 4))))) < 1e-15
    np.testing.assert_allclose(jax.grad(largest_real_part)(jnp.zeros((3, 3))), np.eye(3) / 3.0, atol=1e-12)
    triple = jnp.kron(jnp.asarray([[-1.0, 2.0], [0.5, -3.0]]), jnp.eye(3))
    rate, derivative = leading(np.array([[-1.0, 2.0], [0.5, -3.0]]))
    assert float(largest_real_part(triple)) == pytest.approx(rate, abs=1e-14)
    np.testing.assert_allclose(jax.grad(largest_real_part)(triple), np.kron(derivative, np.eye(3)) / 3.0, atol=1e-9)
    pairs = jnp.kron(jnp.asarray([[0.2, 1.2], [-0.12, -0.256]]), jnp.eye(3))
    assert float(largest_real_part(pairs)) == pytest.approx(-0.028, abs=1e-14)
    np.testing.assert_allclose(jax.grad(largest_real_part)(pairs), np.eye(6) / 6.0, atol=1e-9)
    jordan = jnp.asarray([[-0.5, 1.0, 0.0], [0.0, -0.5, 1.0], [0.0, 0.0, -0.5]])
    # LAPACK, too, has it to the cube root of rounding only.
    assert float(largest_real_part(jordan)) == pytest.approx(-0.5, abs=1e-9)
    assert np.isnan(largest_real_part(jnp.full((3, 3), jnp.nan)))


def test_single_precision():
    rng = np.random.default_rng(3)
    matrices = rng.normal(size=(40, 6, 6))
    with jax.enable_x64(False):
        found = np.asarray(many(jnp.asarray(matrices, jnp.float32)))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [leading(m)[0] for m in matrices], atol=2e-5)


def test_forward_and_reverse_agree_and_second_derivatives_are_refused():
    matrix = jnp.asarray(np.random.default_rng(5).normal(size=(5, 5)))
    forward, reverse = jax.jacfwd(largest_real_part)(matrix), jax.jacrev(largest_real_part)(matrix)
    np.testing.assert_allclose(forward, reverse, atol=1e-12)
    with pytest.raises(RuntimeError, match="first derivatives only"):
        jax.hessian(largest_real_part)(matrix)
