"""A Lindbladian as parameters times fixed sparse maps, restricted to the part of the density matrix that it reaches.

    d rho/dt = sum_p theta_p G_p(rho),   G_p(rho) = sum_k w_k A_k rho B_k^+.

Charges that every operator changes by a fixed amount (particle number, S_z) cut rho into blocks. Only blocks that the
initial state occupies and their images are kept, and of two that are each other's adjoint only one. A block is stored
by its real and imaginary parts: the state is one real vector, and each G_p one real sparse matrix.
"""

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from .fermions import Space, Sparse, identity, total

Pair = tuple[int, int]


class Map(NamedTuple):
    """rho -> weight * left @ rho @ right^+."""

    weight: complex | float
    left: Sparse
    right: Sparse


@dataclass(frozen=True, eq=False)
class Generator:
    """The fixed part of a Lindbladian; compared by identity, since models of the same layout share one.

    - `space`: the Hilbert space.
    - `hamiltonian`: Hermitian operators O_p, one for each of the first parameters: G_p = -i [O_p, rho].
    - `jumps`: for each further parameter triples (w, A, B): G_p = sum of w (A rho B^+ - {B^+ A, rho}/2).
    """

    space: Space
    hamiltonian: tuple[Sparse, ...]
    jumps: tuple[tuple[tuple[complex | float, Sparse, Sparse], ...], ...]

    @property
    def parameters(self) -> int:
        """How many there are."""
        return len(self.hamiltonian) + len(self.jumps)

    def maps(self, parameter: int) -> list[Map]:
        """G_p as maps of rho."""
        one = identity(self.space)
        if parameter < len(self.hamiltonian):
            operator = self.hamiltonian[parameter]
            return [Map(-1j, operator, one), Map(1j, one, operator)]
        result = []
        for weight, a, b in self.jumps[parameter - len(self.hamiltonian)]:
            result.append(Map(weight, a, b))
            result.append(Map(-0.5 * weight, total([b.conj().T @ a]), one))
            result.append(Map(-0.5 * weight, one, total([a.conj().T @ b])))
        return result

    def decay(self, parameter: int) -> Sparse:
        """sum w B^+ A of a jump parameter: the loss of norm without jumps."""
        return total(w * (b.conj().T @ a) for w, a, b in self.jumps[parameter - len(self.hamiltonian)])

    def adjoint(self, parameter: int, operator: Sparse) -> Sparse:
        """G_p^+(X): the operator whose mean is the rate of change of <X> for theta_p = 1."""
        return total(np.conj(m.weight) * (m.left.conj().T @ operator @ m.right) for m in self.maps(parameter))


class Triplets(NamedTuple):
    """Entries of real matrices M_p: M_p[row, column] += factor for p = parameter."""

    row: np.ndarray
    column: np.ndarray
    parameter: np.ndarray
    factor: np.ndarray

    def of(self, parameters: tuple[int, ...]) -> "Triplets":
        """Those of some parameters only."""
        chosen = np.isin(self.parameter, parameters)
        return Triplets(*(x[chosen] for x in self))


class Block(NamedTuple):
    """Where the entries of one block of rho stand in the real vector: rho[k, l] = x[real] + i sign x[imaginary]."""

    real: np.ndarray
    imaginary: np.ndarray
    sign: np.ndarray

    def adjoint(self) -> "Block":
        """The block on the other side of the diagonal."""
        return Block(self.real.T, self.imaginary.T, -self.sign.T)


@dataclass(frozen=True, eq=False)
class Reached:
    """The real vector of what a Lindbladian reaches, and its matrices; compared by identity.

    - `generator`: what it comes from. `size`: of the real vector.
    - `triplets`: the matrices of all parameters.
    - `state_row`, `state_column`: the entry of rho behind each element of the vector, shape (size,), row <= column in
      the order of blocks. `state_imaginary`: whether the element is its imaginary part.
    """

    generator: Generator
    size: int
    triplets: Triplets
    state_row: np.ndarray
    state_column: np.ndarray
    state_imaginary: np.ndarray

    @property
    def populations(self) -> np.ndarray:
        """Which elements of the vector are populations, the diagonal of rho; shape (size,)."""
        return (self.state_row == self.state_column) & ~self.state_imaginary


