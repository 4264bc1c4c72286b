"""The largest real part of a spectrum from products of matrices alone: one small loop for a batch on any device."""

from typing import Any, Final

import equinox.internal as eqxi
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# Terms of the series of exp(X), |X| <= 1, to double precision, and how often it is squared: eigenvalues whose real
# parts differ by less than 2^-SQUARINGS of the matrix count as one.
TERMS: Final = 19
SQUARINGS: Final = 52
# Steps of Newton's iteration for a pseudoinverse: of condition numbers up to 2^(NEWTON/2).
NEWTON: Final = 56
ONCE: Final = "the growth rate has first derivatives only. Take differences of them."


@jax.custom_jvp
def largest_real_part(matrix: Float[Array, "n n"]) -> Float[Array, ""]:
    """max Re(lambda) = lim log|exp(A t)| / t, by squaring exp(A t) again and again.

    **Arguments** `matrix`: A, real, shape (n, n).

    **Returns** the largest real part of its eigenvalues, in the unit of A, to rounding. First derivatives are those of
    that eigenvalue, tr(P dA) with its projector P; of several of equal real part, their mean.
    """
    return _squared(matrix)[0]


@largest_real_part.defjvp
def _derivative(primals: Any, tangents: Any) -> tuple[Array, Array]:
    rate, power = _squared(primals[0])
    projector = _projector(power)
    projector = projector / jnp.trace(projector)
    projector = eqxi.nondifferentiable(projector, msg=ONCE)
    return rate, jnp.sum(projector.T * tangents[0])


def _projector(power: Array) -> Array:
    """On all eigenvalues that are left in a power, X^# X with its group inverse X^# = X (X^3)^+ X: one, a pair, or
    either several times over. Pseudoinverse by Newton's iteration: rounding does not reach it in so few steps."""
    cube = _product(power, _product(power, power))
    size = jnp.max(jnp.sum(jnp.abs(cube), axis=0)) * jnp.max(jnp.sum(jnp.abs(cube), axis=1))
    start = cube.T / jnp.where(size > 0, size, 1.0)
    inverse = jax.lax.fori_loop(0, NEWTON, lambda _, x: 2.0 * x - _product(x, _product(cube, x)), start)
    return _product(_product(power, _product(inverse, power)), power)


def _squared(matrix: Array) -> tuple[Array, Array]:
    """The rate, and a high power of exp(A) of norm 1."""
    n = matrix.shape[0]
    identity = jnp.eye(n, dtype=matrix.dtype)
    shift = jnp.trace(matrix) / n
    centred = matrix - shift * identity
    size = jnp.sqrt(jnp.sum(centred**2))
    scale = jnp.where(size > 0, size, 1.0)
    x = centred / scale

    def term(k: Any, series: Array) -> Array:
        return identity + _product(x, series) / (TERMS - k)

    def square(k: Any, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        rate, power = carry
        power = _product(power, power)
        norm = jnp.sqrt(jnp.sum(power**2))
        return rate + jnp.log(norm) * 0.5 ** (k + 1), power / norm

    exponential = jax.lax.fori_loop(0, TERMS, term, identity)
    norm = jnp.sqrt(jnp.sum(exponential**2))
    rate, power = jax.lax.fori_loop(0, SQUARINGS, square, (jnp.log(norm), exponential / norm))
    return shift + scale * rate, power


def _product(a: Array, b: Array) -> Array:
    """a b, as a sum that fuses with what is around it."""
    return jnp.sum(a[:, :, None] * b[None, :, :], axis=1)
