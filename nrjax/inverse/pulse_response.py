"""A frequency against time under an envelope: what a pulse is designed with."""

from typing import Final

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .. import units
from .._numerics.small_matrices import safe_sqrt
from ..light.envelopes import Spline
from ..light.laser import Laser
from ..magnets import LayeredMagnet
from ..motion.frequencies import instantaneous_frequency
from ..motion.integration import simulate
from .box import coordinate_of, share_at

# Tolerance of the integration while the envelope is being found; the result is integrated with the default one.
SEARCH_TOLERANCE: Final = 1e-6


class PulseResponse(eqx.Module):
    """What a pulse is for: from moments `start`, follow `target` (GHz) at `times` (ps) under an envelope with bounds.

    `magnet`: whose laser has the peak intensity. `first`, `last`: relative intensities at both ends; NaN where free.
    `slew`: largest change from one coefficient to the next.
    """

    magnet: LayeredMagnet
    start: Float[Array, "L 3"]
    times: Float[Array, " times"]
    target: Float[Array, " times"]
    first: Float[Array, ""]
    last: Float[Array, ""]
    slew: Float[Array, ""]
    observable: str = eqx.field(static=True)

    def coefficients(self, y: Float[Array, " n"]) -> Float[Array, " n"]:
        """Relative intensities from free coordinates: each within [0, 1] and reach of its neighbours and of the end."""

        def walk(before: Array, entry: tuple[Array, Array]) -> tuple[Array, Array]:
            low, high = self._reach(before, entry[1])
            here = low + (high - low) * share_at(entry[0])
            return here, here

        first = self._first(y[0])
        _, rest = jax.lax.scan(walk, first, (y[1:], _left(y)))
        return jnp.concatenate([first[None], rest])

    def coordinates(self, c: Float[Array, " n"]) -> Float[Array, " n"]:
        """Coordinates of coefficients next to `c` that keep the bounds."""

        def walk(before: Array, entry: tuple[Array, Array]) -> tuple[Array, Array]:
            low, high = self._reach(before, entry[1])
            y = coordinate_of((entry[0] - low) / jnp.where(high > low, high - low, 1.0))
            return low + (high - low) * share_at(y), y

        y = coordinate_of(c[0])
        first = self._first(y)
        _, rest = jax.lax.scan(walk, first, (c[1:], _left(c)))
        return jnp.concatenate([y[None], rest])

    def _first(self, y: Array) -> Array:
        """The coefficient at the start, chosen by `y` where it is free."""
        return jnp.where(jnp.isnan(self.first), share_at(y), self.first)

    def _reach(self, before: Array, left: Array) -> tuple[Array, Array]:
        """Where the next coefficient may lie, with `left` more to come after it."""
        low, high = jnp.maximum(before - self.slew, 0.0), jnp.minimum(before + self.slew, 1.0)
        # The last three together decide the value at the end.
        room = self.slew * jnp.maximum(left - 2, 0).astype(before.dtype)
        free = jnp.isnan(self.last)
        last, room = jnp.where(free, 0.0, self.last), jnp.where(free, jnp.inf, room)
        return jnp.maximum(low, last - room), jnp.minimum(high, last + room)

    def under(self, coefficients: Float[Array, " n"]) -> LayeredMagnet:
        """The magnet under the pulse."""
        laser = self.magnet.illumination.laser
        envelope = Spline(0.0, self.times[-1], coefficients)
        return self.magnet.with_laser(Laser(laser.intensity, laser.photon_energy, envelope))

    def frequency(self, magnet: LayeredMagnet, quick: bool) -> Float[Array, " times"]:
        """GHz at `times`; `quick` leaves precession out where it only turns the whole magnet, at a lower tolerance."""
        slow = quick and magnet.shape_closes
        moving = eqx.tree_at(lambda x: x.gyro, magnet, jnp.zeros_like(magnet.gyro)) if slow else magnet
        solution = simulate(
            moving,
            self.start,
            self.times[-1],
            saveat=self.times,
            rtol=SEARCH_TOLERANCE if quick else None,
            adjoint=diffrax.ForwardMode() if quick else None,
            throw=False,
            watch_tilt=False,
        )
        seen = instantaneous_frequency(solution)
        if self.observable == "chase_frequency":
            return seen.chase
        if not slow:
            return seen.rotation
        # Both layers precess about gyro (j_BA m_A + j_AB m_B), which lies in their plane.
        turning, m = magnet.precession_exchange(), solution.ms
        about = (turning[1, 0] * m[:, 0] + turning[0, 1] * m[:, 1]) / units.GHz
        return safe_sqrt(seen.chase**2 + jnp.sum(about**2, axis=1))

    def errors(self, y: Float[Array, " n"]) -> Float[Array, " times"]:
        """Relative errors of the frequency at `times`; large, with no slope, where the integration failed."""
        frequency = self.frequency(self.under(self.coefficients(y)), quick=True)
        relative = frequency / self.target - 1.0
        return jnp.where(jnp.isfinite(relative), relative, 10.0)


def _left(c: Array) -> Array:
    """For each coefficient but the first, how many come after it."""
    return jnp.arange(c.shape[0] - 2, -1, -1)
