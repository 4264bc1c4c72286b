"""What a sweep will cost, told before it begins."""

import dataclasses
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from .._numerics.validation import Numbers
from ..rotation.observables import OF_EVERY_STATE
from ..rotation.solvers import AbstractSteadyStateSolver
from .blocks import Blocks
from .computation import Computation, Observe, traced
from .sweeps import checked, default_tile


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of a sweep: its `points`, in so many `tiles` of `tile` points; bytes of its numbers, in `memory` at most, and on
    the `disk` before they are compressed (0 without a store)."""

    points: int
    tiles: int
    tile: int
    memory: int
    disk: int
    refined: bool

    def __str__(self) -> str:
        words = [
            f"{self.points} points in {self.tiles} tiles of {self.tile}" + (", refined" if self.refined else ""),
            f"about {_spoken(self.memory)} in memory",
        ]
        if self.disk:
            words.append(f"{_spoken(self.disk)} on the disk before compression")
        return "; ".join(words)


def foreseen(
    build: Callable[..., Any],
    axes: Mapping[str, Numbers],
    *,
    observe: Observe = OF_EVERY_STATE,
    solver: AbstractSteadyStateSolver | None = None,
    refine: bool = False,
    tile: int | None = None,
    store: str | os.PathLike[str] | None = None,
) -> Cost:
    """What `sweep` with the same arguments would cost. Nothing is compiled.

    **Raises** `ValueError` for what `sweep` refuses.
    """
    grid, observation, _ = checked(build, axes, observe, solver, refine, tile, store)
    total = math.prod(map(len, grid.values()))
    blocks = Blocks.of(grid, default_tile(total) if tile is None else tile)
    part = {name: jax.ShapeDtypeStruct((1,), values.dtype) for name, values in grid.items()}
    shapes = jax.eval_shape(traced(Computation(build, observation, "")), part)
    each = sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(shapes))
    held = math.prod(blocks.edges) * (os.cpu_count() or 1)
    is_zarr = store is not None and Path(store).suffix == ".zarr"
    # The observables and, while points are continued, twice the states that they are of.
    memory = each * (held if is_zarr and not refine else total) * (4 if refine else 1)
    axes_bytes = sum(np.asarray(values).nbytes for values in grid.values())
    disk = each * total + axes_bytes if store is not None else 0
    return Cost(total, len(blocks), math.prod(blocks.edges), memory, disk, refine)


def _spoken(size: int) -> str:
    power = min(max(len(str(size)) - 1, 0) // 3, 4)
    return f"{size / 1000**power:.3g} {('B', 'kB', 'MB', 'GB', 'TB')[power]}"
