"""Sweeps: a steady state (or any observable) on every point of a grid, as an xarray.Dataset."""

import concurrent.futures
import itertools
import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from .._numerics.digests import computation_digest
from .._numerics.ready_programs import folder
from .._numerics.refilled_loops import CPU_WIDTH
from .._numerics.tiles import Progress, for_each_tile, power_of_two_above, progress_bar, run_tiles
from .._numerics.validation import Numbers, float_array, require_memory
from ..rotation.observables import OBSERVABLES, OF_EVERY_STATE
from ..rotation.solvers import AbstractSteadyStateSolver
from .blocks import Blocks
from .computation import Computation, Observation, Observe, batched, identity
from .provenance import parameters
from .refinement import COARSE, Refinement
from .store import AbstractStore, Memory, fingerprint
from .table import Table, origin

# Points per tile, of few sizes, so that sweeps share programs: a few MB of arrays on a CPU, enough lanes to fill an
# accelerator.
CPU_TILE: Final = 1 << 14
LARGE_CPU_TILE: Final = 1 << 15
ACCELERATOR_TILE: Final = 1 << 20
# Points of a bilayer that cost hardly more than one; and those of a line, where programs are kept: they are compiled
# sooner for it.
SMALL_CPU_TILE: Final = 1 << 11
LINE_CPU_TILE: Final = 1 << 9

# Refined maps beyond this many points are worth programs for large tiles as well.
LARGE_MAP: Final = 1 << 19


def sweep(
    build: Callable[..., Any],
    axes: Mapping[str, Numbers],
    *,
    observe: Observe = OF_EVERY_STATE,
    solver: AbstractSteadyStateSolver | None = None,
    refine: bool = False,
    tile: int | None = None,
    store: str | os.PathLike[str] | None = None,
    resume: bool = True,
    progress: bool = True,
    executor: concurrent.futures.Executor | None = None,
) -> xr.Dataset:
    """Observables of the steady state of build(**point) on every point of the grid spanned by `axes`.

    **Arguments**

    - `build`: makes a model from one value of each axis, `build(**point)`; traced once.
    - `axes`: name -> 1-D array of strictly increasing or decreasing values. The order is the order of dimensions.
    - `observe`: names of observables, `AbstractObservable`s, or several of them. Default: all of every steady state.
      Or a function of the model: its values are a `SteadyState`, a dictionary of arrays or one array; called with
      throw=False if it takes that.
    - `solver`: of steady states, as in `steady_state`.
    - `refine`: solve in full only next to boundaries, and continue the states in between by Newton's method
      (isotropic bilayers; same states, many times faster on a fine grid). Points of a phase that no corner and no
      middle of a cell of 16 x 16 points lies in may be missed. With `store` the map is written when it is complete.
    - `tile`: points computed at a time; bounds the memory. Default: 2048 or 16384 on a CPU, on an accelerator a power
      of two up to 1048576.
    - `store`: a .zarr folder, or a .nc file for maps that fit the memory. Finished tiles are kept there, so that an
      interrupted sweep goes on where it stopped. Zarr keeps one chunk of every variable for each tile, and its numbers
      are read where they are used; a finished store grows where the new axes hold all values of the old ones.
      `nrjax status` tells how far it is.
    - `resume`: use what `store` already holds, if it was computed from the same input.
    - `progress`: a bar after two seconds, on a terminal.
    - `executor`: where tiles run, any `concurrent.futures.Executor`: threads, processes started by "spawn", those of
      a cluster. Default: one thread per core, or all devices together.

    **Returns** a Dataset with the axes as coordinates and, in its attributes, all parameters of the models that are
    the same on the whole grid (JSON) and the names of the others; the variables are those asked for, by default `phase`
    (int8, CF flags), `lengths`, `angle` (rad), `chase_frequency` and `rotation_frequency` (GHz), `growth_rate` (meV),
    `residual`, `valid`, `result`. One bad point is flagged and spoils no other.

    **Raises** `ValueError` for empty, non-monotonic or unknown axes, values that the model refuses, a store that
    cannot be written or that holds other input.
    """
    grid, observation, corners = checked(build, axes, observe, solver, refine, tile, store)
    attributes = origin() | parameter_attributes(corners)
    kept = _store(store, grid, tile, refine, build, observation, corners[0], resume, attributes)
    table = Table(kept.blocks.axes, observation, attributes)
    finished = kept.finished(table)
    if finished is not None:
        return finished
    with kept.claimed():
        missing = kept.missing(table)
        width = width_of(tile, math.prod(kept.blocks.edges), kept.blocks.points, observation)
        part = {name: jax.ShapeDtypeStruct((width,), values.dtype) for name, values in grid.items()}
        compute = Computation(build, observation, computation_digest(batched(build), part))
        if refine and missing:
            table.attributes.update(_refine(kept, compute, None if tile is None else width, executor, progress))
        elif missing:
            with Progress(kept.blocks.points, len(kept.blocks), "sweep", progress) as bar:
                for index in set(range(len(kept.blocks))) - set(missing):
                    bar.tell(math.prod(kept.blocks.extent(index)))

                def keep(index: int, values: Any) -> None:
                    kept.keep(index, values)
                    bar.tell(math.prod(kept.blocks.extent(index)))

                for_each_tile(
                    compute,
                    missing,
                    kept.lanes,
                    keep,
                    tile=width,
                    executor=executor,
                    threads=threads_for(observation),
                    begin=kept.begin,
                    fail=kept.fail,
                )
        return kept.finish(table)


