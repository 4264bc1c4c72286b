"""Shapes that repeat themselves: the closed orbit of dG/dt, solved for by Newton's method on one turn around it."""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, PyTree

from .._numerics.precision import in_full_precision, newton_tolerance
from .._numerics.small_matrices import adjugate, characteristic, safe_sqrt, solve
from ..magnets import AbstractOrderParameters
from ..magnets.relaxation import Gram
from ..magnets.shape import ShapeDynamics
from ..motion.rigid_rotation import closest_rotation, turning

# Runge-Kutta steps for one turn, and of the turn by the model's own velocity that checks it.
STEPS: Final = 240
CHECK_STEPS: Final = 360
TABLEAU: Final = diffrax.Dopri8.tableau
MOST_ITERATIONS: Final = 10
# How far Newton's method may go from the turn that was watched, in period and squared lengths.
NEAR: Final = 0.2
# The least standard deviation of |m_A|^2 + |m_B|^2 along the orbit, as a share of its largest value.
LEAST_SWING: Final = 2e-3


class Turn(NamedTuple):
    """Where a turn starts, and how long it takes (hbar/meV)."""

    start: Gram
    period: Array


class Averages(NamedTuple):
    """Over a turn, of the scalar products, the square of |m_A|^2 + |m_B|^2, |m_A|^2 |m_B|^2 and what of it is tilt
    (det G), and the rates (meV) at which m_A turns in the plane of the moments and turns at all."""

    gram: Gram
    square: Array
    product: Array
    tilt: Array
    chase: Array
    rotation: Array


class ShapeCycle(NamedTuple):
    """A closed orbit of the shape.

    `turn`: from where |m_A|^2 + |m_B|^2 is largest. `mean`: averages over it. `growth_rate`: the largest of
    ln |multiplier| / period (meV) without the one along the orbit. `found`: whether Newton's method converged to an
    orbit next to the one that was watched, and one that attracts.
    """

    turn: Turn
    mean: Averages
    growth_rate: Array
    found: Array


class _Equations(NamedTuple):
    """G(T) - G(0), and d(|m_A|^2 + |m_B|^2)/dt at the start."""

    gram: Gram
    slope: Array


def find_cycle(
    shape: ShapeDynamics,
    turning_rates: tuple[Array, Array],
    near: Turn,
    maxima: Int[Array, ""],
    wanted: Bool[Array, ""],
) -> ShapeCycle:
    """The closed orbit next to a motion that repeats itself,

        G(T) = G(0),   d(|m_A|^2 + |m_B|^2)/dt = 0 at t = 0,

    four equations for G(0) and T. Derivatives of turn and mean by the implicit function theorem (first order).

    **Arguments** `turning_rates`: gyro j_BA and gyro j_AB in meV. `near`: a turn nearly, from close to the largest
    |m_A|^2 + |m_B|^2, or several turns. `maxima`: how many |m_A|^2 + |m_B|^2 has in them. `wanted`: False where there
    is nothing to look for, which then costs nothing.

    **Returns** a `ShapeCycle`, of the fewest maxima that attracts.
    """
    # Of so many maxima; the last one of all.
    shares = jnp.asarray([1, 2, 3, 0], maxima.dtype)
    fewer = shares < maxima
    shares = jnp.where(shares == 0, maxima, shares)
    turns = Turn(near.start, near.period * (shares / jnp.maximum(maxima, 1)).astype(near.period.dtype))
    find = jax.vmap(_cycle_near, in_axes=(None, None, Turn(None, 0), 0))  # pyright: ignore[reportArgumentType]
    cycles = find(shape, turning_rates, turns, wanted & fewer)
    best = jnp.argmax(cycles.found)
    return jax.tree.map(lambda x: x[best], cycles)


def _cycle_near(
    shape: ShapeDynamics, turning_rates: tuple[Array, Array], near: Turn, wanted: Bool[Array, ""]
) -> ShapeCycle:
    """The closed orbit next to a turn."""
    arrays, rest = eqx.partition((shape, turning_rates), eqx.is_inexact_array)
    near = jax.lax.stop_gradient(near)

    @jax.custom_jvp
    def orbit(arrays: Any, near: Turn, wanted: Array) -> tuple[tuple[Turn, Averages], tuple[Array, Array]]:
        turn, mean, jacobian, converged = _newton(eqx.combine(arrays, rest), near, wanted)
        return (turn, mean), (_growth_rate(turn, jacobian), converged)

    @orbit.defjvp
    def _jvp(primals: Any, tangents: Any) -> Any:
        (arrays, near, wanted), (change, *_) = primals, tangents
        found, (growth, converged) = orbit(arrays, near, wanted)
        # By every number, so that what is left is linear in the change: loops cannot be run backwards.
        slopes = jnp.where(converged, _slopes(arrays, rest, found[0], wanted), 0.0)
        moved = jnp.sum(ravel_pytree(change)[0][:, None] * slopes, axis=0)
        none = np.zeros(converged.shape, jax.dtypes.float0)
        return (found, (growth, converged)), (ravel_pytree(found)[1](moved), (jnp.zeros_like(growth), none))

    (turn, mean), (growth, converged) = orbit(arrays, near, wanted)
    total, before = turn.start.aa + turn.start.bb, near.start.aa + near.start.bb
    beside = (jnp.abs(turn.period - near.period) < NEAR * near.period) & (jnp.abs(total - before) < NEAR * before)
    swings = mean.square - (mean.gram.aa + mean.gram.bb) ** 2 > (LEAST_SWING * total) ** 2
    return ShapeCycle(turn, mean, growth, wanted & converged & beside & swings & (growth < 0))


