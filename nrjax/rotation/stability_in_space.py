"""Whether a rigid state of all layers together survives in a sample, where it may differ from place to place."""

from functools import partial
from typing import Final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from .. import units
from .._numerics.precision import collinear_tolerance
from .._numerics.ready_programs import FEW, kept
from .._numerics.spectral_abscissa import largest_real_part
from .._numerics.validation import Numbers, float_array, is_concrete, require
from ..magnets import LayeredMagnet
from ..motion.rigid_rotation import turning
from .attractors import steady_state
from .observables import AbstractObservable
from .rigid_states import SteadyState

# Factors that are looked at if none are given.
FACTORS: Final = tuple(0.02 * n for n in range(1, 51))


class SpatialStability(eqx.Module):
    """How deviations of a rigid state with a wave vector q grow, by the factor f(q) = j(q)/j(0) of their exchange.

    - `factors`: f, shape (factors,).
    - `growth_rate`: the largest real part of the spectrum in the co-rotating frame, meV, for each f; at f = 1, the
      uniform mode, without the symmetry's zero modes. NaN where there is no rigid state.
    - `fastest`: the f < 1 that grows fastest (or decays slowest), and `fastest_growth_rate` in meV.
    - `band`: the least and the greatest of the factors that grow, shape (2,); NaN where none does.
    - `slope`: d(growth rate)/d(1 - f) at f -> 1 in meV. Where the uniform mode is a free rotation (no field, no
      anisotropy) waves of any length grow if it is positive.
    - `stable`: whether deviations of all these factors decay.
    """

    factors: Float[Array, " factors"]
    growth_rate: Float[Array, " factors"]
    fastest: Float[Array, ""]
    fastest_growth_rate: Float[Array, ""]
    band: Float[Array, "2"]
    slope: Float[Array, ""]
    stable: Bool[Array, ""]

    def __str__(self) -> str:
        if not is_concrete(self.stable) or self.stable.ndim:
            return f"SpatialStability(growth_rate{self.growth_rate.shape})"
        rate = float(self.fastest_growth_rate)
        if np.isnan(rate):
            return "no rigid state to be stable"
        if bool(self.stable):
            return f"stable in space: deviations decay at {-rate:.3g} meV or faster (factor {float(self.fastest):.3g})"
        if not rate > 0:
            return f"neither stable nor unstable in space: the fastest deviations grow at {rate:.3g} meV"
        low, high = (float(x) for x in np.asarray(self.band))
        return (
            f"UNSTABLE in space: deviations whose exchange is {low:.3g} to {high:.3g} of the uniform one grow, fastest "
            f"{float(self.fastest):.3g}, e-fold in {1.0 / (rate * units.ps):.3g} ps"
        )


def spatial_stability(
    magnet: LayeredMagnet, factors: Numbers = FACTORS, state: SteadyState | None = None
) -> SpatialStability:
    """Growth rates of deviations m_a + delta_a exp(i q x) from a rigid rotation, in the frame that turns with it:

        d delta_a/dt = (D delta)_a + f(q) (E delta)_a - Omega x delta_a,

    D what a moment's own change does to dm/dt, E what a change of the moments around it does: their exchange and what
    light makes of it, of which a wave feels the share f(q) = j(q)/j(0), the same for all layers.

    **Arguments**

    - `magnet`: a `LayeredMagnet`: its exchange is that of the uniform mode, j(0). Light counts with its full intensity.
      Field, anisotropy and other terms act within one cell.
    - `factors`: f, shape (factors,), -1 to 1. Long waves have f near 1, f = 1 - (stiffness) q^2 + ...; default 0.02 to
      1. Two halves of a sample with exchange (1 + f)/2 within and (1 - f)/2 between have the one factor f besides 1.
    - `state`: a steady state of this magnet; default `steady_state(magnet)`.

    **Returns** a `SpatialStability`. Differentiable with respect to the magnet and the factors; batches by vmap.

    **Raises** `ValueError` for factors out of range.

    A stable uniform state may be unstable in space. `stable` speaks of the factors that were asked for. Linear: what an
    unstable state turns into is not told.
    """
    f = float_array("factors", factors, dtype=magnet.dtype)
    require("factors", f, lambda x: np.abs(x) <= 1.0, "-1 to 1", "They are j(q)/j(0).")
    if f.ndim != 1 or f.size == 0:
        raise ValueError(f"factors has shape {f.shape}: it must be a list of f, for example jnp.linspace(0.02, 1, 50).")
    magnet = magnet.plateau()
    state = steady_state(magnet, cycles=False, throw=False) if state is None else state
    return _stability(magnet, f, state)