@functools.lru_cache(maxsize=64)
def sectors(generator: Generator) -> tuple[np.ndarray, ...]:
    """The basis states of equal charges: particle number and S_z, as far as every operator changes them by a fixed
    amount."""
    space = generator.space
    operators = [*generator.hamiltonian, *(x for jump in generator.jumps for _, a, b in jump for x in (a, b))]

    def is_definite(charge: np.ndarray) -> bool:
        changes = [charge[op.tocoo().row] - charge[op.tocoo().col] for op in operators if op.nnz]
        return all((change == change[0]).all() for change in changes)

    charges = [charge for charge in (space.particles, space.twice_sz) if is_definite(charge)]
    keys = np.stack([*charges, np.zeros(space.dimension, int)], axis=1)
    _, inverse = np.unique(keys, axis=0, return_inverse=True)
    inverse = inverse.reshape(-1)
    return tuple(np.flatnonzero(inverse == i) for i in range(inverse.max() + 1))


def occupied_pairs(generator: Generator, rho: np.ndarray) -> frozenset[Pair]:
    """The blocks in which a density matrix is not zero, up to rounding."""
    parts, nonzero = sectors(generator), np.abs(rho) > 10.0 * np.finfo(rho.dtype).eps
    return frozenset(
        (a, b) for a in range(len(parts)) for b in range(a, len(parts)) if nonzero[np.ix_(parts[a], parts[b])].any()
    )


def diagonal_pairs(generator: Generator) -> frozenset[Pair]:
    """The blocks without coherence between different charges."""
    return frozenset((a, a) for a in range(len(sectors(generator))))


def all_pairs(generator: Generator) -> frozenset[Pair]:
    """Every block without coherence between particle numbers: for a state whose entries are not known."""
    parts, particles = sectors(generator), generator.space.particles
    first = [particles[part[0]] for part in parts]
    return frozenset((a, b) for a in range(len(parts)) for b in range(a, len(parts)) if first[a] == first[b])


class Transitions:
    """Where operators take each sector, and by what matrix."""

    def __init__(self, generator: Generator):
        self.parts = sectors(generator)
        self.label = np.empty(generator.space.dimension, int)
        self.position = np.empty(generator.space.dimension, int)
        for i, part in enumerate(self.parts):
            self.label[part] = i
            self.position[part] = np.arange(len(part))
        self._known: dict[tuple[int, int], tuple[int, sp.coo_array] | None] = {}

    def image(self, operator: Sparse, sector: int) -> tuple[int, sp.coo_array] | None:
        """(target sector, matrix from the sector to it), or None if the operator annihilates the sector."""
        key = (id(operator), sector)
        if key not in self._known:
            columns = sp.coo_array(operator[:, self.parts[sector]])
            if columns.nnz == 0:
                self._known[key] = None
            else:
                target = int(self.label[columns.row[0]])
                shape = (len(self.parts[target]), len(self.parts[sector]))
                matrix = sp.coo_array((columns.data, (self.position[columns.row], columns.col)), shape=shape)
                self._known[key] = target, matrix
        return self._known[key]


@functools.lru_cache(maxsize=32)
def _links(generator: Generator, start: frozenset[Pair]) -> tuple[list[Pair], list[Any], Transitions]:
    """Every block reached from the blocks `start`, and what leads from which to which."""
    moves = Transitions(generator)
    maps = [(p, m) for p in range(generator.parameters) for m in generator.maps(p)]
    reached, queue, links = set(start), sorted(start), []
    while queue:
        a, b = queue.pop()
        for source in {(a, b), (b, a)}:
            for p, m in maps:
                left, right = moves.image(m.left, source[0]), moves.image(m.right, source[1])
                if left is None or right is None or left[0] > right[0]:
                    continue
                target = (left[0], right[0])
                links.append((p, m.weight, source, target, left[1], right[1]))
                if target not in reached:
                    reached.add(target)
                    queue.append(target)
    return sorted(reached), links, moves


