"""What a layer feels besides the exchange: one class for each term of its field, and the rotations that it spares."""

import abc
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._numerics.small_matrices import safe_sqrt
from .._numerics.validation import Numbers, float_array, require_finite, unit_vector
from .._numerics.vectors import Vector


class AbstractFieldTerm(eqx.Module):
    """h_a += term_a(m): a part of the effective field of every layer, in meV.

    It enters precession and damping, not the light's torque. Nothing asks for an energy: the field of a term need not
    be a gradient of one.
    """

    @abc.abstractmethod
    def field(self, m: Float[Array, "L 3"]) -> Float[Array, "L 3"]:
        """What the term adds to h, in meV, for moments of shape (L, 3)."""

    @abc.abstractmethod
    def axes(self, layers: int) -> Float[Array, "axes 3"]:
        """Vectors that a common rotation of all moments must leave alone to be a symmetry of the term.

        Those of length 0 count for nothing; a term that every rotation spares has none of another length.
        """

    def layer_field(self, layer: int, moments: Sequence[Vector]) -> Vector:
        """`field` of one layer, all moments and the result as scalars: under vmap one loop over the batch.

        Here by way of `field`; a term that is used in large batches writes it out.
        """
        h = self.field(jnp.stack([jnp.stack(m) for m in moments]))[layer]
        return h[0], h[1], h[2]


class Zeeman(AbstractFieldTerm):
    """h_a += B_a: a magnetic field, as the energy of the moments in it.

    **Arguments** `strength`: B in meV, shape (L, 3).
    """

    strength: Float[Array, "L 3"]

    def field(self, m: Float[Array, "L 3"]) -> Float[Array, "L 3"]:
        """B, whatever the moments."""
        del m
        return self.strength

    def axes(self, layers: int) -> Float[Array, "axes 3"]:
        """The directions of the field in every layer."""
        del layers
        return self.strength

    def layer_field(self, layer: int, moments: Sequence[Vector]) -> Vector:
        """B of one layer."""
        del moments
        b = self.strength[layer]
        return b[0], b[1], b[2]


class UniaxialAnisotropy(AbstractFieldTerm):
    """h_a += K_a (m_a . e) e: an easy axis (K > 0) or an easy plane (K < 0) for every layer.

    **Arguments**

    - `strength`: K in meV, shape (L,) or a scalar for all layers.
    - `axis`: e, shape (3,); normalized here.

    **Raises** `ValueError` if the axis is zero or a value is not finite.
    """

    strength: Float[Array, "*layers"]
    axis: Float[Array, "3"]

    def __init__(self, strength: Numbers, axis: Numbers = (0.0, 0.0, 1.0)):
        self.strength = float_array("anisotropy strength", strength)
        require_finite("anisotropy strength", self.strength)
        self.axis = unit_vector("anisotropy axis", axis)

    def field(self, m: Float[Array, "L 3"]) -> Float[Array, "L 3"]:
        """K (m . e) e."""
        return (self.strength * (m @ self.axis))[:, None] * self.axis[None, :]

    def axes(self, layers: int) -> Float[Array, "axes 3"]:
        """e, as long as each layer's K."""
        return jnp.broadcast_to(self.strength, (layers,))[:, None] * self.axis[None, :]

    def layer_field(self, layer: int, moments: Sequence[Vector]) -> Vector:
        """K (m . e) e of one layer."""
        axis, (x, y, z) = self.axis, moments[layer]
        strength = self.strength[layer] if self.strength.ndim else self.strength
        along = strength * (x * axis[0] + y * axis[1] + z * axis[2])
        return along * axis[0], along * axis[1], along * axis[2]


def strongest_field(terms: Sequence[AbstractFieldTerm], layers: int, dtype: Any) -> Float[Array, " L"]:
    """The most that parts of the field can be for moments of length 1, in meV."""
    field, still = jnp.zeros(layers, dtype), jnp.zeros((layers, 3), dtype)
    for term in terms:
        alone = term.field(still)
        field = field + safe_sqrt(jnp.sum(alone**2, axis=1))
        # Linear in the moments: no more than along three axes together.
        for axis in jnp.eye(3, dtype=dtype):
            more = term.field(jnp.broadcast_to(axis, (layers, 3))) - alone
            field = field + safe_sqrt(jnp.sum(more**2, axis=1))
    return field
