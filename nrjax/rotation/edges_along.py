"""Where functions of a magnet vanish, as one argument of what builds it varies."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._numerics.root_scan import roots_along
from .._numerics.validation import Number

Indicators = Callable[[Any], Float[Array, " functions"]]


def edges_along(
    build: Callable[..., Any],
    indicators: Indicators,
    unknown: str,
    between: tuple[Number, Number],
    fixed: Mapping[str, Any],
    scan: int,
) -> list[Float[np.ndarray, " roots"]]:
    """The roots of each of `indicators(build(**{unknown: x}, **fixed))` for x in a range, looked for between `scan`
    values of it.

    Floating-point numbers among `fixed` may change, and any of them be the unknown, without another program; equal
    functions `indicators` share their programs.

    **Raises** `ValueError` if the range is empty or reversed.
    """
    low, high = (float(np.asarray(x)) for x in between)
    if not low < high:
        raise ValueError(f"between = ({low:g}, {high:g}) is not a range: give the smaller value first.")
    grid = np.linspace(low, high, scan).astype(jnp.result_type(float))
    # With known numbers a magnet that refuses them says so.
    jax.eval_shape(lambda x: build(**{unknown: x}, **fixed), grid[0])
    point = {name: np.asarray(x, grid.dtype) for name, x in fixed.items() if isinstance(x, float)}
    rest = {name: x for name, x in fixed.items() if name not in point}
    point[unknown] = grid[0]
    value = _values(functools.partial(build, **rest) if rest else build, indicators)
    return roots_along(value, grid, np.asarray(sorted(point).index(unknown)), point)


@functools.lru_cache(maxsize=64)
def _values(build: Callable[..., Any], indicators: Indicators) -> Callable[..., Array]:
    def values(x: Array, which: Array, point: dict[str, Array]) -> Array:
        return indicators(
            build(**{name: jnp.where(which == i, x, point[name]) for i, name in enumerate(sorted(point))})
        )

    return values
