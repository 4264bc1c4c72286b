"""Following the shape of a bilayer through pseudo-time to where it settles.

A linearly implicit Rosenbrock method (Rodas3: order 3, L-stable, four stages that share one 3 x 3 inverse) with a
controlled step follows the true trajectory, so that it ends in the attractor that the dynamics reaches and not in
some other root. Three guards keep it honest: it stops only where the linearization is stable; next to an unstable
state a step may not outrun the growth that it must resolve; and the tilt of nearly collinear moments is carried along
by its own exact equation, since rounding and step errors would swamp it.

Source of the coefficients: Sandu et al., Atmospheric Environment 31 (1997) 3459 (Rodas3).
"""

from typing import Final, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from .._numerics.refilled_loops import iterate
from .._numerics.small_matrices import Matrix, adjugate, characteristic, complex_pair, is_stable, solve
from ..magnets.relaxation import Gram
from ..magnets.shape import ShapeDynamics

# Relative error of one step. It only has to lead to the right attractor; Newton's method polishes.
STEP_TOLERANCE: Final = 1e-2
# Newton's step, relative to the state, below which a stable state counts as reached.
CLOSE: Final = 0.03
# Decay of a spiral, for each radian and as a share of the rate of the third direction, below which steps of this
# tolerance cannot tell it from a cycle: of 4000 random magnets two were that cycle, with (5e-5, 2e-4) and (2e-4, 6e-4).
SLOWEST_SPIRAL: Final = (5e-4, 1e-2)
# sin^2 of the angle below which only the collinear state can be meant.
COLLINEAR: Final = 1e-5
# Share of the squared lengths below which a decoupled layer counts as disordered.
VANISHED: Final = 1e-12
# Squared lengths, or rates in meV, beyond which no magnet is (lengths are of order one): the lane has diverged.
DIVERGED: Final = 1e12
# |h|^2/T^2 below which a stable paramagnet has won: the nonlinearity is negligible and only damps further.
LINEAR_FIELD: Final = 1e-3
# sin^2 of the angle above which the Gram matrix itself resolves the tilt.
RESOLVED_TILT: Final = 0.1
# The least sin^2 kept while a collinear motion is unstable: a deviation that a real magnet always has, from which the
# instability grows without a long wait. And the least kept otherwise, from which it can grow back.
LEAST_TILT: Final = 1e-2
NO_TILT: Final = 1e-20
# The exponent by which a tilt may grow or shrink in one step: more than there is between the least and the greatest.
STEEPEST: Final = 60.0


class Motion(NamedTuple):
    """A shape on its way: Gram matrix, sin^2 of the angle (by its own equation, and so also where det G is rounding),
    time and next step in hbar/meV, whether it has arrived (at m = 0)."""

    gram: Gram
    tilt: Array
    time: Array
    step: Array
    arrived: Array
    paramagnetic: Array


class Journey(NamedTuple):
    """A motion, and the steps it took."""

    motion: Motion
    steps: Array


def tilt_of(gram: Gram) -> Array:
    """sin^2 of the angle, floored at the least tilt."""
    product = gram.aa * gram.bb
    return jnp.maximum((product - gram.ab**2) / jnp.maximum(product, jnp.finfo(product.dtype).tiny), NO_TILT)


def rosenbrock_step(shape: ShapeDynamics, g: Gram, rates: Gram, jacobian: Matrix, step: Array) -> tuple[Gram, Gram]:
    """One step of Rodas3; returns the new Gram matrix and the estimate of its error."""
    shift, over = 2.0 / step, 1.0 / step
    # Divided by the shift, so that XLA keeps the entries (see `solve`).
    matrix = tuple(tuple((1.0 if i == j else 0.0) - jacobian[i][j] / shift for j in range(3)) for i in range(3))
    rows, determinant = adjugate(matrix)
    inverse = rows, determinant * shift
    k1 = solve(inverse, rates)
    k2 = solve(inverse, Gram(*(f + 4.0 * over * a for f, a in zip(rates, k1, strict=True))))
    middle = shape.rates(Gram(*(x + 2.0 * a for x, a in zip(g, k1, strict=True))))
    k3 = solve(inverse, Gram(*(f + over * (a - b) for f, a, b in zip(middle, k1, k2, strict=True))))
    nearly = Gram(*(x + 2.0 * a + c for x, a, c in zip(g, k1, k3, strict=True)))
    last = Gram(
        *(f + over * (a - b - (8.0 / 3.0) * c) for f, a, b, c in zip(shape.rates(nearly), k1, k2, k3, strict=True))
    )
    error = Gram(*solve(inverse, last))
    return Gram(*(x + e for x, e in zip(nearly, error, strict=True))), error


