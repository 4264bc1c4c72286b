"""Where a magnet's light comes from: torques, rates set by hand, or local moments under a laser. Each number has one
source."""

import abc
from functools import partial
from typing import final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._numerics.ready_programs import FEW, kept
from .._numerics.validation import Number, in_range, is_concrete, require, require_finite, require_nonnegative
from .laser import Laser
from .local_moment import LocalMoment


class AbstractLight(eqx.Module):
    """dm_a/dt|light = sum_b Lambda_ab m_b - loss_a m_a: what light does to the moments of L layers.

    A new light gives `torque`; one that changes in time also `is_constant`, `at` and `plateau`. All that follows
    (motion, steady states, boundaries, design) knows light by its torque alone, and derivatives pass through it to the
    light's leaves.
    """

    @abc.abstractmethod
    def torque(
        self, exchange: Float[Array, "L L"], filling: Float[Array, " L"]
    ) -> tuple[Float[Array, "L L"], Float[Array, " L"]]:
        """(Lambda, loss) in meV, shapes (L, L) and (L,), at full intensity.

        **Arguments** of the magnet, for a light that acts through its conduction electrons: `exchange`, the part of
        the exchange that they carry, in meV; `filling`, electrons per site.
        """

    def push_size(self, exchange: Float[Array, "L L"], filling: Float[Array, " L"]) -> Float[Array, "L L"]:
        """|Lambda| in meV; with a slope in darkness where the light can give one, for searches that start there."""
        return jnp.abs(self.torque(exchange, filling)[0])

    def exchange_factor(self) -> Float[Array, " L"] | None:
        """c_a where Lambda_ab = c_a jm_ab for any exchange, so that one sum over it serves twice; None elsewhere."""
        return None

    def precession(self, exchange: Float[Array, "L L"]) -> Float[Array, "L L"] | None:
        """P in meV where light adds m_a x sum_b P_ab m_b to dm_a/dt, shape (L, L); None for light that only pushes."""
        del exchange
        return None

    @property
    def is_constant(self) -> bool:
        """Whether the torque is the same at all times."""
        return True

    def at(self, t: Number) -> "AbstractLight":
        """The light of time `t` (ps), constant."""
        del t
        return self

    def plateau(self) -> "AbstractLight":
        """The light at full intensity, constant."""
        return self

    def dark(self) -> "AbstractLight":
        """The same moments without light."""
        return Darkness()


class Darkness(AbstractLight):
    """No light: Lambda = 0, loss = 0."""

    def torque(
        self, exchange: Float[Array, "L L"], filling: Float[Array, " L"]
    ) -> tuple[Float[Array, "L L"], Float[Array, " L"]]:
        """Zeros."""
        return jnp.zeros_like(exchange), jnp.zeros_like(filling)


class AbstractMetallicLight(AbstractLight):
    """Lambda_ab = (2 gamma_a/g_a) jm_ab, loss_a = gamma_a n_a: doublons of local moments in a metal lose an electron.

    Nothing else of a magnet holds g or gamma: they follow from the leaves of its light, and so do all derivatives.
    """

    @abc.abstractmethod
    def couplings(self) -> tuple[Float[Array, "*batch L"], Float[Array, "*batch L"]]:
        """(g, gamma) in meV at full intensity, each of shape (L,)."""

    @final
    def torque(
        self, exchange: Float[Array, "L L"], filling: Float[Array, " L"]
    ) -> tuple[Float[Array, "L L"], Float[Array, " L"]]:
        """(2 gamma/g) jm and gamma n, in meV."""
        _, gamma = self.couplings()
        return self.exchange_factor()[:, None] * exchange, gamma * filling

    @final
    def exchange_factor(self) -> Float[Array, " L"]:
        """2 gamma/g, dimensionless; 0 for a layer without coupling, whose light must be 0."""
        g, gamma = self.couplings()
        coupled = g != 0
        return jnp.where(coupled, 2.0 * gamma / jnp.where(coupled, g, 1.0), 0.0)

    def push_size(self, exchange: Float[Array, "L L"], filling: Float[Array, " L"]) -> Float[Array, "L L"]:
        """2 gamma_a |jm_ab/g_a| in meV: gamma is 0 or greater, so that it has a slope where gamma is 0."""
        del filling
        g, gamma = self.couplings()
        return (2.0 * gamma / jnp.where(g == 0, 1.0, jnp.abs(g)))[:, None] * jnp.abs(exchange)


