"""What a chase does in a real sample: in space, in its own heat, before a probe."""

from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..inverse import Experiment
from ..inverse.objectives import scaled_light
from ..motion.integration import simulate
from ..motion.phases import Phase
from ..motion.spin_dynamics import SpinSolution
from ..motion.spin_observables import structure_factor
from ..rotation.attractors import steady_states
from ..rotation.spectral_lines import spectrum
from ..rotation.stability_in_space import SpatialStability
from .style import CHOSEN, COLOURS, LAYER_COLOURS

INTENSITIES: Final = 161
GOOD, BAD = COLOURS[Phase.CHIRAL], CHOSEN
# Lines are drawn no narrower than this share of their frequency, or nothing would be seen of them.
NARROWEST: Final = 2e-3


def survival(stability: SpatialStability, label: str = "") -> Figure:
    """Growth rates of deviations in space against the share of the exchange that they feel.

    **Arguments** `stability`: of one state, from `spatial_stability`. `label`: a title.

    **Returns** a matplotlib Figure.
    """
    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    axes = figure.subplots()
    _draw_survival(axes, stability)
    axes.set_title(label or str(stability).split(":")[0])
    return figure


def _draw_survival(axes: Axes, stability: SpatialStability) -> None:
    f, rate = np.asarray(stability.factors), np.asarray(stability.growth_rate)
    axes.axhline(0.0, color="0.5", linewidth=0.8)
    axes.fill_between(f, 0.0, rate, where=rate > 0, color=BAD, alpha=0.35, linewidth=0, label="grows")
    axes.plot(f, rate, color="black", linewidth=1.6)
    axes.set(xlabel="share of the exchange, $j(q)/j(0)$", ylabel="growth rate (meV)")
    axes.margins(x=0)
    if (rate > 0).any():
        axes.legend(frameon=False)


def snapshot(solution: SpinSolution, layer_names: str = "ABCDEFGH", plane: int = 0) -> Figure:
    """The spins of one plane of cells, layer by layer, and how their order is spread over wave vectors.

    **Arguments** `solution`: from `simulate_spins`. `plane`: which cell along z. Colour tells the direction of a spin
    about the axis of the chase, arrows its part in the plane of the picture.

    **Returns** a matplotlib Figure.
    """
    spins = np.asarray(solution.spins)
    layers = spins.shape[0]
    first, second = _frame(np.asarray(solution.moments)[-1])
    factors = np.asarray(structure_factor(solution.spins))
    figure = Figure(figsize=(4.4 * layers + 0.8, 8.2), layout="constrained")
    panels: Any = figure.subplots(2, layers, squeeze=False)
    angles: Any = None
    for layer in range(layers):
        slab = spins[layer, :, :, plane]
        x, y = slab @ first, slab @ second
        axes = panels[0, layer]
        angles = axes.imshow(np.arctan2(y, x).T, origin="lower", cmap="twilight", vmin=-np.pi, vmax=np.pi)
        stride = max(1, slab.shape[0] // 24)
        cells = tuple(np.arange(0, n, stride) for n in slab.shape[:2])
        picked = np.ix_(*cells)
        axes.quiver(
            *cells, x[picked].T, y[picked].T, pivot="mid", color="white", scale=1.3 * len(cells[0]), width=0.005
        )
        axes.set_title(f"layer {layer_names[layer]}, {float(solution.ts[-1]):.3g} ps")
        axes.set(xlabel="cell", ylabel="cell")
        waves = np.fft.fftshift(factors[layer, :, :, 0])
        half = [n // 2 for n in waves.shape]
        extent = (-half[0] - 0.5, waves.shape[0] - half[0] - 0.5, -half[1] - 0.5, waves.shape[1] - half[1] - 0.5)
        axes = panels[1, layer]
        mesh = axes.imshow(np.log10(np.maximum(waves.T, 1e-3)), origin="lower", cmap="viridis", extent=extent)
        axes.set(xlabel="wavelengths along x", ylabel="wavelengths along y")
        figure.colorbar(mesh, ax=axes, label="$\\log_{10} S(q)$", shrink=0.8)
    figure.colorbar(angles, ax=panels[0, -1], label="angle (radians)", shrink=0.8)
    return figure


def _frame(moments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two unit vectors across the axis of the chase, the first along the first layer's moment (z alone: x and y)."""
    normal = np.cross(moments[0], moments[min(1, len(moments) - 1)])
    size = np.linalg.norm(normal)
    if size < 1e-12:
        return np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0])
    first = moments[0] / np.linalg.norm(moments[0])
    return first, np.cross(normal / size, first)


def experiment(plan: Experiment) -> Figure:
    """What to shine, what happens to the sample, what to look for, and what could kill it.

    **Arguments** `plan`: from `experiment`. **Returns** a matplotlib Figure.

    **Raises** `ValueError` for a plan without a chase.
    """
    if int(plan.state.phase) != Phase.CHIRAL:
        raise ValueError(f"this plan has no chase to draw: {plan.state}. Change its light or its material.")
    figure = Figure(figsize=(12.5, 9.6), layout="constrained")
    panels: Any = figure.subplots(3, 2, height_ratios=(1.0, 1.0, 0.42))
    _draw_tuning(panels[0, 0], plan)
    _draw_lines(panels[0, 1], plan)
    _draw_survival(panels[1, 0], plan.space)
    panels[1, 0].set_title("does it stay together in space?")
    _draw_heat(panels[1, 1], plan)
    for axes in panels[2]:
        axes.axis("off")
    for row, (name, check) in enumerate(plan.checks.items()):
        colour = GOOD if check.met else BAD
        panels[2, 0].text(0.0, 0.9 - 0.25 * row, f"{name}: {check}", color=colour, transform=panels[2, 0].transAxes)
    return figure


def _draw_tuning(axes: Axes, plan: Experiment) -> None:
    """Frequencies against the intensity."""
    here = float(plan.light.intensity)
    factors = jnp.linspace(0.0, 1.8, INTENSITIES)
    states = steady_states(jax.vmap(lambda factor: scaled_light(plan.magnet, factor))(factors))
    chases = np.asarray(states.phase) == Phase.CHIRAL
    for name, colour, words in (
        ("rotation_frequency", LAYER_COLOURS[0], "rotation: the line"),
        ("chase_frequency", LAYER_COLOURS[2], "chase: no line"),
    ):
        axes.plot(here * factors, np.where(chases, getattr(states, name), np.nan), color=colour, label=words)
        axes.plot(here, float(getattr(plan.state, name)), "*", color=CHOSEN, markersize=14, markeredgecolor="black")
    axes.set(xlabel="intensity (W/cm$^2$)", ylabel="frequency (GHz)", title="what to shine")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)


