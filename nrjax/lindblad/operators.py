"""The operators that microscopic models are made of, in the order of their parameters."""

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from .fermions import PAULI, Space, annihilator, density, double_occupation, fermion_spin, spin, total
from .generator import Generator

Pairs = tuple[tuple[int, int], ...]


def all_pairs_of(sites: int) -> Pairs:
    """Every pair i <= j of that many sites."""
    return tuple(itertools.combinations_with_replacement(range(sites), 2))


def band(space: Space, modes: tuple[int, ...], complex_hopping: bool, pairs: Pairs | None = None) -> list[Any]:
    """c+_i c_j + h.c. for each pair i <= j (n_i on the diagonal), then i (c+_i c_j - h.c.); default all pairs."""

    def hop(i: int, j: int) -> Any:
        return total(annihilator(space, modes[i] + s).T @ annihilator(space, modes[j] + s) for s in range(2))

    pairs = all_pairs_of(len(modes)) if pairs is None else pairs
    operators = [hop(i, i) if i == j else total([hop(i, j), hop(j, i)]) for i, j in pairs]
    if complex_hopping:
        operators += [total([1j * hop(i, j), -1j * hop(j, i)]) for i, j in pairs if i < j]
    return operators


def hopping_parameters(hopping: Array, pairs: Pairs | None = None) -> Array:
    """The numbers before these operators: real parts of a Hermitian matrix's entries, then imaginary ones."""
    pairs = all_pairs_of(hopping.shape[0]) if pairs is None else pairs
    rows, columns = np.array(pairs).T
    real = jnp.real(hopping)[rows, columns]
    if not jnp.iscomplexobj(hopping):
        return real
    return jnp.concatenate([real, jnp.imag(hopping)[rows[rows < columns], columns[rows < columns]]])


def weighted_sum(weights: Float[Array, " operators"], operators: Sequence[Any]) -> Complex[Array, "n n"]:
    """sum_p weights_p O_p as a dense matrix."""
    result = jnp.zeros(operators[0].shape, jnp.result_type(complex))
    for weight, operator in zip(weights, operators, strict=True):
        result = result + weight.astype(result.dtype) * jnp.asarray(operator.toarray(), result.dtype)
    return result


def zeeman(space: Space, spins: list[Any], modes: Sequence[int]) -> list[Any]:
    """S + s along x, y and z, each spin of the list given by its three components."""
    return [
        total([*(s[axis] for s in spins), *(fermion_spin(space, mode, axis) for mode in modes)]) for axis in range(3)
    ]


def exchange_with_reservoir(space: Space, modes: tuple[int, ...], complex_hopping: bool) -> list[Any]:
    """Channels of electrons in and out for the independent parts of a Hermitian matrix of rates.

    In: R = G f(h) with sum_ij R_ij c+_i rho c_j; out: sum_ij R_ji c_i rho c+_j.
    """
    channels = []
    n = len(modes)
    for incoming in (True, False):

        def jump(i: int, j: int, weight: complex | float, incoming: bool = incoming) -> list[Any]:
            c = [[annihilator(space, modes[x] + s) for s in range(2)] for x in (i, j)]
            if incoming:
                return [(weight, total([c[0][s].T]), total([c[1][s].T])) for s in range(2)]
            return [(np.conj(weight), c[0][s], c[1][s]) for s in range(2)]

        pairs = list(itertools.combinations_with_replacement(range(n), 2))
        channels += [tuple(jump(i, i, 1.0) if i == j else jump(i, j, 1.0) + jump(j, i, 1.0)) for i, j in pairs]
        if complex_hopping:
            channels += [tuple(jump(i, j, 1j) + jump(j, i, -1j)) for i, j in pairs if i < j]
    return channels


@functools.lru_cache(maxsize=32)
def anderson_generator(
    sites: tuple[int, ...], length: int, complex_hopping: bool, field: bool, reservoir: bool, upper: bool
) -> Generator:
    """The fixed operators of an Anderson model on given sites, in the order of its parameters."""
    count = len(sites)
    width = 4 if upper else 2
    space = Space(0, width * count + 2 * length)
    d = [width * a for a in range(count)]
    modes = tuple(width * count + 2 * i for i in range(length))
    c = functools.partial(annihilator, space)

    def hop(first: int, second: int) -> Any:
        forth = [c(first + s).T @ c(second + s) for s in range(2)]
        return total([*forth, *(x.T for x in forth)])

    def emptied(a: int, s: int) -> Any:
        """d_as n_a,-s"""
        return total([c(d[a] + s) @ c(d[a] + 1 - s).T @ c(d[a] + 1 - s)])

    operators = band(space, modes, complex_hopping)
    operators += [density(space, d[a]) for a in range(count)]
    operators += [double_occupation(space, d[a]) for a in range(count)]
    operators += [hop(d[a], modes[sites[a]]) for a in range(count)]
    spins = [[fermion_spin(space, mode, axis) for axis in range(3)] for mode in d]
    if upper:
        operators += [density(space, d[a] + 2) for a in range(count)]
        excite = [[c(d[a] + 2 + s).T @ emptied(a, s) for s in range(2)] for a in range(count)]
        operators += [total([*x, *(y.T for y in x)]) for x in excite]
        spins += [[fermion_spin(space, mode + 2, axis) for axis in range(3)] for mode in d]
    if field:
        operators += zeeman(space, spins, modes)
    jumps: list[Any] = []
    for a in range(count):
        lost = [c(d[a] + 2 + s) if upper else emptied(a, s) for s in range(2)]
        jumps.append(tuple((1.0, x, x) for x in lost))
    if reservoir:
        jumps += exchange_with_reservoir(space, modes, complex_hopping)
    return Generator(space, tuple(operators), tuple(jumps))


@functools.lru_cache(maxsize=32)
def spin_fermion_generator(
    sites: tuple[int, ...], length: int, complex_hopping: bool, field: bool, reservoir: bool
) -> Generator:
    """The fixed operators of a spin-fermion model on given sites, in the order of its parameters."""
    count = len(sites)
    space = Space(count, 2 * length)
    modes = tuple(2 * i for i in range(length))

    def exchange(a: int) -> Any:
        """-S_a.(c+ sigma c)"""
        return total(-2.0 * spin(space, a, axis) @ fermion_spin(space, modes[sites[a]], axis) for axis in range(3))

    def lost(a: int, s: int) -> Any:
        """sum_s' (1/2 - S_a.sigma)_ss' c_s'"""
        c = [annihilator(space, modes[sites[a]] + t) for t in range(2)]
        terms = [0.5 * c[s]]
        for axis in range(3):
            for t in range(2):
                weight = PAULI[axis][s, t]
                if weight != 0:
                    terms.append(-weight * spin(space, a, axis) @ c[t])
        return total(terms)

    operators = band(space, modes, complex_hopping)
    operators += [exchange(a) for a in range(count)]
    operators += [density(space, modes[site]) for site in sites]
    if field:
        operators += zeeman(space, [[spin(space, a, axis) for axis in range(3)] for a in range(count)], modes)
    jumps: list[Any] = [tuple((1.0, x, x) for x in (lost(a, 0), lost(a, 1))) for a in range(count)]
    if reservoir:
        jumps += exchange_with_reservoir(space, modes, complex_hopping)
    return Generator(space, tuple(operators), tuple(jumps))
