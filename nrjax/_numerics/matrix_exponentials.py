"""The exponential of a 3 x 3 matrix as a polynomial in the matrix, from its invariants alone."""

from typing import Final

import jax
import jax.numpy as jnp
from jaxtyping import Array

from .small_matrices import adjugate, solve

# How often the argument is halved, and the norm up to which it is.
DOUBLINGS: Final = 6
REACH: Final = 2.0**DOUBLINGS

# The coefficients of 1, z and z^2.
Polynomial = tuple[Array, Array, Array]


def phi_coefficients(trace: Array, minors: Array, determinant: Array, norm: Array) -> Polynomial:
    """phi(A) = c0 + c1 A + c2 A^2 with phi(z) = (e^z - 1)/z: exp(A) v = v + A phi(A) v.

    By Cayley and Hamilton every function of A is such a polynomial, so that three numbers are doubled and not nine:
    phi(2 z) = phi(z) + (z/2) phi(z)^2, six times from A/64. There e^z is Pade's approximant of degrees 2 and 3, of
    order 5 and L-stable. Of a norm above `REACH` it is that approximant of A itself: what decays is gone, what
    oscillates dies away, and what is slow is exact. Where rounding would spoil that, phi = 1/(1 - z): backward Euler.
    No eigenvalues.

    **Arguments** what `small_matrices.characteristic` gives of the matrix, and its norm, roughly.

    **Returns** (c0, c1, c2); to 1e-6 for norms up to 20, where nothing grows.
    """
    within = norm < REACH
    unit = jnp.where(within, 1.0 / REACH, 1.0)
    t, m, d = unit * trace, unit**2 * minors, unit**3 * determinant

    def times_z(p: Polynomial) -> Polynomial:
        a, b, c = p
        return d * c, a - m * c, b + t * c

    def doubled(_: int | Array, state: tuple[Polynomial, Array]) -> tuple[Polynomial, Array]:
        (a, b, c), factor = state
        # z (a + b z + c z^2)^2, less the multiples of z^3 - t z^2 + m z - d.
        fifth = c * c
        fourth = 2.0 * b * c + t * fifth
        third = 2.0 * a * c + b * b + t * fourth - m * fifth
        a, b, c = (
            a + factor * (d * third),
            b + factor * (a * a - m * third + d * fourth),
            c + factor * (2.0 * a * b + t * third - m * fourth + d * fifth),
        )
        return (a, b, c), 2.0 * factor

    # phi = (1 - z/10 + z^2/60) / (1 - 3 z/5 + 3 z^2/20 - z^3/60): the polynomial that gives the numerator when the
    # denominator multiplies it.
    one = 1.0 - d / 60.0, m / 60.0 - 3.0 / 5.0, 3.0 / 20.0 - t / 60.0
    z = times_z(one)
    columns = one, z, times_z(z)
    rows = tuple(tuple(column[i] for column in columns) for i in range(3))
    start = solve(adjugate(rows), (1.0, -1.0 / 10.0, 1.0 / 60.0))
    state = (start, jnp.asarray(0.5, t.dtype))
    if jax.default_backend() == "cpu":
        # A loop keeps what it has computed; written out, it would be computed once for each of the three.
        end, _ = jax.lax.fori_loop(0, DOUBLINGS, doubled, state)
    else:
        for k in range(DOUBLINGS):
            state = doubled(k, state)
        end, _ = state
    a, b, c = (jnp.where(within, x, y) for x, y in zip(end, start, strict=True))
    # (1 - z) q = 1 less multiples of the same cubic.
    at_one = 1.0 - trace + minors - determinant
    euler = (1.0 - trace + minors) / at_one, (1.0 - trace) / at_one, 1.0 / at_one
    extreme = norm > jnp.finfo(t.dtype).eps ** (-1.0 / 3.0)
    a, b, c = (jnp.where(extreme, x, y) for x, y in zip(euler, (a, unit * b, unit**2 * c), strict=True))
    return a, b, c
