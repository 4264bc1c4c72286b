"""Where a magnet's light comes from: rates set by hand, or local moments under a laser. Each number has one source."""

import abc

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from .._numerics.validation import is_concrete, require, require_finite, require_nonnegative
from .laser import Laser
from .local_moment import LocalMoment


class AbstractLight(eqx.Module):
    """What light does to L local moments: their sd coupling g and their loss rate gamma, at every instant.

    Nothing else of a magnet holds g or gamma: they follow from the leaves of its light, and so do all derivatives.
    """

    @abc.abstractmethod
    def couplings(self, t: ArrayLike | None = None) -> tuple[Float[Array, "*batch L"], Float[Array, "*batch L"]]:
        """(g, gamma) in meV at time `t` (ps), each of shape (L,); at full intensity for None."""

    @property
    @abc.abstractmethod
    def is_constant(self) -> bool:
        """Whether the couplings are the same at all times."""

    @abc.abstractmethod
    def dark(self) -> "GivenRates":
        """The same moments without light: loss rate 0, and the g of darkness where it is known."""


class GivenRates(AbstractLight):
    """g and gamma set by hand, without a laser.

    **Arguments** `sd_coupling`: g in meV, shape (L,). `loss_rate`: gamma in meV, shape (L,), 0 or greater.

    Values are taken as they are, so that a bad lane of a batch stays one; `checked` refuses what users should not pass.
    """

    sd_coupling: Float[Array, " L"]
    loss_rate: Float[Array, " L"]

    @classmethod
    def checked(cls, sd_coupling: Float[Array, " L"], loss_rate: Float[Array, " L"]) -> "GivenRates":
        """The same after a look at the values.

        **Raises** `ValueError` for values out of range, and for light on a layer without coupling.
        """
        require_finite("sd_coupling", sd_coupling)
        require_nonnegative("loss_rate", loss_rate, "It is the strength of the light: 0 switches it off.")
        if is_concrete(loss_rate, sd_coupling):
            require(
                "sd_coupling",
                jnp.where((loss_rate > 0) & (sd_coupling == 0), 0.0, 1.0),
                lambda x: x != 0,
                "nonzero where loss_rate is positive",
                "Set the layer's g (for a local moment it is negative), or its loss_rate to 0.",
            )
        return cls(sd_coupling, loss_rate)

    def couplings(self, t: ArrayLike | None = None) -> tuple[Float[Array, "*batch L"], Float[Array, "*batch L"]]:
        """(g, gamma) in meV, the same at all times."""
        del t
        return self.sd_coupling, self.loss_rate

    @property
    def is_constant(self) -> bool:
        """True."""
        return True

    def dark(self) -> "GivenRates":
        """The same g, loss rate 0."""
        return GivenRates(self.sd_coupling, jnp.zeros_like(self.loss_rate))


class Illumination(AbstractLight):
    """The moments of all layers under one laser.

    **Arguments** `moments`: a `LocalMoment` of arrays over layers, shape (L,). `laser`: a `Laser`.
    """

    moments: LocalMoment
    laser: Laser

    def laser_at(self, t: ArrayLike | None) -> Laser:
        """The constant laser of time `t` (ps); the one of full intensity for None."""
        return self.laser.plateau() if t is None else self.laser.at(t)

    def couplings(self, t: ArrayLike | None = None) -> tuple[Float[Array, "*batch L"], Float[Array, "*batch L"]]:
        """(g, gamma) in meV at time `t` (ps), each of shape (L,); at full intensity for None."""
        laser = self.laser_at(t)
        return self.moments.sd_coupling(laser), self.moments.loss_rate(laser)

    @property
    def is_constant(self) -> bool:
        """Whether the laser has no envelope."""
        return self.laser.is_constant

    def dark(self) -> GivenRates:
        """g of the moments without light."""
        g = self.moments.sd_coupling()
        return GivenRates(g, jnp.zeros_like(g))
