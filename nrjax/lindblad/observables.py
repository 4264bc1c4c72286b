"""What is read off a state: operators by name, and their means on the real vector of a density matrix."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .fermions import Sparse, density, double_occupation, fermion_spin, identity, total
from .generator import Generator, Reached
from .models import AbstractLindbladModel

# A mean is sum_terms theta[parameter] <operator>; without a parameter just <operator>.
Term = tuple[Sparse, int | None]


class Named(NamedTuple):
    """An observable: the shape of its value, and for each component (row-major) its terms."""

    shape: tuple[int, ...]
    components: list[list[Term]]


def _plain(operators: list[Sparse], shape: tuple[int, ...]) -> Named:
    return Named(shape, [[(operator, None)] for operator in operators])


def _impurity_spin(model: AbstractLindbladModel) -> Named:
    operators = [model.impurity_spin(a, axis) for a in range(model.impurities) for axis in range(3)]
    return _plain(operators, (model.impurities, 3))


def _site_spin(model: AbstractLindbladModel) -> Named:
    operators = [fermion_spin(model.space, mode, axis) for mode in model.site_modes for axis in range(3)]
    return _plain(operators, (len(model.site_modes), 3))


def _site_density(model: AbstractLindbladModel) -> Named:
    return _plain([density(model.space, mode) for mode in model.site_modes], (len(model.site_modes),))


def _impurity_density(model: AbstractLindbladModel) -> Named:
    modes = model.impurity_modes
    operators = (
        [identity(model.space)] * model.impurities if modes is None else [density(model.space, m) for m in modes]
    )
    return _plain(operators, (model.impurities,))


def _doublon(model: AbstractLindbladModel) -> Named:
    modes = model.impurity_modes
    if modes is None:
        raise ValueError("doublon: spins have no doublons. Ask it of an AndersonModel.")
    return _plain([double_occupation(model.space, mode) for mode in modes], (len(modes),))


def _singlet(model: AbstractLindbladModel) -> Named:
    """<(n_d - 2 D)(n_c - 2 D_c)/4 - S.s>: the weight of one-electron singlets of impurity and site."""
    if not model.has_band:
        raise ValueError("singlet: there is no band beside the spins. Ask for a matrix, or for impurity_spin.")
    operators = []
    for a, site in enumerate(model.sites):
        mode = model.site_modes[site]
        single = total([density(model.space, mode), -2.0 * double_occupation(model.space, mode)])
        if model.impurity_modes is not None:
            d = model.impurity_modes[a]
            single = total([single @ total([density(model.space, d), -2.0 * double_occupation(model.space, d)])])
        spins = [-1.0 * model.impurity_spin(a, axis) @ fermion_spin(model.space, mode, axis) for axis in range(3)]
        operators.append(total([0.25 * single, *spins]))
    return _plain(operators, (model.impurities,))


def _particles(model: AbstractLindbladModel) -> Named:
    return _plain([_all_electrons(model)], ())


def _all_electrons(model: AbstractLindbladModel) -> Sparse:
    """The number of electrons in all modes, those of a kept upper level included."""
    return total(density(model.space, mode) for mode in range(0, model.space.modes, 2))


def _trace(model: AbstractLindbladModel) -> Named:
    return _plain([identity(model.space)], ())


def _rate_of_change(model: AbstractLindbladModel, operator: Sparse, parameters: Sequence[int]) -> list[Term]:
    terms = [(model.generator.adjoint(p, operator), p) for p in parameters]
    return [(changed, p) for changed, p in terms if changed.nnz]


def _light_current(model: AbstractLindbladModel) -> Named:
    """Electrons lost to the light of each impurity in a unit of time."""
    losses = [_rate_of_change(model, total([-1.0 * _all_electrons(model)]), (p,)) for p in model.loss_indices]
    return Named((len(losses),), losses)


def _torque(model: AbstractLindbladModel, parameters: Sequence[int]) -> Named:
    components = [
        _rate_of_change(model, model.impurity_spin(a, axis), parameters)
        for a in range(model.impurities)
        for axis in range(3)
    ]
    return Named((model.impurities, 3), components)


def _coherent_torque(model: AbstractLindbladModel) -> Named:
    return _torque(model, range(len(model.generator.hamiltonian)))


def _light_torque(model: AbstractLindbladModel) -> Named:
    return _torque(model, model.loss_indices)


NAMED: Final[dict[str, Callable[[AbstractLindbladModel], Named]]] = {
    "impurity_spin": _impurity_spin,
    "site_spin": _site_spin,
    "impurity_density": _impurity_density,
    "site_density": _site_density,
    "doublon": _doublon,
    "singlet": _singlet,
    "light_current": _light_current,
    "coherent_torque": _coherent_torque,
    "light_torque": _light_torque,
    "particles": _particles,
    "trace": _trace,
}
DEFAULT: Final = ("impurity_spin", "site_spin", "site_density", "light_current", "trace", "purity")


class Components(NamedTuple):
    """How observables are put together: a component is the sum of theta[parameter] mean[operator] over its terms;
    parameter -1 stands for 1.

    `names` of the observables, with `shapes`; for each term its `component`, `operator` and `parameter`.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    component: np.ndarray
    operator: np.ndarray
    parameter: np.ndarray

    def assemble(self, means: Float[Array, "operators *batch"], theta: Float[Array, " parameters"]) -> dict[str, Array]:
        """The observables by name, from the means and the parameters of the same time."""
        known = jnp.concatenate([theta, jnp.ones((1,), theta.dtype)])[self.parameter]
        terms = known.reshape((-1,) + (1,) * (means.ndim - 1)) * means[self.operator]
        sizes = [math.prod(shape) for shape in self.shapes]
        flat = jax.ops.segment_sum(terms, self.component, sum(sizes))
        values, offset = {}, 0
        for name, shape, size in zip(self.names, self.shapes, sizes, strict=True):
            values[name] = flat[offset : offset + size].reshape((*shape, *means.shape[1:]))
            offset += size
        return values


