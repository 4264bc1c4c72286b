"""Classical moments that are confined to a plane."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .baths import AbstractBath

# Below this x^2 the continued fraction is exact to rounding in so many levels; above it nothing cancels.
_SMALL: float = 4.0
_LEVELS: int = 12


def _continued_fraction(s: Array) -> Array:
    """x I_0/I_1 = 2 + s/(4 + s/(6 + ...)) with x^2 = s."""
    total = jnp.full_like(s, 2.0 * _LEVELS)
    for level in range(_LEVELS - 1, 0, -1):
        total = 2.0 * level + s / total
    return total


@jax.custom_jvp
def _reduced_planar(s: Float[Array, "..."]) -> Float[Array, "..."]:
    small = s < _SMALL
    x = jnp.sqrt(jnp.where(small, 1.0, s))
    ratio = jax.scipy.special.i0e(x) / jax.scipy.special.i1e(x)
    return jnp.where(small, _continued_fraction(jnp.where(small, s, 0.0)), x * ratio)


@_reduced_planar.defjvp
def _reduced_planar_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (s,), (change,) = primals, tangents
    small = s < _SMALL
    value = _reduced_planar(s)
    _, series = jax.jvp(_continued_fraction, (jnp.where(small, s, 0.0),), (jnp.ones_like(s),))
    # Riccati's equation of I_1/I_0.
    large = (2.0 * value - value**2 + s) / (2.0 * jnp.where(small, 1.0, s))
    return value, jnp.where(small, series, large) * change


class PlanarBath(AbstractBath):
    """phi(h) = |h| I_0(x)/I_1(x) with x = |h|/T: classical vectors of two components, m = I_1(x)/I_0(x), Curie point
    T_c = j/2.

    Between the moments of one component (`QuantumBath`: tanh, T_c = j) and of three (`ClassicalBath`: Langevin, j/3):
    in n components m = I_(n/2)(x)/I_(n/2-1)(x) and T_c = j/n.

    **Source** the classical n-vector model (Stanley, Physical Review 179 (1969) 570); docs/physics.md, "Baths".
    """

    def reduced_rate(self, s: Float[Array, "..."]) -> Float[Array, "..."]:
        """x I_0(x)/I_1(x) with x^2 = s."""
        return _reduced_planar(s)
