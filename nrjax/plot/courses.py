"""Moments in time."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

from ..magnets import LayeredMagnet
from ..motion.frequencies import instantaneous_frequency, visible
from ..motion.solution import Solution
from .style import LAYER_COLOURS


def switching(solution: Solution, magnet: LayeredMagnet, names: Sequence[str] = "ABCDEFGH") -> Figure:
    """Light, shape and frequencies against time: what a pulse does to a magnet.

    **Arguments** `solution`: from `simulate(magnet, ...)`, saved at several times. `magnet`: from
    `LayeredMagnet.with_light`. `names`: of the layers.

    **Returns** a matplotlib Figure.

    **Raises** `ValueError` for a magnet without laser or fewer than two saved times.
    """
    ts, ms = np.asarray(solution.ts), np.asarray(solution.ms)
    if not magnet.has_laser or len(ts) < 2:
        raise ValueError("switching needs a magnet made by with_light and two saved times or more.")
    light = magnet.illumination
    loss = np.asarray(jax.vmap(lambda t: light.at(t).loss_rate)(solution.ts))
    frequency = instantaneous_frequency(solution)
    lengths = np.linalg.norm(ms, axis=2)
    figure = Figure(figsize=(8.5, 8.5), layout="constrained")
    panels: Any = figure.subplots(4, 1, sharex=True)
    for layer in range(ms.shape[1]):
        colour, name = LAYER_COLOURS[layer % len(LAYER_COLOURS)], names[layer]
        panels[0].plot(ts, loss[:, layer], color=colour, label=rf"$\gamma_{name}$")
        panels[1].plot(ts, lengths[:, layer], color=colour, label=f"$|m_{name}|$")
    if ms.shape[1] > 1:
        panels[1].plot(ts, _cosine(ms), color="0.45", linewidth=0.9, linestyle="--", label=r"$\cos\theta$")
    panels[2].plot(ts, visible(frequency, frequency.chase), color="black")
    panels[3].plot(ts, visible(frequency, frequency.rotation), color="black")
    for axes, label in zip(
        panels, ("loss rate (meV)", "shape", "chase (GHz)", "rotation, seen\nby a probe (GHz)"), strict=True
    ):
        axes.set_ylabel(label)
        axes.margins(x=0)
    for axes in panels[:2]:
        axes.legend(loc="center right", frameon=True, framealpha=0.85, fontsize="small")
    panels[3].set_xlabel("time (ps)")
    return figure


def trajectory(solution: Solution, names: Sequence[str] = "ABCDEFGH", title: str = "", stretch: float = 0.1) -> Figure:
    """The shape of the magnet (lengths, angle) against all times, and for the last stretch the tips of the moments in
    space and their components against time in ps.

    **Arguments** `solution`: a `simulate` result saved at several times. `names`: of the layers. `title`: a line on
    top. `stretch`: the share of the time that counts as last.

    **Returns** a matplotlib Figure.

    **Raises** `ValueError` if fewer than two times were saved.
    """
    ts, ms = np.asarray(solution.ts), np.asarray(solution.ms)
    if len(ts) < 2:
        raise ValueError(
            f"the solution has {len(ts)} saved time: a picture needs more. Set saveat=numpy.linspace(...)."
        )
    layers = ms.shape[1]
    last = slice(min(int(len(ts) * (1.0 - stretch)), len(ts) - 2), None)
    figure = Figure(figsize=(13.0, 2.0 + 2.0 * (layers + 1)), layout="constrained")
    halves: Any = figure.subfigures(1, 2, width_ratios=(1.0, 1.2))
    left, right = halves
    space = left.add_subplot(projection="3d")
    panels = right.subplots(layers + 1, 1)
    lengths = np.linalg.norm(ms, axis=2)
    for layer in range(layers):
        colour, path = LAYER_COLOURS[layer % len(LAYER_COLOURS)], ms[last, layer]
        space.plot(*path.T, color=colour, linewidth=0.9, alpha=0.8)
        space.plot(*zip(np.zeros(3), path[-1], strict=True), color=colour, linewidth=2.5, label=f"$m_{names[layer]}$")
        space.plot(*path[-1:].T, "o", color=colour)
        panels[0].plot(ts, lengths[:, layer], color=colour, label=f"$|m_{names[layer]}|$")
        for component, label in enumerate("xyz"):
            panels[layer + 1].plot(
                ts[last], path[:, component], linewidth=1.0, color=f"C{component + 6}", label=f"$m_{label}$"
            )
        panels[layer + 1].set_ylabel(f"layer {names[layer]}")
    if layers > 1:
        panels[0].plot(ts, _cosine(ms), color="0.45", linewidth=0.9, linestyle="--", label=r"$\cos\theta$")
    reach = float(np.abs(ms[last]).max()) or 1.0
    limits = (-reach, reach)
    space.set(xlim=limits, ylim=limits, zlim=limits, xlabel="$m_x$", ylabel="$m_y$", zlabel="$m_z$")
    space.set_box_aspect((1, 1, 1))
    space.set_title(f"tips, last {ts[-1] - ts[last][0]:.3g} ps")
    space.legend(loc="upper left", frameon=False)
    for axes in panels:
        axes.margins(x=0)
        axes.legend(loc="upper right", ncols=4, frameon=True, framealpha=0.85, fontsize="small")
    panels[0].set_ylabel("shape")
    panels[-1].set_xlabel("time (ps)")
    if title:
        figure.suptitle(title)
    return figure


def _cosine(ms: np.ndarray) -> np.ndarray:
    """cos of the angle between the first two layers, NaN where one vanishes."""
    lengths = np.linalg.norm(ms, axis=2)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.einsum("ti,ti->t", ms[:, 0], ms[:, 1]) / (lengths[:, 0] * lengths[:, 1])
