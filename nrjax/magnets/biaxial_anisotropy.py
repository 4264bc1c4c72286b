"""Two easy or hard axes across each other."""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from .._numerics.validation import Numbers, require_positive
from .._numerics.vectors import Vector
from .field_terms import AbstractFieldTerm, UniaxialAnisotropy


class BiaxialAnisotropy(AbstractFieldTerm):
    """h_a += K1_a (m_a . e1) e1 + K2_a (m_a . e2) e2: an orthorhombic layer, or a film whose plane has an easy axis.

    No rotation is a symmetry of it.

    **Arguments**

    - `first`, `second`: K1 and K2 in meV, shape (L,) or a scalar for all layers; positive for an easy axis.
    - `first_axis`, `second_axis`: e1 and e2, shape (3,); normalized here, and perpendicular to each other.

    **Raises** `ValueError` for axes that are zero or not perpendicular.

    **Source** the two lowest invariants of an orthorhombic crystal.
    """

    first: UniaxialAnisotropy
    second: UniaxialAnisotropy

    def __init__(
        self,
        first: Numbers,
        second: Numbers,
        first_axis: Numbers = (1.0, 0.0, 0.0),
        second_axis: Numbers = (0.0, 1.0, 0.0),
    ):
        self.first = UniaxialAnisotropy(first, first_axis)
        self.second = UniaxialAnisotropy(second, second_axis)
        require_positive(
            "1e-6 - |cosine of the two axes|",
            1e-6 - jnp.abs(jnp.sum(self.first.axis * self.second.axis)),
            "Make second_axis perpendicular to first_axis.",
        )

    def field(self, m: Float[Array, "L 3"]) -> Float[Array, "L 3"]:
        """K1 (m . e1) e1 + K2 (m . e2) e2."""
        return self.first.field(m) + self.second.field(m)

    def axes(self, layers: int) -> Float[Array, "axes 3"]:
        """Both axes, as long as each layer's constants."""
        return jnp.concatenate([self.first.axes(layers), self.second.axes(layers)])

    def layer_field(self, layer: int, moments: Sequence[Vector]) -> Vector:
        """Both terms of one layer."""
        (x, y, z), (u, v, w) = (term.layer_field(layer, moments) for term in (self.first, self.second))
        return x + u, y + v, z + w