def reached_size(generator: Generator, start: frozenset[Pair]) -> int:
    """How many real numbers the state needs, before anything of that size is built."""
    pairs, _, moves = _links(generator, start)
    sizes = [len(part) for part in moves.parts]
    return sum(sizes[a] * sizes[b] * (1 if a == b else 2) for a, b in pairs)


@functools.lru_cache(maxsize=32)
def reach(generator: Generator, start: frozenset[Pair]) -> Reached:
    """The Lindbladian on every block that it reaches from the blocks `start`."""
    reached, links, moves = _links(generator, start)
    blocks: dict[Pair, Block] = {}
    rows, columns, imaginary, size = [], [], [], 0
    for a, b in reached:
        block, size = _place(len(moves.parts[a]), len(moves.parts[b]), a == b, size)
        blocks[a, b] = block
        if a != b:
            blocks[b, a] = block.adjoint()
        stored = block.sign >= 0 if a == b else np.ones_like(block.sign, bool)
        for of, which in ((stored, False), ((block.sign > 0), True)):
            k, m = np.nonzero(of)
            index = (block.imaginary if which else block.real)[k, m]
            order = np.argsort(index)
            rows.append(moves.parts[a][k[order]])
            columns.append(moves.parts[b][m[order]])
            imaginary.append(np.full(len(order), which))

    parts = [_entries(blocks, *link) for link in links]
    triplets = Triplets(*(np.concatenate(x) for x in zip(*parts, strict=True)))
    return Reached(generator, size, triplets, *(np.concatenate(x) for x in (rows, columns, imaginary)))


def _place(height: int, width: int, diagonal: bool, offset: int) -> tuple[Block, int]:
    """Give the entries of a block their places in the real vector, from `offset` on; returns the next free place."""
    if not diagonal:
        real = offset + np.arange(height * width).reshape(height, width)
        return Block(real, real + real.size, np.ones_like(real)), offset + 2 * real.size
    upper = np.triu_indices(height)
    strict = np.triu_indices(height, 1)
    real, imaginary, sign = (np.zeros((height, height), int) for _ in range(3))
    real[upper] = offset + np.arange(len(upper[0]))
    real.T[upper] = real[upper]
    offset += len(upper[0])
    imaginary[strict] = offset + np.arange(len(strict[0]))
    imaginary.T[strict] = imaginary[strict]
    sign[strict] = 1
    sign.T[strict] = -1
    return Block(real, imaginary, sign), offset + len(strict[0])


def _entries(
    blocks: dict[Pair, Block],
    parameter: int,
    weight: complex | float,
    source: Pair,
    target: Pair,
    left: sp.coo_array,
    right: sp.coo_array,
) -> Triplets:
    """rho'[i, j] = weight left[i, k] rho[k, m] conj(right[j, m]) as entries of a real matrix."""
    i, k, j, m = (x.ravel() for x in np.broadcast_arrays(
        left.row[:, None], left.col[:, None], right.row[None, :], right.col[None, :]
    ))  # fmt: skip
    c = (weight * left.data[:, None] * right.data.conj()[None, :]).ravel()
    if target[0] == target[1]:
        stored = i <= j
        i, k, j, m, c = (x[stored] for x in (i, k, j, m, c))
    here, there = blocks[source], blocks[target]
    real, imaginary, sign = (x[k, m] for x in here)
    to_real, to_imaginary, to_sign = (x[i, j] for x in there)
    row = np.concatenate([to_real, to_real, to_imaginary, to_imaginary])
    column = np.concatenate([real, imaginary, real, imaginary])
    factor = np.concatenate([np.real(c), -np.imag(c) * sign, np.imag(c), np.real(c) * sign])
    factor[2 * len(c) :] *= np.tile(to_sign != 0, 2)
    kept = factor != 0
    return Triplets(row[kept], column[kept], np.full(kept.sum(), parameter), factor[kept])
