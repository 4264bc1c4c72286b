"""Where a chase survives in space: up to which size of the sample, and for which parameters."""

import functools
from collections.abc import Callable
from typing import Any, Final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._numerics.validation import Number
from ..magnets import AbstractNeighbours, Box, LayeredMagnet
from .attractors import steady_state
from .edges_along import Indicators, edges_along
from .rigid_states import SteadyState
from .stability_in_space import FACTORS, spatial_stability

# Values of a parameter between which an edge is looked for, and factors that are looked at together.
SCAN: Final = 97
TOGETHER: Final = 512


def largest_sample(
    magnet: LayeredMagnet,
    neighbours: AbstractNeighbours | None = None,
    *,
    most: int = 32,
    state: SteadyState | None = None,
) -> int:
    """The largest n for which the chase survives in every periodic cube of up to n x n x n cells: no wave that fits in,

        q = 2 pi (k_x, k_y, k_z)/n,   f(q) = j(q)/j(0),

    grows (`spatial_stability`).

    **Arguments**

    - `magnet`: a `LayeredMagnet`, its exchange that of the uniform mode.
    - `neighbours`: how far the exchange goes, the same for all pairs of layers; default `Box(1)`, 27 cells.
    - `most`: the largest n that is looked at.
    - `state`: a steady state of this magnet; default `steady_state(magnet)`.

    **Returns** n, in cells along an edge: `most` where nothing grows, and one less than the smallest cube that the
    neighbours fit into where even that falls apart.

    **Raises** `ValueError` where there is no rigid state, or neighbours that are not the same for all pairs of layers.

    A sample with open ends has waves half as long in it: half of n.
    """
    neighbours = Box(1) if neighbours is None else neighbours
    state = steady_state(magnet, cycles=False, throw=False) if state is None else state
    if not bool(state.is_rigid):
        raise ValueError(f"no rigid state that could survive: {state}")
    smallest = next((n for n in range(2, most + 1) if _fits(neighbours, magnet.layers, n)), None)
    if smallest is None:
        raise ValueError(f"most = {most} cells along an edge are fewer than the neighbours reach. Raise `most`.")
    for n in range(smallest, most + 1):
        factors = np.unique(np.round(wave_factors(neighbours, magnet.layers, n), 12))
        factors = factors[factors < 1.0 - 1e-9]
        for first in range(0, factors.size, TOGETHER):
            some = np.resize(factors[first : first + TOGETHER], TOGETHER)
            if float(jnp.max(_growth(magnet, jnp.asarray(some, magnet.dtype), state))) >= 0.0:
                return n - 1
    return most


def wave_factors(neighbours: AbstractNeighbours, layers: int, n: int) -> Float[np.ndarray, "n n n"]:
    """f(q) = j(q)/j(0) of all waves in a periodic cube of n x n x n cells, in the order of `numpy.fft.fftfreq`.

    **Raises** `ValueError` for neighbours that differ between pairs of layers, or that are not symmetric.
    """
    seed = jnp.zeros((n, n, n)).at[0, 0, 0].set(1.0)
    pairs = [(a, b) for a in range(layers) for b in range(layers)]
    each = [np.broadcast_to(np.asarray(neighbours.mean(seed, a, b)), (n, n, n)) for a, b in pairs]
    waves = np.fft.fftn(each[0])
    if not all(np.allclose(x, each[0], atol=1e-9) for x in each) or np.abs(waves.imag).max() > 1e-9:
        raise ValueError(
            f"{type(neighbours).__name__}: one factor for each wave needs neighbours that are symmetric and the same "
            "for all pairs of layers. Take Box or AllToAll."
        )
    return waves.real


def survival_edges(
    build: Callable[..., LayeredMagnet],
    unknown: str,
    between: tuple[Number, Number],
    *,
    factors: tuple[float, ...] = FACTORS[:-1],
    **fixed: Any,
) -> Float[np.ndarray, " edges"]:
    """Where a chase begins or ceases to survive in space, along one parameter: the critical gyro, damping or light.

    **Arguments** `build`: makes the magnet, as in `sweep`. `unknown`: the argument of `build` that varies, over the
    range `between`. `factors`: of the waves that fit into the sample (`spatial_stability`). `fixed`: other arguments.

    **Returns** the values at which the fastest deviation in space begins or ceases to grow, ascending, to rounding.
    Between two of 97 values that are looked at, edges that come in pairs may be missed; and where the uniform state
    itself is lost, no edge is told.

    **Raises** `ValueError` if the range is empty or reversed.
    """
    return edges_along(build, _fastest(factors), unknown, between, fixed, SCAN)[0]


@functools.lru_cache(maxsize=64)
def _fastest(factors: tuple[float, ...]) -> Indicators:
    """The growth rate of the fastest deviation of a chase; NaN where nothing chases."""

    def value(magnet: LayeredMagnet) -> Array:
        state = steady_state(magnet, throw=False)
        rate = spatial_stability(magnet, factors, state).fastest_growth_rate
        return jnp.where(state.chase_frequency > 0, rate, jnp.nan)[None]

    return value


@eqx.filter_jit
def _growth(magnet: LayeredMagnet, factors: Float[Array, " factors"], state: SteadyState) -> Float[Array, " factors"]:
    return spatial_stability(magnet, factors, state).growth_rate


def _fits(neighbours: AbstractNeighbours, layers: int, n: int) -> bool:
    try:
        neighbours.check(layers, (n, n, n))
    except ValueError:
        return False
    return True
