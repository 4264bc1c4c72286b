"""Following any model in time until it turns rigidly, many lanes in a queue.

Tsitouras' steps of order 5 (Diffrax's) in a loop that asks after each whether the motion is rigid, and nothing else:
over a batch ten times faster than an integration with an event, in which all lanes wait for the slowest.
"""

import functools
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._numerics.refilled_loops import iterate
from .._numerics.unrolled_runge_kutta import UnrolledTsit5
from .._numerics.vectors import Vector, cross, dot
from ..magnets import AbstractOrderParameters, LayeredMagnet
from ..motion.coordinates import Components
from ..motion.integration import UNROLLED_LAYERS
from ..motion.rigid_rotation import in_space, rotation_among
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

    m: Any
    velocity: Any
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
    omega, rest = _without_rotation(Components(model), projector, m, velocity, model.term_size(m))
    return jnp.stack(omega), rest


def set_out(
    model: AbstractOrderParameters, projector: Float[Array, "3 3"], dies_out: Array, m: Float[Array, "L n"]
) -> Followed:
    """A motion that begins at m. **Arguments** `dies_out`: whether small moments do."""
    velocity = model.vector_field(0.0, m)
    rest, vanishing = _judged(Components(model), projector, dies_out, m, velocity)
    size, rate = jnp.max(jnp.abs(m)), jnp.max(jnp.abs(velocity))
    step = FIRST * jnp.maximum(size, FIRST) / jnp.maximum(rate, jnp.finfo(m.dtype).tiny ** 0.5)
    return Followed(m, velocity, jnp.zeros((), m.dtype), step, jnp.zeros((), jnp.int32), rest, vanishing)


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
    count, tiny = motion.m.size, jnp.finfo(motion.m.dtype).tiny

    def step(parameters: Any, now: Followed) -> Followed:
        arrays, projector, dies_out, duration, *_ = parameters
        chosen = Components(eqx.combine(arrays, rest_of_model), unrolled)
        took = jnp.minimum(now.step, duration - now.time)
        term = diffrax.ODETerm(lambda t, y, args: chosen.rates(jnp.zeros(()), y))
        m, error, _, velocity, _ = _SOLVER.step(term, now.time, now.time + took, now.m, None, now.velocity, False)
        each = jax.tree.map(lambda x, y: jnp.maximum(jnp.abs(x), jnp.abs(y)), now.m, m)
        largest = _largest(each)
        # Relative to the largest: small moments, of a paramagnet in a weak field, come to rest as exactly.
        shares = jax.tree.map(lambda e, size: jnp.sum((e / (tolerance * (largest + size) + tiny)) ** 2), error, each)
        relative = jnp.sqrt(sum(jax.tree.leaves(shares)) / count)
        finite = jnp.isfinite(relative)
        accept = finite & (relative < 1.0)
        factor = SAFETY * jnp.where(finite, jnp.maximum(relative, 1e-10), jnp.inf) ** -0.2
        rest, vanishing = _judged(chosen, projector, dies_out, m, velocity)
        moved = Followed(m, velocity, now.time + took, now.step, now.steps, rest, vanishing)
        now = jax.tree.map(lambda x, y: jnp.where(accept, x, y), moved, now)
        return now._replace(step=took * jnp.clip(factor, SHRINK, GROW), steps=now.steps + 1)

    def done(state: Any) -> Array:
        now, (duration, rigid, last) = state
        there = (now.rest < rigid) | now.vanishing | (now.time >= duration)
        return there | (now.steps >= last) | ~(now.step > SHORTEST_STEP * duration)

    coordinates = Components(model, unrolled)
    begin = motion._replace(m=coordinates.start(motion.m), velocity=coordinates.start(motion.velocity))
    end, _ = iterate(
        lambda parameters, state: (step(parameters, state[0]), state[1]),
        done,
        (arrays, projector, dies_out, duration),
        (begin, (duration, rigid, last)),
        long=True,
    )
    return end._replace(m=coordinates.moments(end.m), velocity=coordinates.moments(end.velocity))


def _judged(coordinates: Components, projector: Array, dies_out: Array, y: Any, velocity: Any) -> tuple[Array, Array]:
    """How far a motion is from rigid, and whether its moments are so small that they only die out."""
    model = coordinates.model
    terms, nonlinearity = model.layer_sizes(y) if coordinates.unrolled else (model.term_size(y), model.nonlinearity(y))
    _, rest = _without_rotation(coordinates, projector, y, velocity, terms)
    squares = [dot(m, m) for m in _vectors(coordinates, y)]
    return rest, dies_out & (nonlinearity < LINEAR) & (_largest(squares) < LINEAR)


def _without_rotation(
    coordinates: Components, projector: Array, y: Any, velocity: Any, terms: Array
) -> tuple[Vector, Array]:
    """The closest rigid rotation, and what it leaves of the velocity, relative to the terms of dm/dt."""
    moments, rates = _vectors(coordinates, y), _vectors(coordinates, velocity)
    omega, _ = rotation_among(moments, rates, projector)
    left = [tuple(a - b for a, b in zip(v, cross(omega, m), strict=True)) for m, v in zip(moments, rates, strict=True)]
    return omega, jnp.sqrt(_largest([dot(v, v) for v in left])) / jnp.maximum(terms, jnp.finfo(terms.dtype).tiny ** 0.5)


def _vectors(coordinates: Components, y: Any) -> Sequence[Vector]:
    """Order parameters by components in space: layer by layer, or arrays over layers."""
    return y if coordinates.unrolled else [tuple(in_space(y).T)]


def _largest(values: Any) -> Array:
    """Of all entries of all leaves."""
    return functools.reduce(jnp.maximum, map(jnp.max, jax.tree.leaves(values)))
