"""The exponential of a 3 x 3 matrix as a polynomial in the matrix, from its invariants alone."""

from typing import Final

import jax
import jax.numpy as jnp
from jaxtyping import Array

# How often the argument is halved: what has a norm of 1 then is within reach of the series.
DOUBLINGS: Final = 10
# (n + 1)! for the series 1 + z/2! + z^2/3! + ... + z^7/8!, the last first: exact to 3e-6 at the end of its reach.
_FACTORIALS: Final = (40320.0, 5040.0, 720.0, 120.0, 24.0, 6.0, 2.0, 1.0)


# The coefficients of 1, z and z^2.
Polynomial = tuple[Array, Array, Array]


def phi_coefficients(trace: Array, minors: Array, determinant: Array) -> Polynomial:
    """phi(A) = c0 + c1 A + c2 A^2 with phi(z) = (e^z - 1)/z: exp(A) v = v + A phi(A) v.

    By Cayley and Hamilton every function of A is such a polynomial, so that three numbers are doubled and not nine:
    phi(2 z) = phi(z) + (z/2) phi(z)^2, from the series at A/1024. No eigenvalues, and no division.

    **Arguments** what `small_matrices.characteristic` gives of a matrix of norm at most `exponential_reach`.

    **Returns** (c0, c1, c2), to about 1e-5 (in single precision 1e-3).
    """
    unit = 2.0**-DOUBLINGS
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

    last, next_to_last, before = (jnp.full_like(t, 1.0 / factorial) for factorial in _FACTORIALS[:3])
    p = before, next_to_last, last
    for factorial in _FACTORIALS[3:]:
        a, b, c = times_z(p)
        p = a + 1.0 / factorial, b, c
    state = (p, jnp.asarray(0.5, t.dtype))
    if jax.default_backend() == "cpu":
        # A loop keeps what it has computed; written out, it would be computed once for each of the three.
        (a, b, c), _ = jax.lax.fori_loop(0, DOUBLINGS, doubled, state)
    else:
        for k in range(DOUBLINGS):
            state = doubled(k, state)
        (a, b, c), _ = state
    return a, unit * b, unit**2 * c
