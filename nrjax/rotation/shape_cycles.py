"""Shapes that repeat themselves: the closed orbit of dG/dt, solved for by Newton's method on one turn around it."""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int

from .._numerics.precision import in_full_precision, newton_tolerance, residual_tolerance
from .._numerics.small_matrices import adjugate, characteristic, safe_sqrt, solve
from ..magnets import AbstractOrderParameters
from ..magnets.relaxation import Gram
from ..magnets.shape import ShapeDynamics
from ..motion.rigid_rotation import closest_rotation, turning

# Runge-Kutta steps for one turn: at first, and where the turn turns out to need more; shares of them for its check.
STEPS: Final = (64, 384)
CHECK: Final = 1.5
TABLEAU: Final = diffrax.Dopri8.tableau
MOST_ITERATIONS: Final = 8
# Numbers of maxima of |m_A|^2 + |m_B|^2 that an orbit is looked for with; at last with as many as the watch saw.
MAXIMA: Final = (1, 2, 3)
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
    orbit next to the one that was watched, and one that attracts. `residual`: its `closure`. `steps`: for one turn.
    """

    turn: Turn
    mean: Averages
    growth_rate: Array
    found: Array
    residual: Array
    steps: Array


class _Equations(NamedTuple):
    """G(T) - G(0), and d(|m_A|^2 + |m_B|^2)/dt at the start."""

    gram: Gram
    slope: Array


def find_cycle(
    model: AbstractOrderParameters, near: Turn, maxima: Int[Array, ""], wanted: Bool[Array, ""]
) -> ShapeCycle:
    """The closed orbit next to a motion that repeats itself,

        G(T) = G(0),   d(|m_A|^2 + |m_B|^2)/dt = 0 at t = 0,

    four equations for G(0) and T. Derivatives of turn and mean by the implicit function theorem (first order).

    **Arguments** `model`: two order parameters whose shape closes. `near`: a turn nearly, from close to the largest
    |m_A|^2 + |m_B|^2, or several turns. `maxima`: how many |m_A|^2 + |m_B|^2 has in them. `wanted`: False where there
    is nothing to look for, which then costs nothing.

    **Returns** a `ShapeCycle`, of the fewest maxima that attracts.
    """
    exchange = model.precession_exchange()
    # Everything that the orbit depends on, and nothing else: derivatives are taken by each of these numbers.
    arrays, rest = eqx.partition((ShapeDynamics(model), (exchange[1, 0], exchange[0, 1])), eqx.is_inexact_array)
    whole, fixed = eqx.partition(model, eqx.is_array)

    @jax.custom_jvp
    def orbit(arrays: Any, whole: Any, near: Turn, maxima: Array, wanted: Array) -> tuple[Any, Any]:
        found = _search(eqx.combine(arrays, rest), eqx.combine(whole, fixed), near, maxima, wanted)
        return (found.turn, found.mean), (found.growth_rate, found.residual, found.found, found.steps)

    @orbit.defjvp
    def _jvp(primals: Any, tangents: Any) -> Any:
        (arrays, *others), (change, *_) = primals, tangents
        seen, (growth, residual, found, steps) = orbit(arrays, *others)
        # By every number, so that what is left is linear in the change: loops cannot be run backwards.
        slopes = jnp.where(found, _slopes(arrays, rest, seen[0], found, steps), 0.0)
        moved = jnp.sum(ravel_pytree(change)[0][:, None] * slopes, axis=0)
        none = tuple(np.zeros(x.shape, jax.dtypes.float0) for x in (found, steps))
        still = jnp.zeros_like(growth), jnp.zeros_like(residual), *none
        return (seen, (growth, residual, found, steps)), (ravel_pytree(seen)[1](moved), still)

    inputs = jax.lax.stop_gradient((whole, near))
    (turn, mean), (growth, residual, found, steps) = orbit(arrays, *inputs, maxima, wanted)
    return ShapeCycle(turn, mean, growth, found, residual, steps)


def _search(parameters: Any, model: Any, near: Turn, maxima: Array, wanted: Array) -> ShapeCycle:
    """The orbit of the fewest maxima, in as few steps as will do."""
    dtype = near.period.dtype
    numbers = jnp.asarray([*MAXIMA, 0], maxima.dtype)
    # No more than the watch saw; its own number is the last.
    left_out = (numbers > 0) & (numbers >= maxima)
    coarse, fine = STEPS
    accurate = 0.1 * residual_tolerance(dtype)

    def attempt(state: Any) -> Any:
        best, which, _ = state
        number = jnp.where(numbers[which] == 0, maxima, numbers[which])
        share = number.astype(dtype) / jnp.maximum(maxima, 1).astype(dtype)
        seed = Turn(near.start, near.period * share)
        # What was found in too few steps is where more begin.
        again = best.found
        here = jax.tree.map(lambda x, y: jnp.where(again, x, y), best.turn, seed)
        steps = jnp.where(again, fine, coarse).astype(jnp.int32)
        go = wanted & (again | ~left_out[which])
        turn, jacobian, converged = _newton(parameters, here, go, steps)
        _, mean = _with_averages(parameters, turn, go & converged, steps)
        growth = _growth_rate(turn, jacobian)
        total, before = turn.start.aa + turn.start.bb, near.start.aa + near.start.bb
        beside = (jnp.abs(turn.period - seed.period) < NEAR * seed.period) & (jnp.abs(total - before) < NEAR * before)
        swings = mean.square - (mean.gram.aa + mean.gram.bb) ** 2 > (LEAST_SWING * total) ** 2
        found = go & converged & beside & swings & (growth < 0)
        residual = jnp.where(found, closure(model, turn, found, steps), jnp.inf)
        # In more steps an orbit may not be found; then it is none.
        new = ShapeCycle(turn, mean, growth, found, residual, steps)
        done = (found & (again | (residual < accurate))) | again
        return new, jnp.where(found, which, which + 1), done

    def goes_on(state: Any) -> Array:
        _, which, done = state
        return wanted & ~done & (which < len(numbers))

    zero, no = jnp.zeros_like(near.period), jnp.zeros_like(wanted)
    nothing = Averages(Gram(zero, zero, zero), *(zero,) * 5)
    start = ShapeCycle(near, nothing, zero, no, zero + jnp.inf, jnp.zeros((), jnp.int32))
    found, _, _ = jax.lax.while_loop(goes_on, attempt, (start, jnp.zeros((), jnp.int32), no))
    return found


@in_full_precision
def closure(
    model: AbstractOrderParameters, turn: Turn, wanted: Bool[Array, ""], steps: Int[Array, ""]
) -> Float[Array, ""]:
    """max |G(T) - G(0)| / |m_a| |m_b|, by the model's own `vector_field` and in other steps than those that found the
    orbit (`steps`).

    The rotation that all moments share is taken off as they go, which leaves their scalar products alone and spares the
    fast precession.
    """
    a = safe_sqrt(turn.start.aa)
    along = turn.start.ab / jnp.where(a > 0, a, 1.0)
    m = jnp.zeros((2, model.components), a.dtype)
    m = m.at[0, 0].set(a).at[1, 0].set(along).at[1, 1].set(safe_sqrt(turn.start.bb - along**2))

    def velocity(m: Array) -> Array:
        rates = model.vector_field(0.0, m)
        return rates - turning(closest_rotation(m, rates)[0], m)

    more = (CHECK * steps.astype(a.dtype)).astype(jnp.int32)
    end, _ = _around(velocity, _nothing, m, turn.period, wanted, more)
    size = safe_sqrt(jnp.sum(m**2, axis=1))
    scale = size[:, None] * size[None, :]
    missing = jnp.sum(end[:, None] * end[None, :] - m[:, None] * m[None, :], axis=-1)
    return jnp.max(jnp.abs(missing) / jnp.where(scale > 0, scale, 1.0))


def _around(
    velocity: Callable[[Array], Array],
    quantities: Callable[[Array], Any],
    start: Array,
    period: Float[Array, ""],
    wanted: Bool[Array, ""],
    steps: Int[Array, ""],
) -> tuple[Array, Any]:
    """One turn: where it ends, and the averages of `quantities` over it. Where not `wanted`, no step is taken.

    By the Runge-Kutta method of Dormand and Prince, of order 8, one stage after the other in one loop: a single copy of
    the velocity to compile.
    """
    dtype = period.dtype
    number = steps.astype(dtype)
    step = period / number
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
        slopes = slopes.at[stage].set(velocity(at))
        at = begin + step * jnp.sum(rows[stage].reshape(-1, *[1] * begin.ndim) * slopes, axis=0)
        begin = jnp.where(last, at, begin)
        sums = jax.tree.map(lambda total, x: total + jnp.where(last, x / number, 0.0), sums, quantities(at))
        return count + 1, begin, at, slopes, sums

    sums = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(quantities, start))
    slopes = jnp.zeros((stages, *start.shape), start.dtype)
    state = jnp.zeros((), jnp.int32), start, start, slopes, sums
    state = jax.lax.while_loop(lambda state: wanted & (state[0] < stages * steps), advance, state)
    return state[1], state[-1]


def _nothing(y: Array) -> tuple[()]:
    """No quantities."""
    del y
    return ()


def _looked_at(
    parameters: Any, turn: Turn, wanted: Array, steps: Array, quantities: Callable[[Array], Any]
) -> tuple[_Equations, Any]:
    """What a closed orbit makes zero, and averages over the turn."""
    shape, _ = parameters
    start = jnp.stack(turn.start)
    end, seen = _around(lambda y: shape.vector_field(0.0, y), quantities, start, turn.period, wanted, steps)
    rates = shape.rates(turn.start)
    return _Equations(Gram(*(x - y for x, y in zip(end, turn.start, strict=True))), rates.aa + rates.bb), seen


def _with_averages(parameters: Any, turn: Turn, wanted: Array, steps: Array) -> tuple[_Equations, Averages]:
    """`_looked_at`, with all that is told of an orbit."""
    shape, (to_a, to_b) = parameters

    def quantities(y: Array) -> Array:
        g = Gram(*y)
        product = g.aa * g.bb
        tilt = product - g.ab**2
        chase = jnp.abs(shape.w_ab) * safe_sqrt(tilt) / jnp.maximum(g.aa, jnp.finfo(g.aa.dtype).tiny)
        precession = to_a**2 * g.aa + 2.0 * to_a * to_b * g.ab + to_b**2 * g.bb
        return jnp.stack([*g, (g.aa + g.bb) ** 2, product, tilt, chase, safe_sqrt(chase**2 + precession)])

    equations, seen = _looked_at(parameters, turn, wanted, steps, quantities)
    return equations, Averages(Gram(*seen[:3]), *seen[3:])


def _linearized(parameters: Any, turn: Turn, wanted: Array, steps: Array) -> tuple[_Equations, _Equations]:
    """The equations, and their derivatives by (G_AA, G_BB, G_AB, T): one row for each."""

    def along(direction: Turn) -> Any:
        return jax.jvp(lambda turn: _looked_at(parameters, turn, wanted, steps, _nothing)[0], (turn,), (direction,))

    unit = jnp.eye(4, dtype=turn.period.dtype)
    return jax.vmap(along, out_axes=(None, 0))(Turn(Gram(*unit[:3]), unit[3]))


def _newton(parameters: Any, near: Turn, wanted: Array, steps: Array) -> tuple[Turn, _Equations, Array]:
    """The orbit next to a turn, derivatives of the equations there, and whether it was found."""
    tolerance = newton_tolerance(near.period.dtype)
    shapes = jax.eval_shape(lambda: _linearized(parameters, near, wanted, steps))
    _, jacobian = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

    def improve(state: Any) -> Any:
        turn, _, _, count = state
        missing, jacobian = _linearized(parameters, turn, wanted, steps)
        step = _solved(jacobian, missing)
        new = jax.tree.map(jnp.subtract, turn, step)
        moved = jnp.max(jnp.stack([*_relative(new.start, turn.start), jnp.abs(step.period / turn.period)]))
        return new, jacobian, moved, count + 1

    def goes_on(state: Any) -> Array:
        *_, moved, count = state
        return wanted & (moved > tolerance) & (count < MOST_ITERATIONS)

    state = near, jacobian, jnp.full_like(near.period, jnp.inf), jnp.zeros((), jnp.int32)
    turn, jacobian, moved, _ = jax.lax.while_loop(goes_on, improve, state)
    return turn, jacobian, moved <= tolerance


def _solved(jacobian: _Equations, change: _Equations) -> Turn:
    """The change of the turn by which the equations change by `change`.

    With A = dG(T)/dG(0) - 1, b = dG(T)/dT and c the gradient of the last equation, A + b c^T / (c . b) is regular
    although A is singular along the orbit.
    """
    b, c = tuple(row[3] for row in jacobian.gram), jacobian.slope[:3]
    zero = jnp.zeros_like(change.slope)
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


def _slopes(arrays: Any, rest: Any, turn: Turn, wanted: Array, steps: Array) -> Array:
    """Derivatives of (turn, averages) by every number in `arrays`, a row for each: the turn moves by
    dy = -F_y^-1 F_p dp, and the averages with it. All by one turn along every direction of (p, y)."""
    flat, as_pair = ravel_pytree((arrays, turn))

    def along(direction: Array) -> tuple[_Equations, Array]:
        def look(arrays: Any, turn: Turn) -> tuple[_Equations, Array]:
            equations, averages = _with_averages(eqx.combine(arrays, rest), turn, wanted, steps)
            return equations, ravel_pytree(averages)[0]

        return jax.jvp(look, (arrays, turn), as_pair(direction))[1]

    equations, averages = jax.vmap(along)(jnp.eye(flat.size, dtype=flat.dtype))
    by_number, by_turn = (
        jax.tree.map(lambda x, part=part: x[part], equations) for part in (slice(-4), slice(-4, None))
    )
    moved = jax.vmap(lambda missing: ravel_pytree(_solved(by_turn, missing))[0])(by_number)
    seen = averages[:-4] - jnp.sum(moved[:, :, None] * averages[None, -4:], axis=1)
    return jnp.concatenate([-moved, seen], axis=1)
