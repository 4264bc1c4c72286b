"""All roots of scalar functions along a grid."""

import functools
from collections.abc import Callable
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .ready_programs import FEW, kept

# Roots bisected together, filled up with copies: their number asks for no other program.
TOGETHER: Final = 8
# Of a bracket: to rounding in double precision.
HALVINGS: Final = 60

Value = Callable[..., Float[Array, " functions"]]


def roots_along(value: Value, grid: Float[Any, " scan"], *arguments: Any) -> list[Float[np.ndarray, " roots"]]:
    """Where each of value(x, *arguments) = 0 changes sign between neighbours of an ascending grid, by bisection to
    rounding.

    NaN marks where a function does not apply; no root is looked for beside it. A pole changes the sign as well: the
    caller checks what a root leads to. Equal functions `value` share their programs.

    **Returns** the roots of each function, ascending.
    """
    scan, bisect = _programs(value)
    values = np.asarray(scan(grid, *arguments))
    left, right = values[:-1], values[1:]
    place, which = np.nonzero(np.isfinite(left) & np.isfinite(right) & (np.sign(left) != np.sign(right)))
    ends = np.asarray(grid)
    found = [np.zeros(0, ends.dtype)]
    for first in range(0, place.size, TOGETHER):
        some = np.minimum(np.arange(first, first + TOGETHER), place.size - 1)
        roots = bisect(ends[place[some]], ends[place[some] + 1], which[some], *arguments)
        found.append(np.asarray(roots)[: place.size - first])
    together = np.concatenate(found)
    return [together[which == function] for function in range(values.shape[1])]


def bisected(
    value: Callable[[Array], Array], start: Array, stop: Array, sign: Array, halvings: int = HALVINGS
) -> Float[Array, ""]:
    """Where value(x) changes sign between start and stop; `sign`: its sign at the start."""

    def halve(_: Any, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        start, stop = bracket
        middle = 0.5 * (start + stop)
        same = jnp.sign(value(middle)) == sign
        return jnp.where(same, middle, start), jnp.where(same, stop, middle)

    start, stop = jax.lax.fori_loop(0, halvings, halve, (start, stop))
    return 0.5 * (start + stop)


@functools.lru_cache(maxsize=64)
def _programs(value: Value) -> tuple[Any, Any]:
    """Its values on a grid, and the roots of function number `which` in brackets."""

    def bisect(starts: Array, stops: Array, which: Array, *arguments: Any) -> Array:
        def one(start: Array, stop: Array, which: Array) -> Array:
            def of_one(x: Array) -> Array:
                return value(x, *arguments)[which]

            return bisected(of_one, start, stop, jnp.sign(of_one(start)))

        return jax.vmap(one)(starts, stops, which)

    def scan(grid: Array, *arguments: Any) -> Array:
        return jax.vmap(lambda x: value(x, *arguments))(grid)

    return kept(scan, brief=FEW), kept(bisect, brief=FEW)
