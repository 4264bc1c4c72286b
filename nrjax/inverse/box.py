"""A box of parameters, and coordinates in which it has no walls."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._numerics.ready_programs import FEW, kept
from .._numerics.validation import Numbers, array_of, require_range

# A range that starts at zero is logarithmic down to this share of its upper end, and linear below.
LOGARITHMIC_DOWN_TO: Final = 1e-4
# Share of the range next to a bound that counts as lying on it; starting points keep as far from it.
ON_BOUND: Final = 1e-3


def share_at(y: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """u = sin^2(pi y/2), from 0 to 1: both ends are reached at finite y."""
    return jnp.sin(0.5 * jnp.pi * y) ** 2


def coordinate_of(u: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """A coordinate y of the share u, kept off the ends, where the slope would vanish."""
    return 2.0 / jnp.pi * jnp.arcsin(jnp.sqrt(jnp.clip(u, ON_BOUND, 1.0 - ON_BOUND)))


class Box(eqx.Module):
    """Parameters between bounds, as smooth periodic functions of free coordinates y:

        u = sin^2(pi y/2),   p = low + (high - low) u              (linear),
                             p = low + (high - low) (r^u - 1)/(r - 1)   (logarithmic, r = high/low).

    A bound is reached at finite y, where p has a regular extremum: an optimum on the bound is as easy as one inside.
    A logarithmic range may start at 0: then r = 10^4, linear near zero.

    **Arguments**

    - `bounds`: name -> (low, high), in the parameter's unit, low < high.
    - `logarithmic`: names of the parameters that vary over orders of magnitude; their bounds are 0 or greater.

    **Raises** `ValueError` naming the parameter for bounds that are not two finite numbers, are reversed or empty, or
    are negative on a logarithmic range.
    """

    low: Float[Array, " n"]
    high: Float[Array, " n"]
    ratio: Float[Array, " n"]
    names: tuple[str, ...] = eqx.field(static=True)

    def __init__(self, bounds: Mapping[str, Any], logarithmic: Sequence[str] = ()):
        if not bounds:
            raise ValueError("bounds is empty: give at least one, for example {'intensity': (1e8, 6e10)}.")
        ranges = []
        for name, value in bounds.items():
            low, high = require_range(name, value)
            if name in logarithmic and low < 0:
                raise ValueError(
                    f"bounds of {name!r} = ({low:g}, {high:g}): a logarithmic range starts at 0 or above. Raise low."
                )
            ranges.append((low, high))
        self.names = tuple(bounds)
        dtype = jnp.result_type(float)
        self.low, self.high = (array_of(column, dtype) for column in zip(*ranges, strict=True))
        ratios = [high / max(low, LOGARITHMIC_DOWN_TO * high) for low, high in ranges]
        ratios = [r if n in logarithmic else 1.0 for n, r in zip(self.names, ratios, strict=True)]
        self.ratio = array_of(ratios, dtype)

    def shares(self, y: Float[Array, " n"]) -> Float[Array, " n"]:
        """u, the share of each range that lies below the parameter: 0 on the lower bound, 1 on the upper."""
        return share_at(y)

    def values(self, y: Float[Array, " n"]) -> dict[str, Float[Array, ""]]:
        """The parameters by name at coordinates y."""
        return self.named(self.vector(y))

    def named(self, p: Any) -> dict[str, Any]:
        """Parameters by name, from a vector of them."""
        return {name: p[i] for i, name in enumerate(self.names)}

    def vector(self, y: Float[Array, " n"]) -> Float[Array, " n"]:
        """The parameters p at coordinates y, each in its unit."""
        u = self.shares(y)
        logarithmic = self.ratio > 1.0
        ratio = jnp.where(logarithmic, self.ratio, 2.0)
        share = jnp.where(logarithmic, (ratio**u - 1.0) / (ratio - 1.0), u)
        return self.low + (self.high - self.low) * share

    def shares_of(self, values: Mapping[str, Numbers]) -> Float[np.ndarray, " n"]:
        """The shares u of given parameters.

        **Raises** `ValueError` naming a parameter that lies outside its bounds.
        """
        result = []
        ranges = zip(*(np.asarray(x).tolist() for x in (self.low, self.high, self.ratio)), strict=True)
        for name, (low, high, ratio) in zip(self.names, ranges, strict=True):
            value = float(np.asarray(values[name]))
            share = (value - low) / (high - low)
            if not -1e-9 <= share <= 1.0 + 1e-9:
                raise ValueError(
                    f"initial {name} = {value:g} is outside its bounds ({low:g}, {high:g}). "
                    "Move it inside, or widen the bounds."
                )
            share = min(max(share, 0.0), 1.0)
            result.append(np.log1p(share * (ratio - 1.0)) / np.log(ratio) if ratio > 1.0 else share)
        return np.asarray(result, self.low.dtype)

    def coordinates(self, u: Float[Array, " n"]) -> Float[Array, " n"]:
        """Coordinates y of shares u, kept off the bounds."""
        return coordinate_of(u)

    def active(self, u: Float[np.ndarray, " n"]) -> dict[str, str]:
        """Name -> "lower" or "upper" for each parameter on a bound."""
        sides = {}
        for name, share in zip(self.names, np.asarray(u), strict=True):
            if min(share, 1.0 - share) < ON_BOUND:
                sides[name] = "lower" if share < 0.5 else "upper"
        return sides


@partial(kept, brief=FEW)
def parameters_at(box: Box, y: Float[Array, "*lanes n"]) -> Float[Array, "*lanes n"]:
    """`Box.vector` of many coordinates, as one program: outside of one, every operation is a program by itself."""
    return _of_each(box.vector, y)


@partial(kept, brief=FEW)
def shares_at(box: Box, y: Float[Array, "*lanes n"]) -> Float[Array, "*lanes n"]:
    """`Box.shares` of many coordinates, as one program."""
    return _of_each(box.shares, y)


@partial(kept, brief=FEW)
def coordinates_at(box: Box, u: Float[Array, "*lanes n"]) -> Float[Array, "*lanes n"]:
    """`Box.coordinates` of many shares, as one program."""
    return _of_each(box.coordinates, u)


def _of_each(function: Callable[[Array], Array], x: Float[Array, "*lanes n"]) -> Float[Array, "*lanes n"]:
    """A function of vectors, of the last axis."""
    return jax.vmap(function)(x.reshape(-1, x.shape[-1])).reshape(x.shape)