class GivenRates(AbstractMetallicLight):
    """g and gamma set by hand, without a laser.

    **Arguments** `sd_coupling`: g in meV, shape (L,). `loss_rate`: gamma in meV, shape (L,), 0 or greater.

    **Raises** `ValueError` for values out of range, and for light on a layer without coupling.
    """

    sd_coupling: Float[Array, " L"]
    loss_rate: Float[Array, " L"]

    def __check_init__(self) -> None:
        require_finite("sd_coupling", self.sd_coupling)
        require_nonnegative("loss_rate", self.loss_rate, "It is the strength of the light: 0 switches it off.")
        g, gamma, space = self.sd_coupling, self.loss_rate, jnp
        if is_concrete(g, gamma):
            g, gamma, space = np.asarray(g), np.asarray(gamma), np
        require(
            "sd_coupling",
            space.where((gamma > 0) & (g == 0), 0.0, 1.0),
            lambda x: x != 0,
            "nonzero where loss_rate is positive",
            "Set the layer's g (for a local moment it is negative), or its loss_rate to 0.",
        )

    def couplings(self) -> tuple[Float[Array, "*batch L"], Float[Array, "*batch L"]]:
        """(g, gamma) in meV."""
        return self.sd_coupling, self.loss_rate

    def at(self, t: Number) -> "GivenRates":
        """The same at all times."""
        del t
        return self

    def plateau(self) -> "GivenRates":
        """The same."""
        return self

    def dark(self) -> "GivenRates":
        """The same g, loss rate 0."""
        return GivenRates(self.sd_coupling, jnp.zeros_like(self.loss_rate))


class Illumination(AbstractMetallicLight):
    """The moments of all layers under one laser.

    **Arguments** `moments`: a `LocalMoment` of arrays over layers, shape (L,). `laser`: a `Laser`.
    """

    moments: LocalMoment
    laser: Laser

    def laser_at(self, t: Number | None) -> Laser:
        """The constant laser of time `t` (ps); the one of full intensity for None."""
        return self.laser.plateau() if t is None else self.laser.at(t)

    def couplings(self) -> tuple[Float[Array, "*batch L"], Float[Array, "*batch L"]]:
        """(g, gamma) in meV at full intensity, each of shape (L,)."""
        return _couplings(self.moments, self.laser_at(None))

    def at(self, t: Number) -> GivenRates:
        """g and gamma of time `t` (ps)."""
        return GivenRates(*_couplings(self.moments, self.laser_at(t)))

    def plateau(self) -> GivenRates:
        """g and gamma at full intensity; NaN where a moment's or the laser's numbers are out of range."""
        g, gamma = self.couplings()
        possible = in_range(self)
        return GivenRates(g, gamma if possible is True else jnp.where(possible, gamma, jnp.nan))

    @property
    def is_constant(self) -> bool:
        """Whether the laser has no envelope."""
        return self.laser.is_constant

    def dark(self) -> GivenRates:
        """g of the moments without light."""
        g = self.moments.sd_coupling()
        return GivenRates(g, jnp.zeros_like(g))


@partial(kept, brief=FEW)
def _couplings(moments: LocalMoment, laser: Laser) -> tuple[Array, Array]:
    """(g, gamma) of moments under a constant laser."""
    return moments.sd_coupling(laser), moments.loss_rate(laser)
