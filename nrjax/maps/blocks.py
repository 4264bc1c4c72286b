"""A grid of points cut into boxes, the tiles of a sweep."""

import dataclasses
import functools
import math

import numpy as np

# Ways to cut an axis that are tried.
CUTS = 64


@dataclasses.dataclass(frozen=True)
class Blocks:
    """A grid cut into boxes of equal edges, less at its ends, counted in the order of the grid.

    **Arguments** `axes`: name -> values. `edges`: points of a box along each axis.
    """

    axes: dict[str, np.ndarray]
    edges: tuple[int, ...]

    @classmethod
    def of(cls, axes: dict[str, np.ndarray], tile: int) -> "Blocks":
        """As few boxes as can be of at most `tile` points each."""
        return cls(axes, _best_edges(tuple(map(len, axes.values())), tile)[1])

    @property
    def shape(self) -> tuple[int, ...]:
        """Points along each axis."""
        return tuple(map(len, self.axes.values()))

    @property
    def points(self) -> int:
        """Points of the whole grid."""
        return math.prod(self.shape)

    @property
    def counts(self) -> tuple[int, ...]:
        """Boxes along each axis."""
        return tuple(-(-n // edge) for n, edge in zip(self.shape, self.edges, strict=True))

    def __len__(self) -> int:
        return math.prod(self.counts)

    def region(self, index: int) -> tuple[slice, ...]:
        """Where a box lies in arrays over the grid."""
        places = np.unravel_index(index, self.counts)
        return tuple(
            slice(int(i) * edge, min((int(i) + 1) * edge, n))
            for i, edge, n in zip(places, self.edges, self.shape, strict=True)
        )

    def extent(self, index: int) -> tuple[int, ...]:
        """The points of a box along each axis."""
        return tuple(part.stop - part.start for part in self.region(index))

    def lanes(self, index: int) -> dict[str, np.ndarray]:
        """The points of a box, one after the other: name -> values, each of shape (points,)."""
        parts = (values[part] for values, part in zip(self.axes.values(), self.region(index), strict=True))
        mesh = np.meshgrid(*parts, indexing="ij")
        return {name: values.reshape(-1) for name, values in zip(self.axes, mesh, strict=True)}


@functools.cache
def _best_edges(shape: tuple[int, ...], tile: int) -> tuple[int, tuple[int, ...]]:
    """The number of boxes, and their edges, that cut a grid into the fewest boxes of at most `tile` points."""
    *others, last = shape
    if not others:
        edge = min(last, tile)
        return -(-last // edge), (edge,)
    best: tuple[int, tuple[int, ...]] | None = None
    for edge in sorted({-(-last // cut) for cut in range(1, min(last, CUTS) + 1)} | {min(last, tile)}, reverse=True):
        if edge > tile:
            continue
        count, edges = _best_edges(tuple(others), tile // edge)
        total = count * -(-last // edge)
        if best is None or total < best[0]:
            best = total, (*edges, edge)
    assert best is not None
    return best
