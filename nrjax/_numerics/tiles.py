"""Running one compiled function over many lanes in tiles of bounded memory."""

import collections
import concurrent.futures
import contextlib
import dataclasses
import importlib.util
import os
import pickle
import time
import warnings
from collections.abc import Callable, Iterable
from typing import Any, Final

import jax
import numpy as np
from jaxtyping import PyTree
from tqdm import tqdm

from .devices import chosen_device

# Tiles, and their points, that are sent to the workers before the first has come back.
AT_A_TIME: Final = 256
POINTS_AT_A_TIME: Final = 1 << 24
# Seconds that tiles already begun are waited for after an error, so that they are not lost.
GRACE: Final = 60.0
# Seconds for which a thread asks whether its only tile is done before it sleeps: to be woken takes a tenth of this.
AWAKE: Final = 1e-3


def power_of_two_below(number: int) -> int:
    """The greatest power of two that is not above `number`; 1 below 1."""
    return 1 << max(number, 1).bit_length() - 1


def power_of_two_above(number: int) -> int:
    """The least power of two that is not below `number`."""
    return 1 << (number - 1).bit_length()


def progress_bar(total: int, label: str, progress: bool, unit: str = "points", done: int = 0) -> tqdm:
    """A bar of points per second after two seconds, silent when not on a terminal."""
    off = None if progress else True
    return tqdm(total=total, initial=done, desc=label, unit=f" {unit}", unit_scale=True, delay=2, disable=off)


class Progress:
    """A `progress_bar` that tells finished tiles, too; for use in a `with` statement. Without `progress` it is none."""

    def __init__(self, points: int, tiles: int, label: str, progress: bool):
        self.bar = progress_bar(points, label, progress) if progress else None
        self.tiles, self.done = tiles, 0

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error: Any) -> None:
        if self.bar is not None:
            self.bar.close()

    def tell(self, points: int) -> None:
        """One tile more, of so many points."""
        self.done += 1
        if self.bar is None:
            return
        self.bar.set_postfix_str(f"tile {self.done}/{self.tiles}", refresh=False)
        self.bar.update(points)


