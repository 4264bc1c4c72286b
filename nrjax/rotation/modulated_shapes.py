"""Telling a shape that keeps oscillating from one that is only slow to settle."""

from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from .._numerics.refilled_loops import iterate
from ..magnets.relaxation import Gram
from ..magnets.shape import ShapeDynamics
from .bilayer_relaxation import Journey, attempt_step, paramagnet_is_stable

# Relative error of one step: here the motion itself is the answer.
STEP_TOLERANCE: Final = 1e-4
# Times that a maximum must return, and how exactly, relative to the amplitude of the oscillation.
REPEATS: Final = 8
EXACTNESS: Final = 1e-3
# Maxima in a row that may differ from the one that is waited for before another is waited for.
PATIENCE: Final = 8
# Least amplitude, relative to the squared lengths, that counts as an oscillation.
LEAST_AMPLITUDE: Final = 1e-2
# Largest change of ln det G over the repeats: the tilt must repeat as well.
TILT_DRIFT: Final = 2e-2


class Averages(NamedTuple):
    """Integrals over one period, or averages once divided by its time (hbar/meV).

    `gram`: of the scalar products. `chase` and `rotation`: of the rates (meV) at which m_A turns in the plane of the
    moments, and turns at all.
    """

    time: Array
    gram: Gram
    chase: Array
    rotation: Array


class Watch(NamedTuple):
    """A shape watched for repetition: maxima of |m_A|^2 + |m_B|^2 are compared with an earlier one, the anchor.

    A period may hold several maxima; only after some have missed the anchor is another one chosen.
    """

    running: Averages
    period: Averages
    rate: Array
    lowest: Array
    anchor: Array
    anchor_tilt: Array
    repeats: Array
    misses: Array


def watch_for_repetition(
    shape: ShapeDynamics, turning_rates: tuple[Array, Array], start: Journey, max_steps: int
) -> tuple[Journey, Watch]:
    """Follow a motion that has not settled, in fine steps, until it settles or repeats itself.

    **Arguments** `turning_rates`: gyro j_BA and gyro j_AB in meV. `start`: where `settle` left off; a motion that has
    arrived stays as it is. `max_steps`: the most steps, those of `start` included.

    **Returns** the journey, its steps counted on, and the `Watch`, which `is_modulated` and `averages` read. Not
    differentiable.
    """

    def step(parameters: Any, state: tuple[Journey, Watch]) -> tuple[Journey, Watch]:
        shape, stable, turning_rates = parameters
        (before, steps), watch = state
        motion = attempt_step(shape, stable, before, STEP_TOLERANCE)
        took = motion.time - before.time
        watch = _observe(shape, turning_rates, watch, before.gram, motion.gram, motion.log_tilt, took)
        return Journey(motion, steps + 1), watch

    def done(state: tuple[Journey, Watch]) -> Array:
        journey, watch = state
        return journey.motion.arrived | is_modulated(watch) | (journey.steps >= max_steps)

    parameters = (shape, paramagnet_is_stable(shape), turning_rates)
    return iterate(step, done, parameters, (start, nothing_seen(start.motion.gram)), few=True)


def nothing_seen(gram: Gram) -> Watch:
    """The watch of a shape at its start."""
    zero = jnp.zeros_like(gram.aa)
    none = jnp.zeros_like(zero, jnp.int32)
    nothing = Averages(zero, Gram(zero, zero, zero), zero, zero)
    return Watch(nothing, nothing, zero, zero + jnp.inf, zero - 1.0, zero, none, none + PATIENCE)


def is_modulated(watch: Watch) -> Array:
    """Whether enough maxima in a row were the same."""
    return watch.repeats >= REPEATS


def averages(watch: Watch) -> Averages:
    """The observables averaged over the last full period."""
    time = watch.period.time
    scale = 1.0 / jnp.where(time > 0, time, 1.0)
    gram = Gram(*(x * scale for x in watch.period.gram))
    return Averages(time, gram, watch.period.chase * scale, watch.period.rotation * scale)


def _observe(
    shape: ShapeDynamics,
    turning_rates: tuple[Array, Array],
    watch: Watch,
    before: Gram,
    after: Gram,
    log_tilt: Array,
    took: Array,
) -> Watch:
    """The watch after a step from `before` to `after`.

    **Arguments** `turning_rates`: gyro j_BA and gyro j_AB in meV. `log_tilt`: ln det G after the step. `took`: its
    duration in hbar/meV, 0 if it was rejected.
    """
    moved = took > 0
    middle = Gram(*(0.5 * (x + y) for x, y in zip(before, after, strict=True)))
    to_a, to_b = turning_rates
    tilt = jnp.sqrt(jnp.maximum(middle.aa * middle.bb - middle.ab**2, 0.0))
    chase = jnp.abs(shape.w_ab) * tilt / jnp.maximum(middle.aa, 1e-12)
    precession = to_a**2 * middle.aa + 2.0 * to_a * to_b * middle.ab + to_b**2 * middle.bb
    rotation = jnp.sqrt(jnp.maximum(chase**2 + precession, 0.0))
    running = Averages(
        watch.running.time + took,
        Gram(*(x + took * y for x, y in zip(watch.running.gram, middle, strict=True))),
        watch.running.chase + took * chase,
        watch.running.rotation + took * rotation,
    )
    rates = shape.rates(after)
    rate, total, last = rates.aa + rates.bb, after.aa + after.bb, before.aa + before.bb

    maximum = moved & (watch.rate > 0) & (rate <= 0)
    # The height of the maximum, by cubic Hermite interpolation between the two ends of the step.
    x = watch.rate / jnp.where(maximum, watch.rate - rate, 1.0)
    height = (
        (1.0 + 2.0 * x) * (1.0 - x) ** 2 * last
        + x * (1.0 - x) ** 2 * took * watch.rate
        + x * x * (3.0 - 2.0 * x) * total
        + x * x * (x - 1.0) * took * rate
    )
    amplitude = height - watch.lowest
    match = (
        maximum
        & (jnp.abs(height - watch.anchor) < EXACTNESS * amplitude)
        & (jnp.abs(log_tilt - watch.anchor_tilt) < TILT_DRIFT)
        & (amplitude > LEAST_AMPLITUDE * height)
    )
    misses = jnp.where(match, 0, watch.misses + maximum.astype(jnp.int32))
    renew = misses > PATIENCE
    ends_period = match | renew

    def at_end(new: Any, old: Any) -> Any:
        return jax.tree.map(lambda x, y: jnp.where(ends_period, x, y), new, old)

    return Watch(
        at_end(jax.tree.map(jnp.zeros_like, running), running),
        at_end(running, watch.period),
        jnp.where(moved, rate, watch.rate),
        at_end(total, jnp.minimum(watch.lowest, total)),
        jnp.where(renew, height, watch.anchor),
        jnp.where(renew, log_tilt, watch.anchor_tilt),
        jnp.where(renew, 0, watch.repeats + match.astype(jnp.int32)),
        jnp.where(renew, 0, misses),
    )
