"""How fast order parameters relax, as a function of their scalar products."""

import abc
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .baths import AbstractBath


class Gram(NamedTuple):
    """The scalar products of two order parameters: |m_A|^2, |m_B|^2 and m_A . m_B."""

    aa: Array
    bb: Array
    ab: Array


class AbstractRelaxation(eqx.Module):
    """r_a(G): how fast each of two order parameters relaxes, as a function of their scalar products.

    All entries are scalars, so that under vmap every operation is one loop over the batch.
    """

    @abc.abstractmethod
    def rates(self, g: Gram) -> tuple[Array, Array]:
        """(r_A, r_B) in meV."""

    def sizes(self, g: Gram) -> tuple[Array, Array]:
        """The sums of the sizes of the terms of r_A and r_B, in meV; to be given where terms of both signs add."""
        r_a, r_b = self.rates(g)
        return jnp.abs(r_a), jnp.abs(r_b)

    @property
    @abc.abstractmethod
    def nonlinearity_scale(self) -> Array:
        """c: rates differ from those at G = 0 by a share of c (G_AA + G_BB), roughly."""

    def linearize(self, g: Gram) -> tuple[tuple[Array, Array], tuple[Gram, Gram]]:
        """(r_A, r_B), and of each the derivatives with respect to G_AA, G_BB and G_AB."""
        one, zero = jnp.ones_like(g.aa), jnp.zeros_like(g.aa)
        directions = [Gram(*(one if i == k else zero for i in range(3))) for k in range(3)]
        pairs = [jax.jvp(self.rates, (g,), (direction,)) for direction in directions]
        rates, slopes = pairs[0][0], [slope for _, slope in pairs]
        return rates, (Gram(*(s[0] for s in slopes)), Gram(*(s[1] for s in slopes)))


class BathRelaxation(AbstractRelaxation):
    """r_a = 2 alpha_a phi(h_a) + loss_a in meV, with |h_a|^2 = sum_bc j_ab j_ac G_bc.

    In units of the temperature the bath is one function, phi/T of |h|^2/T^2: `damping` is 2 alpha T, `field` the
    coefficients of |h|^2/T^2 in G_AA, G_BB and G_AB.
    """

    damping: tuple[Float[Array, ""], Float[Array, ""]]
    field: tuple[Gram, Gram]
    loss: tuple[Float[Array, ""], Float[Array, ""]]
    bath: AbstractBath

    @classmethod
    def of(
        cls,
        exchange: Float[Array, "2 2"],
        damping: Float[Array, "2"],
        temperature: Float[Array, "2"],
        loss: Float[Array, "2"],
        bath: AbstractBath,
    ) -> "BathRelaxation":
        """That of two layers with exchange j (meV), damping alpha, k_B T (meV) and loss (meV)."""

        def field(a: int) -> Gram:
            j, square = exchange[a], temperature[a] ** 2
            return Gram(j[0] ** 2 / square, j[1] ** 2 / square, 2.0 * j[0] * j[1] / square)

        rates = 2.0 * damping[0] * temperature[0], 2.0 * damping[1] * temperature[1]
        return cls(rates, (field(0), field(1)), (loss[0], loss[1]), bath)

    @property
    def nonlinearity_scale(self) -> Array:
        """The larger |h|^2/T^2 of moments of length 1."""
        (a, b), zero = self.field, jnp.zeros_like(self.damping[0])
        return jnp.maximum(sum(a[:2], zero), sum(b[:2], zero))

    def rates(self, g: Gram) -> tuple[Array, Array]:
        """(r_A, r_B) in meV."""
        a, b = (
            damping * self.bath.reduced_rate(_field_squared(field, g)) + loss
            for damping, field, loss in zip(self.damping, self.field, self.loss, strict=True)
        )
        return a, b

    def linearize(self, g: Gram) -> tuple[tuple[Array, Array], tuple[Gram, Gram]]:
        """(r_A, r_B), and of each the derivatives: one slope of the bath for all three."""

        def with_slope(damping: Array, field: Gram, loss: Array) -> tuple[Array, Gram]:
            s = _field_squared(field, g)
            phi, slope = jax.jvp(self.bath.reduced_rate, (s,), (jnp.ones_like(s),))
            return damping * phi + loss, Gram(*(damping * slope * c for c in field))

        (r_a, da), (r_b, db) = map(with_slope, self.damping, self.field, self.loss)
        return (r_a, r_b), (da, db)


def _field_squared(field: Gram, g: Gram) -> Array:
    # |h|^2 cannot be negative; rounding and trial steps can make it so.
    return jnp.maximum(field[0] * g.aa + field[1] * g.bb + field[2] * g.ab, 0.0)
