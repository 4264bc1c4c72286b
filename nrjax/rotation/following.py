"""Following any model in time until it turns rigidly, many lanes in a queue.

Tsitouras' steps of order 5 (Diffrax's) in a loop that asks after each whether the motion is rigid, and nothing else:
over a batch ten times faster than an integration with an event, in which all lanes wait for the slowest.
"""

from typing import Any, Final, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._numerics.refilled_loops import iterate
from .._numerics.unrolled_runge_kutta import UnrolledTsit5
from ..magnets import AbstractOrderParameters, LayeredMagnet
from ..motion.coordinates import Components
from ..motion.integration import UNROLLED_LAYERS
from ..motion.rigid_rotation import closest_rotation, turning
from ..motion.step_sizes import SHORTEST_STEP

# The next step, relative to the one that the error would allow; and by how much it may change.
SAFETY: Final = 0.9
SHRINK: Final = 0.2
GROW: Final = 10.0
# Relative change of the moments in the first step.
FIRST: Final = 1e-3
# Nonlinearity and |m|^2 below which moments that die out linearly have done so: what is nonlinear only damps further.
LINEAR: Final = 1e-3

_SOLVER: Final = UnrolledTsit5()


class Followed(NamedTuple):
    """A motion on its way: moments, their velocity (meV), time, next step (hbar/meV) and the steps tried.

    `rest`: what remains of the velocity without the closest rigid rotation, relative to the terms of dm/dt.
    `vanishing`: whether the moments are so small that they only die out.
    """

    m: Array
    velocity: Array
    time: Array
    step: Array
    steps: Array
    rest: Array
    vanishing: Array


def closest_rigid_motion(
    model: AbstractOrderParameters,
    projector: Float[Array, "3 3"],
    m: Float[Array, "L n"],
    velocity: Float[Array, "L n"],
) -> tuple[Float[Array, "3"], Float[Array, ""]]:
    """The Omega that makes dm/dt - Omega x m smallest, in meV, and what remains, relative to the terms of dm/dt."""
    omega, _ = closest_rotation(m, velocity, projector)
    rest = velocity - turning(omega, m)
    scale = jnp.maximum(model.term_size(m), jnp.finfo(m.dtype).tiny ** 0.5)
    return omega, jnp.sqrt(jnp.max(jnp.sum(rest**2, axis=1))) / scale


def set_out(
    model: AbstractOrderParameters, projector: Float[Array, "3 3"], dies_out: Array, m: Float[Array, "L n"]
) -> Followed:
    """A motion that begins at m. **Arguments** `dies_out`: whether small moments do."""
    velocity = model.vector_field(0.0, m)
    _, rest = closest_rigid_motion(model, projector, m, velocity)
    size, rate = jnp.max(jnp.abs(m)), jnp.max(jnp.abs(velocity))
    step = FIRST * jnp.maximum(size, FIRST) / jnp.maximum(rate, jnp.finfo(m.dtype).tiny ** 0.5)
    none = jnp.zeros((), m.dtype)
    return Followed(m, velocity, none, step, jnp.zeros((), jnp.int32), rest, _has_vanished(model, dies_out, m))


def follow(
    model: AbstractOrderParameters,
    projector: Float[Array, "3 3"],
    dies_out: Array,
    motion: Followed,
    duration: Array,
    rigid: Array,
    tolerance: float,
    max_steps: int,
) -> Followed:
    """Go on until the motion is `rigid` to this relative residual, has vanished, or has lasted for `duration`
    (hbar/meV), in `max_steps` more steps at most. Not differentiable.
    """
    arrays, rest_of_model = eqx.partition(model, eqx.is_array)
    last = motion.steps + max_steps
    unrolled = isinstance(model, LayeredMagnet) and model.layers <= UNROLLED_LAYERS

    def step(parameters: Any, now: Followed) -> Followed:
        arrays, projector, dies_out, duration, *_ = parameters
        model = eqx.combine(arrays, rest_of_model)
        took = jnp.minimum(now.step, duration - now.time)
        chosen = Components(model, unrolled)
        term = diffrax.ODETerm(lambda t, y, args: chosen.rates(jnp.zeros(()), y))
        start, slope = chosen.start(now.m), chosen.start(now.velocity)
        m, error, _, velocity, _ = _SOLVER.step(term, now.time, now.time + took, start, None, slope, False)
        m, error, velocity = (chosen.moments(x) for x in (m, error, velocity))
        each = jnp.maximum(jnp.abs(now.m), jnp.abs(m))
        # Relative to the largest: small moments, of a paramagnet in a weak field, come to rest as exactly.
        scale = tolerance * (jnp.max(each) + each) + jnp.finfo(m.dtype).tiny
        relative = jnp.sqrt(jnp.mean((error / scale) ** 2))
        finite = jnp.isfinite(relative)
        accept = finite & (relative < 1.0)
        factor = SAFETY * jnp.where(finite, jnp.maximum(relative, 1e-10), jnp.inf) ** -0.2
        _, rest = closest_rigid_motion(model, projector, m, velocity)
        vanishing = _has_vanished(model, dies_out, m)
        moved = Followed(m, velocity, now.time + took, now.step, now.steps, rest, vanishing)
        now = jax.tree.map(lambda x, y: jnp.where(accept, x, y), moved, now)
        return now._replace(step=took * jnp.clip(factor, SHRINK, GROW), steps=now.steps + 1)

    def done(state: Any) -> Array:
        now, (duration, rigid, last) = state
        there = (now.rest < rigid) | now.vanishing | (now.time >= duration)
        return there | (now.steps >= last) | ~(now.step > SHORTEST_STEP * duration)

    limits = (duration, rigid, last)
    end, _ = iterate(
        lambda parameters, state: (step(parameters, state[0]), state[1]),
        done,
        (arrays, projector, dies_out, duration),
        (motion, limits),
        long=True,
    )
    return end


def _has_vanished(model: AbstractOrderParameters, dies_out: Array, m: Float[Array, "L n"]) -> Array:
    """Whether the moments are so small that they only die out."""
    return dies_out & (model.nonlinearity(m) < LINEAR) & (jnp.max(jnp.sum(m**2, axis=1)) < LINEAR)