def paramagnet_is_stable(shape: ShapeDynamics) -> Array:
    """Whether both eigenvalues of W(m = 0) have a negative real part."""
    zero = jnp.zeros_like(shape.w_aa)
    r_a, r_b = shape.relaxation_rates(Gram(zero, zero, zero))
    w_aa, w_bb = shape.w_aa - r_a, shape.w_bb - r_b
    return (w_aa + w_bb < 0) & (w_aa * w_bb - shape.w_ab * shape.w_ba > 0)


def is_slow_spiral(shape: ShapeDynamics, g: Gram) -> Array:
    """Whether a stable g is approached in circles that hardly shrink, as next to a Hopf bifurcation."""
    _, jacobian, _ = shape.linearize(g)
    decay, frequency = complex_pair(jacobian)
    third = characteristic(jacobian)[0] - 2.0 * decay
    a_radian, beside = SLOWEST_SPIRAL
    return (frequency > 0) & (-decay < a_radian * frequency) & (-decay < beside * -third)


def attempt_step(shape: ShapeDynamics, paramagnet_is_stable: Array, motion: Motion, tolerance: float) -> Motion:
    """One attempted step; a rejected one only shortens the next."""
    g, step = motion.gram, motion.step
    rates, jacobian, trace_w = shape.linearize(g)
    trace, minors, determinant = characteristic(jacobian)
    stable = is_stable(trace, minors, determinant)

    # Growth faster than the step: the implicit method would damp what really grows.
    s = 1.0 / step
    slow_growth = is_stable(
        trace - 3.0 * s, minors - 2.0 * s * trace + 3.0 * s * s, determinant - s * minors + s * s * trace - s * s * s
    )
    step = jnp.where(slow_growth, step, 0.25 * step)
    new, error = rosenbrock_step(shape, g, rates, jacobian, step)

    total = g.aa + g.bb
    a, b = g.aa + 1e-4 * total, g.bb + 1e-4 * total
    relative = jnp.maximum(jnp.abs(error.aa) / a, jnp.abs(error.bb) / b)
    relative = jnp.maximum(relative, jnp.abs(error.ab) / jnp.sqrt(a * b)) / tolerance
    relative = jnp.where(jnp.isfinite(relative), relative, 1e10)
    accept = relative <= 1.0
    # err^(-1/4): slightly more cautious than the order asks, and two square roots are cheap.
    next_step = step * jnp.clip(0.9 * jax.lax.rsqrt(jnp.sqrt(jnp.maximum(relative, 1e-12))), 0.2, 8.0)

    new, tilt = _with_tilt(shape, new, motion, step, trace_w, jnp.where(stable, NO_TILT, LEAST_TILT))
    arrived, paramagnetic = _has_arrived(shape, paramagnet_is_stable, g, rates, jacobian, stable)
    # The share of the step that is taken, all or nothing: a quotient, so that XLA decides once and not for each entry.
    moved = jnp.where(accept & ~arrived, step, 0.0) / step > 0.5
    return Motion(
        Gram(*(jnp.where(moved, x, y) for x, y in zip(new, g, strict=True))),
        jnp.where(moved, tilt, motion.tilt),
        jnp.where(moved, motion.time + step, motion.time),
        jnp.where(jnp.isfinite(next_step), next_step, 1e-3),
        arrived | ~(jnp.abs(total + rates.aa + rates.bb + rates.ab) < DIVERGED),
        paramagnetic,
    )


