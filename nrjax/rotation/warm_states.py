"""Steady states at the temperature that their own light makes: rotation and heat balance together."""

from collections.abc import Callable
from typing import Any, Final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .. import units
from .._numerics.validation import is_concrete
from ..magnets import LayeredMagnet, ThermalModel
from ..magnets.heat import at_temperature
from .rigid_states import SteadyState

# Temperatures that are looked at for balances, and the halvings that close in on one.
LOOKS: Final = 49
HALVINGS: Final = 52
# Heat out of balance, relative to the warming, that is a jump between two phases and no balance.
BALANCED: Final = 1e-6

Find = Callable[[LayeredMagnet], SteadyState]


class WarmState(eqx.Module):
    """The steady state of a sample that its light keeps warm.

    - `state`: the `SteadyState` at that temperature; `phase`, `m`, `chase_frequency` and the rest are its own.
    - `electron_temperature`, `lattice_temperature`: K. `power`: absorbed, mean of the layers, meV/ps per atom.
    - `balances`: at how many temperatures heat in and heat out are in stable balance. 1: the usual case. 2 or more:
      bistable, and this is the coldest, which a sample reaches whose light is switched on.
    - `balanced`: False where the sample would go to and fro between two phases, hotter in the one that cools it.
    - `valid`: whether the state is a valid rigid one, and `balanced`.
    """

    state: SteadyState
    electron_temperature: Float[Array, ""]
    lattice_temperature: Float[Array, ""]
    power: Float[Array, ""]
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
        if not is_concrete(self.power) or self.power.ndim:
            return f"WarmState(power{self.power.shape})"
        several = f", one of {int(self.balances)} balances (the coldest)" if int(self.balances) > 1 else ""
        lost = "" if self.balanced else "; no balance: it goes to and fro between two phases"
        return (
            f"electrons at {float(self.electron_temperature):.4g} K, lattice at "
            f"{float(self.lattice_temperature):.4g} K, {float(self.power):.3g} meV/ps absorbed per atom{several}{lost}"
            f"\n{self.state}"
        )


def warm_state(find: Find, magnet: Any, thermal: ThermalModel) -> WarmState:
    """T - T_0 = R P(m(T), T), the coldest root at which heat in grows more slowly than heat out.

    **Arguments** `find`: the steady state of a magnet, without raising.
    """
    if not isinstance(magnet, LayeredMagnet):
        raise ValueError(f"thermal: a {type(magnet).__name__} absorbs no light. Leave it out, or take a LayeredMagnet.")
    if thermal.conduction is not None:
        raise ValueError(
            "conduction is given: layers of different temperature have no steady state here. Leave it out, or use "
            "simulate(..., thermal=...)."
        )
    if is_concrete(thermal.cooling_time) and bool(jnp.any(thermal.cooling_time == jnp.inf)):
        raise ValueError(
            "cooling_time = inf: without cooling the sample warms for ever. Give tau in ps, or use turns() or "
            "simulate(..., thermal=...)."
        )
    base, resistance = thermal.base, thermal.resistance

    def excess(temperature: Array) -> tuple[Array, tuple[SteadyState, Array]]:
        warm = at_temperature(magnet, temperature * units.kelvin)
        state = find(warm)
        # Of a state that did not settle nothing is known, and no balance is looked for beside it.
        power = jnp.where(jnp.isfinite(state.lengths).all(), thermal.power(warm, state.m)[0], jnp.nan)
        return temperature - base - resistance * power, (state, power)

    def value(temperature: Array) -> Array:
        return jax.lax.stop_gradient(excess(temperature)[0])

    still = jnp.zeros((magnet.layers, 3), magnet.dtype)
    most = jnp.max(thermal.power(magnet, still)) * (1.0 + _most_polarization(magnet))
    grid = jax.lax.stop_gradient(base + resistance * most * jnp.linspace(0.0, 1.0, LOOKS, dtype=magnet.dtype) ** 2)
    values = jax.vmap(value)(grid)
    rises = (values[:-1] < 0) & (values[1:] >= 0)
    first = jnp.argmax(rises)

    def halve(_: object, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bracket
        middle = 0.5 * (low + high)
        below = value(middle) < 0
        return jnp.where(below, middle, low), jnp.where(below, high, middle)

    low, high = jax.lax.fori_loop(0, HALVINGS, halve, (grid[first], grid[first + 1]))
    # In darkness the first value is 0 already.
    dark = values[0] >= 0
    root = jax.lax.stop_gradient(jnp.where(dark, grid[0], 0.5 * (low + high)))
    left, slope = jax.jvp(lambda t: excess(t)[0], (root,), (jnp.ones_like(root),))
    # Newton's last step, which carries the derivative of the root by the implicit function theorem.
    slope = jax.lax.stop_gradient(jnp.where(jnp.isfinite(slope) & (slope != 0), slope, 1.0))
    balanced = (dark | jnp.any(rises)) & (jnp.abs(left) <= BALANCED * jnp.maximum(root - base, 1e-3))
    temperature = root - jnp.where(balanced, left / slope, 0.0)
    _, (state, power) = excess(temperature)
    lattice = base + power * thermal.cooling_time / thermal.lattice
    electrons = lattice + jnp.where(thermal.electronic > 0, power / thermal.coupling, 0.0)
    return WarmState(state, electrons, lattice, power, jnp.sum(rises) + dark.astype(int), balanced)


def _most_polarization(magnet: LayeredMagnet) -> Array:
    """The most that polarized electrons add to the absorption, relative to that of unpolarized ones."""
    g = jnp.where(magnet.sd_coupling == 0, jnp.inf, jnp.abs(magnet.sd_coupling))
    each = 2.0 * jnp.sum(jnp.abs(magnet.light_exchange()), axis=1) / g
    return jnp.max(each / jnp.maximum(magnet.filling, 1e-6))
