"""Points that are no grid: samples of many parameters, and how much each of them matters over all of its range."""

import concurrent.futures
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Float

from .._numerics.digests import computation_digest
from .._numerics.tiles import run_tiles
from .._numerics.validation import Numbers, require_finite, require_memory, require_range
from ..motion.phases import Phase
from ..rotation.observables import OBSERVABLES, OF_EVERY_STATE, AbstractObservable, observable_of
from ..rotation.solvers import AbstractSteadyStateSolver
from .computation import Computation, Observation, Observe, batched
from .sweeps import default_tile, model_at, parameter_attributes, threads_for, width_of
from .table import AXIS_UNITS, Table, origin

POINT: Final = "point"
KINDS: Final = ("sobol", "latin hypercube")


def sweep_points(
    build: Callable[..., Any],
    points: Mapping[str, Numbers],
    *,
    observe: Observe = OF_EVERY_STATE,
    solver: AbstractSteadyStateSolver | None = None,
    tile: int | None = None,
    progress: bool = True,
    executor: concurrent.futures.Executor | None = None,
) -> xr.Dataset:
    """Observables of the steady state of build(**point) on points that are no grid.

    **Arguments** `points`: name -> values, each of shape (points,): the parameters of one point after the other, for
    example from `spread_points`. Others as in `sweep`.

    **Returns** a Dataset over `point` with the parameters as coordinates; variables as in `sweep`. One bad point is
    flagged and spoils no other.

    **Raises** `ValueError` for parameters of different lengths, values that are no numbers, names that `build` does not
    take.
    """
    lanes = _checked_points(points)
    number = len(next(iter(lanes.values())))
    require_memory(f"{number:.3g} points", 16.0 * number * (len(OBSERVABLES) + len(lanes)), "Take fewer points.")
    # Where bad values show with a clear error; in between they are flagged, point by point.
    ends = [model_at(build, {name: values[i] for name, values in lanes.items()}, "parameters") for i in (0, -1)]
    observation = Observation.of(observe, ends[0], solver)
    if tile is not None and tile < 1:
        raise ValueError(f"tile = {tile} is out of range: it must be 1 or greater (points computed at a time).")
    at_a_time = min(default_tile(number) if tile is None else tile, number)
    width = width_of(tile, at_a_time, number, observation)
    part = {name: jax.ShapeDtypeStruct((width,), values.dtype) for name, values in lanes.items()}
    compute = Computation(build, observation, computation_digest(batched(build), part))
    options: Any = dict(executor=executor, threads=threads_for(observation), progress=progress, label="sweep")
    values = run_tiles(compute, lanes, width, **options)
    table = Table({POINT: np.arange(number)}, observation, origin() | parameter_attributes(ends))
    dataset = table.dataset(values).drop_vars(POINT)
    units = {name: {"units": AXIS_UNITS[name]} if name in AXIS_UNITS else {} for name in lanes}
    return dataset.assign_coords({name: (POINT, x, units[name]) for name, x in lanes.items()})


def spread_points(
    bounds: Mapping[str, tuple[float, float]],
    number: int,
    *,
    kind: str = "sobol",
    logarithmic: Sequence[str] = (),
    seed: int = 0,
) -> dict[str, Float[np.ndarray, " points"]]:
    """Points that fill a box evenly.

    **Arguments** `bounds`: name -> (low, high). `number`: how many; a power of two is best for "sobol". `kind`: "sobol"
    (a scrambled sequence, even in all directions together) or "latin hypercube" (even along every axis).
    `logarithmic`: names that are spread by their logarithm. `seed`: of the scrambling.

    **Returns** name -> values, shape (number,), for `sweep_points`.

    **Raises** `ValueError` for an unknown kind, or bounds that are reversed.

    **Source** Owen, Journal of Complexity 14 (1998) 466; McKay, Beckman, Conover, Technometrics 21 (1979) 239; SciPy.
    """
    # Here, since it takes more than a second.
    from scipy.stats import qmc

    if kind not in KINDS:
        raise ValueError(f"kind = {kind!r} is unknown: take {' or '.join(map(repr, KINDS))}.")
    if number < 1:
        raise ValueError(f"number = {number} is out of range: it must be 1 or greater.")
    low, high = _checked_bounds(bounds, logarithmic)
    rng = np.random.default_rng(seed)
    if kind == "sobol":
        sampler: Any = qmc.Sobol(len(bounds), rng=rng)
        shares = sampler.random(2 ** int(np.ceil(np.log2(number))))[:number]
    else:
        shares = qmc.LatinHypercube(len(bounds), rng=rng).random(number)
    return _in_box(shares, list(bounds), low, high, logarithmic)