@dataclass(frozen=True)
class Request:
    """What a compiled evolution is asked for; two with the same names on the same layout are equal, whatever the
    parameters of the model, so that a second call compiles nothing. Given matrices are compared by identity.

    `generator` and `start` (blocks or sectors that are occupied at first), the wanted observables, and a model of the
    layout.
    """

    generator: Generator
    start: frozenset[Any]
    wanted: tuple[tuple[str, int], ...]
    matrices: tuple[Any, ...] = field(compare=False)
    model: AbstractLindbladModel = field(compare=False)

    @classmethod
    def of(cls, model: AbstractLindbladModel, start: frozenset[Any], wanted: Mapping[str, Any]) -> "Request":
        """The request for observables by name (None) or matrix."""
        names = tuple((name, 0 if matrix is None else id(matrix)) for name, matrix in wanted.items())
        return cls(model.generator, start, names, tuple(wanted.values()), model)

    def components(self) -> tuple[Components, list[Sparse]]:
        """How the observables are put together, and their operators."""
        wanted = {name: matrix for (name, _), matrix in zip(self.wanted, self.matrices, strict=True)}
        return components(self.model, wanted)


def components(model: AbstractLindbladModel, wanted: Mapping[str, Any]) -> tuple[Components, list[Sparse]]:
    """How the wanted observables (None for a known name, or a matrix) are put together, and their operators."""
    names, shapes, terms = [], [], []
    operators: list[Sparse] = []
    component = 0
    for name, matrix in wanted.items():
        named = NAMED[name](model) if matrix is None else _plain([matrix], ())
        names.append(name)
        shapes.append(named.shape)
        for row in named.components:
            for operator, parameter in row:
                terms.append((component, len(operators), -1 if parameter is None else parameter))
                operators.append(operator)
            component += 1
    return Components(tuple(names), tuple(shapes), *np.asarray(terms, int).reshape(-1, 3).T), operators


