"""How a design was found."""

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..inverse import DesignResult
from ..magnets import LayeredMagnet
from .phase_maps import draw_boundaries, draw_phases
from .style import AXIS_LABELS, CHOSEN


def design(result: DesignResult, dataset: xr.Dataset | None, build: Callable[..., LayeredMagnet] | None) -> Figure:
    """Convergence of a design's restarts, and their ways through parameter space.

    **Arguments** `result`: from `design`. `dataset`: from `sweep` over the two designed parameters, drawn underneath;
    None for other numbers of parameters: then each parameter is drawn against the steps. `build`: of the sweep, for
    the exact boundaries.

    **Returns** a matplotlib Figure.
    """
    history, names = result.history, list(result.parameters)
    if dataset is not None:
        axes = [str(name) for name in dataset["phase"].dims]
        if sorted(axes) != sorted(names):
            raise ValueError(f"the dataset has axes {axes}, the design parameters {names}: sweep over these.")
        names = axes
    chosen = int(history.attrs["chosen"])
    figure = Figure(figsize=(12.5, 5.2), layout="constrained")
    left, right = figure.add_gridspec(1, 2)
    lasts = np.minimum(history["steps"].values, history.sizes["step"])

    def way(name: str, restart: int) -> np.ndarray:
        return history[name].values[: lasts[restart], restart]

    def draw_ways(axes: Axes, line: Callable[[int], Any], grey: str) -> None:
        for restart in range(len(lasts)):
            style: dict[str, Any] = {"color": grey, "linewidth": 0.9, "zorder": 2}
            if restart == chosen:
                style = {"color": CHOSEN, "linewidth": 2.0, "zorder": 3}
            axes.plot(*line(restart), ".-", markersize=3, **style)

    convergence = figure.add_subplot(left)
    draw_ways(convergence, lambda k: (np.arange(1, lasts[k] + 1), np.maximum(way("miss", k), 1e-16)), "0.7")
    convergence.set(yscale="log", xlabel="step", ylabel="miss of the target, relative")
    convergence.set_title("restarts; the chosen one in colour")

    if dataset is not None:
        plane = figure.add_subplot(right)
        handles = draw_phases(plane, dataset)
        if build is not None:
            horizontal, vertical = ((str(name), dataset[name].values) for name in dataset["phase"].dims)
            handles += draw_boundaries([plane], build, horizontal, vertical)
        draw_ways(plane, lambda k: [way(name, k) for name in names], "0.25")
        plane.plot(
            *(result.parameters[name] for name in names),
            "*",
            color=CHOSEN,
            markersize=16,
            markeredgecolor="black",
            zorder=4,
        )
        plane.set(xlabel=AXIS_LABELS.get(names[0], names[0]), ylabel=AXIS_LABELS.get(names[1], names[1]))
        plane.set_title(result.message.split(" (")[0])
        figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 5), frameon=False)
        return figure
    cells = right.subgridspec(len(names), 1)
    for row, name in enumerate(names):
        panel = figure.add_subplot(cells[row])
        draw_ways(panel, lambda k, name=name: (np.arange(1, lasts[k] + 1), way(name, k)), "0.7")
        panel.set_ylabel(AXIS_LABELS.get(name, name), fontsize="small")
        if row == len(names) - 1:
            panel.set_xlabel("step")
    return figure
