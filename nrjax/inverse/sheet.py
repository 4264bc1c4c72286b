"""The design sheet: what was designed, what it does, and how far it is from everything that could go wrong."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final

import jax
import numpy as np

from .. import units
from ..magnets.absorption import exposure
from ..maps.table import AXIS_UNITS
from ..rotation.boundaries import Boundary, boundaries_along
from ..rotation.phase_noise import linewidth, prepare_linewidth
from ..rotation.rigid_states import unknown_state
from ..rotation.stability_in_space import spatial_stability
from ..rotation.turns_before_melting import price_of_light
from .laser_design import DesignResult

# The edges of the chiral phase.
EDGES: Final = (Boundary.ANTIALIGNED_CHIRAL, Boundary.ALIGNED_CHIRAL, Boundary.CHIRAL_PARAMAGNETIC)


def design_sheet(
    result: DesignResult, build: Callable[..., Any], bounds: Mapping[str, Any], *, spins: float = 1e6
) -> str:
    """A design in words: parameters, state, light, margins and gradients, with units.

    **Arguments** `result`: from `design(build, ..., bounds=bounds)`. `spins`: in each layer, for the line's width.

    **Returns** text of several lines.
    """
    lines = [result.message, "parameters"]
    for name, value in result.parameters.items():
        unit = AXIS_UNITS.get(name, "")
        active = result.active_bounds.get(name)
        lines.append(f"  {name:20s} {value:.8g} {unit}".rstrip() + (f"  (at its {active} bound)" if active else ""))
    if result.limits:
        lines += ["limits", *(f"  {name}: {check}" for name, check in result.limits.items())]
    if result.each.size > 1:
        each = result.each
        lines.append(
            f"ensemble of {each.size}: {each.mean():.6g} GHz on average, standard deviation {each.std():.3g}, "
            f"{each.min():.6g} to {each.max():.6g}"
        )
    if result.state is None:
        return "\n".join(lines)

    magnet = build(**result.parameters)
    lines.append(f"state\n  {result.state}")
    rotation, chase = float(result.state.rotation_frequency), float(result.state.chase_frequency)
    if rotation > 0:
        lines.append(f"  a detector sees lines at 0 and {rotation:.6g} GHz, none at the chase")
    growth = abs(float(result.state.growth_rate))
    if growth > 0:
        lines.append(f"  deviations of all cells together decay within {1.0 / (growth * units.ps):.3g} ps")
    if rotation > 0:
        lines.append(f"  {spatial_stability(magnet, state=result.state)}")
        if not magnet.field_terms:
            lines.append(f"  {linewidth(magnet, spins, result.state)}")
    if magnet.has_laser:
        lines += ["light", *(f"  {line}" for line in str(exposure(magnet, result.state.m)).splitlines())]
        lines.append(f"  {price_of_light(magnet, result.state.m, chase)}")
    if chase > 0:
        if _has_edges(magnet):
            lines += ["margins (the edges of the chiral phase, one parameter at a time)"]
            lines += [f"  {line}" for line in _margins(result, build, bounds)]
        lines.append("gradient")
        for name, slope in result.gradient.items():
            unit = AXIS_UNITS.get(name)
            share = slope * result.parameters[name] / result.achieved
            lines.append(f"  {name:20s} {slope:.4g} GHz per {unit or 'unit'}; {share:.3g} % for 1 % of {name}")
    return "\n".join(lines)


def rehearsal_of_sheet(build: Callable[..., Any], bounds: Mapping[str, Any]) -> Iterator[Callable[[], Any]]:
    """What `design_sheet` needs for a chase, step by step, of a state of zeros in the middle of the bounds: its
    programs are there when a design is found, if this is done while it is looked for."""
    middle = {name: 0.5 * (low + high) for name, (low, high) in bounds.items()}
    magnet = build(**middle)
    shapes = jax.eval_shape(lambda: unknown_state(magnet.layers, magnet.dtype, magnet.components))
    state = jax.device_put(jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes))
    yield partial(spatial_stability, magnet, state=state)
    if not magnet.field_terms:
        yield partial(prepare_linewidth, magnet, state)
    if magnet.has_laser:
        yield partial(price_of_light, magnet, state.m, state.chase_frequency)
    if _has_edges(magnet):
        for name in middle:
            yield partial(_edges, middle, name, build, bounds)


def _has_edges(magnet: Any) -> bool:
    """Whether the edges of the chiral phase are known."""
    return magnet.shape_closes and float(magnet.damping[0]) > 0


def _edges(parameters: Mapping[str, float], name: str, build: Callable[..., Any], bounds: Mapping[str, Any]) -> Any:
    """The values of one parameter at the edges of the chiral phase."""
    others = {other: x for other, x in parameters.items() if other != name}
    return np.concatenate(boundaries_along(build, EDGES, name, bounds[name], others))


def _margins(result: DesignResult, build: Callable[..., Any], bounds: Mapping[str, Any]) -> list[str]:
    """For each parameter the nearest edges of the chiral phase on both sides, within its bounds."""
    lines = []
    for name, value in result.parameters.items():
        roots = _edges(result.parameters, name, build, bounds)
        below, above = roots[roots < value], roots[roots > value]
        unit = AXIS_UNITS.get(name, "")

        def end(edges: np.ndarray, nearest: Any, bound: float, unit: str = unit) -> str:
            if edges.size == 0:
                return f"beyond {bound:.6g} {unit}".rstrip()
            return f"{nearest(edges):.6g} {unit}".rstrip()

        low, high = bounds[name]
        lines.append(f"{name:20s} {end(below, np.max, low)} to {end(above, np.min, high)}")
    return lines
