"""Inverse design: ask for a rotation frequency, get the laser."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, TypedDict, Unpack, overload

import equinox as eqx
import jax
import numpy as np
import optax
from jaxtyping import Array, Float
from tqdm import tqdm

from .._numerics.precision import design_tolerance
from .._numerics.tiles import power_of_two_above
from .._numerics.validation import (
    Numbers,
    array_of,
    float_array,
    require_finite,
    require_nonnegative,
    require_positive,
)
from ..rotation.attractors import solver_for
from ..rotation.observables import AbstractObservable, is_frequency, observable_of
from ..rotation.rigid_states import SteadyState, unknown_state
from .box import Box, coordinates_at, parameters_at
from .constraints import StableInSpace
from .problem import Look, Problem
from .result import DesignResult, best_of_restarts, history
from .search import Lane, relative_error, replace_lanes, start_lanes, take_steps

# Steps between two looks at the progress of all restarts.
STRIDE: Final = 10
# Restarts worked on together.
CPU_TILE: Final = 32
ACCELERATOR_TILE: Final = 1 << 16
# Parameters that range over orders of magnitude.
LOGARITHMIC: Final = ("intensity",)


@functools.lru_cache(maxsize=16)
def default_optimizer(steps: int) -> optax.GradientTransformation:
    """Adam with a rate that falls like a cosine from 0.05 box widths to a thousandth of that."""
    return optax.adam(optax.cosine_decay_schedule(0.05, steps, alpha=1e-3), b1=0.8, b2=0.95)


class DesignOptions(TypedDict, total=False):
    """The arguments of `design` that may be left out."""

    observable: str | AbstractObservable | Callable[[SteadyState], Any]
    objectives: Sequence[Callable[..., Any]]
    stable_in_space: bool
    ensemble: Mapping[str, Numbers] | None
    m0: Numbers | None
    restarts: int
    steps: int
    tolerance: float | None
    optimizer: optax.GradientTransformation | None
    worst_case: bool
    spread_weight: float
    logarithmic: Sequence[str]
    patience: int
    seed: int
    progress: bool


@overload
def design(
    build: Callable[..., Any],
    initial: Mapping[str, Any] | None,
    target: float,
    *,
    bounds: Mapping[str, Any],
    **options: Unpack[DesignOptions],
) -> DesignResult: ...
@overload
def design(
    build: Callable[..., Any],
    initial: Mapping[str, Any] | None,
    target: Sequence[float] | np.ndarray | Array,
    *,
    bounds: Mapping[str, Any],
    **options: Unpack[DesignOptions],
) -> tuple[DesignResult, ...]: ...
def design(
    build: Callable[..., Any],
    initial: Mapping[str, Any] | None,
    target: Any,
    *,
    bounds: Mapping[str, Any],
    observable: Any = "chase_frequency",
    objectives: Sequence[Callable[..., Any]] = (),
    stable_in_space: bool = False,
    ensemble: Mapping[str, Numbers] | None = None,
    m0: Numbers | None = None,
    restarts: int = 8,
    steps: int = 200,
    tolerance: float | None = None,
    optimizer: optax.GradientTransformation | None = None,
    worst_case: bool = False,
    spread_weight: float = 1.0,
    logarithmic: Sequence[str] = LOGARITHMIC,
    patience: int = 80,
    seed: int = 0,
    progress: bool = True,
) -> DesignResult | tuple[DesignResult, ...]:
    """The parameters p within bounds at which the steady state of build(**p) has the wanted frequency:

        f(p) = target,   and among such p those that minimise the sum of `objectives`.

    Optax leads every restart to the chiral phase (where nothing rotates: along the slope of `chase_distance`) and along
    the surface f = target; Newton's method takes it onto that surface. Derivatives are those of `steady_state`.

    **Arguments**

    - `build`: makes a magnet from the parameters, as in `sweep`; anything that it takes can be designed.
    - `initial`: name -> value where the first restart starts, darkness allowed. None or a missing name: the middle.
    - `target`: GHz for frequencies, greater than 0; the observable's unit for others. Several in a list are
      designed as one batch: the settings of a frequency modulator.
    - `bounds`: name -> (low, high), for every parameter to be found.
    - `observable`: "chase_frequency", "rotation_frequency" or another name of the table of observables, an
      `AbstractObservable`, or a differentiable function of the `SteadyState`.
    - `objectives`: `LowIntensity()`, `LowPower()`, `Margin(rate)`, `Quiet()`, `WideRange()`, or functions of
      (magnet, state) with a scalar value; they add. Without any, the design nearest to `initial` is taken. Limits
      among them must be kept for a design to be feasible: `StableInSpace()`, `MaxTemperature(thermal, kelvin)`,
      `MinTurns(thermal, number)`, `AboveOnset(factor)`, `NarrowLine(spins, share)`, `EnoughElectrons()`.
    - `stable_in_space`: short for `StableInSpace()` among the objectives.
    - `ensemble`: name -> values, shape (members,): further arguments of `build`, a material that is not known exactly.
      The mean frequency of the members then meets the target, and their spread is kept small; see
      `gaussian_ensemble`.
    - `m0`: the start of every steady state, shape (L, 3); it decides between coexisting states, and the axis of
      rotation. Default: the state without light.
    - `restarts`: starting points: `initial`, then points spread evenly over the box. They run as one batch, and each
      gives what it would give alone.
    - `steps`: the most steps of each restart.
    - `tolerance`: relative error that counts as reached; default 1e-8, 1e-4 in single precision.

    Rarely needed:

    - `optimizer`: an Optax optimizer of coordinates in which every range has the width 1. Default: Adam with a falling
      rate. Keep one object for several designs, or each compiles anew.
    - `worst_case`: for an ensemble, the middle between lowest and highest frequency meets the target, and their
      distance is kept small: the largest error of any member is the least.
    - `spread_weight`: of the relative spread against the other objectives.
    - `logarithmic`: names of parameters that range over orders of magnitude.
    - `patience`: steps without progress after which a restart ends.
    - `seed`: of the starting points.
    - `progress`: a bar with the best miss and frequency, on a terminal.

    **Returns** a `DesignResult`, for several targets a tuple of them. A target that cannot be reached is no error, nor
    a limit that cannot be kept: `feasible` is then False.

    **Raises** `ValueError` for a target that is no positive frequency, bounds that are reversed or do not fit
    `initial`, and names that `build` does not take.

    **Source** docs/physics.md, "Inverse design".
    """
    box = Box(bounds, [name for name in logarithmic if name in bounds])
    wanted = observable_of(observable)
    goals = _checked_targets(target, wanted)
    for name, value in (("steps", steps), ("restarts", restarts), ("patience", patience)):
        if value < 1:
            raise ValueError(f"{name} = {value} is out of range: it must be 1 or greater.")
    material = _checked_ensemble(ensemble, box)
    first = box.shares_of(_completed(initial, box))
    start = None if m0 is None else float_array("m0", m0)
    require_nonnegative("spread_weight", spread_weight)
    weight = array_of(spread_weight, box.low.dtype)
    wishes = (*objectives, StableInSpace()) if stable_in_space else tuple(objectives)
    problem = Problem(build, box, start, wanted, wishes, material, array_of(worst_case), weight)
    looking = _checked(problem, coordinates_at(box, first))
    if tolerance is None:
        tolerance = design_tolerance(box.low.dtype)
    method = default_optimizer(steps) if optimizer is None else optimizer

    shares = starting_shares(first, restarts, seed)
    y = np.tile(coordinates_at(box, shares), (len(goals), 1))
    aims = np.repeat(goals.astype(y.dtype), restarts)
    ended, track = _run(problem, looking, method, y, aims, (float(tolerance), steps, patience), progress)
    lanes, looks = jax.tree.map(lambda x: x.reshape(len(goals), restarts, *x.shape[1:]), ended)
    errors = np.asarray(relative_error(looks.achieved, lanes.target))
    way = history(problem, track)
    results = tuple(
        best_of_restarts(
            problem,
            jax.tree.map(lambda x, k=k: x[k], lanes),
            jax.tree.map(lambda x, k=k: x[k], looks),
            errors[k],
            way.isel(restart=slice(k * restarts, (k + 1) * restarts)),
            first,
            tolerance,
        )
        for k in range(len(goals))
    )
    return results if np.ndim(target) else results[0]


def _run(
    problem: Problem,
    looking: Problem,
    optimizer: optax.GradientTransformation,
    y: Float[np.ndarray, "lanes n"],
    targets: Float[np.ndarray, " lanes"],
    limits: tuple[float, int, int],
    progress: bool,
) -> tuple[tuple[Lane, Look], list[np.ndarray]]:
    """All lanes to their ends, and the best looks of them; also what `take_steps` tells of the way, each (steps, lanes,
    ...).

    A tile has as many places on every call, so that one program serves any number of restarts and targets. A lane that
    is done leaves its place to the next, so that none waits for the slowest.

    **Arguments** `looking`: the problem as it is looked at until some motion does not settle. `limits`: relative error
    that counts as reached, steps and patience.
    """
    number = y.shape[0]
    width = CPU_TILE
    if jax.default_backend() != "cpu":
        width = min(max(power_of_two_above(number), CPU_TILE), ACCELERATOR_TILE)

    def start(rows: np.ndarray) -> Lane:
        filled = np.minimum(rows, number - 1)
        return start_lanes(problem, optimizer, y[filled], targets[filled])

    # The lane in each place; from `number` on there is none, and the place is filled up with a copy of the last.
    rows, waiting = np.arange(width), width
    tile = start(rows)
    ends, order, seen = [], [], []
    bar = tqdm(total=number, desc="design", unit=" restarts", delay=2, disable=None if progress else True)
    try:
        while (rows < number).any():
            begun = tile
            tile, looks, way = take_steps(looking, optimizer, begun, STRIDE, *limits)
            if not (looking.watches or np.asarray(tile.settled).all()):
                looking = problem
                tile, looks, way = take_steps(looking, optimizer, begun, STRIDE, *limits)
            seen.append((rows, jax.tree.map(np.asarray, way)))
            miss, achieved = np.abs(seen[-1][1][0][-1]), seen[-1][1][1][-1]
            best = int(np.argmin(miss))
            bar.set_postfix_str(f"miss {miss[best]:.1e}, best {achieved[best]:.6g}")
            over = np.asarray(tile.done)
            home = over & (rows < number)
            ends.append(jax.tree.map(lambda x, home=home: np.asarray(x)[home], (tile._replace(memory=None), looks)))
            order.append(rows[home])
            rows = np.where(over, number, rows)
            if waiting < number:
                rows[over] = waiting + np.arange(over.sum())
                waiting += int(over.sum())
                tile = replace_lanes(tile, over, start(rows))
            bar.update(int(home.sum()))
    finally:
        bar.close()
    back = np.argsort(np.concatenate(order))
    return jax.tree.map(lambda *x: np.concatenate(x)[back], *ends), _tracks(seen, number)


def _tracks(seen: list[tuple[np.ndarray, Any]], number: int) -> list[np.ndarray]:
    """What was seen of all lanes, each (steps, lanes, ...); a lane that was done sooner repeats its last step."""
    strides = np.bincount(np.concatenate([rows for rows, _ in seen]), minlength=number)[:number]
    tracks = [np.empty((STRIDE * strides.max(), number, *x.shape[2:]), x.dtype) for x in seen[0][1]]
    taken = np.zeros(number, int)
    for rows, way in seen:
        here = rows < number
        lanes = rows[here]
        steps = STRIDE * taken[lanes] + np.arange(STRIDE)[:, None]
        for track, x in zip(tracks, way, strict=True):
            track[steps, lanes] = x[:, here]
        taken[lanes] += 1
    last = np.minimum(np.arange(STRIDE * strides.max())[:, None], STRIDE * strides - 1)
    return [track[last, np.arange(number)] for track in tracks]


def starting_shares(first: Float[np.ndarray, " n"], restarts: int, seed: int) -> Float[np.ndarray, "restarts n"]:
    """Where restarts begin, as shares of each range: `first`, then an even spread (a Kronecker sequence with the
    generalized golden ratio, shifted at random); restart i is the same for any number of restarts."""
    n = first.shape[0]
    ratio = 2.0
    for _ in range(32):
        ratio = (1.0 + ratio) ** (1.0 / (n + 1))
    strides = ratio ** -np.arange(1.0, n + 1.0)
    shift = np.asarray(jax.random.uniform(jax.random.key(seed), (n,)))
    spread = (shift + np.arange(1, restarts)[:, None] * strides) % 1.0
    return np.concatenate([first[None], spread.astype(first.dtype)])


def gaussian_ensemble(
    mean: Mapping[str, float], deviation: Mapping[str, float], members: int = 16, seed: int = 0
) -> dict[str, Float[np.ndarray, " members"]]:
    """Material parameters that scatter: normal distributions, independent of each other.

    **Arguments** `mean`, `deviation`: name -> mean and standard deviation, in the parameter's unit. `members`: how
    many. `seed`: of the sample.

    **Returns** name -> values, for `design(..., ensemble=...)`. The sample (a scrambled Sobol sequence) covers the
    distribution more evenly than random numbers.

    **Raises** `ValueError` for different names or a deviation below 0.
    """
    # Here, since it takes more than a second.
    from scipy.stats import qmc

    if set(mean) != set(deviation):
        raise ValueError(f"mean names {sorted(mean)}, deviation {sorted(deviation)}. Give both for each parameter.")
    require_nonnegative("deviation", np.asarray(list(deviation.values()), float))
    sampler = qmc.MultivariateNormalQMC(np.zeros(len(mean)), rng=np.random.default_rng(seed))
    # The sequence is even for powers of two.
    draws = sampler.random(2 ** int(np.ceil(np.log2(max(members, 1)))))[:members]
    return {name: mean[name] + deviation[name] * draws[:, i] for i, name in enumerate(mean)}


def _checked_targets(target: Any, observable: AbstractObservable) -> np.ndarray:
    try:
        goals = np.atleast_1d(np.asarray(target, float))
    except (TypeError, ValueError) as error:
        raise ValueError(f"target = {target!r} is not a number. Give a frequency in GHz.") from error
    if goals.ndim != 1 or goals.size == 0:
        raise ValueError(f"target has shape {goals.shape}: give one number, or a list of them.")
    if is_frequency(observable):
        remedy = (
            "A frequency counts turns, in GHz; which way they go follows from m0."
            if (goals < 0).any()
            else "It is a frequency in GHz."
        )
        require_positive("target", goals if goals.size > 1 else goals[0], remedy)
    else:
        require_finite("target", goals if goals.size > 1 else goals[0])
    return goals


def _checked_ensemble(ensemble: Mapping[str, Numbers] | None, box: Box) -> dict[str, Array]:
    if not ensemble:
        return {}
    material = {name: float_array(f"ensemble {name}", values) for name, values in ensemble.items()}
    sizes = {name: values.shape for name, values in material.items()}
    if any(len(shape) != 1 or shape[0] == 0 for shape in sizes.values()) or len(set(sizes.values())) != 1:
        raise ValueError(f"the ensemble has shapes {sizes}: give every parameter one value for each member.")
    both = [name for name in material if name in box.names]
    if both:
        raise ValueError(
            f"{both[0]!r} is in bounds and in the ensemble. A parameter is designed or scatters, not both."
        )
    for name, values in material.items():
        require_finite(f"ensemble {name}", values)
    return material


def _completed(initial: Mapping[str, Any] | None, box: Box) -> dict[str, Any]:
    """The initial values, with the middle of the range for those not given."""
    given = dict(initial or {})
    for name in given:
        if name not in box.names:
            raise ValueError(f"{name!r} has an initial value but no bounds. Add bounds[{name!r}] = (low, high).")
    middle = np.asarray(parameters_at(box, np.full(len(box.names), 0.5, box.low.dtype)))
    completed = {name: middle[i] for i, name in enumerate(box.names)} | given
    for name, value in completed.items():
        if np.ndim(value) != 0:
            raise ValueError(f"initial {name} has shape {np.shape(value)}: give one number.")
        require_finite(f"initial {name}", float_array(f"initial {name}", value))
    return completed


def _checked(problem: Problem, y: Array) -> Problem:
    """Build one magnet and its objectives with known numbers, where mistakes show with a clear error.

    **Returns** the problem as it is looked at first: without watching, if its solver can do without. Few designs meet a
    shape that keeps moving, and what watches it is compiled for those alone.
    """
    material = {name: values[0] for name, values in problem.ensemble.items()}
    try:
        magnet = problem.build(**problem.box.named(np.asarray(parameters_at(problem.box, y))), **material)
    except TypeError as error:
        names = ", ".join(map(repr, [*problem.box.names, *material]))
        raise ValueError(f"the parameters {names} do not fit the model: {error}. Name arguments of build().") from error
    solver = solver_for(magnet)
    # Shapes only: nothing is computed.
    state = jax.eval_shape(lambda: unknown_state(magnet.layers, y.dtype, magnet.components))
    for what, function, arguments in [
        ("observable", problem.observable, (magnet, state)),
        *(("objective", f, (magnet, state)) for f in problem.objectives),
    ]:
        value = eqx.filter_eval_shape(function, *arguments)
        if getattr(value, "shape", None) != ():
            raise ValueError(f"the {what} must be one number: {function!r} gives {value}.")
    return problem if solver.of_settling_states() is solver else replace(problem, watches=False)
