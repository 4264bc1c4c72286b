"""Pictures: phase diagrams, frequency curves and trajectories. Needs the `plot` extra (matplotlib)."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from .inverse import DesignResult
from .magnets import LayeredMagnet
from .motion.frequencies import instantaneous_frequency, visible
from .motion.phases import Phase
from .motion.solution import Solution
from .rotation.boundaries import Boundary, indicator
from .rotation.observables import AbstractObservable, is_frequency, observable_of

try:
    from matplotlib.axes import Axes
    from matplotlib.colors import BoundaryNorm, ListedColormap
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch
except ImportError as error:  # pragma: no cover
    raise ImportError("nrjax.plot needs matplotlib. Install it with: pip install 'nrjax[plot]'") from error

# Okabe and Ito's palette, told apart with any colour vision.
COLOURS: Final = {
    Phase.PARAMAGNETIC: "#dddddd",
    Phase.ALIGNED: "#0072b2",
    Phase.ANTIALIGNED: "#e69f00",
    Phase.CHIRAL: "#009e73",
    Phase.MODULATED: "#cc79a7",
    Phase.UNRESOLVED: "#000000",
}
CHOSEN: Final = "#d55e00"
LAYER_COLOURS: Final = [COLOURS[phase] for phase in (Phase.ALIGNED, Phase.ANTIALIGNED, Phase.CHIRAL, Phase.MODULATED)]
LINES: Final[dict[Boundary, Any]] = {
    Boundary.ALIGNED_ANTIALIGNED: ":",
    Boundary.ANTIALIGNED_CHIRAL: "-",
    Boundary.ALIGNED_CHIRAL: "-",
    Boundary.CHIRAL_PARAMAGNETIC: "--",
    Boundary.COLLINEAR_PARAMAGNETIC: "-.",
}
AXIS_LABELS: Final = {
    "loss_rate": r"loss rate $\gamma_B$ (meV)",
    "interlayer_exchange": r"interlayer exchange $j_{AB}$ (meV)",
    "temperature": r"temperature $k_B T$ (meV)",
    "intensity": r"laser intensity (W/cm$^2$)",
    "photon_energy": r"photon energy $h\nu$ (meV)",
}
BOUNDARY_SAMPLES: Final = 401
# What a probe makes of the frequencies of a rotation.
NOTES: Final = {"chase_frequency": ("no spectral line",), "rotation_frequency": ("the line that a probe sees",)}


def phase_diagram(
    dataset: xr.Dataset,
    build: Callable[..., LayeredMagnet] | None = None,
    observable: str | AbstractObservable = "chase_frequency",
) -> Figure:
    """The phases of a two-dimensional sweep, and beside them an observable: frequencies where something rotates.

    **Arguments**

    - `dataset`: from `sweep` over two axes; the first becomes horizontal.
    - `build`: the function that the sweep was made with; if given, the closed-form phase boundaries are drawn on top.
    - `observable`: what is drawn on the right, one number of those in the dataset.

    **Returns** a matplotlib Figure; `figure.savefig(path)` writes it.

    **Raises** `ValueError` if the dataset does not have two axes.
    """
    dims = [str(d) for d in dataset["phase"].dims]
    if len(dims) != 2 or min(dataset.sizes[d] for d in dims) < 2:
        raise ValueError(
            f"the dataset has axes {dict(dataset['phase'].sizes)}: phase_diagram needs two with 2 points or more."
        )
    horizontal, vertical = dims
    x, y = dataset[horizontal].values, dataset[vertical].values
    seen = observable_of(observable)
    figure = Figure(figsize=(12.5, 5.2), layout="constrained")
    phases_axes, observable_axes = figure.subplots(1, 2, sharey=True)

    handles = _draw_phases(phases_axes, dataset)

    values = _seen(dataset, seen).values.T
    observable_axes.set_facecolor("#f4f4f4")
    if np.isfinite(values).any():
        mesh = observable_axes.pcolormesh(x, y, values, cmap="viridis", shading="nearest", rasterized=True)
        figure.colorbar(mesh, ax=observable_axes, label=", ".join([seen.label, *NOTES.get(seen.name, ())]))
    else:
        observable_axes.text(0.5, 0.5, "no chiral phase here", ha="center", transform=observable_axes.transAxes)

    if build is not None:
        handles += _draw_boundaries([phases_axes, observable_axes], build, (horizontal, x), (vertical, y))
    for axes, title in ((phases_axes, "phase"), (observable_axes, seen.name.replace("_", " "))):
        axes.set_xlabel(AXIS_LABELS.get(horizontal, horizontal))
        axes.set_title(title)
        axes.set_xlim(x.min(), x.max())
        axes.set_ylim(y.min(), y.max())
    phases_axes.set_ylabel(AXIS_LABELS.get(vertical, vertical))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 5), frameon=False)
    return figure


def _seen(dataset: xr.Dataset, observable: AbstractObservable) -> xr.DataArray:
    """An observable where it means something: frequencies in the chiral phase, others where the state is known.

    **Raises** `ValueError` if the dataset does not have it, or has more than one number of it at each point.
    """
    values = dataset.get(observable.name)
    if values is None or values.dims != dataset["phase"].dims:
        raise ValueError(
            f"the dataset has no single number {observable.name!r} at each point: sweep with observe=[..., "
            f"{observable.name!r}], or draw one of {', '.join(map(str, dataset.data_vars))}."
        )
    phase = dataset["phase"]
    return values.where(phase == Phase.CHIRAL if is_frequency(observable) else phase != Phase.UNRESOLVED)


def _draw_phases(axes: Axes, dataset: xr.Dataset) -> list[Any]:
    """The phases of a two-dimensional sweep in their colours; returns the legend's entries."""
    horizontal, vertical = (str(d) for d in dataset["phase"].dims)
    present = sorted({Phase(int(p)) for p in np.unique(dataset["phase"].values)})
    order = [p for p in Phase if p in present]
    index = np.vectorize({p: i for i, p in enumerate(order)}.__getitem__, otypes=[int])
    colours = ListedColormap([COLOURS[p] for p in order])
    norm = BoundaryNorm(np.arange(len(order) + 1) - 0.5, len(order))
    axes.pcolormesh(
        dataset[horizontal].values,
        dataset[vertical].values,
        index(dataset["phase"].values).T,
        cmap=colours,
        norm=norm,
        shading="nearest",
        rasterized=True,
    )
    return [Patch(color=COLOURS[p], label=p.name.lower()) for p in order]