@in_full_precision
def closure(
    model: AbstractOrderParameters, m: Float[Array, "2 n"], period: Float[Array, ""], wanted: Bool[Array, ""]
) -> Float[Array, ""]:
    """max |G(T) - G(0)| / |m_a| |m_b|, by the model's own `vector_field` and in other steps than those that found the
    orbit.

    **Arguments** `m`: moments at its start. `period`: hbar/meV. The rotation that all moments share is taken off as
    they go, which leaves their scalar products alone and spares the fast precession.
    """

    def velocity(m: Array) -> Array:
        rates = model.vector_field(0.0, m)
        return rates - turning(closest_rotation(m, rates)[0], m)

    end, _ = _around(velocity, lambda m: (), m, period, wanted, CHECK_STEPS)
    size = safe_sqrt(jnp.sum(m**2, axis=1))
    scale = size[:, None] * size[None, :]
    missing = jnp.sum(end[:, None] * end[None, :] - m[:, None] * m[None, :], axis=-1)
    return jnp.max(jnp.abs(missing) / jnp.where(scale > 0, scale, 1.0))


def _around(
    velocity: Callable[[Any], Any],
    quantities: Callable[[Any], Any],
    start: PyTree[Array],
    period: Float[Array, ""],
    wanted: Bool[Array, ""],
    steps: int,
) -> tuple[PyTree[Array], Any]:
    """One turn: where it ends, and the averages of `quantities` over it. Where not `wanted`, no step is taken.

    By the Runge-Kutta method of Dormand and Prince, of order 8, one stage after the other in one loop: a single copy of
    the velocity to compile.
    """
    step, dtype = period / steps, period.dtype
    stages = len(TABLEAU.b_sol)
    before = np.zeros((stages, stages))
    for row, weights in enumerate(TABLEAU.a_lower, start=1):
        before[row, : len(weights)] = weights
    # What each stage starts from; after the last one the step's end, from which the next step begins.
    rows = jnp.asarray(np.vstack([before[1:], TABLEAU.b_sol]), dtype)

    def advance(state: Any) -> Any:
        count, begin, at, slopes, sums = state
        stage = count % stages
        last = stage == stages - 1
        slopes = jax.tree.map(lambda all, f: all.at[stage].set(f), slopes, velocity(at))
        at = jax.tree.map(lambda x, f: x + step * jnp.tensordot(rows[stage], f, 1, precision="highest"), begin, slopes)
        begin = jax.tree.map(lambda x, y: jnp.where(last, x, y), at, begin)
        sums = jax.tree.map(lambda total, x: total + jnp.where(last, x / steps, 0.0), sums, quantities(at))
        return count + 1, begin, at, slopes, sums

    sums = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(quantities, start))
    slopes = jax.tree.map(lambda x: jnp.zeros((stages, *x.shape), x.dtype), start)
    state = jnp.zeros((), jnp.int32), start, start, slopes, sums
    state = jax.lax.while_loop(lambda state: wanted & (state[0] < stages * steps), advance, state)
    return state[1], state[-1]


def _looked_at(parameters: Any, turn: Turn, wanted: Array) -> tuple[_Equations, Averages]:
    """The equations that a closed orbit solves, and averages over the turn."""
    shape, (to_a, to_b) = parameters

    def quantities(g: Gram) -> Averages:
        product = g.aa * g.bb
        tilt = product - g.ab**2
        chase = jnp.abs(shape.w_ab) * safe_sqrt(tilt) / jnp.maximum(g.aa, jnp.finfo(g.aa.dtype).tiny)
        precession = to_a**2 * g.aa + 2.0 * to_a * to_b * g.ab + to_b**2 * g.bb
        return Averages(g, (g.aa + g.bb) ** 2, product, tilt, chase, safe_sqrt(chase**2 + precession))

    end, averages = _around(shape.rates, quantities, turn.start, turn.period, wanted, STEPS)
    rates = shape.rates(turn.start)
    missing = Gram(*(x - y for x, y in zip(end, turn.start, strict=True)))
    return _Equations(missing, rates.aa + rates.bb), averages


