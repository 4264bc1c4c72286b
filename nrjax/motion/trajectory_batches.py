"""Integrating spin dynamics in time for many lanes at once: batches of bounded memory, lanes of like cost together."""

import concurrent.futures
import functools
import itertools
import math
from typing import Any, Final

import jax
import numpy as np
from jaxtyping import Array, Float

from .._numerics.precision import integration_tolerance, require_reachable
from .._numerics.programs import SharedProgram, made_once
from .._numerics.tiles import power_of_two_below, run_tiles
from .._numerics.unrolled_runge_kutta import UnrolledTsit5
from .._numerics.validation import Numbers, numpy_floats, require_batch
from ..magnets import LayeredMagnet
from .integration import UNROLLED_LAYERS, simulate
from .saved_times import require_times
from .solution import Solution

# Lanes integrated together, at most and at least, and the tiles that small batches are cut into.
LARGEST_TILE: Final = 64
SMALLEST_TILE: Final = 32
TILES: Final = 16
# Tiles of so few are integrated one lane after the other: together a step takes them as long, since the compiler writes
# short loops out instead of making vectors of them, and all wait for the slowest. They are compiled in half the time.
FEW: Final = 12
# On an accelerator, at most, in multiples that several devices share; and tiles at a time, so that one is taken from
# memory or put there while another is computed.
ACCELERATOR_TILE: Final = 1 << 18
ACCELERATOR_MULTIPLE: Final = 1 << 12
ACCELERATOR_THREADS: Final = 2


def simulate_many(
    models: LayeredMagnet,
    m0: Numbers,
    t1: Numbers,
    *,
    saveat: Numbers | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    max_steps: int | None = 1_000_000,
    tile: int | None = None,
    executor: concurrent.futures.Executor | None = None,
    progress: bool = True,
) -> Solution:
    """`simulate` for a batch, in tiles of lanes of like cost, so that no lane waits for one much slower.

    **Arguments**

    - `models`: a `LayeredMagnet` whose arrays carry a leading axis of lanes, made by `jax.vmap(build)(values)`.
    - `m0`: initial moments, shape (L, 3) for all lanes or (lanes, L, 3).
    - `t1`: final time in ps, for all lanes or shape (lanes,); times start at 0.
    - `saveat`: times in ps, shape (times,). Default: the final time.
    - `rtol`, `atol`, `max_steps`: as in `simulate`.
    - `tile`: lanes integrated together. Default: 64 on a CPU, fewer for small batches, so that lanes of unlike cost
      are apart, and up to 12 one after the other, which differ from those together by rounding; on an accelerator
      equal parts of 262144 at most, two at a time.
    - `executor`, `progress`: as in `sweep`.

    **Returns** a `Solution` of NumPy arrays with a leading axis of lanes; a lane that failed has `valid = False`
    and spoils no other.

    **Raises** `ValueError` for bad input.
    """
    # In NumPy and as a list: JAX on few numbers, or looking through a magnet, costs as much as a trajectory.
    require_batch("models", models)
    frame, arrays = _framed(models)
    lanes = arrays[0].shape[0]
    layers = models.exchange.shape[-1]
    if models.exchange.ndim != 3:
        raise ValueError(
            f"models.exchange has shape {models.exchange.shape}: it must be (lanes, L, L). "
            "Make a batch with jax.vmap(build)(values)."
        )
    starts = numpy_floats("m0", m0)
    if starts.shape not in ((layers, 3), (lanes, layers, 3)):
        raise ValueError(f"m0 has shape {starts.shape}: it must be ({layers}, 3) or ({lanes}, {layers}, 3).")
    starts = np.broadcast_to(starts, (lanes, layers, 3))
    tile = _default_tile(lanes) if tile is None else min(tile, lanes)
    if tile < 1:
        raise ValueError(f"tile = {tile} is out of range: it must be 1 or greater (lanes integrated together).")
    dtype = models.exchange.dtype
    rtol = integration_tolerance(dtype) if rtol is None else rtol
    require_reachable("rtol", rtol, dtype)
    # As arrays, so that another tolerance needs no other program.
    tolerances = np.asarray([rtol, rtol if atol is None else atol], dtype)
    stops = np.broadcast_to(numpy_floats("t1", t1), (lanes,))
    order = None
    if tile < lanes:
        # Lanes of like cost side by side: precession sets the step.
        cost = stops * _precession_rate(np.asarray(models.exchange), np.asarray(models.gyro))
        order = np.argsort(cost) if np.ptp(cost) else None
    times = None
    if saveat is not None:
        require_times(saveat, 0.0, np.min(stops))
        times = numpy_floats("saveat", saveat)
    # A function with a name, so that other processes can have it.
    together = tile > FEW or jax.default_backend() != "cpu"
    run = functools.partial(_integrate, frame, max_steps, together, times, tolerances)
    threads = None if jax.default_backend() == "cpu" or len(jax.local_devices()) > 1 else ACCELERATOR_THREADS
    return run_tiles(
        run,
        (*arrays, starts, stops),
        tile,
        order=order,
        executor=executor,
        threads=threads,
        progress=progress,
        label="simulate",
    )