@partial(kept, brief=FEW)
def _stability(magnet: LayeredMagnet, f: Array, state: SteadyState) -> SpatialStability:
    own, around = _modes(magnet, state)
    rates = jax.vmap(lambda f: largest_real_part(own + f * around))(f)
    uniform = f >= 1.0
    rates = jnp.where(state.is_rigid, jnp.where(uniform, state.growth_rate, rates), jnp.nan)
    waves = jnp.where(uniform, -jnp.inf, rates)
    best = jnp.argmax(waves)
    grows = rates > 0
    # Differences, extrapolated; a free rotation and a damped mode may come as close as they like to each other.
    near = float(jnp.finfo(f.dtype).eps) ** (1 / 3) * jnp.asarray([0.0, 0.25, 0.5, 1.0], f.dtype)
    close = jax.vmap(lambda d: largest_real_part(own + (1.0 - d) * around))(near)
    # A free rotation stays free, whatever the parameters; the spectrum's derivative is there that of several modes,
    # which rounding tells apart, or not.
    scale = jnp.sqrt(jnp.sum(own**2) + jnp.sum(around**2))
    free = close[0] - state.growth_rate > collinear_tolerance(f.dtype) * scale
    base = jnp.where(free, jax.lax.stop_gradient(close[0]), close[0])
    steep = (close[1:] - base) / near[1:]
    return SpatialStability(
        factors=f,
        growth_rate=rates,
        fastest=f[best],
        fastest_growth_rate=rates[best],
        band=jnp.where(
            jnp.any(grows),
            jnp.stack([jnp.min(jnp.where(grows, f, jnp.inf)), jnp.max(jnp.where(grows, f, -jnp.inf))]),
            jnp.nan,
        ),
        slope=jnp.where(state.is_rigid, (8.0 * steep[0] - 6.0 * steep[1] + steep[2]) / 3.0, jnp.nan),
        stable=jnp.all(rates < 0),
    )


def _modes(magnet: LayeredMagnet, state: SteadyState) -> tuple[Array, Array]:
    """D - Omega x and E, each of shape (3L, 3L), in meV."""
    m, omega = state.m, state.angular_velocity
    size = m.size

    def of_own(flat: Array) -> Array:
        moments = flat.reshape(m.shape)
        return (magnet.rates_among(moments, m) - turning(omega, moments)).reshape(size)

    def of_others(flat: Array) -> Array:
        return magnet.rates_among(m, flat.reshape(m.shape)).reshape(size)

    return jax.jacfwd(of_own)(m.reshape(size)), jax.jacfwd(of_others)(m.reshape(size))


class SpatialGrowth(AbstractObservable):
    """The greatest growth rate of a deviation in space, meV: negative where the uniform state survives in a sample.

    For `sweep`, `sensitivity` and designs; see `spatial_stability`.

    **Arguments** `factors`: f = j(q)/j(0) of the waves that fit into the sample, each below 1.
    """

    factors: tuple[float, ...] = eqx.field(default=FACTORS[:-1], static=True, kw_only=True)
    name: str = eqx.field(default="spatial_growth_rate", static=True)
    unit: str = eqx.field(default="meV", static=True)
    long_name: str = eqx.field(default="largest growth rate of a deviation in space", static=True)

    def __call__(self, model: LayeredMagnet, state: SteadyState) -> Float[Array, ""]:
        """Of the fastest of the factors."""
        return spatial_stability(model, self.factors, state).fastest_growth_rate

    def exists_for(self, model: object) -> bool:
        """Whether it is a magnet of layers."""
        return isinstance(model, LayeredMagnet)
