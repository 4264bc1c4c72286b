"""What a trajectory is: times, moments, and the heat that came with them."""

from typing import Any

import diffrax
import equinox as eqx
import numpy as np
from jaxtyping import Array, Bool, Float

from .._numerics.validation import is_concrete


class TemperatureCourse(eqx.Module):
    """Temperatures and energies along a trajectory, per atom, each of shape (times, L); layers that share one
    temperature have the same.

    - `electrons`, `lattice`: K. `absorbed`, `carried_away`: meV until that time, from the light and to the substrate.
    - `stored`: meV, more than at the start: absorbed = stored + carried_away.
    """

    electrons: Float[Array, "times L"]
    lattice: Float[Array, "times L"]
    absorbed: Float[Array, "times L"]
    carried_away: Float[Array, "times L"]
    stored: Float[Array, "times L"]


class Solution(eqx.Module):
    """A trajectory of moments.

    - `ts`: times in ps, shape (times,).
    - `ms`: moments in units of the saturated moment (or other order parameters), shape (times, L, n).
    - `result`: Diffrax's result code; its text says what to do.
    - `stats`: step counts.
    - `valid`: finite and successful.
    - `velocities`: dm/dt in 1/ps, shape (times, L, n), from the equation of motion; None for moments from elsewhere.
    - `seed_tilt`: the least tilt, max |m_a x m_b| / max |m_a|^2, that grew tenfold or more: what a chase has grown
      from (the tilt at the start if none grew).
    - `heat`: a `TemperatureCourse` of a sample with a `ThermalModel`; None without.
    - `seeded_by_rounding`: whether a chase grew from less than the tolerance resolves, so that the time at which it
      starts is an accident. Never for an isotropic bilayer, whose tilt has an exact equation.
    """

    ts: Float[Array, " times"]
    ms: Float[Array, "times L n"]
    result: diffrax.RESULTS
    stats: dict[str, Any]
    valid: Bool[Array, ""]
    velocities: Float[Array, "times L n"] | None = None
    seed_tilt: Float[Array, ""] | None = None
    seeded_by_rounding: Bool[Array, ""] | None = None
    heat: TemperatureCourse | None = None

    def __str__(self) -> str:
        if self.ts.ndim > 1 or not is_concrete(self.ts):
            return f"Solution(ts{self.ts.shape}, ms{self.ms.shape})"
        steps, times = self.stats["num_steps"], np.asarray(self.ts)
        return (
            f"Solution: {times.size} times, {times[0]:.4g} to {times[-1]:.4g} ps, {self.ms.shape[1]} layers, "
            f"{steps} steps ({self.stats['num_rejected_steps']} rejected), {'valid' if self.valid else 'not valid'}, "
            f"{self.ms.dtype}"
            + ("" if self.seed_tilt is None else f", grown from a tilt of {float(self.seed_tilt):.2g}")
            + (", which is rounding: the start of the chase is an accident" if self.seeded_by_rounding else "")
        )