def sobol_indices(
    build: Callable[..., Any],
    bounds: Mapping[str, tuple[float, float]],
    observables: Sequence[str | AbstractObservable] = ("chase_frequency", "rotation_frequency"),
    *,
    samples: int = 1024,
    logarithmic: Sequence[str] = (),
    seed: int = 0,
    progress: bool = True,
) -> xr.Dataset:
    """How much of an observable's variance over a box is due to each parameter,

        S_p = Var(<O | p>)/Var(O),   T_p = 1 - Var(<O | all but p>)/Var(O):

    by itself, and with all that it does together with others. `sensitivity` tells the same of one point, by slopes.

    **Arguments** `build`: as in `sweep`. `bounds`: name -> (low, high), parameters independent and uniform in between.
    `observables`: names or `AbstractObservable`s with one number. `samples`: N, a power of two; N (2 + parameters)
    points are computed. `logarithmic`: names that are uniform in their logarithm. `seed`: of the sample.

    **Returns** a Dataset over `observable` and `parameter`: `first_order` S, `total` T, and `first_order_confidence`,
    `total_confidence`, half the widths of their 95 % intervals. Where nothing chases, frequencies count as 0. Points
    without a valid state count as the mean; `unresolved` is their share.

    **Raises** `ValueError` for bad bounds, `samples` that are no power of two; `ImportError` without SALib.

    **Source** Saltelli et al., Computer Physics Communications 181 (2010) 259; SALib, Herman and Usher, Journal of Open
    Source Software 2 (2017) 97.
    """
    try:
        from SALib.analyze import sobol as analysis
        from SALib.sample import sobol as sampling
    except ImportError as error:
        raise ImportError("sobol_indices needs SALib. Install it with: pip install 'nrjax[sensitivity]'") from error
    if samples < 2 or samples & (samples - 1):
        raise ValueError(f"samples = {samples} is no power of two: take 512, 1024, 2048, ...")
    low, high = _checked_bounds(bounds, logarithmic)
    names = list(bounds)
    problem = {"num_vars": len(names), "names": names, "bounds": [[0.0, 1.0]] * len(names)}
    shares = sampling.sample(problem, samples, calc_second_order=False, seed=seed)
    points = _in_box(shares, names, low, high, logarithmic)
    asked = [observable_of(x) for x in observables]
    seen = sweep_points(build, points, observe=["phase", "valid", *asked], progress=progress)
    valid = seen["valid"].values & (seen["phase"].values != Phase.UNRESOLVED)
    figures: dict[str, list[np.ndarray]] = {}
    for observable in asked:
        values = np.asarray(seen[observable.name].values, float)
        known = valid & np.isfinite(values)
        if values.ndim != 1:
            raise ValueError(f"{observable.name} has more than one number at each point: take one of them.")
        values = np.where(known, values, np.mean(values[known]) if known.any() else 0.0)
        found = analysis.analyze(problem, values, calc_second_order=False, seed=seed)
        for name in ("S1", "ST", "S1_conf", "ST_conf"):
            figures.setdefault(name, []).append(np.asarray(found[name], float))
    dims = ("observable", "parameter")
    words = {"S1": "first_order", "ST": "total", "S1_conf": "first_order_confidence", "ST_conf": "total_confidence"}
    return xr.Dataset(
        {words[name]: (dims, np.stack(rows)) for name, rows in figures.items()},
        coords={"observable": [x.name for x in asked], "parameter": names},
        attrs={
            "title": "nrjax sobol_indices",
            "samples": samples,
            "points": len(shares),
            "unresolved": float(1.0 - valid.mean()),
            "seed": seed,
        },
    )


def _checked_points(points: Mapping[str, Numbers]) -> dict[str, np.ndarray]:
    if not points:
        raise ValueError("points is empty: pass name -> values, for example from spread_points(bounds, 1024).")
    lanes = {name: np.asarray(values, jnp.result_type(float)) for name, values in points.items()}
    shapes = {name: x.shape for name, x in lanes.items()}
    if any(len(shape) != 1 or shape[0] == 0 for shape in shapes.values()) or len(set(shapes.values())) != 1:
        raise ValueError(f"points have shapes {shapes}: give every parameter one value for each point.")
    for name, values in lanes.items():
        require_finite(f"points {name}", values)
    return lanes


def _checked_bounds(
    bounds: Mapping[str, tuple[float, float]], logarithmic: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    if not bounds:
        raise ValueError("bounds is empty: pass name -> (low, high).")
    ranges = [require_range(name, pair) for name, pair in bounds.items()]
    for name, (low, high) in zip(bounds, ranges, strict=True):
        if name in logarithmic and low <= 0:
            raise ValueError(
                f"bounds of {name!r} = ({low:g}, {high:g}): a logarithm needs numbers greater than 0. Raise low."
            )
    unknown = [name for name in logarithmic if name not in bounds]
    if unknown:
        raise ValueError(f"logarithmic names {unknown[0]!r}, which has no bounds.")
    lows, highs = np.array(ranges).T
    return lows, highs


def _in_box(
    shares: np.ndarray, names: list[str], low: np.ndarray, high: np.ndarray, logarithmic: Sequence[str]
) -> dict[str, np.ndarray]:
    """Points at shares of each range, shape (points, names)."""
    values = {}
    for i, name in enumerate(names):
        if name in logarithmic:
            values[name] = low[i] * (high[i] / low[i]) ** shares[:, i]
        else:
            values[name] = low[i] + (high[i] - low[i]) * shares[:, i]
    return values
