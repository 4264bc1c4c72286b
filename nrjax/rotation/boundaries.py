"""Phase boundaries of an isotropic bilayer, and its exceptional point."""

import enum
import functools
from collections.abc import Callable, Mapping
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from .._numerics.validation import Number
from ..magnets import AbstractOrderParameters, FokkerPlanckMagnet, LayeredMagnet
from .bilayer_branches import chiral_condition
from .collinear_distributions import tilt_growth
from .edges_along import Indicators, edges_along

SCAN: Final = 512


class Boundary(enum.Enum):
    """The lines that separate the phases, each the zero of one function of the parameters.

    - `ALIGNED_ANTIALIGNED`: layer B's torque from A vanishes, W_BA = 0: gamma_B = alpha_B |g_B|.
    - `ANTIALIGNED_CHIRAL`: trace W = 0 on the antialigned state.
    - `ALIGNED_CHIRAL`: trace W = 0 on the aligned state.
    - `CHIRAL_PARAMAGNETIC`: trace W(m = 0) = 0 while det W(m = 0) > 0 (a complex pair crosses).
    - `COLLINEAR_PARAMAGNETIC`: det W(m = 0) = 0 while trace W(m = 0) < 0 (a real eigenvalue crosses).

    Of infinitely many single spins (`FokkerPlanckMagnet`) the chase begins where a tilt of the whole distribution grows
    on the collinear state; that growth rate takes the place of trace W, and precession has a part in it. As exact as
    its harmonics: compare two `lmax`.
    """

    ALIGNED_ANTIALIGNED = "aligned - antialigned"
    ANTIALIGNED_CHIRAL = "antialigned - chiral"
    ALIGNED_CHIRAL = "aligned - chiral"
    CHIRAL_PARAMAGNETIC = "chiral - paramagnetic"
    COLLINEAR_PARAMAGNETIC = "collinear - paramagnetic"


Bilayer = LayeredMagnet | FokkerPlanckMagnet


def indicator(model: Bilayer, kind: Boundary) -> Float[Array, ""]:
    """The function whose zero is the boundary (meV; meV^2 for determinants; W_BA/j_BA for the first); NaN elsewhere.

    **Arguments** `model`: an isotropic bilayer with damping > 0 in layer 0. **Returns** a scalar, differentiable.

    **Raises** `ValueError` for other magnets, and for what is no `Boundary`.

    **Source** docs/physics.md, "Boundaries".
    """
    if not isinstance(kind, Boundary):
        raise ValueError(f"{kind!r} is no boundary. Take one of {', '.join(map(str, Boundary))}.")
    if reason := without_boundaries(model):
        raise ValueError(reason)
    layers = model.magnet if isinstance(model, FokkerPlanckMagnet) else model
    if kind in (Boundary.ANTIALIGNED_CHIRAL, Boundary.ALIGNED_CHIRAL):
        cosine = -1.0 if kind is Boundary.ANTIALIGNED_CHIRAL else 1.0
        if isinstance(model, FokkerPlanckMagnet):
            return tilt_growth(model, cosine)
        # The chiral family ends on the collinear one where its angle closes.
        return chiral_condition(model, jnp.asarray(cosine, model.exchange.dtype))[0]
    if kind is Boundary.ALIGNED_ANTIALIGNED:
        exchange = layers.exchange[1, 0]
        coupled = exchange != 0
        return jnp.where(coupled, layers.exchange_rates()[1, 0] / jnp.where(coupled, exchange, 1.0), jnp.nan)
    w = model.rates_at_rest()
    trace, determinant = w[0, 0] + w[1, 1], w[0, 0] * w[1, 1] - w[0, 1] * w[1, 0]
    if kind is Boundary.CHIRAL_PARAMAGNETIC:
        return jnp.where(determinant > 0, trace, jnp.nan)
    return jnp.where(trace < 0, determinant, jnp.nan)


def without_boundaries(model: AbstractOrderParameters) -> str:
    """Why a model has no boundaries, and what to do; nothing if it has."""
    layers = model.magnet if isinstance(model, FokkerPlanckMagnet) else model
    if isinstance(layers, LayeredMagnet) and layers.shape_closes:
        return ""
    terms = [type(term).__name__ for term in getattr(layers, "field_terms", ())]
    return (
        f"boundaries are those of two magnetic layers on which only the exchange acts, got a {type(model).__name__} of "
        f"{model.layers} with {', '.join(terms) or 'nothing'} besides. Sweep it, and look where the phase changes."
    )


def boundary(
    build: Callable[..., Bilayer],
    kind: Boundary,
    unknown: str,
    between: tuple[Number, Number],
    **fixed: Any,
) -> Float[np.ndarray, " roots"]:
    """Where a boundary lies on a line through parameter space.

    **Arguments**

    - `build`: makes the magnet, as in `sweep`.
    - `kind`: which boundary.
    - `unknown`: the name of the argument of `build` to solve for.
    - `between`: its range, two different numbers.
    - `fixed`: the other arguments.

    **Returns** every value of `unknown` in the range where the boundary is crossed, ascending, to rounding. Empty
    if there is none.

    **Raises** `ValueError` if the range is empty or reversed, for what is no `Boundary`, and for magnets that are no
    isotropic bilayers.
    """
    return boundaries_along(build, (kind,), unknown, between, fixed)[0]


def boundaries_along(
    build: Callable[..., Bilayer],
    kinds: tuple[Boundary, ...],
    unknown: str,
    between: tuple[Number, Number],
    fixed: Mapping[str, Any],
) -> list[Float[np.ndarray, " roots"]]:
    """`boundary` of several kinds. Floating-point numbers among `fixed` may change, and any of them be the unknown,
    without another program."""
    return edges_along(build, _indicators(kinds), unknown, between, fixed, SCAN)


@functools.lru_cache(maxsize=64)
def _indicators(kinds: tuple[Boundary, ...]) -> Indicators:
    return lambda magnet: jnp.stack([indicator(magnet, kind) for kind in kinds])


def tilt_modes(model: LayeredMagnet, m: Float[Array, "2 3"]) -> Complex[Array, "2 2"]:
    """The matrix of small tilts of a collinear bilayer, w = w_x + i w_y:

        dw/dt = [W + i gyro (diag(m) j - diag(h))] w.

    One eigenvalue is 0 (the Nambu-Goldstone mode: a common rotation). The other is
    trace W - i gyro (j_BA m_A + j_AB m_B) and reaches the imaginary axis at the onset of the chase. Without
    precession (gyro = 0) the two then coalesce: the matrix is a Jordan block, an exceptional point.

    **Arguments** `model`: an isotropic bilayer. `m`: a collinear state, shape (2, 3).

    **Returns** the matrix in meV, complex, shape (2, 2).

    **Source** docs/physics.md, "Exceptional point".
    """
    axis = m[0] / jnp.sqrt(jnp.sum(m[0] ** 2))
    along = m @ axis
    exchange = model.precession_exchange()
    return jax.lax.complex(model.linear_rates(m), along[:, None] * exchange - jnp.diag(exchange @ along))
