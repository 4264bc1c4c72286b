"""The shape of two order parameters: their lengths and angle, free of the fast precession."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._numerics.small_matrices import Matrix
from .._numerics.stored_values import stored, unseen_one
from .._numerics.validation import Number
from .order_parameters import AbstractOrderParameters
from .relaxation import AbstractRelaxation, Gram


class ShapeDynamics(eqx.Module):
    """Closed equation of motion of the scalar products G_ab = m_a . m_b of two order parameters:

        dG/dt = W(G) G + G W(G)^T,   W_ab = w_ab - delta_ab r_a(G).

    It holds for any number of components. Precession drops out: both moments precess about the common vector
    gyro (j_BA m_A + j_AB m_B). Only slow rates remain, no meV-scale rotation to resolve, and fixed points of G are the
    rigidly rotating states. Exact for any gyro. All entries are kept as scalars, so that under vmap every operation is
    one loop over the batch.

    **Arguments** `model`: two order parameters on which nothing acts that singles out a direction, for example a
    `LayeredMagnet` of two layers without field, anisotropy or other terms.

    **Raises** `ValueError` for another model.

    **Source** docs/physics.md, "Shape dynamics".
    """

    w_aa: Float[Array, ""]
    w_ab: Float[Array, ""]
    w_ba: Float[Array, ""]
    w_bb: Float[Array, ""]
    relaxation: AbstractRelaxation
    nonlinearity_scale: Float[Array, ""]

    def __init__(self, model: AbstractOrderParameters):
        if not model.shape_closes:
            terms = ", ".join(type(term).__name__ for term in getattr(model, "field_terms", ()))
            raise ValueError(
                f"ShapeDynamics needs two layers on which only the exchange acts, got {model.layers} layer(s) with "
                f"{terms or 'nothing'} besides. Use simulate() on the model itself."
            )
        w = model.exchange_rates()
        numbers, rest = eqx.partition(model.relaxation(), eqx.is_inexact_array)
        # Else everything that follows would compute them anew, from the light on.
        rates, numbers = stored(((w[0, 0], w[0, 1], w[1, 0], w[1, 1]), numbers), unseen_one(w[0, 0]))
        self.w_aa, self.w_ab, self.w_ba, self.w_bb = rates
        self.relaxation = eqx.combine(numbers, rest)
        # Kept, since every step of a search asks for it.
        self.nonlinearity_scale = self.relaxation.nonlinearity_scale

    def relaxation_rates(self, g: Gram) -> tuple[Array, Array]:
        """(r_A, r_B) in meV."""
        return self.relaxation.rates(g)

    def _assemble(self, g: Gram, diagonal_a: Array, diagonal_b: Array) -> Gram:
        return Gram(
            2.0 * (diagonal_a * g.aa + self.w_ab * g.ab),
            2.0 * (diagonal_b * g.bb + self.w_ba * g.ab),
            (diagonal_a + diagonal_b) * g.ab + self.w_ab * g.bb + self.w_ba * g.aa,
        )

    def rates(self, g: Gram) -> Gram:
        """dG/dt in meV."""
        return self.rates_and_trace(g)[0]

    def rates_and_trace(self, g: Gram) -> tuple[Gram, Array]:
        """dG/dt, and trace W, in meV."""
        r_a, r_b = self.relaxation_rates(g)
        w_a, w_b = self.w_aa - r_a, self.w_bb - r_b
        return self._assemble(g, w_a, w_b), w_a + w_b

    def term_sizes(self, g: Gram) -> Gram:
        """The sum of the absolute values of the terms of `rates`, in meV: the scale of a relative residual."""
        r_a, r_b = self.relaxation.sizes(g)
        sizes = jax.tree.map(jnp.abs, eqx.filter(self, eqx.is_array))
        sizes = eqx.combine(sizes, self)
        return sizes._assemble(Gram(g.aa, g.bb, jnp.abs(g.ab)), sizes.w_aa + r_a, sizes.w_bb + r_b)

    def linearize(self, g: Gram) -> tuple[Gram, Matrix, Array]:
        """dG/dt in meV, its derivative with respect to (aa, bb, ab) as a 3 x 3 tuple of scalars, and trace W.

        The determinant of G obeys d(det G)/dt = 2 (trace W) det G: no state ever leaves or reaches collinearity.
        """
        (r_a, r_b), (da, db) = self.relaxation.linearize(g)
        w_a, w_b = self.w_aa - r_a, self.w_bb - r_b
        jacobian = (
            (2.0 * (w_a - da[0] * g.aa), -2.0 * da[1] * g.aa, 2.0 * (self.w_ab - da[2] * g.aa)),
            (-2.0 * db[0] * g.bb, 2.0 * (w_b - db[1] * g.bb), 2.0 * (self.w_ba - db[2] * g.bb)),
            (
                self.w_ba - (da[0] + db[0]) * g.ab,
                self.w_ab - (da[1] + db[1]) * g.ab,
                w_a + w_b - (da[2] + db[2]) * g.ab,
            ),
        )
        return self._assemble(g, w_a, w_b), jacobian, w_a + w_b

    def vector_field(self, t: Number, g: Float[Array, "3"], args: Any = None) -> Float[Array, "3"]:
        """dG/dt in meV for g = (|m_A|^2, |m_B|^2, m_A . m_B); `t` and `args` are unused, there for Diffrax."""
        return jnp.stack(self.rates(Gram(g[0], g[1], g[2])))