def checked(
    build: Callable[..., Any],
    axes: Mapping[str, Numbers],
    observe: Observe,
    solver: AbstractSteadyStateSolver | None,
    refine: bool,
    tile: int | None,
    store: str | os.PathLike[str] | None,
) -> tuple[dict[str, np.ndarray], Observation, list[Any]]:
    """The grid, what is looked at, and the models at its corners.

    **Raises** `ValueError` for what a sweep cannot do, before anything is computed.
    """
    grid = _checked_axes(axes)
    if store is not None and Path(store).suffix not in (".zarr", ".nc"):
        raise ValueError(f"store = {store}: a store is a folder named *.zarr or a file named *.nc. Change the ending.")
    total = math.prod(map(len, grid.values()))
    if refine or store is None or Path(store).suffix != ".zarr":
        # Observables, and once more where they are drawn; of a refined map all of the points and states, too.
        needed = (48.0 if refine else 16.0) * total * (len(OBSERVABLES) + (len(grid) if refine else 0))
        remedy = "Take fewer points." if refine else "Give store='map.zarr', which keeps one tile at a time in memory."
        require_memory(f"a grid of {total:.3g} points", needed, remedy)
    corners = _checked_build(build, grid)
    observation = Observation.of(observe, corners[0], solver)
    if refine and not observation.is_light:
        raise ValueError(
            "refine = True continues steady states of isotropic bilayers. Leave it out for other models and for a "
            "function of the model."
        )
    if tile is not None and tile < 1:
        raise ValueError(f"tile = {tile} is out of range: it must be 1 or greater (points computed at a time).")
    return {name: values.astype(jnp.result_type(float)) for name, values in grid.items()}, observation, corners


def _store(
    store: str | os.PathLike[str] | None,
    grid: dict[str, np.ndarray],
    tile: int | None,
    refine: bool,
    build: Callable[..., Any],
    observation: Observation,
    model: Any,
    resume: bool,
    attributes: dict[str, Any],
) -> AbstractStore:
    """Where the tiles of a grid are kept, with what identifies them."""
    total = math.prod(map(len, grid.values()))
    tile = default_tile(total) if tile is None else tile
    if store is None:
        return Memory(Blocks.of(grid, tile), None, "", resume)
    part = {name: jax.ShapeDtypeStruct((2,), values.dtype) for name, values in grid.items()}
    digest = identity(build, observation, model, part)
    if refine:
        digest += f" refined {COARSE}"
    if Path(store).suffix == ".zarr":
        from .zarr_store import ZarrStore

        return ZarrStore.of(store, grid, tile, digest, resume, attributes, grows=not refine)
    blocks = Blocks.of(grid, tile)
    return Memory(blocks, store, fingerprint(digest, grid), resume)


def default_tile(total: int) -> int:
    """Points computed at a time; on a CPU a larger tile only where every core gets several."""
    if jax.default_backend() != "cpu":
        return min(ACCELERATOR_TILE, power_of_two_above(total))
    if total <= LINE_CPU_TILE and folder() is not None:
        return LINE_CPU_TILE
    each = total / (os.cpu_count() or 1)
    if each >= 8 * LARGE_CPU_TILE:
        return LARGE_CPU_TILE
    return CPU_TILE if each >= 2 * CPU_TILE else SMALL_CPU_TILE


def width_of(tile: int | None, points: int, total: int, observation: Observation) -> int:
    """Lanes of the program that computes a tile of `points` points: as many, or more where points cost as little as a
    bilayer's, so that sweeps share programs, and so that the size of a tile leaves no trace in how the last digits are
    rounded."""
    if not observation.is_light:
        return points
    return max(points, CPU_WIDTH if tile is not None else default_tile(total))


