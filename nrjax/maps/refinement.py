"""Refined maps: solved in full where something changes, continued from their neighbours everywhere else.

A coarse grid is solved in full. A cell whose corners and middle show one and the same branch of states is filled by
Newton's method, from moments interpolated between its corners; any other cell is cut in halves along every axis and
looked at again, down to the points of the grid. So the cost grows with the length of the boundaries.
"""

import itertools
from collections.abc import Callable
from typing import Any, Final

import equinox as eqx
import jax
import numpy as np

from ..motion.phases import Phase
from ..rotation.rigid_states import SteadyState

# Points of the grid along the edge of a coarse cell.
COARSE: Final = 16
# How far, relative to the longest moment, the middle of a cell may lie from where its corners lead Newton's method.
SAME: Final = 1e-6

Solve = Callable[[np.ndarray], SteadyState]
Continue = Callable[[np.ndarray, SteadyState], SteadyState]


class Cells:
    """Boxes of a grid: the indices of their lowest and highest corners, both of shape (cells, dimensions)."""

    def __init__(self, low: np.ndarray, high: np.ndarray):
        self.low, self.high = low, high

    @classmethod
    def coarse(cls, shape: tuple[int, ...], size: int) -> "Cells":
        """All of a grid, `size` points wide, less at its ends; an axis of one point stays one."""
        knots = [np.unique(np.append(np.arange(0, n, size), n - 1)) for n in shape]
        pairs = [(k[:-1], k[1:]) if k.size > 1 else (k, k) for k in knots]
        low = np.stack(np.meshgrid(*(p[0] for p in pairs), indexing="ij"), axis=-1)
        high = np.stack(np.meshgrid(*(p[1] for p in pairs), indexing="ij"), axis=-1)
        return cls(low.reshape(-1, len(shape)), high.reshape(-1, len(shape)))

    def __len__(self) -> int:
        return len(self.low)

    def __getitem__(self, which: np.ndarray) -> "Cells":
        return Cells(self.low[which], self.high[which])

    @property
    def middle(self) -> np.ndarray:
        """The point in the middle, shape (cells, dimensions)."""
        return (self.low + self.high) // 2

    @property
    def corners(self) -> np.ndarray:
        """All corners, shape (cells, 2^dimensions, dimensions)."""
        sides = np.array(list(itertools.product((0, 1), repeat=self.low.shape[1])))
        return np.where(sides[None, :, :] == 1, self.high[:, None, :], self.low[:, None, :])

    @property
    def are_filled(self) -> np.ndarray:
        """Whether a cell holds points that are no corners."""
        return np.asarray(np.any(self.high - self.low > 1, axis=1))

    def halves(self) -> "Cells":
        """Every cell cut in two along every axis on which it holds a point."""
        low, high = self.low, self.high
        for axis in range(low.shape[1]):
            cut = (low[:, axis] + high[:, axis]) // 2
            divisible = high[:, axis] - low[:, axis] > 1
            first_high, second_low = high.copy(), low[divisible].copy()
            first_high[divisible, axis] = cut[divisible]
            second_low[:, axis] = cut[divisible]
            low, high = np.concatenate([low, second_low]), np.concatenate([first_high, high[divisible]])
        return Cells(low, high)

    def inner(self, points: int) -> tuple[np.ndarray, np.ndarray]:
        """The points of cells, corners and all, `points` wide at most, as (indices (n, dimensions), cell of each)."""
        offsets = np.array(list(itertools.product(range(points + 1), repeat=self.low.shape[1])))
        indices = self.low[:, None, :] + offsets[None, :, :]
        inside = (indices <= self.high[:, None, :]).all(axis=2)
        cell = np.broadcast_to(np.arange(len(self))[:, None], inside.shape)
        return indices[inside], cell[inside]


