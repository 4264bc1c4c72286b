"""How long a step may be: it ends a lane gone wrong, and steps over no pulse of a laser."""

from typing import Any, Final

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .. import units
from .._numerics.validation import Number, array_of, is_concrete, numbers_of, require_nonnegative
from ..light.envelopes import AbstractEnvelope
from ..light.laser import Laser

# A step this much shorter than the whole time ends a lane that has gone wrong.
SHORTEST_STEP: Final = 1e-9
# Light that changes in time is looked at this many times at least. Steps must land on the knots of its envelope, and
# what remains before a knot may be short: the whole time is no round number of steps, and shorter ones are allowed.
LOOKS_AT_LIGHT: Final = 618.0 * 5**0.5
SHORTEST_STEP_TO_KNOT: Final = 1e-12
# How far deviations turn in a step at most, where they count, in radians.
DEVIATIONS_TURN: Final = 0.15


def step_control(
    laser: Laser | None,
    start: Array,
    stop: Array,
    rtol: float | Array,
    atol: float | Array,
    longest: Array | None = None,
    landings: Array | None = None,
) -> Any:
    """PID control that ends a lane gone wrong, and that steps over no pulse of a laser.

    **Arguments** `start`, `stop`: times in hbar/meV. `longest`: no step is longer, hbar/meV. `landings`: times on which
    steps land.
    """
    numbers = numbers_of(start, stop)
    duration = numbers.maximum(numbers.subtract(stop, start), 1e-30)
    lands: Any = numbers.zeros(0, start.dtype) if landings is None else landings
    changes = laser is not None and not laser.is_constant
    least = SHORTEST_STEP
    if changes or lands.size:
        least = max(SHORTEST_STEP_TO_KNOT, 4.0 * float(jnp.finfo(start.dtype).eps))
    if laser is not None and changes:
        look = array_of(duration / LOOKS_AT_LIGHT)
        longest = look if longest is None else jnp.minimum(look, longest)
        if isinstance(laser.envelope, AbstractEnvelope):
            lands = jnp.concatenate([lands, laser.envelope.knots().astype(start.dtype) * units.ps])
    least_step = array_of(least * duration)
    control = diffrax.PIDController(rtol=rtol, atol=atol, dtmin=least_step, dtmax=longest, force_dtmin=False)
    if lands.size == 0:
        return control
    # Where the steps fall is no part of the solution's derivative.
    return diffrax.ClipStepSizeController(control, step_ts=jnp.sort(jax.lax.stop_gradient(lands)))


@jax.custom_jvp
def longest_step_of_deviations(m0: Float[Array, "L n"], rate: Float[Array, ""]) -> Float[Array, ""]:
    """Infinite; but where a motion is differentiated with respect to its start, the longest step that deviations from
    it stand, which turn at `rate` (meV): of moments on one line the motion itself does not show it.

    **Arguments** `m0`: where the motion starts. **Returns** hbar/meV.
    """
    del m0
    return jnp.full_like(rate, jnp.inf)


@longest_step_of_deviations.defjvp
def _longest_step_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    del tangents
    _, rate = primals
    return DEVIATIONS_TURN / rate, jnp.zeros_like(rate)


def require_envelope(laser: Laser, t0: Number, t1: Number) -> None:
    """Raise `ValueError` if the envelope is not a number, or negative, where a few looks fall (known numbers only)."""
    if laser.envelope is None or not is_concrete(t0, t1, *(x for x in jax.tree.leaves(laser) if eqx.is_array(x))):
        return
    times = jnp.linspace(jnp.asarray(t0, float), jnp.asarray(t1, float), int(LOOKS_AT_LIGHT))
    envelope: Any = laser.envelope
    factors = jax.vmap(lambda t: jnp.asarray(envelope(t), times.dtype))(times)
    require_nonnegative("envelope", factors, "It is the intensity relative to the laser's: mend f(t).")
