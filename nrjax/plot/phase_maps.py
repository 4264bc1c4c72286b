"""Phases over one and two parameters, their boundaries, and an observable beside them."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from .._numerics.cpu_options import lanes_options
from .._numerics.ready_programs import kept, prepare
from .._numerics.validation import float_array
from ..magnets import LayeredMagnet
from ..motion.phases import Phase
from ..rotation.boundaries import Bilayer, Boundary, indicator, without_boundaries
from ..rotation.observables import AbstractObservable, is_frequency, observable_of
from ..rotation.stability_in_space import SpatialGrowth
from .style import AXIS_LABELS, COLOURS

LINES: Final[dict[Boundary, Any]] = {
    Boundary.ALIGNED_ANTIALIGNED: ":",
    Boundary.ANTIALIGNED_CHIRAL: "-",
    Boundary.ALIGNED_CHIRAL: "-",
    Boundary.CHIRAL_PARAMAGNETIC: "--",
    Boundary.COLLINEAR_PARAMAGNETIC: "-.",
}
# Along each axis, of closed forms and of others.
BOUNDARY_SAMPLES: Final = 401
SAMPLES_OF_SOLUTIONS: Final = 101
# What a probe makes of the frequencies of a rotation.
NOTES: Final = {"chase_frequency": ("no spectral line",), "rotation_frequency": ("the line that a probe sees",)}


def phase_diagram(
    dataset: xr.Dataset,
    build: Callable[..., Bilayer] | None = None,
    observable: str | AbstractObservable = "chase_frequency",
) -> Figure:
    """The phases of a two-dimensional sweep, and beside them an observable: frequencies where something rotates.

    **Arguments**

    - `dataset`: from `sweep` over two axes; the first becomes horizontal.
      Chases that fall apart in space are hatched if it has a `spatial_growth_rate` (`SpatialGrowth()` among what is
      observed).
    - `build`: the function that the sweep was made with; if given, the phase boundaries are drawn on top. Only
      isotropic bilayers have them: for others a warning says that none are drawn.
    - `observable`: what is drawn on the right, one number of those in the dataset.

    **Returns** a matplotlib Figure; `figure.savefig(path)` writes it.

    **Raises** `ValueError` if the dataset does not have two axes, or no phases.
    """
    if "phase" not in dataset:
        raise ValueError(
            f"the dataset has {', '.join(map(str, dataset.data_vars)) or 'no variables'} but no phase: leave out "
            "observe= of sweep, or observe 'phase' as well."
        )
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

    handles = draw_phases(phases_axes, dataset)
    handles += _draw_unstable(phases_axes, dataset)

    values = _seen(dataset, seen).values.T
    observable_axes.set_facecolor("#f4f4f4")
    if np.isfinite(values).any():
        mesh = observable_axes.pcolormesh(x, y, values, cmap="viridis", shading="nearest", rasterized=True)
        figure.colorbar(mesh, ax=observable_axes, label=", ".join([seen.label, *NOTES.get(seen.name, ())]))
    else:
        observable_axes.text(0.5, 0.5, "no chiral phase here", ha="center", transform=observable_axes.transAxes)

    if build is not None:
        handles += draw_boundaries([phases_axes, observable_axes], build, (horizontal, x), (vertical, y))
    for axes, title in ((phases_axes, "phase"), (observable_axes, seen.name.replace("_", " "))):
        axes.set_xlabel(AXIS_LABELS.get(horizontal, horizontal))
        axes.set_title(title)
        axes.set_xlim(x.min(), x.max())
        axes.set_ylim(y.min(), y.max())
    phases_axes.set_ylabel(AXIS_LABELS.get(vertical, vertical))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 5), frameon=False)
    return figure


def characteristic(
    dataset: xr.Dataset,
    observables: Sequence[str | AbstractObservable] = ("chase_frequency", "rotation_frequency"),
    beside: Mapping[str, xr.Dataset] | None = None,
) -> Figure:
    """Observables against one parameter, over bands of the colour of their phase.

    **Arguments**

    - `dataset`: from `sweep` over one axis.
    - `observables`: one panel for each.
    - `beside`: further sweeps over the same axis, by name, as dashed lines: say, the closure of a
      `FokkerPlanckMagnet`.

    **Returns** a matplotlib Figure.

    **Raises** `ValueError` if the dataset does not have one axis with two points or more, or another has other axes.
    """
    dims = [str(d) for d in dataset["phase"].dims]
    if len(dims) != 1 or dataset.sizes[dims[0]] < 2:
        raise ValueError(
            f"the dataset has axes {dict(dataset['phase'].sizes)}: characteristic needs one with 2 points or more."
        )
    others = dict(beside or {})
    for name, other in others.items():
        if other["phase"].dims != dataset["phase"].dims:
            raise ValueError(
                f"{name!r} has axes {other['phase'].dims}: give a sweep over {dims[0]!r}, as the first is."
            )
    x, phases = dataset[dims[0]].values, dataset["phase"].values
    figure = Figure(figsize=(7.5, 3.0 * len(observables)), layout="constrained")
    panels: Any = figure.subplots(len(observables), 1, sharex=True, squeeze=False)[:, 0]
    edges = np.concatenate([x[:1], 0.5 * (x[1:] + x[:-1]), x[-1:]])
    starts = np.flatnonzero(np.diff(phases, prepend=phases[0] - 1))
    for axes, seen in zip(panels, map(observable_of, observables), strict=True):
        for start, stop in zip(starts, [*starts[1:], len(x)], strict=True):
            axes.axvspan(edges[start], edges[stop], color=COLOURS[Phase(int(phases[start]))], alpha=0.25, linewidth=0)
        axes.plot(x, _unjoined(_seen(dataset, seen).values, phases, seen), color="black", linewidth=1.8)
        for number, (name, other) in enumerate(others.items()):
            axes.plot(other[dims[0]].values, _seen(other, seen).values, "--", color=f"C{number}", label=name)
        axes.set_ylabel("\n".join([seen.label, *NOTES.get(seen.name, ())]))
        if is_frequency(seen):
            axes.set_ylim(bottom=0)
        axes.margins(x=0)
    panels[-1].set_xlabel(AXIS_LABELS.get(dims[0], dims[0]))
    handles = [
        Patch(color=COLOURS[p], alpha=0.25, label=p.name.lower()) for p in Phase if p in {Phase(int(q)) for q in phases}
    ]
    handles += panels[0].get_legend_handles_labels()[0]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    return figure


def _unjoined(values: np.ndarray, phases: np.ndarray, seen: AbstractObservable) -> np.ndarray:
    """Values, one of them left out where the angle jumps by pi: between aligned and antialigned there is no other."""
    collinear = (phases == Phase.ALIGNED) | (phases == Phase.ANTIALIGNED)
    jumps = collinear[1:] & collinear[:-1] & (phases[1:] != phases[:-1]) & (seen.name == "angle")
    return np.where(np.append(jumps, False), np.nan, values)


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


def draw_phases(axes: Axes, dataset: xr.Dataset) -> list[Any]:
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


def _draw_unstable(axes: Axes, dataset: xr.Dataset) -> list[Any]:
    """Hatches chases that fall apart in space, where the dataset knows; returns the legend's entry."""
    growth = dataset.get(SpatialGrowth().name)
    if growth is None or not bool(((dataset["phase"] == Phase.CHIRAL) & (growth > 0)).any()):
        return []
    horizontal, vertical = (str(d) for d in dataset["phase"].dims)
    unstable = np.where((dataset["phase"] == Phase.CHIRAL) & (growth > 0), 1.0, 0.0).T
    with rc_context({"hatch.linewidth": 0.6}):
        axes.contourf(
            dataset[horizontal].values,
            dataset[vertical].values,
            unstable,
            levels=[0.5, 1.5],
            colors="none",
            hatches=["////"],
        )
    return [Patch(facecolor=COLOURS[Phase.CHIRAL], hatch="////", label="chiral, falls apart in space")]


