"""Hermitian matrices: a check of the input, and functions by way of the spectrum."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .validation import Numbers, is_concrete


def hermitian(matrix: Numbers) -> Array:
    """A Hermitian hopping matrix as an array of numbers with a decimal point.

    **Raises** `ValueError` for another shape, NaN, or entries that are not each other's complex conjugate.
    """
    array = jnp.asarray(matrix)
    if array.ndim != 2 or array.shape[0] != array.shape[1] or array.shape[0] == 0:
        raise ValueError(f"hopping has shape {array.shape}: it must be a square matrix, or a Lattice.")
    if not jnp.issubdtype(array.dtype, jnp.inexact):
        array = array.astype(jnp.result_type(float))
    if is_concrete(array):
        entries = np.asarray(array)
        if not np.isfinite(entries).all():
            raise ValueError("hopping holds NaN or infinity. Mend those entries.")
        skew = np.abs(entries - entries.conj().T)
        if skew.max() > 1e-6 * np.abs(entries).max():
            i, j = (int(x) for x in np.unravel_index(skew.argmax(), skew.shape))
            raise ValueError(
                f"hopping is not Hermitian: entry ({i}, {j}) is {entries[i, j]:g}, ({j}, {i}) is {entries[j, i]:g}. "
                "Set one to the complex conjugate of the other."
            )
    return 0.5 * (array + jnp.conj(array.T))


def from_spectrum(values: Float[Array, " n"], states: Array) -> Array:
    """sum_k values_k |k><k|, for the states as columns; shape (n, n)."""
    return (states * values[None, :].astype(states.dtype)) @ jnp.conj(states.T)
