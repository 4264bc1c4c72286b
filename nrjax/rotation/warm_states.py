"""Steady states at the temperature that their own light makes: rotation and heat balance together."""

from collections.abc import Callable
from typing import Any, Final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .. import units
from .._numerics.precision import newton_tolerance
from .._numerics.root_scan import bisected
from .._numerics.spectral_abscissa import largest_real_part
from .._numerics.validation import is_concrete
from ..magnets import LayeredMagnet, ThermalModel
from ..magnets.heat import at_temperature
from .rigid_states import SteadyState

# Temperatures that are looked at for balances, and the halvings that close in on one.
LOOKS: Final = 49
HALVINGS: Final = 52
# Heat out of balance, relative to the warming, that is a jump between two phases and no balance.
BALANCED: Final = 1e-6
# The least warming, K, that it is relative to.
LEAST_WARMING: Final = 1e-3
# Layers that conduct: the share of the way to the balance that is gone at a time, how near that must lead before
# Newton's method takes over, and the most steps of both.
EASE: Final = 0.5
NEARLY: Final = 1e-3
MOST_STEPS: Final = 300

Find = Callable[[LayeredMagnet], SteadyState]


class WarmState(eqx.Module):
    """The steady state of a sample that its light keeps warm.

    - `state`: the `SteadyState` at that temperature; `phase`, `m`, `chase_frequency` and the rest are its own.
    - `electron_temperature`, `lattice_temperature`: K; shape (L,) where the layers conduct (`ThermalModel.conduction`).
    - `power`: absorbed, meV/ps per atom: the mean of the layers, or shape (L,).
    - `balances`: at how many temperatures heat in and heat out are in stable balance. 1: the usual case. 2 or more:
      bistable, and this is the coldest, which a sample reaches whose light is switched on. Of layers that conduct two
      are looked for: what a cold sample comes to, and a hot one.
    - `balanced`: False where the sample would go to and fro between two phases, hotter in the one that cools it.
    - `valid`: whether the state is a valid rigid one, and `balanced`.
    """

    state: SteadyState
    electron_temperature: Float[Array, "*K"]
    lattice_temperature: Float[Array, "*K"]
    power: Float[Array, "*K"]
    balances: Int[Array, ""]
    balanced: Bool[Array, ""]

    @property
    def valid(self) -> Bool[Array, ""]:
        """A valid rigid state in balance."""
        return self.state.is_rigid & self.balanced

    @property
    def phase(self) -> Int[Array, ""]:
        """That of the state."""
        return self.state.phase

    @property
    def m(self) -> Float[Array, "L 3"]:
        """Those of the state."""
        return self.state.m

    @property
    def lengths(self) -> Float[Array, " L"]:
        """Those of the state."""
        return self.state.lengths

    @property
    def chase_frequency(self) -> Float[Array, ""]:
        """That of the state, GHz."""
        return self.state.chase_frequency

    @property
    def rotation_frequency(self) -> Float[Array, ""]:
        """That of the state, GHz."""
        return self.state.rotation_frequency

    def __str__(self) -> str:
        if not is_concrete(self.power) or jnp.ndim(self.balanced):
            return f"WarmState(power{self.power.shape})"
        several = f", one of {int(self.balances)} balances (the coldest)" if int(self.balances) > 1 else ""
        lost = "" if self.balanced else "; no balance: it goes to and fro between two phases"
        return (
            f"electrons at {_of_each(self.electron_temperature, 4)} K, lattice at "
            f"{_of_each(self.lattice_temperature, 4)} K, {_of_each(self.power, 3)} meV/ps absorbed per atom"
            f"{several}{lost}"
            f"\n{self.state}"
        )


def require_cooled(magnet: Any, thermal: ThermalModel) -> None:
    """Raise `ValueError` for what absorbs no light, or never cools."""
    if not isinstance(magnet, LayeredMagnet):
        raise ValueError(f"thermal: a {type(magnet).__name__} absorbs no light. Leave it out, or take a LayeredMagnet.")
    if is_concrete(thermal.cooling_time) and bool(jnp.any(thermal.cooling_time == jnp.inf)):
        raise ValueError(
            "cooling_time = inf: without cooling the sample warms for ever. Give tau in ps, or use turns() or "
            "simulate(..., thermal=...)."
        )


def warm_state(find: Find, magnet: Any, thermal: ThermalModel) -> WarmState:
    """T - T_0 = R P(m(T), T), the coldest root at which heat in grows more slowly than heat out; for layers that
    conduct T_a - T_0 = sum_b K_ab P_b(m(T), T), the root that a cold sample comes to.

    **Arguments** `find`: the steady state of a magnet, without raising. What it takes: `require_cooled`.
    """
    solve = _at_one_temperature if thermal.conduction is None else _of_layers
    return solve(find, magnet, thermal)


