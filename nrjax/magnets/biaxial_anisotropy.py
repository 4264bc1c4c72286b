"""Two easy or hard axes across each other."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from .._numerics.validation import Numbers, float_array, require_finite, require_positive
from .field_terms import AbstractFieldTerm


class BiaxialAnisotropy(AbstractFieldTerm):
    """h_a += K1_a (m_a . e1) e1 + K2_a (m_a . e2) e2: an orthorhombic layer, or a film whose plane has an easy axis.

    No rotation is a symmetry of it.

    **Arguments**

    - `first`, `second`: K1 and K2 in meV, shape (L,) or a scalar for all layers; positive for an easy axis.
    - `first_axis`, `second_axis`: e1 and e2, shape (3,); normalized here, and perpendicular to each other.

    **Raises** `ValueError` for axes that are zero or not perpendicular.

    **Source** the two lowest invariants of an orthorhombic crystal.
    """

    first: Float[Array, "*layers"]
    second: Float[Array, "*layers"]
    first_axis: Float[Array, "3"]
    second_axis: Float[Array, "3"]

    def __init__(
        self,
        first: Numbers,
        second: Numbers,
        first_axis: Numbers = (1.0, 0.0, 0.0),
        second_axis: Numbers = (0.0, 1.0, 0.0),
    ):
        self.first, self.second = float_array("first", first), float_array("second", second)
        require_finite("first", self.first)
        require_finite("second", self.second)
        axes = [
            float_array(name, axis, (3,)) for name, axis in (("first_axis", first_axis), ("second_axis", second_axis))
        ]
        lengths = [jnp.sqrt(jnp.sum(axis**2)) for axis in axes]
        for name, length in zip(("first_axis", "second_axis"), lengths, strict=True):
            require_positive(f"length of {name}", length, "Pass a direction, for example (1, 0, 0).")
        self.first_axis, self.second_axis = (axis / length for axis, length in zip(axes, lengths, strict=True))
        require_positive(
            "1e-6 - |cosine of the two axes|",
            1e-6 - jnp.abs(jnp.sum(self.first_axis * self.second_axis)),
            "Make second_axis perpendicular to first_axis.",
        )

    def field(self, m: Float[Array, "L 3"]) -> Float[Array, "L 3"]:
        """K1 (m . e1) e1 + K2 (m . e2) e2."""
        along_first = (self.first * (m @ self.first_axis))[:, None] * self.first_axis[None, :]
        return along_first + (self.second * (m @ self.second_axis))[:, None] * self.second_axis[None, :]

    def axes(self, layers: int) -> Float[Array, "axes 3"]:
        """Both axes, as long as each layer's constants."""
        pairs = ((self.first, self.first_axis), (self.second, self.second_axis))
        return jnp.concatenate([jnp.broadcast_to(k, (layers,))[:, None] * e[None, :] for k, e in pairs])
