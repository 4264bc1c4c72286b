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

    def product(self, values: Float[Array, "width rows *batch"], x: Float[Array, "rows *batch"]) -> Array:
        """M x, for the entries from `values`."""
        result = jnp.zeros_like(x)
        for columns, entries in zip(self.columns, values, strict=True):
            result = result + entries * x[columns]
        return result
