"""All roots of a scalar function along a grid."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def roots_along(value: Callable[[Array], Array], grid: Float[Array, " scan"]) -> Float[Array, " roots"]:
    """Where value(x) = 0 changes sign between neighbours of an ascending grid, by bisection to rounding.

    NaN marks where the function does not apply; no root is looked for beside it. A pole changes the sign as well:
    the caller checks what a root leads to.
    """
    values = np.asarray(jax.jit(jax.vmap(value))(grid))
    left, right = values[:-1], values[1:]
    index = np.flatnonzero(np.isfinite(left) & np.isfinite(right) & (np.sign(left) != np.sign(right)))
    if index.size == 0:
        return jnp.zeros(0, grid.dtype)

    def bisect(start: Array, stop: Array) -> Array:
        sign = jnp.sign(value(start))

        def halve(_: Any, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
            start, stop = bracket
            middle = 0.5 * (start + stop)
            same = jnp.sign(value(middle)) == sign
            return jnp.where(same, middle, start), jnp.where(same, stop, middle)

        start, stop = jax.lax.fori_loop(0, 60, halve, (start, stop))
        return 0.5 * (start + stop)

    return jax.jit(jax.vmap(bisect))(grid[index], grid[index + 1])