def _default_tile(lanes: int) -> int:
    """Lanes integrated together: few on a CPU, as many as keep an accelerator busy."""
    if jax.default_backend() == "cpu":
        return min(lanes, max(power_of_two_below(lanes // TILES), SMALLEST_TILE), LARGEST_TILE)
    if lanes <= ACCELERATOR_MULTIPLE:
        return lanes
    parts = math.ceil(lanes / ACCELERATOR_TILE) * ACCELERATOR_MULTIPLE
    return math.ceil(lanes / parts) * ACCELERATOR_MULTIPLE


def _precession_rate(exchange: Float[np.ndarray, "lanes L L"], gyro: Float[np.ndarray, " lanes"]) -> Any:
    """gyro * max_a sum_(b != a) |j_ab| in meV of every lane: an estimate of what sets the number of steps."""
    sizes, layers = np.abs(exchange), range(exchange.shape[-1])
    # Sums and maxima along a short axis take NumPy ten times as long as these.
    others = [sum(sizes[:, a, b] for b in layers if b != a) for a in layers]
    return np.abs(gyro) * functools.reduce(np.maximum, others)


class _Slot:
    """Stands in a model where a batch of it has an array."""


def _framed(models: LayeredMagnet) -> tuple[LayeredMagnet, list[Any]]:
    """A model with `_Slot`s where a batch of it has arrays, and the arrays in that order."""
    leaves, structure = jax.tree.flatten(models)
    are_arrays = [isinstance(x, jax.Array | np.ndarray | jax.ShapeDtypeStruct) for x in leaves]
    rest = tuple(_Slot if is_array else x for x, is_array in zip(leaves, are_arrays, strict=True))
    return _frame(structure, rest), list(itertools.compress(leaves, are_arrays))


# The same object for the same structure: comparing two magnets takes longer than looking one up.
@made_once
def _frame(structure: Any, leaves: tuple[Any, ...]) -> LayeredMagnet:
    return jax.tree.unflatten(structure, leaves)


def _integrate(
    frame: LayeredMagnet, max_steps: int | None, together: bool, times: Any, tolerances: Any, part: Any
) -> Solution:
    """The trajectories of a tile of lanes."""
    return _batch_solver(frame, max_steps, together)(part, times, tolerances)


@made_once
def _batch_solver(frame: LayeredMagnet, max_steps: int | None, together: bool) -> Any:
    def one(lane: tuple[Array, ...], times: Any, tolerances: Any) -> Solution:
        *arrays, start, t1 = lane
        fill = iter(arrays)
        model = jax.tree.map(lambda x: next(fill) if x is _Slot else x, frame)
        solver = UnrolledTsit5() if model.layers <= UNROLLED_LAYERS else None
        rtol, atol = tolerances
        return simulate(
            model,
            start,
            t1,
            saveat=times,
            rtol=rtol,
            atol=atol,
            solver=solver,
            max_steps=max_steps,
            throw=False,
            watch_tilt=False,
        )

    def one_by_one(lanes: Any, times: Any, tolerances: Any) -> Solution:
        return jax.lax.map(lambda lane: one(lane, times, tolerances), lanes)

    return SharedProgram(jax.vmap(one, in_axes=(0, None, None)) if together else one_by_one, shared=[1, 2])
