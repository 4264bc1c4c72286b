"""Derivatives without derivatives: fourth-order central differences, whose own error falls as the fourth power of the
step."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

OFFSETS, WEIGHTS = np.array([-2.0, -1.0, 1.0, 2.0]), np.array([1.0, -8.0, 8.0, -1.0]) / 12.0


def slope(function: Callable[[Any], Any], x: Any, step: float) -> Any:
    """d function/dx at a number."""
    return sum(weight * function(x + offset * step) for weight, offset in zip(WEIGHTS, OFFSETS, strict=True)) / step


def slopes(function: Callable[[jax.Array], Any], point: Any, steps: Any) -> np.ndarray:
    """d function/d point_i, on a last axis behind those of the function; all points as one batch.

    **Arguments** `point`: shape (n,). `steps`: one for all entries, or one for each.
    """
    point = np.asarray(point, float)
    steps = np.broadcast_to(np.asarray(steps, float), point.shape)
    moved = point + OFFSETS[:, None, None] * np.diag(steps)
    values = np.asarray(jax.jit(jax.vmap(jax.vmap(function)))(jnp.asarray(moved)))
    return np.moveaxis(np.tensordot(WEIGHTS, values, 1), 0, -1) / steps
