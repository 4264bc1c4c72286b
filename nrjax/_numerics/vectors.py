"""Vectors of three components, each a scalar or an array: operations of the same vector then meet in one loop."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Final

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Vector = tuple[Array, Array, Array]

# Terms up to which a sum is written out.
SHORT: Final = 4


def dot(a: Any, b: Any) -> Array:
    """a . b."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def cross(a: Any, b: Any) -> Vector:
    """a x b."""
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


def scaled(factor: Any, v: Vector) -> Vector:
    """factor v."""
    return factor * v[0], factor * v[1], factor * v[2]


def plus(v: Vector, w: Vector) -> Vector:
    """v + w."""
    return v[0] + w[0], v[1] + w[1], v[2] + w[2]


def combined(weights: Float[Array, " L"], vectors: Sequence[Vector]) -> Vector:
    """sum_b weights_b vectors_b."""
    return functools.reduce(plus, (scaled(weights[b], v) for b, v in enumerate(vectors)))


def times(matrix: Any, vector: Any) -> Vector:
    """A 3 x 3 matrix times a vector of three scalars."""
    x, y, z = (dot(matrix[i], vector) for i in range(3))
    return x, y, z


def short_sum(x: Array, axis: int = -1) -> Array:
    """The sum along an axis of a few entries, written out: on a GPU a reduction is a kernel of its own, which waits for
    those before it; sums of what is next to each other become part of another."""
    return _reduced(jnp.add, jnp.sum, x, axis)


def short_max(x: Array, axis: int = -1) -> Array:
    """The largest along an axis of a few entries, written out."""
    return _reduced(jnp.maximum, jnp.max, x, axis)


def _reduced(pair: Callable[[Any, Any], Array], whole: Callable[..., Array], x: Array, axis: int) -> Array:
    if not 0 < x.shape[axis] <= SHORT:
        return whole(x, axis=axis)
    parts = (jax.lax.index_in_dim(x, k, axis, keepdims=False) for k in range(x.shape[axis]))
    return functools.reduce(pair, parts)