def _draw_boundaries(
    panels: Sequence[Axes], build: Any, horizontal: tuple[str, Any], vertical: tuple[str, Any]
) -> list[Any]:
    """Contours at zero of every boundary's closed form, black in the first panel and grey in the others; returns the
    legend's entries of those that cross the window."""
    (x_name, x), (y_name, y) = horizontal, vertical
    xs, ys = (np.linspace(v.min(), v.max(), BOUNDARY_SAMPLES) for v in (x, y))
    drawn = []
    for kind in Boundary:

        def value(a: Any, b: Any, kind: Boundary = kind) -> Any:
            return indicator(build(**{x_name: a, y_name: b}), kind)

        rows = jax.jit(jax.vmap(jax.vmap(value, (0, None)), (None, 0)))
        values = np.asarray(rows(jnp.asarray(xs), jnp.asarray(ys)))
        with np.errstate(invalid="ignore"):
            if not ((values > 0).any() and (values < 0).any()):
                continue
        crossed = False
        for number, axes in enumerate(panels):
            colour = "0.35" if number else "black"
            lines = axes.contour(
                xs,
                ys,
                np.ma.masked_invalid(values),
                levels=[0.0],
                colors=colour,
                linestyles=LINES[kind],
                linewidths=1.4,
            )
            crossed = any(len(segment) for segment in lines.allsegs[0])
        if crossed:
            drawn.append(Line2D([], [], color="black", linestyle=LINES[kind], label=kind.value))
    return drawn


