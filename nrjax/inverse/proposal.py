"""An experiment on a chase: what to shine, what it does to the sample, what to look for, what may fail."""

from typing import Final

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

from .._numerics.validation import Number, float_array, require_positive
from ..magnets import LayeredMagnet, ThermalModel
from ..magnets.absorption import Exposure, exposure
from ..magnets.heat import penetration_depth
from ..motion.phases import Phase
from ..rotation.attractors import steady_state
from ..rotation.phase_noise import Linewidth, linewidth
from ..rotation.rigid_states import SteadyState
from ..rotation.stability_in_space import SpatialStability, spatial_stability
from ..rotation.turns_before_melting import Turns, turns
from .constraints import AboveOnset, Check, EnoughElectrons, MinTurns, NarrowLine, StableInSpace, check_of

# What an experiment is asked for: so far above the onset, so many turns, so narrow a line.
ABOVE_ONSET: Final = 1.1
TURNS: Final = 1.0
SHARE: Final = 0.01
# Turns in a pulse whose length is not given.
PULSE_TURNS: Final = 10.0


class Experiment(eqx.Module):
    """A chase to be tried: what to shine, what it does to the sample, what to look for, what could kill it.

    - `magnet`, `thermal`, `state`: what it is about, and its steady state at the substrate's temperature.
    - `light`: an `Exposure`. `duration`: of the pulse, ps. `fluence`: its energy per area, mJ/cm^2.
    - `penetration_depth`: of the light, nm: I V/P, with P the mean power of a site and V its volume. Where nothing but
      the moments absorbs (`background_depth` of `thermal` infinite), the rest of the sample must be as transparent.
    - `heat`: `Turns` during the pulse. `space`: `SpatialStability`. `line`: `Linewidth`.
    - `checks`: quantity -> `Check`, what could kill it.
    """

    magnet: LayeredMagnet
    thermal: ThermalModel
    state: SteadyState
    light: Exposure
    duration: Float[Array, ""]
    fluence: Float[Array, ""]
    penetration_depth: Float[Array, ""]
    heat: Turns
    space: SpatialStability
    line: Linewidth | None
    checks: dict[str, Check] = eqx.field(static=True)

    @property
    def observable(self) -> bool:
        """Whether nothing that was checked kills it."""
        return all(check.met for check in self.checks.values())

    def __str__(self) -> str:
        state, heat = self.state, self.heat
        if int(state.phase) != Phase.CHIRAL:
            return f"no chase, nothing to look for: {state}\n{self.light}"
        warnings = self.light.warnings
        power, photons = f"{float(heat.power):.3g} meV/ps", f"{float(heat.photons_per_turn):.3g} photons a turn"
        melts = "until then" if bool(heat.ended) else "in the pulse, and no end"
        line = "" if self.line is None else f"; {self.line}"
        lines = [
            "what to shine",
            f"  {float(self.light.intensity):.4g} W/cm^2 at {float(self.light.photon_energy):.5g} meV for "
            f"{float(self.duration):.4g} ps: {float(self.fluence):.4g} mJ/cm^2, peak field "
            f"{float(self.light.peak_field):.3g} MV/cm",
            "what it does to the sample",
            f"  {power} and {photons} absorbed per site; the light reaches {float(self.penetration_depth):.3g} nm deep",
            f"  from {float(self.thermal.base):.4g} K to {float(heat.electron_temperature):.4g} K in "
            f"{float(heat.time):.3g} ps; the order is lost at {float(heat.limit):.4g} K",
            f"  {float(heat.chase):.3g} turns of the chase, {float(heat.rotation):.3g} of the magnet, {melts}",
            "what to look for",
            f"  a line at {float(state.rotation_frequency):.5g} GHz{line}",
            f"  the chase, {float(state.chase_frequency):.4g} GHz, is no line",
            f"  moments {', '.join(f'{float(x):.3g}' for x in state.lengths)} of saturation, "
            f"{np.degrees(float(state.angle)):.3g} degrees apart",
            "what could kill it",
            *(f"  {name}: {check}" for name, check in self.checks.items()),
            *(f"  the model itself: {text}" for text in warnings),
            "nothing that was checked kills it" if self.observable else "as it stands it would not be seen",
        ]
        return "\n".join(lines)


def experiment(
    magnet: LayeredMagnet,
    thermal: ThermalModel,
    *,
    duration: Number | None = None,
    spins: Number = 1e6,
) -> Experiment:
    """Plan an experiment on a chase, with every margin.

    **Arguments**

    - `magnet`: under a laser of constant intensity.
    - `thermal`: a `ThermalModel`; the sample starts at its substrate's temperature.
    - `duration`: of the pulse, ps. Default: ten turns of the chase.
    - `spins`: in each layer, for the width of the line.

    **Returns** an `Experiment`; `print` it, or `plot.experiment` it.

    **Raises** `ValueError` for a magnet without laser or under a pulse, and for numbers out of range.

    Checked are: ten per cent above the onset, stability in space, electrons enough to carry the exchange, one turn
    before the sample melts (counted by simulation), a line of one per cent. Mean field, one temperature for all layers
    unless `thermal` conducts.
    """
    require_positive("spins", spins, "In each layer.")
    if magnet.changes_in_time:
        raise ValueError(
            "experiment plans a pulse of constant intensity: leave the laser's envelope out, give duration."
        )
    light = magnet.illumination
    magnet = thermal.cold(magnet)
    state = steady_state(magnet, throw=False)
    chases = bool(state.valid) and int(state.phase) == Phase.CHIRAL
    if duration is None:
        duration = PULSE_TURNS * 1e3 / float(state.chase_frequency) if chases else 1.0
    require_positive("duration", duration, "Of the pulse, ps.")
    length = float_array("duration", duration, (), magnet.dtype)
    heat = turns(magnet, thermal, length, state=state)
    line = None if magnet.field_terms else linewidth(magnet, spins, state)
    return Experiment(
        magnet=magnet,
        thermal=thermal,
        state=state,
        light=exposure(magnet, state.m),
        duration=length,
        fluence=light.laser.intensity * length * 1e-12 * 1e3,
        penetration_depth=penetration_depth(light.laser.intensity, heat.power, thermal.volume),
        heat=heat,
        space=spatial_stability(magnet, state=state),
        line=line,
        checks=_checks(magnet, thermal, state, heat, line) if chases else {},
    )


def _checks(
    magnet: LayeredMagnet, thermal: ThermalModel, state: SteadyState, heat: Turns, line: Linewidth | None
) -> dict[str, Check]:
    """What could kill a chase. Turns are those that were counted, not estimated."""
    limits = [AboveOnset(ABOVE_ONSET), StableInSpace(), EnoughElectrons()]
    if line is not None:
        limits.append(NarrowLine(float(line.spins), SHARE))
    found = dict(check_of(x, *x.measured(magnet, state)) for x in limits)
    name, rule, unit = MinTurns(thermal, TURNS).words
    # Where nothing melts in the pulse, all of its turns can be seen.
    return found | {name: Check(float(heat.chase), TURNS, rule, unit, bool(heat.chase >= TURNS))}