def _at_one_temperature(find: Find, magnet: LayeredMagnet, thermal: ThermalModel) -> WarmState:
    base, resistance = thermal.base, thermal.resistance

    def excess(temperature: Array) -> tuple[Array, tuple[SteadyState, Array]]:
        state, (power,) = _lit(find, magnet, thermal, temperature)
        return temperature - base - resistance * power, (state, power)

    def value(temperature: Array) -> Array:
        return jax.lax.stop_gradient(excess(temperature)[0])

    most = jnp.max(_most_power(magnet, thermal))
    grid = jax.lax.stop_gradient(base + resistance * most * jnp.linspace(0.0, 1.0, LOOKS, dtype=magnet.dtype) ** 2)
    values = jax.vmap(value)(grid)
    rises = (values[:-1] < 0) & (values[1:] >= 0)
    first = jnp.argmax(rises)

    # In darkness the first value is 0 already; elsewhere values begin below 0.
    dark = values[0] >= 0
    risen = bisected(value, grid[first], grid[first + 1], -jnp.ones_like(base), HALVINGS)
    root = jax.lax.stop_gradient(jnp.where(dark, grid[0], risen))
    left, slope = jax.jvp(lambda t: excess(t)[0], (root,), (jnp.ones_like(root),))
    # Newton's last step, which carries the derivative of the root by the implicit function theorem.
    slope = jax.lax.stop_gradient(jnp.where(jnp.isfinite(slope) & (slope != 0), slope, 1.0))
    balanced = (dark | jnp.any(rises)) & (jnp.abs(left) <= BALANCED * jnp.maximum(root - base, LEAST_WARMING))
    temperature = root - jnp.where(balanced, left / slope, 0.0)
    _, (state, power) = excess(temperature)
    lattice = base + power * thermal.lattice_resistance
    electrons = lattice + jnp.where(thermal.electronic > 0, power / thermal.coupling, 0.0)
    return WarmState(state, electrons, lattice, power, jnp.sum(rises) + dark.astype(int), balanced)


def _of_each(values: Array, digits: int) -> str:
    """One number, or one of each layer."""
    return ", ".join(f"{x:.{digits}g}" for x in np.ravel(values))


def _of_layers(find: Find, magnet: LayeredMagnet, thermal: ThermalModel) -> WarmState:
    base, resistance, layers = thermal.base, thermal.electron_resistance, magnet.layers
    assert thermal.conduction is not None
    identity, warming = jnp.eye(layers, dtype=magnet.dtype), thermal.layer_resistances(layers)

    def lattice_at(hot: Array) -> Array:
        return base + (hot - base) * thermal.lattice_resistance / resistance

    def excess(hot: Array) -> tuple[Array, tuple[SteadyState, Array]]:
        felt = hot if thermal.follows == "electrons" else lattice_at(hot)
        state, power = _lit(find, magnet, thermal, felt)
        return hot - base - warming @ power, (state, power)

    def relaxed(start: Array) -> tuple[Array, Array, Array]:
        """Where a sample of these temperatures comes to, in a time that is not that of any sample; what is out of
        balance there, relative to the warming, and the slopes."""

        def go(state: Any) -> Any:
            _, hot, _, _, count = state
            slope, rest = jax.jacfwd(lambda hot: (excess(hot)[0],) * 2, has_aux=True)(hot)
            relative = jnp.max(jnp.abs(rest)) / jnp.maximum(jnp.max(hot - base), LEAST_WARMING)
            step = jnp.where(relative < NEARLY, jnp.linalg.solve(slope, rest), EASE * rest)
            return hot, hot - step, relative, slope, count + 1

        def goes_on(state: Any) -> Array:
            *_, relative, _, count = state
            return (relative > newton_tolerance(start.dtype)) & (count < MOST_STEPS)

        far = jnp.asarray(jnp.inf, start.dtype)
        here, _, relative, slope, _ = jax.lax.while_loop(goes_on, go, (start, start, far, identity, 0))
        return here, relative, slope

    starts = jnp.stack([jnp.full(layers, base, magnet.dtype), base + warming @ _most_power(magnet, thermal)])
    (cold, hot), relative, slopes = jax.lax.stop_gradient(jax.vmap(relaxed)(jax.lax.stop_gradient(starts)))
    # Heat in grows more slowly than heat out.
    stable = jax.vmap(lambda slope: largest_real_part(-slope) < 0)(slopes)
    balanced, also = (relative <= BALANCED) & stable
    another = also & (jnp.max(jnp.abs(hot - cold)) > 1e3 * BALANCED * jnp.max(cold - base))
    # Newton's last step, which carries the derivatives.
    slope = jnp.where(balanced, slopes[0], identity)
    electrons = cold - jnp.where(balanced, jnp.linalg.solve(slope, excess(cold)[0]), 0.0)
    _, (state, power) = excess(electrons)
    return WarmState(state, electrons, lattice_at(electrons), power, jnp.sum(jnp.stack([balanced, another])), balanced)


def _lit(find: Find, magnet: LayeredMagnet, thermal: ThermalModel, kelvin: Array) -> tuple[SteadyState, Array]:
    """The steady state of moments that feel a temperature, and the power that they take, meV/ps, shape (K,)."""
    warm = at_temperature(magnet, kelvin * units.kelvin)
    state = find(warm)
    # Of a state that did not settle nothing is known, and no balance is looked for beside it.
    return state, jnp.where(jnp.isfinite(state.lengths).all(), thermal.power(warm, state.m), jnp.nan)


def _most_power(magnet: LayeredMagnet, thermal: ThermalModel) -> Array:
    """More than any state takes, meV/ps, shape (K,): that of no moments, and the most that polarized electrons add."""
    still = jnp.zeros((magnet.layers, 3), magnet.dtype)
    g = jnp.where(magnet.sd_coupling == 0, jnp.inf, jnp.abs(magnet.sd_coupling))
    each = 2.0 * jnp.sum(jnp.abs(magnet.light_exchange()), axis=1) / g
    polarization = jnp.max(each / jnp.maximum(magnet.filling, 1e-6))
    return thermal.power(magnet, still) * (1.0 + polarization)
