"""At which times a trajectory is saved: those that are asked for in ps, and the tilt at times of its own."""

from typing import Any

import diffrax
import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array

from .. import units
from .._numerics.validation import Number, array_of, float_array, is_concrete, numbers_of, require_finite
from .coordinates import AbstractCoordinates


def internal_times(ps: Any, dtype: Any) -> Array:
    """Times in ps as hbar/meV; of known ones without a program of XLA, which would be compiled first."""
    return array_of(numbers_of(ps).asarray(ps, dtype) * units.ps)


def require_times(saveat: Any, t0: Number, t1: Number) -> None:
    """Raise `ValueError` for times to save at that do not increase, or are not simulated (known numbers only)."""
    subs = saveat.subs if isinstance(saveat, diffrax.SaveAt) else saveat
    times = subs.ts if isinstance(subs, diffrax.SubSaveAt) else subs
    if times is None or not is_concrete(t0, t1, *jax.tree.leaves(times)):
        return
    ts, first, last = np.asarray(times, float), float(np.asarray(t0)), float(np.asarray(t1))
    if ts.ndim != 1:
        return
    if np.any(np.diff(ts) < 0):
        raise ValueError("saveat does not increase: sort the times (ps).")
    outside = ts[(ts < first) | (ts > last)]
    if outside.size:
        raise ValueError(
            f"saveat holds {outside.flat[0]:g} ps, which is not simulated: give times from t0 = {first:g} to t1 = "
            f"{last:g} ps."
        )


def internal_saveat(saveat: Any, dtype: Any, looks: Array | None) -> diffrax.SaveAt:
    """The same `SaveAt` with its times in hbar/meV, and with the tilt at `looks` besides."""
    asked = _saveat_in_internal_time(saveat, dtype)
    if looks is None:
        return asked
    return eqx.tree_at(
        lambda s: s.subs,
        asked,
        (asked.subs, diffrax.SubSaveAt(ts=looks, fn=_tilt)),
        is_leaf=lambda x: x is asked.subs,
    )


def _saveat_in_internal_time(saveat: Any, dtype: Any) -> diffrax.SaveAt:
    if saveat is None:
        return diffrax.SaveAt(t1=True)
    if not isinstance(saveat, diffrax.SaveAt):
        times = float_array("saveat", saveat)
        if times.ndim != 1 or times.size == 0:
            raise ValueError(f"saveat has shape {times.shape}: it must be a list of times in ps, for example linspace.")
        require_finite("saveat", times)
        return diffrax.SaveAt(ts=internal_times(times, dtype))
    if saveat.subs is not None and saveat.subs.ts is not None:
        return eqx.tree_at(lambda s: s.subs.ts, saveat, internal_times(saveat.subs.ts, dtype))
    return saveat


def saved_times(saveat: Any, dtype: Any) -> Array | None:
    """The times in hbar/meV that are asked for, if they are listed."""
    subs = internal_saveat(saveat, dtype, None).subs
    return subs.ts if isinstance(subs, diffrax.SubSaveAt) else None


def _tilt(t: Any, y: Any, coordinates: AbstractCoordinates) -> Any:
    return coordinates.tilt(y)
