"""Telling a shape that keeps oscillating from one that is only slow to settle."""

from typing import Any, Final, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from .._numerics.refilled_loops import iterate
from ..magnets.relaxation import Gram
from ..magnets.shape import ShapeDynamics
from .bilayer_relaxation import Journey, Motion, attempt_step, paramagnet_is_stable

# Relative error of one step: here the motion itself is the answer.
STEP_TOLERANCE: Final = 5e-4
# Times that a maximum must return, and how exactly, relative to the amplitude of the oscillation.
REPEATS: Final = 8
EXACTNESS: Final = 1e-3
# Maxima in a row that may differ from the one that is waited for before another is waited for.
PATIENCE: Final = 8
# Least amplitude, relative to the squared lengths, that counts as an oscillation.
LEAST_AMPLITUDE: Final = 1e-2
# Largest change of ln det G over the repeats: the tilt must repeat as well.
TILT_DRIFT: Final = 2e-2


class Watch(NamedTuple):
    """A shape watched for repetition: maxima of |m_A|^2 + |m_B|^2 are compared with an earlier one, the anchor.

    A period may hold several maxima; only after some have missed the anchor is another one chosen. `since`: the time
    from the last maximum that matched; `period`: between the last two, to within a step (hbar/meV), `maxima` how many
    there were in it: a period or several, since errors of steps let some miss.
    """

    since: Array
    period: Array
    maxima: Array
    rate: Array
    lowest: Array
    anchor: Array
    anchor_tilt: Array
    repeats: Array
    misses: Array


def watch_for_repetition(shape: ShapeDynamics, start: Journey, max_steps: int) -> tuple[Journey, Watch]:
    """Follow a motion that has not settled, in fine steps, until it settles or repeats itself.

    **Arguments** `start`: where `settle` left off; a motion that has arrived stays as it is. `max_steps`: the most
    steps, those of `start` included.

    **Returns** the journey, its steps counted on, and the `Watch`, which `is_modulated` reads. Not differentiable.
    """

    def step(parameters: Any, state: tuple[Journey, Watch]) -> tuple[Journey, Watch]:
        shape, stable = parameters
        (before, steps), watch = state
        motion = attempt_step(shape, stable, before, STEP_TOLERANCE)
        took = motion.time - before.time
        watch = _observe(shape, watch, before, motion, took)
        return Journey(motion, steps + 1), watch

    def done(state: tuple[Journey, Watch]) -> Array:
        journey, watch = state
        return journey.motion.arrived | is_modulated(watch.repeats) | (journey.steps >= max_steps)

    return iterate(step, done, (shape, paramagnet_is_stable(shape)), (start, nothing_seen(start.motion.gram)), few=True)


def nothing_seen(gram: Gram) -> Watch:
    """The watch of a shape at its start."""
    zero = jnp.zeros_like(gram.aa)
    none = jnp.zeros_like(zero, jnp.int32)
    return Watch(zero, zero, none, zero, zero + jnp.inf, zero - 1.0, zero, none, none + PATIENCE)


def is_modulated(repeats: Any) -> Any:
    """Whether so many maxima in a row, an array of JAX or NumPy, that were the same are enough."""
    return repeats >= REPEATS


def _log_determinant(motion: Motion) -> Array:
    """ln det G."""
    determinant = motion.tilt * (motion.gram.aa * motion.gram.bb)
    return jnp.log(jnp.maximum(determinant, jnp.finfo(determinant.dtype).tiny))


def _observe(shape: ShapeDynamics, watch: Watch, before: Motion, after: Motion, took: Array) -> Watch:
    """The watch after a step. `took`: its duration in hbar/meV, 0 if it was rejected."""
    moved = took > 0
    since = watch.since + took
    rates = shape.rates(after.gram)
    rate, total, last = rates.aa + rates.bb, after.gram.aa + after.gram.bb, before.gram.aa + before.gram.bb

    maximum = moved & (watch.rate > 0) & (rate <= 0)
    # The maximum of the cubic between the two ends of the step, last + a x + b x^2 + c x^3: where and how high.
    a, end = took * watch.rate, took * rate
    b, c = 3.0 * (total - last) - 2.0 * a - end, a + end - 2.0 * (total - last)
    x = a / jnp.where(maximum, a - end, 1.0)
    bend = 2.0 * b + 6.0 * c * x
    x = x - (a + (2.0 * b + 3.0 * c * x) * x) / jnp.where(bend < 0, bend, -jnp.inf)
    x = jnp.clip(x, 0.0, 1.0)
    height = last + (a + (b + c * x) * x) * x
    log_determinant = (1.0 - x) * _log_determinant(before) + x * _log_determinant(after)
    amplitude = height - watch.lowest
    match = (
        maximum
        & (jnp.abs(height - watch.anchor) < EXACTNESS * amplitude)
        & (jnp.abs(log_determinant - watch.anchor_tilt) < TILT_DRIFT)
        & (amplitude > LEAST_AMPLITUDE * height)
    )
    misses = jnp.where(match, 0, watch.misses + maximum.astype(jnp.int32))
    renew = misses > PATIENCE
    ends_period = match | renew

    def at_end(new: Array, old: Array) -> Array:
        return jnp.where(ends_period, new, old)

    return Watch(
        at_end(jnp.zeros_like(since), since),
        at_end(since, watch.period),
        at_end(watch.misses + 1, watch.maxima),
        jnp.where(moved, rate, watch.rate),
        at_end(total, jnp.minimum(watch.lowest, total)),
        jnp.where(renew, height, watch.anchor),
        jnp.where(renew, log_determinant, watch.anchor_tilt),
        jnp.where(renew, 0, watch.repeats + match.astype(jnp.int32)),
        jnp.where(renew, 0, misses),
    )
