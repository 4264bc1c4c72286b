"""Following the shape of a bilayer through pseudo-time to where it settles.

A linearly implicit Rosenbrock method (Rodas3: order 3, L-stable, four stages that share one 3 x 3 inverse) with a
controlled step follows the true trajectory, so that it ends in the attractor that the dynamics reaches and not in
some other root. Two guards keep it from landing on a saddle: it stops only where the linearization is stable, and
next to an unstable state a step may not outrun the growth that it must resolve.

Source of the coefficients: Sandu et al., Atmospheric Environment 31 (1997) 3459 (Rodas3).
"""

from typing import Final, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from .lanes import iterate
from .magnets.shape import Gram, ShapeDynamics
from .small_matrices import Matrix, adjugate, apply, characteristic, is_stable

# Relative error of one step. It only has to lead to the right attractor; Newton's method polishes.
STEP_TOLERANCE: Final = 1e-2
# Newton's step, relative to the state, below which a stable state counts as reached.
CLOSE: Final = 0.03
# sin^2 of the angle below which only the collinear state can be meant.
COLLINEAR: Final = 1e-5
# Share of the squared lengths below which a decoupled layer counts as disordered.
VANISHED: Final = 1e-12
# |h|^2/T^2 below which a stable paramagnet has won: the nonlinearity is negligible and only damps further.
LINEAR_FIELD: Final = 1e-3
# Least tilt (1 - |cos|) kept while a collinear state is unstable, so that rounding cannot trap the angle.
LEAST_TILT: Final = 1e-7


class Settled(NamedTuple):
    """Where the shape went: its Gram matrix, whether it arrived, whether at m = 0, and the steps it took."""

    gram: Gram
    arrived: Array
    paramagnetic: Array
    steps: Array


class _State(NamedTuple):
    gram: Gram
    step: Array
    arrived: Array
    paramagnetic: Array


def rosenbrock_step(shape: ShapeDynamics, g: Gram, rates: Gram, jacobian: Matrix, step: Array) -> tuple[Gram, Gram]:
    """One step of Rodas3; returns the new Gram matrix and the estimate of its error."""
    shift, over = 2.0 / step, 1.0 / step
    matrix = tuple(tuple((shift if i == j else 0.0) - jacobian[i][j] for j in range(3)) for i in range(3))
    inverse, determinant = adjugate(matrix)
    scale = 1.0 / determinant
    k1 = apply(inverse, rates, scale)
    k2 = apply(inverse, Gram(*(f + 4.0 * over * a for f, a in zip(rates, k1, strict=True))), scale)
    middle = shape.rates(Gram(*(x + 2.0 * a for x, a in zip(g, k1, strict=True))))
    k3 = apply(inverse, Gram(*(f + over * (a - b) for f, a, b in zip(middle, k1, k2, strict=True))), scale)
    nearly = Gram(*(x + 2.0 * a + c for x, a, c in zip(g, k1, k3, strict=True)))
    last = Gram(
        *(f + over * (a - b - (8.0 / 3.0) * c) for f, a, b, c in zip(shape.rates(nearly), k1, k2, k3, strict=True))
    )
    error = Gram(*apply(inverse, last, scale))
    return Gram(*(x + e for x, e in zip(nearly, error, strict=True))), error


def _paramagnet_is_stable(shape: ShapeDynamics) -> Array:
    """Whether both eigenvalues of W(m = 0) have a negative real part."""
    zero = jnp.zeros_like(shape.light_a)
    r_a, r_b = shape.relaxation_rates(Gram(zero, zero, zero))
    w_aa, w_bb = shape.w_aa - r_a, shape.w_bb - r_b
    return (w_aa + w_bb < 0) & (w_aa * w_bb - shape.w_ab * shape.w_ba > 0)


def _advance(parameters: tuple[ShapeDynamics, Array], state: _State) -> _State:
    shape, paramagnet_is_stable = parameters
    g, step = state.gram, state.step
    rates, jacobian = shape.rates_and_jacobian(g)
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
    relative = jnp.maximum(
        jnp.maximum(jnp.abs(error.aa) / a, jnp.abs(error.bb) / b), jnp.abs(error.ab) / jnp.sqrt(a * b)
    )
    relative = relative / STEP_TOLERANCE
    relative = jnp.where(jnp.isfinite(relative), relative, 1e10)
    accept = relative <= 1.0
    # err^(-1/4): slightly more cautious than the order asks, and two square roots are cheap.
    step = step * jnp.clip(0.9 * jax.lax.rsqrt(jnp.sqrt(jnp.maximum(relative, 1e-12))), 0.2, 8.0)

    aa, bb = jnp.maximum(new.aa, 0.0), jnp.maximum(new.bb, 0.0)
    bound = jnp.sqrt(aa * bb) * jnp.where(stable, 1.0, 1.0 - LEAST_TILT)
    new = Gram(aa, bb, jnp.clip(new.ab, -bound, bound))

    inverse, determinant = adjugate(jacobian)
    newton = Gram(*apply(inverse, rates, 1.0 / determinant))
    # A layer that nothing keeps ordered (no exchange reaches it) decays to nothing beside an ordered one.
    alone = (jnp.minimum(g.aa, g.bb) < VANISHED * total) & (shape.w_ab * shape.w_ba == 0)
    close = (
        ((jnp.abs(newton.aa) < CLOSE * g.aa) | (alone & (g.aa < g.bb)))
        & ((jnp.abs(newton.bb) < CLOSE * g.bb) | (alone & (g.bb < g.aa)))
        & ((jnp.abs(newton.ab) < CLOSE * jnp.sqrt(g.aa * g.bb)) | alone)
    )
    # Next to the onset of the chase a chiral and a collinear root lie close together: tell them apart by their tilt.
    product = g.aa * g.bb
    tilt = product - g.ab * g.ab
    change = g.aa * newton.bb + g.bb * newton.aa - 2.0 * g.ab * newton.ab
    close = close & (alone | (jnp.abs(change) < 0.3 * jnp.maximum(tilt, COLLINEAR * product)))
    paramagnetic = paramagnet_is_stable & (shape.field_scale * total < LINEAR_FIELD)
    arrived = (close & stable) | paramagnetic
    return _State(
        Gram(*(jnp.where(accept & ~arrived, x, y) for x, y in zip(new, g, strict=True))),
        jnp.where(jnp.isfinite(step), step, 1e-3),
        arrived | ~jnp.isfinite(total),
        paramagnetic,
    )


def settle(shape: ShapeDynamics, start: Gram, max_steps: int) -> Settled:
    """Follow dG/dt from `start` until it is close to a stable fixed point, at most `max_steps` steps.

    Not differentiable (the answer is a neighbourhood, for Newton's method to start from).
    """
    rates, jacobian = shape.rates_and_jacobian(start)
    size = jnp.sqrt(sum((x * x for row in jacobian for x in row), jnp.zeros_like(start.aa)))
    false = jnp.zeros_like(start.aa, dtype=bool)
    state = _State(start, 0.1 / jnp.maximum(size, 1e-12), false, false)
    parameters = (shape, _paramagnet_is_stable(shape))
    state, steps = iterate(_advance, lambda s: s.arrived, parameters, state, max_steps)
    finite = jnp.isfinite(state.gram.aa + state.gram.bb + state.gram.ab)
    return Settled(state.gram, state.arrived & finite, state.paramagnetic, steps)