class Refinement:
    """States on a grid, filled in bit by bit.

    **Arguments** `shape`: of the grid. `solve`: the states of points, in full, given their flat indices. `extend`: the
    states of points, given their flat indices and states nearby. `report`: told how many points were added.
    """

    def __init__(self, shape: tuple[int, ...], solve: Solve, extend: Continue, report: Callable[[int], Any]):
        self.shape, self.solve, self.extend, self.report = shape, solve, extend, report
        total = int(np.prod(shape))
        self.known = np.zeros(total, bool)
        self.in_full = np.zeros(total, bool)
        self.lost = np.zeros(0, int)
        self.states: SteadyState | None = None

    def run(self, coarse: int) -> SteadyState:
        """The states of all points, in the order of the grid."""
        cells = Cells.coarse(self.shape, coarse)
        while len(cells):
            cells = self._look(cells)
        self._solve(np.zeros(0, int))
        assert self.states is not None and self.known.all()
        return self.states

    def _look(self, cells: Cells) -> Cells:
        """Solve corners and middles, fill the cells that are of one branch, and return what is left of the others."""
        corners, middle = self._flat(cells.corners), self._flat(cells.middle)
        self._solve(np.concatenate([corners.ravel(), middle]))
        filled = cells.are_filled
        cells, corners, middle = cells[filled], corners[filled], middle[filled]
        if not len(cells):
            return cells
        assert self.states is not None
        phase = np.asarray(self.states.phase)
        # As `is_rigid` has it, in NumPy: JAX would compile a program for it.
        rigid = np.asarray(self.states.valid) & (phase != Phase.MODULATED)
        looked_at = np.concatenate([corners, middle[:, None]], axis=1)
        of_one = rigid[looked_at].all(axis=1) & (phase[looked_at] == phase[middle][:, None]).all(axis=1)
        # Whether the corners lead to the state that the middle reaches by itself.
        candidates = np.flatnonzero(of_one)
        if candidates.size:
            seeds = self._between(cells[candidates], cells.middle[candidates], np.arange(candidates.size))
            found = self.extend(middle[candidates], seeds)
            of_one[candidates] = self._is_same(found, middle[candidates])
            self._fill(cells[of_one])
        return cells[~of_one].halves()

    def _fill(self, cells: Cells) -> None:
        """Continue what is not known in cells of one branch; what Newton's method loses is solved in full."""
        if not len(cells):
            return
        points, cell = cells.inner(int((cells.high - cells.low).max()))
        flat, first = np.unique(self._flat(points), return_index=True)
        unknown = ~self.known[flat]
        flat, points, cell = flat[unknown], points[first[unknown]], cell[first[unknown]]
        if not flat.size:
            return
        assert self.states is not None
        expected = np.asarray(self.states.phase)[self._flat(cells.middle)][cell]
        states = self.extend(flat, self._between(cells, points, cell))
        good = _continues(states, expected)
        self._keep(flat[good], jax.tree.map(lambda x: np.asarray(x)[good], states))
        # Few: together with the corners of the next cells.
        self.lost = np.concatenate([self.lost, flat[~good]])

    def _solve(self, flat: np.ndarray) -> None:
        """Solve points in full that are not known yet, and those that Newton's method has lost."""
        flat = np.unique(np.concatenate([flat, self.lost]))
        self.lost = self.lost[:0]
        flat = flat[~self.known[flat]]
        if flat.size:
            self._keep(flat, self.solve(flat))
            self.in_full[flat] = True

    def _keep(self, flat: np.ndarray, states: SteadyState) -> None:
        if self.states is None:
            total = self.known.size
            self.states = jax.tree.map(lambda x: np.zeros((total, *np.shape(x)[1:]), np.asarray(x).dtype), states)
        for all_points, some in zip(jax.tree.leaves(self.states), jax.tree.leaves(states), strict=True):
            all_points[flat] = some
        self.known[flat] = True
        self.report(flat.size)

    def _is_same(self, found: SteadyState, middle: np.ndarray) -> np.ndarray:
        assert self.states is not None
        lengths, reached = np.asarray(found.lengths), np.asarray(self.states.lengths)[middle]
        apart = np.abs(lengths - reached).max(axis=1)
        turned = np.abs(np.asarray(found.angle) - np.asarray(self.states.angle)[middle]) * reached.min(axis=1)
        near = np.maximum(apart, turned) <= SAME * reached.max(axis=1)
        return near & _continues(found, np.asarray(self.states.phase)[middle])

    def _between(self, cells: Cells, points: np.ndarray, cell: np.ndarray) -> SteadyState:
        """States with moments interpolated between the corners of the cell that each point lies in."""
        assert self.states is not None
        low, high = cells.low[cell], cells.high[cell]
        share = (points - low) / np.maximum(high - low, 1)
        m = np.asarray(self.states.m)
        corners = self._flat(cells.corners)[cell]
        sides = np.array(list(itertools.product((0, 1), repeat=low.shape[1])))
        between = np.zeros((len(points), *m.shape[1:]), m.dtype)
        for which, side in enumerate(sides):
            weight = np.where(side[None, :] == 1, share, 1.0 - share).prod(axis=1)
            between += weight[:, None, None] * m[corners[:, which]]
        seeds = jax.tree.map(lambda x: np.asarray(x)[corners[:, 0]], self.states)
        return eqx.tree_at(lambda state: state.m, seeds, between.astype(m.dtype))

    def _flat(self, indices: np.ndarray) -> np.ndarray:
        return np.asarray(np.ravel_multi_index(tuple(np.moveaxis(indices, -1, 0)), self.shape))


def _continues(found: SteadyState, phase: np.ndarray) -> np.ndarray:
    """Whether what Newton's method found is an attractor of the phase that it set out from."""
    return np.asarray(found.valid) & (np.asarray(found.phase) == phase)