def _with_tilt(
    shape: ShapeDynamics, new: Gram, before: Motion, step: Array, trace_w: Array, least: Array
) -> tuple[Gram, Array]:
    """The new Gram matrix made possible (m_A and m_B are real vectors), with the tilt from d ln det G/dt = 2 tr W."""
    aa, bb = jnp.maximum(new.aa, 0.0), jnp.maximum(new.bb, 0.0)
    product = aa * bb
    r_a, r_b = shape.relaxation_rates(Gram(aa, bb, new.ab))
    trace_end = shape.w_aa - r_a + shape.w_bb - r_b
    tiny = jnp.finfo(product.dtype).tiny
    # No logarithms: on a CPU XLA asks the C library for them, number by number.
    grown = jnp.exp(jnp.clip(step * (trace_w + trace_end), -STEEPEST, STEEPEST))
    followed = grown * (before.tilt * (before.gram.aa * before.gram.bb)) / jnp.maximum(product, tiny)
    followed = jnp.clip(followed, least, 1.0)
    resolved = (followed > RESOLVED_TILT) & (new.ab**2 < product)
    bound = jnp.sqrt(product * (1.0 - followed))
    ab = jnp.where(resolved, new.ab, jnp.where(new.ab < 0, -bound, bound))
    tilt = jnp.where(resolved, tilt_of(Gram(aa, bb, ab)), followed)
    return Gram(aa, bb, ab), tilt


def _has_arrived(
    shape: ShapeDynamics, paramagnet_is_stable: Array, g: Gram, rates: Gram, jacobian: Matrix, stable: Array
) -> tuple[Array, Array]:
    """Whether g lies next to a stable fixed point, and whether that is m = 0."""
    total, product = g.aa + g.bb, g.aa * g.bb
    newton = Gram(*solve(adjugate(jacobian), rates))
    # A layer that nothing keeps ordered (no exchange reaches it) decays to nothing beside an ordered one.
    alone = (jnp.minimum(g.aa, g.bb) < VANISHED * total) & (shape.w_ab * shape.w_ba == 0)
    close = (
        ((jnp.abs(newton.aa) < CLOSE * g.aa) | (alone & (g.aa < g.bb)))
        & ((jnp.abs(newton.bb) < CLOSE * g.bb) | (alone & (g.bb < g.aa)))
        & ((jnp.abs(newton.ab) < CLOSE * jnp.sqrt(product)) | alone)
    )
    # Next to the onset of the chase a chiral and a collinear root lie close together: tell them apart by their tilt.
    tilt = product - g.ab * g.ab
    change = g.aa * newton.bb + g.bb * newton.aa - 2.0 * g.ab * newton.ab
    close = close & (alone | (jnp.abs(change) < 0.3 * jnp.maximum(tilt, COLLINEAR * product)))
    paramagnetic = paramagnet_is_stable & (shape.nonlinearity_scale * total < LINEAR_FIELD)
    return (close & stable) | paramagnetic, paramagnetic


def set_out(shape: ShapeDynamics, start: Gram) -> tuple[Array, Journey]:
    """Whether m = 0 is stable, and a journey that begins at `start`."""
    _, jacobian, _ = shape.linearize(start)
    size = jnp.sqrt(sum((x * x for row in jacobian for x in row), jnp.zeros_like(start.aa)))
    zero = jnp.zeros_like(start.aa)
    motion = Motion(start, tilt_of(start), zero, 0.1 / jnp.maximum(size, 1e-12), zero > 0, zero > 0)
    return paramagnet_is_stable(shape), Journey(motion, zero.astype(jnp.int32))


def settle(shape: ShapeDynamics, paramagnet_is_stable: Array, journey: Journey, max_steps: int) -> Journey:
    """Follow dG/dt from where a journey `set_out` until it is next to a stable fixed point, `max_steps` steps at most.

    **Returns** a `Journey`; `motion.arrived` tells whether it got there. Not differentiable (the answer is a
    neighbourhood, for Newton's method to start from).
    """

    def step(parameters: tuple[ShapeDynamics, Array], journey: Journey) -> Journey:
        return Journey(attempt_step(*parameters, journey.motion, STEP_TOLERANCE), journey.steps + 1)

    def done(journey: Journey) -> Array:
        return journey.motion.arrived | (journey.steps >= max_steps)

    return iterate(step, done, (shape, paramagnet_is_stable), journey)
