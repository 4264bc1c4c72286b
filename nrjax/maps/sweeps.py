"""Sweeps: a steady state (or any observable) on every point of a grid, as an xarray.Dataset."""

import concurrent.futures
import hashlib
import itertools
import json
import os
from collections.abc import Callable, Mapping
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from .._numerics.tiles import power_of_two_above, progress_bar, run_tiles
from .._numerics.validation import Numbers, require_memory
from ..motion.phases import Phase
from ..rotation.observables import OBSERVABLES, OF_EVERY_STATE, AbstractObservable
from ..rotation.solvers import AbstractSteadyStateSolver
from .computation import RESULT_NAMES, Computation, Observation, Observe, batched, traced
from .provenance import computation_digest, parameters, versions
from .refinement import COARSE, Refinement
from .store import TileStore

# Points per tile, of few sizes, so that sweeps share programs: a few MB of arrays on a CPU, enough lanes to fill an
# accelerator.
CPU_TILE: Final = 1 << 14
ACCELERATOR_TILE: Final = 1 << 20
# Points of a bilayer that cost hardly more than one.
SMALL_CPU_TILE: Final = 1 << 11

# Refined maps beyond this many points are worth programs for large tiles as well.
LARGE_MAP: Final = 1 << 19

AXIS_UNITS: Final = {"intensity": "W/cm^2", "dipole": "e*angstrom"} | dict.fromkeys(
    "loss_rate interlayer_exchange temperature sd_coupling field photon_energy level repulsion hybridization resonance "
    "linewidth fermi_energy".split(),
    "meV",
)


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
    - `store`: a .nc file. Finished tiles are kept beside it, so that an interrupted sweep goes on where it stopped.
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
    grid = _checked_axes(axes)
    total = int(np.prod([len(values) for values in grid.values()], dtype=float))
    # Coordinates and observables, and once more while tiles are put together; of a refined map all of the states, too.
    needed = (48.0 if refine else 16.0) * total * (len(grid) + len(OBSERVABLES))
    require_memory(f"a grid of {total:.3g} points", needed, "Take fewer points, or several sweeps.")
    corners = _checked_build(build, grid)
    dtype = jnp.result_type(float)
    observation = Observation.of(observe, corners[0], solver)
    if refine and not observation.is_light:
        raise ValueError(
            "refine = True continues steady states of isotropic bilayers. Leave it out for other models and for a "
            "function of the model."
        )
    default = tile is None
    if tile is None:
        tile = _default_tile(total)
    elif tile < 1:
        raise ValueError(f"tile = {tile} is out of range: it must be 1 or greater (points computed at a time).")
    if not (observation.is_light and default):
        # Only a bilayer's points cost so little that a tile may be larger than the grid, to share a program.
        tile = min(tile, total)

    mesh = np.meshgrid(*(values.astype(dtype) for values in grid.values()), indexing="ij")
    lanes = {name: values.reshape(-1) for name, values in zip(grid, mesh, strict=True)}

    part = {name: jax.ShapeDtypeStruct((tile,), dtype) for name in lanes}
    fingerprint = None if store is None else _fingerprint(grid, tile, refine, build, observation, part)
    kept = TileStore(store, fingerprint, resume)
    finished = kept.finished()
    if finished is not None:
        return finished
    with kept.claimed():
        # Factorizations in XLA's own thread pool can lock up when called from several threads; only the bilayer's road
        # is free of them.
        compute = Computation(build, observation, fingerprint or computation_digest(batched(build), part))
        attributes: dict[str, Any] = {}
        if refine:
            at_most = None if default else tile
            values, attributes = _refined(compute, lanes, tuple(map(len, grid.values())), at_most, executor, progress)
        else:
            values = run_tiles(
                compute,
                lanes,
                tile,
                executor=executor,
                threads=None if observation.is_light else 1,
                progress=progress,
                label="sweep",
                load=kept.load,
                save=kept.save,
            )
        # In the order in which they were asked for, which compiled programs do not keep.
        asked = [observable.name for observable in observation.observables]
        values = {name: values[name] for name in (*asked, *values)}
        dataset = _dataset(grid, values, dtype, observation.names)
        dataset.attrs |= attributes | _origin(corners) | ({} if fingerprint is None else {"fingerprint": fingerprint})
        kept.finish(dataset)
        return dataset


