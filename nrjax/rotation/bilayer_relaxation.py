"""Following the shape of a bilayer through pseudo-time to where it settles.

An exponential Rosenbrock method with a controlled step (order 3, two evaluations) follows the trajectory, so that it
ends in the attractor that the dynamics reaches and not in some other root. What is linear about the point it has
reached is exact, so that steps grow to many radians as an oscillation dies away, and what grows is followed as it
grows. Two guards keep it honest: it stops only where the linearization is stable; and the tilt of nearly collinear
moments is carried along by its own exact equation, since step errors would swamp it.

Source of the method: Hochbruck, Ostermann, Schweitzer, SIAM J. Numer. Anal. 47 (2009) 786 (exprb32, with the weight
phi_1/3 in place of 2 phi_3: the same order, one function of the matrix less).
"""

from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from .._numerics.matrix_exponentials import phi_coefficients
from .._numerics.refilled_loops import iterate
from .._numerics.small_matrices import Matrix, adjugate, characteristic, complex_pair, is_stable, solve
from .._numerics.stored_values import stored, unseen_one
from ..magnets.relaxation import Gram
from ..magnets.shape import ShapeDynamics

# Relative error of one step. It only has to lead to the right attractor; Newton's method polishes.
STEP_TOLERANCE: Final = 1e-2
# Newton's step, relative to the state, below which a stable state counts as reached.
CLOSE: Final = 0.03
# Decay of a spiral, for each radian and as a share of the rate of the third direction, below which steps of this
# tolerance cannot tell it from a cycle: of 200,000 random magnets one was that cycle, with (2e-5, 2e-3). Of 150 beyond
# these bounds that decay by less than 3e-3 a radian, all followed in time, none was.
SLOWEST_SPIRAL: Final = (5e-4, 1e-2)
# sin^2 of the angle below which only the collinear state can be meant.
COLLINEAR: Final = 1e-5
# Share of the squared lengths below which a decoupled layer counts as disordered.
VANISHED: Final = 1e-12
# Squared lengths, or rates in meV, beyond which no magnet is (lengths are of order one): the lane has diverged.
DIVERGED: Final = 1e12
# |h|^2/T^2 below which a stable paramagnet has won: the nonlinearity is negligible and only damps further.
LINEAR_FIELD: Final = 1e-3
# The Gram matrix itself resolves the tilt where a step's error, or so many roundings, are less than this share of
# sin^2 of the angle, or where sin^2 is large.
RESOLVED: Final = 0.1
ROUNDINGS: Final = 1e3
LARGE_TILT: Final = 0.1
# Elsewhere: how much of ln sin^2 a step may leave open, unless sin^2 is so small that the lengths do not notice.
LARGEST_DRIFT: Final = 1.0
NEGLIGIBLE_TILT: Final = 1e-8
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