def characteristic(
    dataset: xr.Dataset, observables: Sequence[str | AbstractObservable] = ("chase_frequency", "rotation_frequency")
) -> Figure:
    """Observables against one parameter, over bands of the colour of their phase.

    **Arguments** `dataset`: from `sweep` over one axis. `observables`: one panel for each.

    **Returns** a matplotlib Figure.

    **Raises** `ValueError` if the dataset does not have one axis with two points or more.
    """
    dims = [str(d) for d in dataset["phase"].dims]
    if len(dims) != 1 or dataset.sizes[dims[0]] < 2:
        raise ValueError(
            f"the dataset has axes {dict(dataset['phase'].sizes)}: characteristic needs one with 2 points or more."
        )
    x, phases = dataset[dims[0]].values, dataset["phase"].values
    figure = Figure(figsize=(7.5, 3.0 * len(observables)), layout="constrained")
    panels: Any = figure.subplots(len(observables), 1, sharex=True, squeeze=False)[:, 0]
    edges = np.concatenate([x[:1], 0.5 * (x[1:] + x[:-1]), x[-1:]])
    starts = np.flatnonzero(np.diff(phases, prepend=phases[0] - 1))
    for axes, seen in zip(panels, map(observable_of, observables), strict=True):
        for start, stop in zip(starts, [*starts[1:], len(x)], strict=True):
            axes.axvspan(edges[start], edges[stop], color=COLOURS[Phase(int(phases[start]))], alpha=0.25, linewidth=0)
        axes.plot(x, _seen(dataset, seen).values, color="black", linewidth=1.8)
        axes.set_ylabel("\n".join([seen.label, *NOTES.get(seen.name, ())]))
        if is_frequency(seen):
            axes.set_ylim(bottom=0)
        axes.margins(x=0)
    panels[-1].set_xlabel(AXIS_LABELS.get(dims[0], dims[0]))
    handles = [
        Patch(color=COLOURS[p], alpha=0.25, label=p.name.lower()) for p in Phase if p in {Phase(int(q)) for q in phases}
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    return figure


def design(result: DesignResult, dataset: xr.Dataset | None, build: Callable[..., LayeredMagnet] | None) -> Figure:
    """Convergence of a design's restarts, and their ways through parameter space.

    **Arguments** `result`: from `design`. `dataset`: from `sweep` over the two designed parameters, drawn underneath;
    None for other numbers of parameters: then each parameter is drawn against the steps. `build`: of the sweep, for
    the exact boundaries.

    **Returns** a matplotlib Figure.
    """
    history, names = result.history, list(result.parameters)
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
        handles = _draw_phases(plane, dataset)
        if build is not None:
            horizontal, vertical = ((str(name), dataset[name].values) for name in dataset["phase"].dims)
            handles += _draw_boundaries([plane], build, horizontal, vertical)
        draw_ways(plane, lambda k: [way(name, k) for name in names], "0.25")
        plane.plot(*result.parameters.values(), "*", color=CHOSEN, markersize=16, markeredgecolor="black", zorder=4)
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


def exchange(dataset: xr.Dataset) -> Figure:
    """Interlayer exchange against the number of spacer layers, as the `nrjax exchange` command computes it.

    **Arguments** `dataset`: with the variable `interlayer_exchange` (meV) over `spacer`.

    **Returns** a matplotlib Figure.
    """
    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.axhline(0.0, color="0.6", linewidth=0.8)
    axes.plot(dataset["spacer"], dataset["interlayer_exchange"], "o-", color=COLOURS[Phase.ALIGNED], markersize=4)
    axes.set_yscale("symlog", linthresh=float(np.abs(dataset["interlayer_exchange"]).max()) * 1e-3)
    axes.set_xlabel("spacer layers")
    axes.set_ylabel(r"interlayer exchange $j_{AB}$ (meV)")
    axes.set_title("positive aligns, negative antialigns")
    return figure


def _cosine(ms: np.ndarray) -> np.ndarray:
    """cos of the angle between the first two layers, NaN where one vanishes."""
    lengths = np.linalg.norm(ms, axis=2)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.einsum("ti,ti->t", ms[:, 0], ms[:, 1]) / (lengths[:, 0] * lengths[:, 1])


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
