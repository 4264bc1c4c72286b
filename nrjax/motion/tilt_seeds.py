"""What a chase grew from: the tilt of the moments along a trajectory."""

import warnings
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .. import units
from .._numerics.validation import Number, array_of, is_concrete, numbers_of
from ..light.envelopes import AbstractEnvelope
from ..light.laser import Laser

# The tilt is looked at this often; more than this is a chase; the least that a tolerance resolves,
# in units of it; and a tilt below what thermal motion leaves in 10^18 spins.
LOOKS_AT_TILT: Final = 256
CHASING: Final = 1e-3
ROUNDING: Final = 100.0
UNPHYSICAL: Final = 1e-9


def look_times(laser: Laser | None, start: Array, stop: Array) -> Array:
    """Times at which the tilt is looked at, hbar/meV: evenly spaced, and wherever the light changes."""
    times = array_of(numbers_of(start, stop).linspace(start, stop, LOOKS_AT_TILT, dtype=start.dtype))
    if laser is not None and isinstance(laser.envelope, AbstractEnvelope):
        knots = laser.envelope.knots().astype(times.dtype) * units.ps
        times = jnp.sort(jnp.concatenate([times, jnp.clip(knots, start, stop)]))
    return jax.lax.stop_gradient(times)


def seed_of(times: Array, tilts: Array, floor: float | Array) -> tuple[Array, Array, Array]:
    """The least tilt that has grown, whether any has, and whether a chase has grown from one below `floor`."""
    seen = jnp.isfinite(times) & jnp.isfinite(tilts)
    tilts = jax.lax.stop_gradient(jnp.where(seen, tilts, jnp.inf))
    least = jax.lax.cummin(tilts)
    grown = seen & (tilts > 10.0 * least)
    seed = jnp.min(jnp.where(grown, least, jnp.inf))
    by_rounding = jnp.any(grown & (tilts > CHASING) & (least < floor))
    return jnp.where(jnp.any(grown), seed, tilts[0]), jnp.any(grown), by_rounding


def warn_of_seed(seed: Any, grew: Any, by_rounding: Any, spins: Number | None) -> None:
    """Warn of a chase whose start is an accident, or that no sample would wait for (known numbers only)."""
    if not is_concrete(seed, grew, by_rounding) or np.ndim(seed):
        return
    if by_rounding:
        warnings.warn(
            f"the moments tilted apart from a deviation of {seed:.1g}, less than the tolerance resolves: when they "
            "did so is an accident of rounding. Lower rtol and compare, or start from m0 with the deviation that "
            "you mean.",
            stacklevel=3,
        )
    elif spins is None and bool(grew) and 0.0 < float(seed) < UNPHYSICAL:
        warnings.warn(
            f"the tilt between the moments grew from {seed:.1g}, to which that of m0 had decayed: less than thermal "
            "motion leaves in any sample, so that a real chase starts sooner. Pass spins=N, the number of spins in "
            "each layer.",
            stacklevel=3,
        )