def threads_for(observation: Observation) -> int | None:
    """How many threads compute tiles; None for one per core. Factorizations in XLA's own thread pool can lock up when
    called from several threads; only the bilayer's road is free of them."""
    return None if observation.is_light else 1


def _refine(
    kept: AbstractStore,
    compute: Computation,
    width: int | None,
    executor: concurrent.futures.Executor | None,
    progress: bool,
) -> dict[str, Any]:
    """Keep the observables of a grid whose states are solved in full next to boundaries only; says so in attributes."""
    shape, total = kept.blocks.shape, kept.blocks.points
    mesh = np.meshgrid(*kept.blocks.axes.values(), indexing="ij")
    lanes = {name: values.reshape(-1) for name, values in zip(kept.blocks.axes, mesh, strict=True)}

    def at(flat: np.ndarray) -> dict[str, np.ndarray]:
        return {name: values[flat] for name, values in lanes.items()}

    def run(function: Callable[[Any], Any], some: Any, points: int) -> Any:
        small = jax.default_backend() == "cpu" and total <= LARGE_MAP
        usual = SMALL_CPU_TILE if small else default_tile(points)
        return run_tiles(function, some, width or usual, executor=executor, progress=False)

    with progress_bar(total, "sweep", progress) as bar:
        refinement = Refinement(
            shape,
            lambda flat: run(compute.states, at(flat), flat.size),
            lambda flat, states: run(compute.near, (at(flat), states), flat.size),
            bar.update,
        )
        states = refinement.run(COARSE)
    values = run(compute.tell, (lanes, states), total)
    kept.keep_all({name: x.reshape(*shape, *x.shape[1:]) for name, x in values.items()})
    return {
        "refined": f"from cells of {COARSE} points along each axis: a phase that none of their corners and middles "
        "shows may be missing",
        "refined_from": COARSE,
        "points_in_full": int(refinement.in_full.sum()),
    }


def parameter_attributes(models: list[Any]) -> dict[str, Any]:
    """The parameters of a sweep's models as attributes of its Dataset: those that are the same, and names of others."""
    values, differing = parameters(models)
    fixed = {name: value for name, value in values.items() if name not in differing}
    return {"parameters": json.dumps(fixed), "parameters_that_vary": ", ".join(differing)}


def _checked_axes(axes: Mapping[str, Numbers]) -> dict[str, np.ndarray]:
    if not axes:
        raise ValueError("axes is empty: pass at least one, for example {'loss_rate': numpy.linspace(0, 0.12, 101)}.")
    checked = {}
    for name, values in axes.items():
        try:
            array = np.asarray(values, dtype=float)
        except (TypeError, ValueError) as error:
            raise ValueError(f"axis {name!r} is not an array of numbers: {values!r}.") from error
        if array.ndim != 1 or array.size == 0:
            raise ValueError(
                f"axis {name!r} has shape {array.shape}: it must be one-dimensional with at least one value."
            )
        if not np.isfinite(array).all():
            bad = int(np.flatnonzero(~np.isfinite(array))[0])
            raise ValueError(f"axis {name!r} holds {array[bad]} at index {bad}: it must hold finite numbers.")
        steps = np.diff(array)
        if not ((steps > 0).all() or (steps < 0).all()):
            bad = int(np.flatnonzero(steps * np.sign(steps.sum() or 1.0) <= 0)[0])
            raise ValueError(
                f"axis {name!r} is not monotonic: {array[bad]:g} is followed by {array[bad + 1]:g} at index {bad + 1}. "
                "Sort it and drop repeated values."
            )
        checked[name] = array
    return checked


def _checked_build(build: Callable[..., Any], grid: dict[str, np.ndarray]) -> list[Any]:
    """Build the model in the middle and at the corners of the grid, where bad values show with a clear error."""
    models = []
    ends = list(itertools.product(*((0, -1) if len(values) > 1 else (0,) for values in grid.values())))
    corners, middle = len(ends), tuple(len(values) // 2 for values in grid.values())
    for corner in (*ends, middle):
        point = {name: values[i] for (name, values), i in zip(grid.items(), corner, strict=True)}
        try:
            models.append(model_at(build, point, "axes"))
        except ValueError:
            # Bad values inside the grid are flagged, point by point.
            if len(models) < corners:
                raise
    return models


def model_at(build: Callable[..., Any], point: Mapping[str, Any], what: str) -> Any:
    """build(**point). **Raises** `ValueError` for arguments that it does not take, which are called `what`."""
    try:
        return build(**{name: float_array(name, np.asarray(value, float)) for name, value in point.items()})
    except TypeError as error:
        raise ValueError(
            f"the {what} {', '.join(map(repr, point))} do not fit the model: {error}. Name arguments that build() "
            "takes."
        ) from error