def _linearized(parameters: Any, turn: Turn, wanted: Array) -> tuple[_Equations, Averages, _Equations]:
    """The equations and averages, and the derivatives of the equations by (G_AA, G_BB, G_AB, T): one row for each."""

    def along(direction: Turn) -> Any:
        values, slopes = jax.jvp(lambda turn: _looked_at(parameters, turn, wanted), (turn,), (direction,))
        return *values, slopes[0]

    unit = jnp.eye(4, dtype=turn.period.dtype)
    return jax.vmap(along, out_axes=(None, None, 0))(Turn(Gram(*unit[:3]), unit[3]))


def _newton(parameters: Any, near: Turn, wanted: Array) -> tuple[Turn, Averages, _Equations, Array]:
    """The orbit next to a turn, averages and derivatives along it, and whether it was found."""
    tolerance = newton_tolerance(near.period.dtype)
    shapes = jax.eval_shape(lambda: _linearized(parameters, near, wanted))
    _, averages, jacobian = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

    def improve(state: Any) -> Any:
        turn, _, _, _, count = state
        missing, averages, jacobian = _linearized(parameters, turn, wanted)
        step = _solved(jacobian, turn, missing)
        new = jax.tree.map(jnp.subtract, turn, step)
        moved = jnp.max(jnp.stack([*_relative(new.start, turn.start), jnp.abs(step.period / turn.period)]))
        return new, averages, jacobian, moved, count + 1

    def goes_on(state: Any) -> Array:
        *_, moved, count = state
        return wanted & (moved > tolerance) & (count < MOST_ITERATIONS)

    state = near, averages, jacobian, jnp.full_like(near.period, jnp.inf), jnp.zeros((), jnp.int32)
    turn, averages, jacobian, moved, _ = jax.lax.while_loop(goes_on, improve, state)
    return turn, averages, jacobian, moved <= tolerance


def _solved(jacobian: _Equations, turn: Turn, change: _Equations) -> Turn:
    """The change of the turn by which the equations change by `change`.

    With A = dG(T)/dG(0) - 1, b = dG(T)/dT and c the gradient of the last equation, A + b c^T / (c . b) is regular
    although A is singular along the orbit.
    """
    b, c = tuple(row[3] for row in jacobian.gram), jacobian.slope[:3]
    zero = jnp.zeros_like(turn.period)
    along = sum((x * y for x, y in zip(c, b, strict=True)), zero)
    matrix = tuple(tuple(jacobian.gram[i][j] + b[i] * c[j] / along for j in range(3)) for i in range(3))
    inverse = adjugate(matrix)
    first = solve(inverse, tuple(r + x * change.slope / along for r, x in zip(change.gram, b, strict=True)))
    second = solve(inverse, b)
    time = sum((x * y for x, y in zip(c, first, strict=True)), -change.slope) / sum(
        (x * y for x, y in zip(c, second, strict=True)), zero
    )
    return Turn(Gram(*(x - time * y for x, y in zip(first, second, strict=True))), time)


def _relative(g: Gram, start: Gram) -> tuple[Array, Array, Array]:
    """Distance of two shapes, in units of the second."""
    size = Gram(start.aa, start.bb, safe_sqrt(start.aa * start.bb))
    a, b, c = (jnp.abs(x - y) / jnp.where(s > 0, s, 1.0) for x, y, s in zip(g, start, size, strict=True))
    return a, b, c


def _growth_rate(turn: Turn, jacobian: _Equations) -> Array:
    """The largest growth rate of a deviation from the orbit (meV), from dG(T)/dG(0)."""
    rows = tuple(tuple(jacobian.gram[i][j] + (1.0 if i == j else 0.0) for j in range(3)) for i in range(3))
    trace, _, product = characteristic(rows)
    # One multiplier is 1; of the others, half the sum, and the product.
    half = 0.5 * (trace - 1.0)
    size = jnp.where(half**2 > product, jnp.abs(half) + safe_sqrt(half**2 - product), safe_sqrt(product))
    return jnp.log(jnp.maximum(size, jnp.finfo(size.dtype).tiny)) / turn.period


def _slopes(arrays: Any, rest: Any, turn: Turn, wanted: Array) -> Array:
    """Derivatives of (turn, averages) by every number in `arrays`, a row for each: the turn moves by
    dy = -F_y^-1 F_p dp, and the averages with it."""
    flat, as_arrays = ravel_pytree(arrays)
    _, _, jacobian = _linearized(eqx.combine(arrays, rest), turn, wanted)

    def looked_at(arrays: Any, turn: Turn) -> tuple[_Equations, Averages]:
        return _looked_at(eqx.combine(arrays, rest), turn, wanted)

    def along(direction: Array) -> Array:
        change, still = as_arrays(direction), jax.tree.map(jnp.zeros_like, turn)
        _, (missing, _) = jax.jvp(looked_at, (arrays, turn), (change, still))
        moved = jax.tree.map(jnp.negative, _solved(jacobian, turn, missing))
        _, (_, seen) = jax.jvp(looked_at, (arrays, turn), (change, moved))
        return ravel_pytree((moved, seen))[0]

    return jax.vmap(along)(jnp.eye(flat.size, dtype=flat.dtype))
