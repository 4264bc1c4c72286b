"""The shape of a bilayer: lengths and angle of its two moments, free of the fast precession."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from .._numerics.small_matrices import Matrix
from .baths import AbstractBath
from .layers import LayeredMagnet


class Gram(NamedTuple):
    """The scalar products of the two moments: |m_A|^2, |m_B|^2 and m_A . m_B."""

    aa: Array
    bb: Array
    ab: Array


class ShapeDynamics(eqx.Module):
    """Closed equation of motion of the scalar products G_ab = m_a . m_b of an isotropic bilayer:

        dG/dt = W(G) G + G W(G)^T.

    Precession drops out: both layers precess about the common vector gyro (j_BA m_A + j_AB m_B). Only slow rates
    remain, no meV-scale rotation to resolve, and fixed points of G are the rigidly rotating states of the moments.
    Exact for any gyro. All entries are kept as scalars, so that under vmap every operation is one loop over the
    batch.

    **Arguments** `magnet`: a `LayeredMagnet` of two layers without field, anisotropy or other terms.

    **Raises** `ValueError` for another number of layers, or a field term.

    **Source** docs/physics.md, "Shape dynamics".
    """

    w_aa: Float[Array, ""]
    w_ab: Float[Array, ""]
    w_ba: Float[Array, ""]
    w_bb: Float[Array, ""]
    light_a: Float[Array, ""]
    light_b: Float[Array, ""]
    damping_a: Float[Array, ""]
    damping_b: Float[Array, ""]
    field_a: tuple[Float[Array, ""], ...]
    field_b: tuple[Float[Array, ""], ...]
    field_scale: Float[Array, ""]
    bath: AbstractBath

    def __init__(self, magnet: LayeredMagnet):
        if not self.applies_to(magnet):
            raise ValueError(
                f"ShapeDynamics needs two layers on which only the exchange acts, got {magnet.layers} layer(s) with "
                f"{', '.join(type(term).__name__ for term in magnet.field_terms) or 'nothing'} besides. "
                "Use simulate() on the magnet itself."
            )
        w, j, temperature = magnet.exchange_rates(), magnet.exchange, magnet.temperature
        self.w_aa, self.w_ab, self.w_ba, self.w_bb = w[0, 0], w[0, 1], w[1, 0], w[1, 1]
        _, loss = magnet.light_torque()
        self.light_a, self.light_b = loss[0], loss[1]
        # In units of the temperature the bath is one function: phi(h)/T of |h|^2/T^2.
        self.damping_a, self.damping_b = (2.0 * magnet.damping[a] * temperature[a] for a in range(2))
        self.field_a, self.field_b = (
            (
                j[a, 0] ** 2 / temperature[a] ** 2,
                j[a, 1] ** 2 / temperature[a] ** 2,
                2.0 * j[a, 0] * j[a, 1] / temperature[a] ** 2,
            )
            for a in range(2)
        )
        self.field_scale = jnp.maximum(
            sum(self.field_a[:2], jnp.zeros_like(w[0, 0])), sum(self.field_b[:2], jnp.zeros_like(w[0, 0]))
        )
        self.bath = magnet.bath

    @staticmethod
    def applies_to(magnet: LayeredMagnet) -> bool:
        """Whether the magnet is an isotropic bilayer."""
        return magnet.layers == 2 and magnet.is_isotropic

    def relaxation_rates(self, g: Gram) -> tuple[Array, Array]:
        """(r_A, r_B) = 2 alpha phi(h) + loss in meV, with |h_a|^2 = sum_bc j_ab j_ac G_bc."""
        return (
            self.damping_a * self.bath.reduced_rate(_field_squared(self.field_a, g)) + self.light_a,
            self.damping_b * self.bath.reduced_rate(_field_squared(self.field_b, g)) + self.light_b,
        )

    def _assemble(self, g: Gram, diagonal_a: Array, diagonal_b: Array) -> Gram:
        return Gram(
            2.0 * (diagonal_a * g.aa + self.w_ab * g.ab),
            2.0 * (diagonal_b * g.bb + self.w_ba * g.ab),
            (diagonal_a + diagonal_b) * g.ab + self.w_ab * g.bb + self.w_ba * g.aa,
        )

    def rates(self, g: Gram) -> Gram:
        """dG/dt in meV."""
        r_a, r_b = self.relaxation_rates(g)
        return self._assemble(g, self.w_aa - r_a, self.w_bb - r_b)

    def term_sizes(self, g: Gram) -> Gram:
        """The sum of the absolute values of the terms of `rates`, in meV: the scale of a relative residual."""
        r_a, r_b = self.relaxation_rates(g)
        sizes = jax.tree.map(jnp.abs, eqx.filter(self, eqx.is_array))
        sizes = eqx.combine(sizes, self)
        return sizes._assemble(Gram(g.aa, g.bb, jnp.abs(g.ab)), sizes.w_aa + r_a, sizes.w_bb + r_b)

    def linearize(self, g: Gram) -> tuple[Gram, Matrix, Array]:
        """dG/dt in meV, its derivative with respect to (aa, bb, ab) as a 3 x 3 tuple of scalars, and trace W.

        The determinant of G obeys d(det G)/dt = 2 (trace W) det G: no state ever leaves or reaches collinearity.
        """

        def with_slope(field: tuple[Array, ...], damping: Array, light: Array) -> tuple[Array, list[Array]]:
            s = _field_squared(field, g)
            phi, slope = jax.jvp(self.bath.reduced_rate, (s,), (jnp.ones_like(s),))
            return damping * phi + light, [damping * slope * c for c in field]

        r_a, da = with_slope(self.field_a, self.damping_a, self.light_a)
        r_b, db = with_slope(self.field_b, self.damping_b, self.light_b)
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

    def vector_field(self, t: ArrayLike, g: Float[Array, "3"], args: Any = None) -> Float[Array, "3"]:
        """dG/dt in meV for g = (|m_A|^2, |m_B|^2, m_A . m_B); `t` and `args` are unused, there for Diffrax."""
        return jnp.stack(self.rates(Gram(g[0], g[1], g[2])))


def _field_squared(field: tuple[Array, ...], g: Gram) -> Array:
    # |h|^2 cannot be negative; rounding and trial steps can make it so.
    return jnp.maximum(field[0] * g.aa + field[1] * g.bb + field[2] * g.ab, 0.0)
