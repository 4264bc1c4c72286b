"""Which spins of a lattice act on which: their mean, seen from every site."""

import abc
import itertools
import math
from collections.abc import Sequence
from typing import Any, Final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._numerics.validation import Numbers, float_array
from .shifted_sums import Bonds, Cells, Ends, beside_its_shifts, shifted_sum

Rows = tuple[tuple[float, ...], ...]

# Distances that differ by less, relatively, are one shell.
SAME_DISTANCE: Final = 1e-6
# A box no wider than this along any axis is summed over two axes at once, where a lattice has no more cells than that.
SMALL_BOX: Final = 3
MANY_CELLS: Final = 40_000
# XLA leaves a sum of its own to one core up to here: the larger one then comes last, within what all cores share.
FEW_CELLS: Final = 5_000


class AbstractNeighbours(eqx.Module):
    """s_ab,i = sum_k v_ab,k S_b,i+k: the mean spin of layer b around a site i of layer a, with sum_k v_ab,k = 1.

    There is one spin of each layer in every cell of X x Y x Z.
    """

    @property
    def are_alike(self) -> bool:
        """Whether s_ab is the same for every a."""
        return True

    @abc.abstractmethod
    def mean(self, spins: Float[Array, "X Y Z"], a: int, b: int) -> Float[Array, "x y z"]:
        """One component of s_ab, given that of the spins of layer b; x = y = z = 1 where all sites see the same."""

    def beside(self, spins: Float[Array, "X Y Z"], a: int) -> Float[Array, "X Y Z"]:
        """One component of the spins of layer a as they are, from where `mean` reads them: less goes through memory."""
        del a
        return spins

    @abc.abstractmethod
    def own_share(self, cells: Cells) -> Any:
        """v_aa,0: the share of a spin in the mean that it sees itself. It exerts no torque on itself."""

    def sizes(self, a: int, b: int, cells: Cells) -> tuple[Any, Any]:
        """sum_k |v_ab,k| and sum_k v_ab,k^2, the greatest of all sites: how strong a mean can be, and how far from
        that of infinitely many, of which the second is 0. Here those of a single neighbour, which ask for the shortest
        steps."""
        del a, b, cells
        return 1.0, 1.0

    def check(self, layers: int, cells: Cells) -> None:
        """Raise `ValueError` if these neighbours do not fit a lattice."""
        del layers, cells


class AllToAll(AbstractNeighbours):
    """Every spin sees the mean of all of layer b, itself included: the mean field of the layers."""

    def mean(self, spins: Float[Array, "X Y Z"], a: int, b: int) -> Float[Array, "x y z"]:
        """The same at all sites."""
        del a, b
        return jnp.mean(spins, keepdims=True)

    def own_share(self, cells: Cells) -> float:
        """One over the number of cells."""
        return 1.0 / math.prod(cells)

    def sizes(self, a: int, b: int, cells: Cells) -> tuple[float, float]:
        """1, and one over the number of cells."""
        del a, b
        return 1.0, self.own_share(cells)


class Box(AbstractNeighbours):
    """Every spin sees the mean of layer b over the cells at most `reach` away along each axis, its own included.

    **Arguments** `reach`: in cells. `periodic`: along each axis; beyond an open end there are no spins.
    """

    reach: int = eqx.field(static=True)
    periodic: Ends = eqx.field(static=True, default=(True, True, True))

    def mean(self, spins: Float[Array, "X Y Z"], a: int, b: int) -> Float[Array, "x y z"]:
        """Means along one axis after the other."""
        del a, b
        around = range(-self.reach, self.reach + 1)
        return _mean_of_box(spins, [around if n > 1 else (0,) for n in spins.shape], self.periodic)

    def own_share(self, cells: Cells) -> float:
        """One over the number of cells in the box."""
        return 1.0 / math.prod(2 * self.reach + 1 if n > 1 else 1 for n in cells)

    def sizes(self, a: int, b: int, cells: Cells) -> tuple[float, float]:
        """1, and one over the number of cells in the box."""
        del a, b
        return 1.0, self.own_share(cells)

    def check(self, layers: int, cells: Cells) -> None:
        """Raise `ValueError` if a box would hold a cell twice."""
        del layers
        width = 2 * self.reach + 1
        for n, periodic in zip(cells, self.periodic, strict=True):
            if n > 1 and periodic and width > n:
                raise ValueError(
                    f"reach = {self.reach} and {n} cells along an axis: a box of {width} would hold some "
                    "twice. Take more cells, a smaller reach, or reach='all'."
                )