def _default_tile(total: int) -> int:
    """Points computed at a time; on a CPU the larger tile only where every core gets two."""
    if jax.default_backend() != "cpu":
        return min(ACCELERATOR_TILE, power_of_two_above(total))
    return CPU_TILE if total >= 2 * CPU_TILE * (os.cpu_count() or 1) else SMALL_CPU_TILE


def _refined(
    compute: Computation,
    lanes: dict[str, np.ndarray],
    shape: tuple[int, ...],
    tile: int | None,
    executor: concurrent.futures.Executor | None,
    progress: bool,
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The observables of a grid whose states are solved in full next to boundaries only, and attributes that say so."""

    total = int(np.prod(shape))

    def at(flat: np.ndarray) -> dict[str, np.ndarray]:
        return {name: values[flat] for name, values in lanes.items()}

    def run(function: Callable[[Any], Any], some: Any, points: int) -> Any:
        small = jax.default_backend() == "cpu" and total <= LARGE_MAP
        usual = SMALL_CPU_TILE if small else _default_tile(points)
        return run_tiles(function, some, tile or usual, executor=executor, progress=False)

    with progress_bar(total, "sweep", progress) as bar:
        refinement = Refinement(
            shape,
            lambda flat: run(compute.states, at(flat), flat.size),
            lambda flat, states: run(compute.near, (at(flat), states), flat.size),
            bar.update,
        )
        states = refinement.run(COARSE)
    said = {
        "refined": f"from cells of {COARSE} points along each axis: a phase that none of their corners and middles "
        "shows may be missing",
        "refined_from": COARSE,
        "points_in_full": int(refinement.in_full.sum()),
    }
    return run(compute.tell, (lanes, states), total), said


def _fingerprint(
    grid: dict[str, np.ndarray],
    tile: int,
    refine: bool,
    build: Callable[..., Any],
    observation: Observation,
    part: Any,
) -> str:
    """What a sweep is computed from: its axes, its tile, and every operation and constant of the computation."""
    computation = computation_digest(traced(Computation(build, observation, "")), part)
    digest = hashlib.sha256(f"{tile} {f'refined {COARSE} ' if refine else ''}{computation}".encode())
    for name, values in grid.items():
        digest.update(name.encode() + values.tobytes())
    return digest.hexdigest()


def _origin(corners: list[Any]) -> dict[str, Any]:
    """The parameters of the models at the corners of a grid, as attributes of a Dataset."""
    values, differing = parameters(corners)
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
        point = {
            name: jnp.asarray(values[i], jnp.result_type(float))
            for (name, values), i in zip(grid.items(), corner, strict=True)
        }
        try:
            models.append(build(**point))
        except ValueError:
            # Bad values inside the grid are flagged, point by point.
            if len(models) < corners:
                raise
        except TypeError as error:
            raise ValueError(
                f"the axes {', '.join(map(repr, grid))} do not fit the model: {error}. "
                "Name arguments that build() takes."
            ) from error
    return models


def _dataset(
    grid: dict[str, np.ndarray], values: dict[str, np.ndarray], dtype: Any, known: dict[str, AbstractObservable]
) -> xr.Dataset:
    shape = tuple(len(axis) for axis in grid.values())
    variables = {}
    for name, array in values.items():
        unit, text, each = (
            (known[name].unit, known[name].long_name, known[name].each) if name in known else ("", name, "")
        )
        extra = ["layer"] if each else [f"{name}_{i}" for i in range(array.ndim - 1)]
        attributes: dict[str, Any] = {"long_name": text} | ({"units": unit} if unit else {})
        if name == "phase":
            attributes["flag_values"] = np.array([phase.value for phase in Phase], np.int8)
            attributes["flag_meanings"] = " ".join(phase.name.lower() for phase in Phase)
        if name == "result":
            attributes["flag_values"] = np.arange(len(RESULT_NAMES), dtype=np.int8)
            attributes["flag_meanings"] = " ".join(RESULT_NAMES)
        variables[name] = ((*grid, *extra), array.reshape(shape + array.shape[1:]), attributes)
    attributes = {
        "title": "nrjax sweep",
        "dtype": jnp.dtype(dtype).name,
        "device": jax.devices()[0].device_kind,
        **versions(),
    }
    dataset = xr.Dataset(variables, coords=dict(grid), attrs=attributes)
    for name in dataset.coords:
        if name in AXIS_UNITS:
            dataset[name].attrs["units"] = AXIS_UNITS[str(name)]
    return dataset
