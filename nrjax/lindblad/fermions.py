"""Fermions and spins as sparse matrices, and the quantum numbers of their basis states."""

import functools
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

Sparse = sp.csr_array


class Space(NamedTuple):
    """A basis of product states: `spins` spin-1/2 (up first), then `modes` fermion modes (empty first).

    - `dimension`: of the Hilbert space.
    - `particles`: fermions in each basis state, shape (dimension,).
    - `twice_sz`: 2 S_z of each basis state, fermions in even modes counted as up, shape (dimension,).
    """

    spins: int
    modes: int

    @property
    def dimension(self) -> int:
        return 2 ** (self.spins + self.modes)

    @property
    def particles(self) -> np.ndarray:
        fermions = np.array([bin(i).count("1") for i in range(2**self.modes)])
        return np.tile(fermions, 2**self.spins)

    @property
    def twice_sz(self) -> np.ndarray:
        fermions = np.zeros(2**self.modes, int)
        for mode in range(self.modes):
            occupied = (np.arange(2**self.modes) >> (self.modes - 1 - mode)) & 1
            fermions += occupied * (1 if mode % 2 == 0 else -1)
        up = np.array([self.spins - 2 * bin(i).count("1") for i in range(2**self.spins)])
        return (up[:, None] + fermions[None, :]).ravel()


@functools.lru_cache(maxsize=256)
def annihilator(space: Space, mode: int) -> Sparse:
    """c of a mode: Jordan-Wigner, with the signs of the modes before it. Real, shape (dimension, dimension)."""
    parity, lower = np.diag([1.0, -1.0]), np.array([[0.0, 1.0], [0.0, 0.0]])
    factors = [np.eye(2)] * space.spins + [parity] * mode + [lower] + [np.eye(2)] * (space.modes - mode - 1)
    return _product(factors)


@functools.lru_cache(maxsize=256)
def spin_operator(space: Space, spin: int, axis: int) -> Sparse:
    """S_x, S_y or S_z (axis 0, 1, 2) of a spin 1/2; shape (dimension, dimension)."""
    factors = [np.eye(2)] * (space.spins + space.modes)
    return _product([*factors[:spin], 0.5 * PAULI[axis], *factors[spin + 1 :]])


def fermion_spin(space: Space, up: int, axis: int) -> Sparse:
    """s = 1/2 c+ sigma c of the modes `up` and `up + 1`."""
    c = [annihilator(space, up), annihilator(space, up + 1)]
    return 0.5 * total(
        PAULI[axis][a, b] * (c[a].T @ c[b]) for a in range(2) for b in range(2) if PAULI[axis][a, b] != 0
    )


def number(space: Space, mode: int) -> Sparse:
    """c+ c of a mode."""
    c = annihilator(space, mode)
    return Sparse(c.T @ c)


def identity(space: Space) -> Sparse:
    """1 of the whole space."""
    return Sparse(sp.eye_array(space.dimension))


PAULI = np.array([[[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]])


def total(operators) -> Sparse:
    """The sum of sparse matrices, without stored zeros."""
    result = functools.reduce(lambda a, b: a + b, operators)
    result = Sparse(result)
    if np.iscomplexobj(result.data) and not result.data.imag.any():
        result = result.real
    result.eliminate_zeros()
    return Sparse(result)


def _product(factors) -> Sparse:
    return Sparse(functools.reduce(lambda a, b: sp.kron(a, b, format="csr"), factors, sp.eye_array(1)))
