"""Fermions and spins as sparse matrices, and the quantum numbers of their basis states."""

import functools
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import numpy as np
import scipy.sparse as sp

Sparse = sp.csr_array

PAULI: Final = np.array([[[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]])


class Space(NamedTuple):
    """A basis of product states: `spins` spins 1/2 (up first), then `modes` fermion modes (empty first), up and down in
    turn."""

    spins: int
    modes: int

    @property
    def dimension(self) -> int:
        """Of the Hilbert space."""
        return 2 ** (self.spins + self.modes)

    @property
    def particles(self) -> np.ndarray:
        """The number of fermions in each basis state, shape (dimension,)."""
        return np.tile(_bits(self.modes).sum(axis=1), 2**self.spins)

    @property
    def twice_sz(self) -> np.ndarray:
        """2 S_z of each basis state, spins and fermions together, shape (dimension,)."""
        fermions = _bits(self.modes) @ np.where(np.arange(self.modes) % 2 == 0, 1, -1)
        spins = self.spins - 2 * _bits(self.spins).sum(axis=1)
        return (spins[:, None] + fermions[None, :]).ravel()


def _bits(count: int) -> np.ndarray:
    """The binary digits of 0 ... 2^count - 1, the most significant first; shape (2^count, count)."""
    return (np.arange(2**count)[:, None] >> np.arange(count - 1, -1, -1)[None, :]) & 1


@functools.lru_cache(maxsize=256)
def annihilator(space: Space, mode: int) -> Sparse:
    """c of a mode: Jordan-Wigner, with the signs of the modes before it. Real, shape (dimension, dimension)."""
    parity, lower = np.diag([1.0, -1.0]), np.array([[0.0, 1.0], [0.0, 0.0]])
    return _product([np.eye(2)] * space.spins + [parity] * mode + [lower] + [np.eye(2)] * (space.modes - mode - 1))


@functools.lru_cache(maxsize=256)
def spin(space: Space, which: int, axis: int) -> Sparse:
    """S_x, S_y or S_z (axis 0, 1, 2) of a spin 1/2."""
    factors = [np.eye(2)] * (space.spins + space.modes)
    factors[which] = 0.5 * PAULI[axis]
    return total([_product(factors)])


@functools.lru_cache(maxsize=256)
def fermion_spin(space: Space, up: int, axis: int) -> Sparse:
    """s = 1/2 c+ sigma c of the modes `up` and `up + 1`."""
    c = [annihilator(space, up), annihilator(space, up + 1)]
    weights = 0.5 * PAULI[axis]
    return total(weights[a, b] * (c[a].T @ c[b]) for a in range(2) for b in range(2) if weights[a, b] != 0)


@functools.lru_cache(maxsize=256)
def density(space: Space, up: int) -> Sparse:
    """n = c+ c of the modes `up` and `up + 1` together."""
    return total(annihilator(space, mode).T @ annihilator(space, mode) for mode in (up, up + 1))


@functools.lru_cache(maxsize=256)
def double_occupation(space: Space, up: int) -> Sparse:
    """n_up n_down of the modes `up` and `up + 1`."""
    a, b = (annihilator(space, mode).T @ annihilator(space, mode) for mode in (up, up + 1))
    return total([a @ b])


def identity(space: Space) -> Sparse:
    """1."""
    return Sparse(sp.eye_array(space.dimension))


def total(operators: Iterable[Any]) -> Sparse:
    """The sum of sparse matrices without stored zeros, real if it can be."""
    result = Sparse(functools.reduce(lambda a, b: a + b, operators))
    if np.iscomplexobj(result.data) and not np.imag(result.data).any():
        result = Sparse(result.real)
    result.eliminate_zeros()
    return result


def _product(factors: list[np.ndarray]) -> Sparse:
    return total([functools.reduce(lambda a, b: sp.kron(a, b, format="csr"), factors, sp.eye_array(1))])