class Shells(AbstractNeighbours):
    """Every spin sees the nearest shells of layer b on a Bravais lattice with a basis.

    **Arguments**

    - `vectors`: primitive vectors as rows, shape (3, 3). Default: simple cubic.
    - `basis`: where each layer's spin lies in a cell, in units of the vectors, shape (L, 3). Default: along the
      diagonal, a/L of it for layer a: simple cubic for one layer, CsCl for two.
    - `weights`: of the first shell, the second and so on, for every pair of layers alike; scaled so that
      sum_k v_ab,k = 1 over a whole neighbourhood. Default: (1,), the nearest neighbours.
    - `layers`: L, where `basis` is left out.
    - `periodic`: along each axis; beyond an open end there are no spins.

    Along an axis of one cell there are no neighbours.
    """

    vectors: Rows = eqx.field(static=True)
    basis: Rows = eqx.field(static=True)
    weights: tuple[float, ...] = eqx.field(static=True)
    periodic: Ends = eqx.field(static=True)

    def __init__(
        self,
        layers: int | None = None,
        vectors: Numbers | None = None,
        basis: Numbers | None = None,
        weights: tuple[float, ...] = (1.0,),
        periodic: Ends = (True, True, True),
    ):
        if basis is None:
            if layers is None:
                raise ValueError("basis and layers are missing: give the places of the layers, or how many there are.")
            basis = np.arange(layers)[:, None] / layers * np.ones(3)
        self.vectors, self.basis = _rows("vectors", np.eye(3) if vectors is None else vectors), _rows("basis", basis)
        self.weights, self.periodic = tuple(map(float, weights)), periodic
        if len(self.vectors) != 3 or abs(np.linalg.det(np.array(self.vectors))) < 1e-12:
            raise ValueError(f"vectors = {self.vectors} do not span the space. Give three that do.")
        if not self.weights or not np.isfinite(self.weights).all() or self.weights[-1] == 0:
            raise ValueError(f"weights = {weights}: give one finite number for each shell, the last not 0.")

    def bonds(self, a: int, b: int, cells: Cells) -> list[tuple[Cells, float]]:
        """[(cells away, v_ab)] of the neighbours in layer b of a site in layer a."""
        reach = range(-len(self.weights) - 1, len(self.weights) + 2)
        steps = np.array(list(itertools.product(*(reach if n > 1 else (0,) for n in cells))))
        basis = np.array(self.basis)
        distance = np.linalg.norm((steps + basis[b] - basis[a]) @ np.array(self.vectors), axis=1)
        found = []
        for weight, (low, high) in zip(self.weights, _shells(distance, len(self.weights)), strict=False):
            for x, y, z in steps[(distance >= low) & (distance <= high)].tolist():
                found.append(((x, y, z), weight))
        total = sum(weight for _, weight in found)
        return [(step, weight / total) for step, weight in found]

    @property
    def are_alike(self) -> bool:
        """False: the layers lie at different places."""
        return False

    def mean(self, spins: Float[Array, "X Y Z"], a: int, b: int) -> Float[Array, "x y z"]:
        """A sum over bonds."""
        x, y, z = spins.shape
        bonds = self.bonds(a, b, (x, y, z))
        if _is_box(bonds):
            return _mean_of_box(spins, _along(bonds), self.periodic)
        return shifted_sum(spins, bonds, self.periodic)

    def beside(self, spins: Float[Array, "X Y Z"], a: int) -> Float[Array, "X Y Z"]:
        """A part of what the sum over bonds within the layer is made of, where there is one."""
        x, y, z = spins.shape
        bonds = self.bonds(a, a, (x, y, z))
        return spins if not bonds or _is_box(bonds) else beside_its_shifts(spins, bonds, self.periodic)

    def own_share(self, cells: Cells) -> float:
        """0."""
        del cells
        return 0.0

    def sizes(self, a: int, b: int, cells: Cells) -> tuple[float, float]:
        """Of a site in the bulk."""
        weights = [weight for _, weight in self.bonds(a, b, cells)]
        return sum(map(abs, weights)), sum(weight * weight for weight in weights)

    def check(self, layers: int, cells: Cells) -> None:
        """Raise `ValueError` if the basis is that of another number of layers, or a layer has no neighbours."""
        if len(self.basis) != layers:
            raise ValueError(f"basis has {len(self.basis)} places, and the magnet {layers} layers: give one for each.")
        if max(cells) == 1:
            raise ValueError("a lattice of one cell has no neighbours. Take more cells, or reach='all'.")


