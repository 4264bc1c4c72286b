"""A real sparse matrix that depends linearly on parameters, for repeated products with a vector."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .generator import Triplets


class ParametricMatrix(NamedTuple):
    """M(theta) = sum_p theta_p M_p with the same number of entries in every row, zeros included.

    Vectors may carry further axes behind the first, a batch: the layout in which a CPU multiplies fastest.

    - `columns`: of the entries, shape (width, rows).
    - `cell`, `parameter`, `factor`: entry number `cell` (of width x rows) is the sum of factor * theta[parameter].
    """

    columns: np.ndarray
    cell: np.ndarray
    parameter: np.ndarray
    factor: np.ndarray

    @classmethod
    def pack(cls, size: int, triplets: Triplets) -> "ParametricMatrix":
        """From triplets, with equal entries combined."""
        parameters = int(triplets.parameter.max(initial=0)) + 1
        keys = (triplets.row.astype(np.int64) * size + triplets.column) * parameters + triplets.parameter
        unique, inverse = np.unique(keys, return_inverse=True)
        factor = np.bincount(inverse.reshape(-1), weights=triplets.factor, minlength=len(unique))
        kept = np.abs(factor) > 1e-14
        unique, factor = unique[kept], factor[kept]
        places, parameter = unique // parameters, unique % parameters
        cells, cell = np.unique(places, return_inverse=True)
        row, column = cells // size, cells % size
        counts = np.bincount(row, minlength=size)
        position = np.arange(len(cells)) - np.repeat(np.cumsum(counts) - counts, counts)
        columns = np.zeros((int(counts.max(initial=0)), size), np.int32)
        columns[position, row] = column
        return cls(columns, (position * size + row)[cell.reshape(-1)], parameter, factor)

    def values(self, theta: Float[Array, " parameters"]) -> Float[Array, "width rows"]:
        """The entries for given parameters."""
        contributions = jnp.asarray(self.factor, theta.dtype) * theta[self.parameter]
        flat = jnp.zeros(self.columns.size, theta.dtype).at[self.cell].add(contributions)
        return flat.reshape(self.columns.shape)

    def sum_of_all(self) -> Float[np.ndarray, "width rows"]:
        """The entries for theta = 1 everywhere."""
        sums = np.bincount(self.cell, weights=self.factor, minlength=self.columns.size)
        return sums.astype(float).reshape(self.columns.shape)

    def product(self, values: Float[Array, "width rows #*batch"], x: Float[Array, "rows *batch"]) -> Array:
        """M x, for the entries from `values`, whose further axes may be 1 where those of x are a batch."""
        result = jnp.zeros_like(x)
        for columns, entries in zip(self.columns, values, strict=True):
            result = result + entries * x[columns]
        return result


class DrivenMatrix(NamedTuple):
    """M = fixed part + sum_l light_l M_l: the parameters that the laser decides kept apart from all others.

    A batch of laser settings then shares the entries of the fixed part, and light may change at every product.
    """

    fixed: ParametricMatrix
    light: tuple[ParametricMatrix, ...]

    @classmethod
    def pack(cls, size: int, triplets: Triplets, parameters: int, light: tuple[int, ...]) -> "DrivenMatrix":
        """From triplets over all parameters; `light` are the numbers of those that the laser decides."""
        others = tuple(p for p in range(parameters) if p not in light)
        return cls(
            ParametricMatrix.pack(size, triplets.of(others)),
            tuple(ParametricMatrix.pack(size, triplets.of((p,))) for p in light),
        )

    def values(self, theta: Float[Array, " parameters"]) -> Float[Array, "width rows"]:
        """The entries of the fixed part."""
        return self.fixed.values(theta)

    def product(
        self,
        values: Float[Array, "width rows #*batch"],
        light: Float[Array, "lights #*batch"],
        x: Float[Array, "rows *batch"],
    ) -> Array:
        """M x; arguments other than x may have axes of 1 where x has a batch."""
        result = self.fixed.product(values, x)
        for strength, matrix in zip(light, self.light, strict=True):
            entries = jnp.asarray(matrix.sum_of_all(), x.dtype)
            entries = entries.reshape(entries.shape + (1,) * (x.ndim - 1))
            result = result + strength[None] * matrix.product(entries, x)
        return result
