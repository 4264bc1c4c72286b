"""Vectors of three components, each a scalar or an array: operations of the same vector then meet in one loop."""

from typing import Any

from jaxtyping import Array

Vector = tuple[Array, Array, Array]


def dot(a: Any, b: Any) -> Array:
    """a . b."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def cross(a: Any, b: Any) -> Vector:
    """a x b."""
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]