class Matrix(AbstractNeighbours):
    """Every spin sees what a matrix says: s_ab,i = sum_j v_ij S_b,j, the same v for all pairs of layers.

    **Arguments** `values`: v, shape (cells, cells), cells counted along z first, then y, then x; an array, or a sparse
    `jax.experimental.sparse.BCOO`. Rows need not sum to 1.
    """

    values: Any

    def __init__(self, values: Any):
        self.values = values if _is_sparse(values) else float_array("values", values)

    def mean(self, spins: Float[Array, "X Y Z"], a: int, b: int) -> Float[Array, "x y z"]:
        """A product with the matrix."""
        del a, b
        with jax.default_matmul_precision("highest"):
            return (self.values @ spins.reshape(-1)).reshape(spins.shape)

    def own_share(self, cells: Cells) -> Any:
        """The diagonal."""
        if not _is_sparse(self.values):
            return jnp.diagonal(self.values).reshape(cells)
        on = self.values.indices[:, 0] == self.values.indices[:, 1]
        empty = jnp.zeros(math.prod(cells), self.values.dtype)
        return empty.at[self.values.indices[:, 0]].add(jnp.where(on, self.values.data, 0.0)).reshape(cells)

    def sizes(self, a: int, b: int, cells: Cells) -> tuple[Any, Any]:
        """Of the rows."""
        del a, b, cells
        if not _is_sparse(self.values):
            return jnp.max(jnp.sum(jnp.abs(self.values), axis=1)), jnp.max(jnp.sum(self.values**2, axis=1))
        empty = jnp.zeros(self.values.shape[0], self.values.dtype)
        rows = [empty.at[self.values.indices[:, 0]].add(x) for x in (jnp.abs(self.values.data), self.values.data**2)]
        return jnp.max(rows[0]), jnp.max(rows[1])

    def check(self, layers: int, cells: Cells) -> None:
        """Raise `ValueError` if it is of another size."""
        del layers
        size = math.prod(cells)
        if self.values.shape != (size, size):
            raise ValueError(f"values has shape {self.values.shape}: it must be ({size}, {size}), a row for each cell.")


def _along(bonds: Bonds) -> list[list[int]]:
    """How many cells away, along each axis."""
    return [sorted({step[axis] for step, _ in bonds}) for axis in range(3)]


def _is_box(bonds: Bonds) -> bool:
    """Whether these are all cells of a box, each with the same weight."""
    return len({weight for _, weight in bonds}) == 1 and math.prod(map(len, _along(bonds))) == len(bonds)


def _mean_of_box(x: Array, along: Sequence[Sequence[int]], periodic: Ends) -> Array:
    """The mean of x over a box, given by how many cells away along each axis."""
    for axes in _in_turn(x.size, list(map(len, along))):
        a, b, c = (steps if axis in axes else (0,) for axis, steps in enumerate(along))
        places = list(itertools.product(a, b, c))
        if places != [(0, 0, 0)]:
            x = shifted_sum(x, [(place, 1.0 / len(places)) for place in places], periodic)
    return x


def _in_turn(cells: int, widths: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """The axes along which a box is summed, those at once that need but one copy with a rim."""
    if min(widths) == 1 or max(widths) > SMALL_BOX or cells > MANY_CELLS:
        return (0,), (1,), (2,)
    return ((2,), (0, 1)) if cells <= FEW_CELLS else ((0, 1), (2,))


def _is_sparse(values: Any) -> bool:
    from jax.experimental import sparse  # takes a tenth of a second, which those without a matrix need not wait

    return isinstance(values, sparse.BCOO)


def _rows(name: str, values: Any) -> Rows:
    """Rows of three numbers, as tuples."""
    array = np.asarray(values, dtype=float)
    if array.ndim != 2 or array.shape[1] != 3 or not np.isfinite(array).all():
        raise ValueError(f"{name} = {array.tolist()}: give rows of three finite numbers.")
    return tuple(tuple(row) for row in array.tolist())


def _shells(distances: np.ndarray, number: int) -> list[tuple[float, float]]:
    """The least and the greatest distance of each of the first shells, a site itself left out."""
    shells: list[tuple[float, float]] = []
    for distance in np.sort(distances[distances > SAME_DISTANCE]):
        if not shells or distance > shells[-1][0] * (1.0 + SAME_DISTANCE):
            if len(shells) == number:
                break
            shells.append((float(distance), float(distance)))
    return [(low * (1.0 - SAME_DISTANCE), high * (1.0 + SAME_DISTANCE)) for low, high in shells]