def exponential_step(
    shape: ShapeDynamics, g: Gram, rates: Gram, jacobian: Matrix, invariants: tuple[Array, Array, Array], step: Array
) -> tuple[Gram, Gram, Array]:
    """One step of size h from G, with f = dG/dt and J = df/dG there:

        U = G + h phi(h J) f,   new = U + error,   error = h phi(h J) [f(U) - f(G) - J (U - G)]/3.

    **Arguments** `invariants`: what `characteristic` gives of `jacobian`. `step`: h.

    **Returns** the new Gram matrix, the error of U, and trace W at U.
    """
    one = unseen_one(step)
    trace, minors, determinant = invariants
    size = jnp.sqrt(sum((x * x for row in jacobian for x in row), jnp.zeros_like(step)))
    c0, c1, c2 = phi_coefficients(step * trace, step**2 * minors, step**3 * determinant, step * size)
    c0, c1, c2 = stored((step * c0, step**2 * c1, step**3 * c2), one)

    def times_jacobian(v: Any) -> tuple[Array, ...]:
        return tuple(row[0] * v[0] + row[1] * v[1] + row[2] * v[2] for row in jacobian)

    def taken(v: Any) -> tuple[Array, ...]:
        """h phi(h J) v."""
        first = stored(times_jacobian(v), one)
        second = times_jacobian(first)
        return stored(tuple(c0 * x + c1 * y + c2 * z for x, y, z in zip(v, first, second, strict=True)), one)

    change = taken(rates)
    nearly = Gram(*(x + y for x, y in zip(g, change, strict=True)))
    after, trace_w = shape.rates_and_trace(nearly)
    bent = zip(after, rates, times_jacobian(change), strict=True)
    error = Gram(*taken(stored(tuple((x - y - z) / 3.0 for x, y, z in bent), one)))
    return Gram(*(x + e for x, e in zip(nearly, error, strict=True))), error, trace_w


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
    g, one = motion.gram, unseen_one(motion.step)
    rates, jacobian, trace_w = shape.linearize(g)
    rates, jacobian = stored((rates, jacobian), one)
    trace, minors, determinant = stored(characteristic(jacobian), one)
    stable = is_stable(trace, minors, determinant)
    step = motion.step
    new, error, trace_end = exponential_step(shape, g, rates, jacobian, (trace, minors, determinant), step)
    new, tilt, drift = _with_tilt(new, error, motion, step, trace_w, trace_end, jnp.where(stable, NO_TILT, LEAST_TILT))

    total = g.aa + g.bb
    a, b = g.aa + 1e-4 * total, g.bb + 1e-4 * total
    relative = jnp.maximum(jnp.abs(error.aa) / a, jnp.abs(error.bb) / b)
    relative = jnp.maximum(relative, jnp.abs(error.ab) * jax.lax.rsqrt(a * b))
    relative = jnp.maximum(relative / tolerance, drift / LARGEST_DRIFT)
    relative = jnp.where(jnp.isfinite(relative), relative, 1e10)
    # err^(-3/8), about the order's third, by roots, which are cheap. No quotient by a root: XLA would make it a product
    # in one program and not in another of more devices, and round it differently.
    quarter = jax.lax.rsqrt(jnp.sqrt(jnp.maximum(relative, 1e-12)))
    next_step = step * jnp.clip(0.9 * quarter * jnp.sqrt(quarter), 0.2, 5.0)

    newton = Gram(*solve((adjugate(jacobian)[0], determinant), rates))
    arrived, paramagnetic = _has_arrived(shape, paramagnet_is_stable, g, newton, stable)
    # The share of the step that is taken, all or nothing, and whether it has arrived: quotients, so that XLA decides
    # once and not for each entry.
    arrived = jnp.where(arrived, step, 0.0) / step > 0.5
    moved = jnp.where((relative <= 1.0) & ~arrived, step, 0.0) / step > 0.5
    return Motion(
        Gram(*(jnp.where(moved, x, y) for x, y in zip(new, g, strict=True))),
        jnp.where(moved, tilt, motion.tilt),
        jnp.where(moved, motion.time + step, motion.time),
        jnp.where(jnp.isfinite(next_step), next_step, 1e-3),
        arrived | ~(jnp.abs(total + rates.aa + rates.bb + rates.ab) < DIVERGED),
        paramagnetic,
    )


def _with_tilt(
    new: Gram, error: Gram, before: Motion, step: Array, trace_w: Array, trace_end: Array, least: Array
) -> tuple[Gram, Array, Array]:
    """The new Gram matrix made possible (m_A and m_B are real vectors), its tilt, and how uncertain that is.

    The tilt follows d ln det G/dt = 2 tr W by the trapezoidal rule where the step's error leaves it open, and G itself
    where it does not. The uncertainty is that of the rule: how much ln det G would change by the other end's rate.
    """
    aa, bb = jnp.maximum(new.aa, 0.0), jnp.maximum(new.bb, 0.0)
    product = aa * bb
    limits = jnp.finfo(product.dtype)
    # No logarithms: on a CPU XLA asks the C library for them, number by number.
    grown = jnp.exp(jnp.clip(step * (trace_w + trace_end), -STEEPEST, STEEPEST))
    followed = grown * (before.tilt * (before.gram.aa * before.gram.bb)) / jnp.maximum(product, limits.tiny)
    followed = stored(jnp.clip(followed, least, 1.0), unseen_one(step))
    open_by = bb * jnp.abs(error.aa) + aa * jnp.abs(error.bb) + 2.0 * jnp.abs(new.ab * error.ab)
    own = jnp.maximum(product - new.ab**2, limits.tiny)
    doubt = (open_by + ROUNDINGS * limits.eps * product) / own
    resolved = ((doubt < RESOLVED) | (followed > LARGE_TILT)) & (new.ab**2 < product)
    bound = jnp.sqrt(product * (1.0 - followed))
    ab = jnp.where(resolved, new.ab, jnp.where(new.ab < 0, -bound, bound))
    tilt = jnp.where(resolved, tilt_of(Gram(aa, bb, ab)), followed)
    matters = ~resolved & (jnp.maximum(followed, before.tilt) > NEGLIGIBLE_TILT)
    return Gram(aa, bb, ab), tilt, jnp.where(matters, step * jnp.abs(trace_end - trace_w), 0.0)


def _has_arrived(
    shape: ShapeDynamics, paramagnet_is_stable: Array, g: Gram, newton: Gram, stable: Array
) -> tuple[Array, Array]:
    """Whether g lies next to a stable fixed point, given Newton's step from there, and whether that is m = 0."""
    total, product = g.aa + g.bb, g.aa * g.bb
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
