"""Light on electrons that hop virtually between two magnetic layers: Mott insulators of one orbital and of two."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from .._numerics.validation import Number, Numbers, float_array, require, require_finite, require_nonnegative
from .illumination import AbstractLight


class MottLight(AbstractLight):
    """Light on the virtual doublons of a Mott insulator with one orbital:

        dm_a/dt|light = sum_b Gamma_ab (m_b - m_a):   Lambda = Gamma, loss_a = sum_b Gamma_ab.

    A doublon is a singlet, and the light takes either of its electrons alike: what one layer gains the other loses,
    whichever is lit. Light on one sublattice is therefore reciprocal here. A chase needs antiferromagnetic exchange and
    layers of unequal damping: 2 alpha |j| < Gamma in one of them, and > Gamma in the other.

    **Arguments** `hop_rate`: Gamma_ab = z_ab kappa t^2/(Delta_ab^2 + kappa^2) in meV, shape (L, L), 0 or greater, 0 on
    the diagonal; of one number all pairs (two layers). Symmetric where the numbers of neighbours z are.

    **Raises** `ValueError` for other numbers.

    **Source** docs/physics.md, "Light in other materials".
    """

    hop_rate: Float[Array, "L L"]

    def __init__(self, hop_rate: Numbers):
        rate = float_array("hop_rate", hop_rate)
        if rate.ndim == 0:
            rate = rate * (1.0 - jnp.eye(2, dtype=rate.dtype))
        if rate.ndim != 2 or rate.shape[0] != rate.shape[1]:
            raise ValueError(f"hop_rate has shape {rate.shape}: it must be (L, L), Gamma for every pair of layers.")
        self.hop_rate = rate

    def __check_init__(self) -> None:
        require_nonnegative("hop_rate", self.hop_rate, "It is a rate in meV.")
        diagonal = jnp.diagonal(self.hop_rate, axis1=-2, axis2=-1)
        require("diagonal of hop_rate", diagonal, lambda x: x == 0, "0", "Electrons hop between layers.")

    def torque(
        self, exchange: Float[Array, "L L"], filling: Float[Array, " L"]
    ) -> tuple[Float[Array, "L L"], Float[Array, " L"]]:
        """(Gamma, its sums over rows) in meV."""
        del filling
        if self.hop_rate.shape != exchange.shape:
            raise ValueError(f"hop_rate has shape {self.hop_rate.shape}, and the magnet's exchange {exchange.shape}.")
        return self.hop_rate, jnp.sum(self.hop_rate, axis=1)


class HundLight(AbstractLight):
    """Light on an electron of layer A that hops virtually into a second orbital of layer B, where Hund's rule meets it:

        dm_A/dt|light = -G0 m_A - G1 m_B,   dm_B/dt|light = -G2 (m_B - m_A) - Y m_A x m_B.

    The photocurrent carries spin off, so that the total is not kept: A runs away and B chases with any dampings. In a
    pure triplet G1 = G2 = G0/3. Y turns B about A as an exchange does, but not A about B; the shape does not see it.

    **Arguments** `g0`, `g1`, `g2`, `y`: in meV; g0 and g2 0 or greater. `of` gives them from the levels.

    **Raises** `ValueError` for other numbers.

    **Source** docs/physics.md, "Light in other materials".
    """

    g0: Float[Array, ""]
    g1: Float[Array, ""]
    g2: Float[Array, ""]
    y: Float[Array, ""]

    def __init__(self, g0: Number, g1: Number, g2: Number, y: Number = 0.0):
        self.g0, self.g1 = float_array("g0", g0, ()), float_array("g1", g1, ())
        self.g2, self.y = float_array("g2", g2, ()), float_array("y", y, ())

    def __check_init__(self) -> None:
        require_nonnegative("g0", self.g0, "It is a rate in meV.")
        require_nonnegative("g2", self.g2, "It is a rate in meV.")
        require_finite("g1", self.g1)
        require_finite("y", self.y)

    @classmethod
    def of(cls, hopping: Number, triplet: Number, singlet: Number, linewidth: Number) -> "HundLight":
        """From microscopic numbers: a_X = t/(D_X - i kappa/2),

            G0 = kappa (3 |a_T|^2 + |a_S|^2)/4,   G1 = kappa (|a_T|^2 - |a_S|^2)/4,
            G2 = kappa |a_T - a_S|^2/4,           Y = (kappa/2) Im(a_S* a_T).

        **Arguments** in meV: `hopping` t; `triplet` and `singlet`, the costs D_T and D_S of the virtual electron;
        `linewidth` kappa, the rate at which light takes it.
        """
        t, kappa = float_array("hopping", hopping, ()), float_array("linewidth", linewidth, ())

        def amplitude(cost: Number) -> tuple[Array, Array]:
            d = float_array("cost", cost, ())
            size = d * d + 0.25 * kappa * kappa
            return t * d / size, 0.5 * t * kappa / size

        (tr, ti), (sr, si) = amplitude(triplet), amplitude(singlet)
        t2, s2 = tr**2 + ti**2, sr**2 + si**2
        return cls(
            0.25 * kappa * (3.0 * t2 + s2),
            0.25 * kappa * (t2 - s2),
            0.25 * kappa * ((tr - sr) ** 2 + (ti - si) ** 2),
            0.5 * kappa * (sr * ti - si * tr),
        )

    def torque(
        self, exchange: Float[Array, "L L"], filling: Float[Array, " L"]
    ) -> tuple[Float[Array, "L L"], Float[Array, " L"]]:
        """([[0, -G1], [G2, 0]], (G0, G2)) in meV."""
        del filling
        _require_two(exchange)
        zero = jnp.zeros_like(self.g1)
        rows = jnp.stack([jnp.stack([zero, -self.g1]), jnp.stack([self.g2, zero])])
        return rows, jnp.stack([self.g0, self.g2])

    def precession(self, exchange: Float[Array, "L L"]) -> Float[Array, "L L"]:
        """[[0, 0], [Y, 0]] in meV: dm_B/dt has Y m_B x m_A."""
        _require_two(exchange)
        return jnp.zeros_like(exchange).at[1, 0].set(self.y.astype(exchange.dtype))


def _require_two(exchange: Array) -> None:
    if exchange.shape[-1] != 2:
        raise ValueError(f"HundLight acts between two layers, and the magnet has {exchange.shape[-1]}.")
