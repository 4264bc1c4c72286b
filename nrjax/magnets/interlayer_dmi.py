"""The antisymmetric exchange between layers."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from .._numerics.validation import Numbers, float_array, require_finite
from .field_terms import AbstractFieldTerm


class DzyaloshinskiiMoriya(AbstractFieldTerm):
    """h_a += sum_b D_ab x m_b: neighbours want to lie across each other, turned about D.

    With D_ba = -D_ab it is the derivative of the energy sum_(a<b) D_ab . (m_a x m_b); anything else is not reciprocal.
    Only rotations about a D that is common to all pairs are symmetries of it.

    **Arguments** `vectors`: D in meV, shape (L, L, 3): `vectors[a, b]` acts on layer a from layer b.

    **Raises** `ValueError` for another shape or values that are not finite.

    **Source** Dzyaloshinskii 1958, Moriya 1960; between layers Vedmedenko et al., Phys. Rev. Lett. 122 (2019) 257202.
    """

    vectors: Float[Array, "L L 3"]

    def __init__(self, vectors: Numbers):
        self.vectors = float_array("vectors", vectors)
        shape = self.vectors.shape
        if len(shape) != 3 or shape[0] != shape[1] or shape[2] != 3:
            raise ValueError(f"vectors has shape {shape}: it must be (L, L, 3), D for every pair of layers.")
        require_finite("vectors", self.vectors)

    @classmethod
    def reciprocal(cls, layers: int, pairs: dict[tuple[int, int], Numbers]) -> "DzyaloshinskiiMoriya":
        """The term of an energy: `pairs[a, b]` is D_ab in meV, shape (3,), and D_ba = -D_ab."""
        vectors = jnp.zeros((layers, layers, 3), jnp.result_type(float))
        for (a, b), vector in pairs.items():
            d = float_array("vector", vector, (3,))
            vectors = vectors.at[a, b].set(d).at[b, a].set(-d)
        return cls(vectors)

    def field(self, m: Float[Array, "L 3"]) -> Float[Array, "L 3"]:
        """sum_b D_ab x m_b. **Raises** `ValueError` for moments of another number of layers."""
        if self.vectors.shape[0] != m.shape[0]:
            raise ValueError(f"vectors has shape {self.vectors.shape}, and the magnet {m.shape[0]} layers.")
        return jnp.sum(jnp.cross(self.vectors, m[None, :, :]), axis=1)

    def axes(self, layers: int) -> Float[Array, "axes 3"]:
        """All D."""
        return self.vectors.reshape(layers * layers, 3)