def run_tiles(
    function: Callable[[PyTree], PyTree],
    lanes: PyTree,
    tile: int,
    *,
    order: np.ndarray | None = None,
    executor: concurrent.futures.Executor | None = None,
    progress: bool = True,
    threads: int | None = None,
    label: str = "",
) -> PyTree:
    """function(lanes), tile by tile, as NumPy arrays.

    **Arguments** `lanes`: arrays of shape (lanes, ...). `order`: the lanes in the order in which they are computed,
    where that is not their own. `progress`: whether to show a `progress_bar`. The others as in `for_each_tile`.
    """
    total = jax.tree.leaves(lanes)[0].shape[0]
    tiles = -(-total // tile)
    if executor is None and order is None and total == tile:
        # Sharing out costs as much as a short trajectory, and so does taking arrays from the only device and back.
        lanes = lanes if _is_alone() else jax.tree.map(np.asarray, lanes)
        with Progress(total, tiles, label, progress) as bar:
            result = _fitting(lambda part: _awaited(function(part)), lanes, np.array)
            bar.tell(total)
        return result
    lanes = jax.tree.map(np.asarray, lanes)
    wholes: list[np.ndarray] = []
    structure: Any = None

    def rows(index: int) -> Any:
        some = slice(index * tile, (index + 1) * tile)
        return some if order is None else order[some]

    with Progress(total, tiles, label, progress) as bar:

        def keep(index: int, result: PyTree) -> None:
            nonlocal structure
            parts, structure = jax.tree.flatten(result)
            if not wholes:
                wholes.extend(np.empty((total, *x.shape[1:]), x.dtype) for x in parts)
            # Straight to its place: a device computes the next tile meanwhile.
            some = rows(index)
            for whole, part in zip(wholes, parts, strict=True):
                whole[some] = part
            bar.tell(parts[0].shape[0])

        for_each_tile(
            function,
            range(tiles),
            lambda index: jax.tree.map(lambda x: _taken(x, rows(index)), lanes),
            keep,
            tile=tile,
            executor=executor,
            threads=threads,
        )
    return jax.tree.unflatten(structure, wholes)


def _awaited(result: PyTree) -> PyTree:
    """The same, which is there by then unless it takes longer than `AWAKE`."""
    computed = [x for x in jax.tree.leaves(result) if hasattr(x, "is_ready")]
    until = time.perf_counter() + AWAKE
    while not all(x.is_ready() for x in computed) and time.perf_counter() < until:
        pass
    return result


def _taken(x: np.ndarray, some: slice | np.ndarray) -> np.ndarray:
    """x[some]; of rows in another order four times faster, unless `take` would copy all of x for its layout."""
    return np.take(x, some, axis=0) if isinstance(some, np.ndarray) and x.flags.c_contiguous else x[some]


def for_each_tile(
    function: Callable[[PyTree], PyTree],
    indices: Iterable[int],
    part_of: Callable[[int], PyTree],
    keep: Callable[[int, PyTree], None],
    *,
    tile: int,
    executor: concurrent.futures.Executor | None = None,
    threads: int | None = None,
    begin: Callable[[int], None] = lambda index: None,
    fail: Callable[[int], None] = lambda index: None,
) -> None:
    """keep(index, function(part_of(index))) for every index, in the order in which tiles are finished.

    **Arguments**

    - `function`: maps arrays of leading size `tile` to arrays of leading size `tile`, from several threads: made of
      `SharedProgram`s, compiled once, since a smaller tile is padded with copies of its last lane.
    - `part_of`: the lanes of a tile, as arrays of shape (at most `tile`, ...).
    - `keep`: takes a tile's result as NumPy arrays; called in this thread.
    - `executor`: where tiles run. Default: `threads` threads, which defaults to one per CPU core (XLA works outside
      Python's lock) and to one on an accelerator, or where several devices share each tile.
    - `begin`, `fail`: told when a tile is sent, and when its computation has raised.

    A tile that a device has no memory for is halved until it fits. Workers that are lost are done without, with a
    warning. After an error, tiles that are finished are kept.
    """
    _require_safe(executor)
    work = _Work(function, _is_double(), chosen_device())
    missing = collections.deque(indices)
    sizes: dict[int, int] = {}

    def padded(index: int) -> PyTree:
        part = part_of(index)
        sizes[index] = jax.tree.leaves(part)[0].shape[0]
        begin(index)
        if sizes[index] == tile:
            return part
        picked = np.minimum(np.arange(tile), sizes[index] - 1)
        return jax.tree.map(lambda x: x[picked], part)

    def put(index: int, result: PyTree) -> None:
        size = sizes.pop(index)
        keep(index, result if size == tile else jax.tree.map(lambda x: x[:size], result))

    # Sent a few at a time, so that the points on their way stay within bounds.
    own, at_a_time = executor is None, max(4, min(AT_A_TIME, POINTS_AT_A_TIME // tile))
    if executor is None and len(missing) == 1:
        executor = _ThisThread()
    elif executor is None:
        if threads is None:
            threads = (os.cpu_count() or 1) if _is_alone() else 1
        executor, at_a_time = concurrent.futures.ThreadPoolExecutor(max_workers=threads), 2 * threads
    running: dict[Any, int] = {}
    try:
        while missing or running:
            try:
                while missing and len(running) < at_a_time:
                    running[executor.submit(work, padded(missing[0]))] = missing[0]
                    missing.popleft()
                for future in concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED).done:
                    error = future.exception()
                    if error is not None and not isinstance(error, concurrent.futures.BrokenExecutor):
                        fail(running[future])
                    result = future.result()
                    put(running.pop(future), result)
            except concurrent.futures.BrokenExecutor as error:
                lost = [*sorted(running.values()), *missing]
                warnings.warn(
                    f"the workers were lost ({error}): the other {len(lost)} tiles are computed in this process.",
                    stacklevel=2,
                )
                missing.clear()
                running.clear()
                for index in lost:
                    put(index, work(padded(index)))
    finally:
        # After an error or an interrupt: what is finished, or about to be, is kept.
        begun = {future: index for future, index in running.items() if not future.cancel()}
        for future in concurrent.futures.wait(begun, timeout=GRACE).done:
            if future.exception() is None:
                put(begun[future], future.result())
        if own:
            executor.shutdown(wait=True, cancel_futures=True)


class _ThisThread(concurrent.futures.Executor):
    """Computes what it is given at once: one tile alone need not wait for a thread to begin and to end."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> concurrent.futures.Future[Any]:
        """A future that is done."""
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def _is_alone() -> bool:
    """Whether all is computed where NumPy's arrays are, on one device."""
    return jax.default_backend() == "cpu" and len(jax.local_devices()) == 1


def _is_double() -> bool:
    """Whether numbers are in double precision here."""
    return jax.dtypes.canonicalize_dtype(float) == np.float64


def _require_safe(executor: concurrent.futures.Executor | None) -> None:
    """Refuse forked processes: the threads that JAX has started do not survive a fork, and the child waits for ever."""
    if isinstance(executor, concurrent.futures.ProcessPoolExecutor):
        context = getattr(executor, "_mp_context", None)
        if context is not None and context.get_start_method() == "fork":
            raise ValueError(
                "executor starts its processes by fork, in which JAX locks up. Give "
                "ProcessPoolExecutor(mp_context=multiprocessing.get_context('spawn'))."
            )


@dataclasses.dataclass(frozen=True)
class _Work:
    """A function of a tile, in double precision or single as where it was made, also in another process; in other
    threads of this one on the device that is chosen there (`jax.default_device`)."""

    function: Callable[[PyTree], PyTree]
    double: bool
    device: Any = None

    def __call__(self, part: PyTree) -> PyTree:
        """function(part) as NumPy arrays."""
        with contextlib.ExitStack() as settings:
            if _is_double() != self.double:
                settings.enter_context(jax.enable_x64(self.double))
            if self.device is not None:
                settings.enter_context(jax.default_device(self.device))
            return _fitting(self.function, part)

    def __reduce__(self) -> tuple[Any, ...]:
        # Packed by itself, since arrays of double precision must not be unpacked where there is none.
        try:
            packed = pickle.dumps(self.function)
        except (AttributeError, TypeError, pickle.PicklingError):
            # Functions without a name in a module; what Dask packs with is there with it.
            if importlib.util.find_spec("cloudpickle") is None:
                raise
            packed = importlib.import_module("cloudpickle").dumps(self.function)
        return _unpacked, (packed, self.double)


def _unpacked(packed: bytes, double: bool) -> _Work:
    with jax.enable_x64(double):
        return _Work(pickle.loads(packed), double)


def _fitting(function: Callable[[PyTree], PyTree], part: PyTree, to_numpy: Callable[..., Any] = np.asarray) -> PyTree:
    """function(part) as NumPy arrays, which share its memory if `to_numpy` does; of its halves, one after the other, if
    the device's memory is too small."""
    size = jax.tree.leaves(part)[0].shape[0]
    try:
        return jax.tree.map(to_numpy, function(part))
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error) or size == 1:
            raise
    half = size // 2
    pieces = [
        _fitting(function, jax.tree.map(lambda x, some=some: x[some], part))
        for some in (slice(half), slice(half, size))
    ]
    return jax.tree.map(lambda *some: np.concatenate(some), *pieces)
