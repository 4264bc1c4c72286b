"""Running one compiled function over many lanes in tiles of bounded memory."""

import concurrent.futures
import os
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree
from tqdm import tqdm


def power_of_two_below(number: int) -> int:
    """The greatest power of two that is not above `number`; 1 below 1."""
    return 1 << max(number, 1).bit_length() - 1


def power_of_two_above(number: int) -> int:
    """The least power of two that is not below `number`."""
    return 1 << (number - 1).bit_length()


def progress_bar(total: int, label: str, progress: bool) -> tqdm:
    """A bar of points per second after two seconds, silent when not on a terminal."""
    return tqdm(total=total, desc=label, unit=" points", unit_scale=True, delay=2, disable=None if progress else True)


def run_tiles(
    function: Callable[[PyTree], PyTree],
    lanes: PyTree,
    tile: int,
    *,
    executor: concurrent.futures.Executor | None = None,
    threads: int | None = None,
    progress: bool = True,
    label: str = "",
    load: Callable[[int], PyTree | None] = lambda index: None,
    save: Callable[[int, PyTree], None] = lambda index, result: None,
) -> PyTree:
    """function(lanes), tile by tile, as NumPy arrays.

    **Arguments**

    - `function`: maps arrays of leading size `tile` to arrays of leading size `tile`, from several threads: made of
      `SharedProgram`s, compiled once, since the last tile is padded with copies of its last lane.
    - `lanes`: arrays of shape (lanes, ...).
    - `executor`: where tiles run. Default: `threads` threads, which defaults to one per CPU core (XLA works outside
      Python's lock) and to one on an accelerator, or where several devices share each tile.

    A tile that a device has no memory for is halved until it fits.
    - `progress`: whether to show a `progress_bar`, with the tiles that are done.
    - `load`, `save`: a store of finished tiles.
    """
    lanes = jax.tree.map(np.asarray, lanes)
    total = jax.tree.leaves(lanes)[0].shape[0]
    tiles = -(-total // tile)

    def run(index: int) -> PyTree:
        stored = load(index)
        if stored is not None:
            return stored
        picked = np.minimum(np.arange(index * tile, (index + 1) * tile), total - 1)
        part = jax.tree.map(lambda x: x[picked], lanes)
        result = jax.tree.map(lambda x: x[: min(tile, total - index * tile)], _fitting(function, part))
        save(index, result)
        return result

    own = executor is None
    if executor is None:
        if threads is None:
            alone = jax.default_backend() == "cpu" and len(jax.local_devices()) == 1
            threads = (os.cpu_count() or 1) if alone else 1
        executor = concurrent.futures.ThreadPoolExecutor(max_workers=threads)
    bar = progress_bar(total, label, progress)
    try:
        results: list[Any] = []
        futures = [executor.submit(run, index) for index in range(tiles)]
        for index, future in enumerate(futures):
            results.append(future.result())
            bar.set_postfix_str(f"tile {index + 1}/{tiles}", refresh=False)
            bar.update(min(tile, total - index * tile))
    finally:
        bar.close()
        if own:
            executor.shutdown(wait=True, cancel_futures=True)
    return jax.tree.map(lambda *parts: np.concatenate(parts), *results)


def _fitting(function: Callable[[PyTree], PyTree], part: PyTree) -> PyTree:
    """function(part) as NumPy arrays; of its halves, one after the other, if the device's memory is too small."""
    size = jax.tree.leaves(part)[0].shape[0]
    try:
        return jax.tree.map(np.asarray, function(part))
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error) or size == 1:
            raise
    half = size // 2
    pieces = [_fitting(function, jax.tree.map(lambda x, s=s: x[s], part)) for s in (slice(half), slice(half, size))]
    return jax.tree.map(lambda *some: np.concatenate(some), *pieces)