def boundary_values(
    build: Any, horizontal: tuple[str, Any], vertical: tuple[str, Any]
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Where the function of every `Boundary` is looked at, and what it is there, each of shape (vertical, horizontal).

    **Arguments** `horizontal`, `vertical`: names of arguments of `build`, and values of which the range counts.
    """
    of_every_kind, xs, ys = _boundary_program(build, horizontal, vertical)
    return xs, ys, [np.asarray(values) for values in of_every_kind(xs, ys)]


def prepare_boundaries(build: Any, horizontal: tuple[str, Any], vertical: tuple[str, Any]) -> None:
    """Compile what `boundary_values` runs, where that is not kept yet."""
    prepare(*_boundary_program(build, horizontal, vertical))


def _boundary_program(
    build: Any, horizontal: tuple[str, Any], vertical: tuple[str, Any]
) -> tuple[Any, np.ndarray, np.ndarray]:
    """A function of values along both axes, and these."""
    (x_name, x), (y_name, y) = horizontal, vertical
    of_layers = isinstance(_first_magnet(build, horizontal, vertical), LayeredMagnet)
    samples = BOUNDARY_SAMPLES if of_layers else SAMPLES_OF_SOLUTIONS
    dtype = jnp.result_type(float)

    @partial(kept, options=lanes_options)
    def of_every_kind(xs: Any, ys: Any) -> Any:
        def value(a: Any, b: Any) -> Any:
            magnet = build(**{x_name: a, y_name: b})
            return [indicator(magnet, kind) for kind in Boundary]

        return jax.lax.map(lambda b: jax.vmap(lambda a: value(a, b))(xs), ys)

    return of_every_kind, *(np.linspace(np.min(v), np.max(v), samples).astype(dtype) for v in (x, y))


def _first_magnet(build: Any, horizontal: tuple[str, Any], vertical: tuple[str, Any]) -> Any:
    return build(**{name: float_array(name, np.asarray(values[0], float)) for name, values in (horizontal, vertical)})


def draw_boundaries(
    panels: Sequence[Axes], build: Any, horizontal: tuple[str, Any], vertical: tuple[str, Any]
) -> list[Any]:
    """Contours at zero of every boundary's function, black in the first panel and grey in the others; returns the
    legend's entries of those that cross the window."""
    magnet = _first_magnet(build, horizontal, vertical)
    if reason := without_boundaries(magnet):
        warnings.warn(f"No boundaries are drawn: {reason}", stacklevel=3)
        return []
    xs, ys, found = boundary_values(build, horizontal, vertical)
    drawn = []
    for kind, values in zip(Boundary, found, strict=True):
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