def _draw_lines(axes: Axes, plan: Experiment) -> None:
    """The lines of the total and of the staggered moment, as wide as they are, or as NARROWEST."""
    lines = spectrum(plan.state, plan.line)
    centre = float(plan.state.rotation_frequency)
    width = np.nan if plan.line is None else float(plan.line.fwhm)
    drawn = np.fmax(width, NARROWEST * centre)
    x = np.linspace(0.0, 1.6 * centre, 4001)
    for signal, colour in (("total", "black"), ("staggered", LAYER_COLOURS[1])):
        amplitude = float(lines["amplitude"].sel(signal=signal)[-1])
        shape = amplitude / (1.0 + ((x - centre) / (0.5 * drawn)) ** 2)
        axes.plot(x, shape, color=colour, label=f"{signal} moment: {amplitude:.2g}")
    known = "" if plan.line is None else f", {float(plan.line.spins):.2g} spins"
    note = known if drawn == width else f"{known}; drawn wider than it is" if width > 0 else "; width not known"
    axes.set(xlabel="frequency (GHz)", ylabel="amplitude (saturated moments)", title=f"what to look for{note}")
    axes.set_ylim(bottom=0)
    axes.margins(x=0)
    axes.legend(frameon=False)


def _draw_heat(axes: Axes, plan: Experiment) -> None:
    """Temperatures until the order melts, or to the end of the pulse."""
    stop = float(plan.heat.time)
    times = np.linspace(0.0, stop, 201)
    unit, shown = ("fs", 1e3 * times) if stop < 0.5 else ("ps", times)
    course = simulate(
        plan.magnet, plan.state.m, stop, saveat=times, thermal=plan.thermal, throw=False, watch_tilt=False
    )
    assert course.heat is not None
    axes.plot(
        shown, np.max(np.asarray(course.heat.electrons), axis=1), color=COLOURS[Phase.ANTIALIGNED], label="electrons"
    )
    axes.plot(shown, np.max(np.asarray(course.heat.lattice), axis=1), color=COLOURS[Phase.ALIGNED], label="lattice")
    axes.axhline(float(plan.heat.limit), color="black", linestyle="--", linewidth=1.0, label="order lost")
    turned = f"{float(plan.heat.chase):.2g} turns of the chase"
    axes.set(
        xlabel=f"time in the light ({unit})", ylabel="temperature (K)", title=f"what it does to the sample: {turned}"
    )
    axes.margins(x=0)
    axes.legend(frameon=False)