class Readout(NamedTuple):
    """Means of operators on the real vector: mean[operator] = sum of weight x[entry], over `operators` of them."""

    operators: int
    operator: np.ndarray
    entry: np.ndarray
    weight: np.ndarray

    def means(self, x: Float[Array, "size *batch"]) -> Float[Array, "operators *batch"]:
        """Means of the operators."""
        weights = jnp.asarray(self.weight, x.dtype).reshape((-1,) + (1,) * (x.ndim - 1))
        return jax.ops.segment_sum(weights * x[self.entry], self.operator, self.operators)


def readout(reached: Reached, operators: list[Sparse]) -> Readout:
    """Where the operators find their means on what a Lindbladian reaches."""
    dimension = reached.generator.space.dimension
    codes = reached.state_row.astype(np.int64) * dimension + reached.state_column
    lookup = [_Lookup(codes, chosen) for chosen in (~reached.state_imaginary, reached.state_imaginary)]
    entries = [_entries(lookup, dimension, operator) for operator in operators]
    which = [np.full(len(index), o) for o, (index, _) in enumerate(entries)]
    return Readout(
        len(operators),
        np.concatenate([np.zeros(0, int), *which]),
        np.concatenate([np.zeros(0, int), *(index for index, _ in entries)]),
        np.concatenate([np.zeros(0), *(weight for _, weight in entries)]),
    )


def wanted_observables(
    model: AbstractLindbladModel, observables: Sequence[str] | Mapping[str, Any]
) -> tuple[dict[str, Any], bool]:
    """Known names (with None) and given matrices; and whether the purity is asked for.

    **Raises** `ValueError` for an unknown name, or a matrix of the wrong shape or not Hermitian.
    """
    if isinstance(observables, str):
        observables = (observables,)
    chosen = dict(observables) if isinstance(observables, Mapping) else dict.fromkeys(observables)
    n = model.space.dimension
    for name, matrix in chosen.items():
        if matrix is None:
            if name not in NAMED and name != "purity":
                raise ValueError(
                    f"unknown observable {name!r}. Known: {', '.join((*NAMED, 'purity'))}; or give a matrix."
                )
            continue
        sparse = Sparse(matrix)
        if sparse.shape != (n, n):
            raise ValueError(f"observable {name!r} has shape {sparse.shape}: it must be ({n}, {n}).")
        if abs(sparse - sparse.conj().T).max() > 1e-9 * max(abs(sparse).max(), 1e-300):
            raise ValueError(
                f"observable {name!r} is not Hermitian: take its Hermitian and anti-Hermitian parts apart."
            )
        chosen[name] = sparse
    purity = "purity" in chosen and chosen.pop("purity") is None
    return chosen, purity


class _Lookup:
    """Where entries of rho stand in the real vector."""

    def __init__(self, codes: np.ndarray, chosen: np.ndarray):
        places = np.flatnonzero(chosen)
        order = np.argsort(codes[places])
        self.codes, self.places = codes[places][order], places[order]

    def find(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(found, place) for each code."""
        if len(self.codes) == 0:
            return np.zeros(len(codes), bool), np.zeros(len(codes), int)
        at = np.minimum(np.searchsorted(self.codes, codes), len(self.codes) - 1)
        return self.codes[at] == codes, self.places[at]


def _entries(lookup: list[_Lookup], dimension: int, operator: Sparse) -> tuple[np.ndarray, np.ndarray]:
    """Tr(O rho) = sum O_ji rho_ij as entries (index, weight) of the real vector, for a Hermitian O."""
    coo = operator.tocoo()
    i, j, value = coo.col.astype(np.int64), coo.row.astype(np.int64), coo.data
    codes = i * dimension + j
    found, place = lookup[0].find(codes)
    # A stored entry off the diagonal stands for itself and its complex conjugate.
    twice = np.where(i == j, 1.0, 2.0)
    index: list[Any] = [place[found]]
    weight: list[Any] = [(twice * np.real(value))[found]]
    if np.iscomplexobj(value):
        found, place = lookup[1].find(codes)
        index.append(place[found])
        weight.append((-2.0 * np.imag(value))[found])
    return np.concatenate(index), np.concatenate(weight)
