"""Rigidly rotating states of two order parameters: Newton's polish, closed forms, stability."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from jaxtyping import Array, Float

from .._numerics.precision import collinear_tolerance, newton_tolerance
from .._numerics.small_matrices import Adjugate, adjugate, largest_real_part_2, largest_real_part_3, safe_sqrt, solve
from ..magnets.relaxation import Gram
from ..magnets.shape import ShapeDynamics
from ..motion.phases import Phase, label
from ..motion.rigid_rotation import LeadingPair, in_space


class BilayerState(NamedTuple):
    """A relative equilibrium of a bilayer: everything that follows from its Gram matrix."""

    gram: Gram
    phase: Array
    cosine: Array
    sine: Array
    chase_rate: Array
    normal_sign: Array
    growth_rate: Array
    residual: Array


def polish(shape: ShapeDynamics, start: Gram) -> tuple[Gram, Array]:
    """Newton's method on dG/dt = 0 from `start`, by Optimistix; derivatives by the implicit function theorem,

        dG = -J^-1 d(dG/dt) at fixed G,

    to any order, with the closed-form J of the shape.

    **Returns** the root and whether Newton's method converged.
    """
    arrays, rest = eqx.partition(shape, eqx.is_inexact_array)

    @jax.custom_jvp
    def root(arrays: Any, start: Gram) -> tuple[Gram, Array]:
        return _newton(eqx.combine(arrays, rest), start)

    @root.defjvp
    def _jvp(primals: Any, tangents: Any) -> Any:
        (arrays, start), (change, _) = primals, tangents
        g, converged = root(arrays, start)
        _, moved = jax.jvp(lambda arrays: eqx.combine(arrays, rest).rates(g), (arrays,), (change,))
        _, jacobian, _ = eqx.combine(arrays, rest).linearize(g)
        size = _sizes(g)
        scale = jax.lax.stop_gradient(jnp.sqrt(sum(x * x for row in jacobian for x in row)))
        scaled = tuple(
            tuple(x * to / (at * scale) for x, to in zip(row, size, strict=True))
            for row, at in zip(jacobian, size, strict=True)
        )
        step = solve(adjugate(scaled), tuple(f / (at * scale) for f, at in zip(moved, size, strict=True)))
        slope = Gram(*(-x * to for x, to in zip(step, size, strict=True)))
        return (g, converged), (slope, np.zeros(converged.shape, jax.dtypes.float0))

    return root(arrays, jax.lax.stop_gradient(start))


def _sizes(g: Gram) -> Gram:
    """What entries of G are measured by: 1 where they vanish."""
    size = Gram(*(jax.lax.stop_gradient(jnp.where(x == 0, 1.0, jnp.abs(x))) for x in g))
    return size._replace(ab=jnp.sqrt(size.aa * size.bb))


def _newton(shape: ShapeDynamics, start: Gram) -> tuple[Gram, Array]:
    """The root of dG/dt next to `start`, and whether it was found."""
    size = _sizes(start)
    rates_scale = jnp.sqrt(sum(x * x for row in shape.linearize(start)[1] for x in row))

    def scaled_rates(y: Array, shape: ShapeDynamics) -> Array:
        g = Gram(*(y[i] * size[i] for i in range(3)))
        return jnp.stack([f / (s * rates_scale) for f, s in zip(shape.rates(g), size, strict=True)])

    tolerance = newton_tolerance(start.aa.dtype)
    solution = optx.root_find(
        scaled_rates,
        optx.Newton(rtol=tolerance, atol=tolerance, linear_solver=Adjugate()),
        jnp.stack([x / s for x, s in zip(start, size, strict=True)]),
        args=shape,
        max_steps=64,
        throw=False,
    )
    root = Gram(*(solution.value[i] * size[i] for i in range(3)))
    return root, solution.result == optx.RESULTS.successful


def describe(shape: ShapeDynamics, gram: Gram, paramagnetic: Array) -> BilayerState:
    """Label, chase rate, stability and residual of a fixed point of the shape.

    **Arguments** `gram`: a root of dG/dt. `paramagnetic`: whether it is m = 0.

    **Source** docs/physics.md, "Shape dynamics".
    """
    ordered = ~paramagnetic
    both = (gram.aa > 0) & (gram.bb > 0)
    product = jnp.where(both, gram.aa * gram.bb, 1.0)
    # A single ordered layer counts as aligned, like a magnet of one layer.
    cosine = jnp.where(both, gram.ab / jnp.sqrt(product), 1.0)
    sine_squared = jnp.where(both, 1.0 - cosine**2, 0.0)
    collinear = sine_squared < collinear_tolerance(product.dtype)
    sine = jnp.where(collinear, 0.0, safe_sqrt(sine_squared))
    cosine = jnp.where(collinear, jnp.sign(cosine), cosine)

    r_a, r_b = shape.relaxation_rates(gram)
    w_a, w_b = shape.w_aa - r_a, shape.w_bb - r_b
    determinant = w_a * w_b - shape.w_ab * shape.w_ba
    phase = label(ordered=ordered, cosine=cosine, collinear=collinear, rotating=determinant > 0)
    chiral = phase == Phase.CHIRAL
    chase_rate = jnp.where(chiral, safe_sqrt(jnp.where(chiral, determinant, 0.0)), 0.0)

    rates, jacobian, _ = shape.linearize(gram)
    in_shape = largest_real_part_3(jacobian)
    # Collinear: the lengths alone (signed, so that one layer may pass through zero), and the tilt at rate trace W.
    a, b = safe_sqrt(gram.aa), safe_sqrt(gram.bb) * jnp.sign(cosine)
    lengths = _length_matrix(shape, a, b)
    in_lengths = largest_real_part_2(*lengths)
    collinear_growth = jnp.where(paramagnetic, in_lengths, jnp.maximum(in_lengths, w_a + w_b))
    growth = jnp.where(chiral, in_shape, collinear_growth)

    sizes = shape.term_sizes(gram)
    relative = [jnp.abs(f) / jnp.where(s > 0, s, 1.0) for f, s in zip(rates, sizes, strict=True)]
    residual = jnp.maximum(jnp.maximum(relative[0], relative[1]), relative[2])
    return BilayerState(gram, phase, cosine, sine, chase_rate, jnp.sign(shape.w_ab), growth, residual)


def _length_matrix(shape: ShapeDynamics, a: Array, b: Array) -> tuple[Array, Array, Array, Array]:
    """The Jacobian of the collinear dynamics of the signed lengths (a, b)."""

    def rates(a: Array, b: Array) -> tuple[Array, Array]:
        r_a, r_b = shape.relaxation_rates(Gram(a * a, b * b, a * b))
        return (shape.w_aa - r_a) * a + shape.w_ab * b, (shape.w_bb - r_b) * b + shape.w_ba * a

    one, zero = jnp.ones_like(a), jnp.zeros_like(a)
    _, (aa, ba) = jax.jvp(rates, (a, b), (one, zero))
    _, (ab, bb) = jax.jvp(rates, (a, b), (zero, one))
    return aa, ab, ba, bb


def moments(state: BilayerState, like: Float[Array, "2 n"]) -> Float[Array, "2 n"]:
    """The state's moments in the plane of `like`: m_A along like_A, m_B turned towards like_B.

    Rotation symmetry leaves the orientation free; this choice turns with `like`.
    """
    first, second = plane_of(like)
    a, b = safe_sqrt(state.gram.aa), safe_sqrt(state.gram.bb)
    return jnp.stack([a * first, b * (state.cosine * first + state.sine * second)])


def plane_of(like: Float[Array, "2 n"]) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """Two unit vectors: along like_A, and across it towards like_B."""
    axes = jnp.eye(like.shape[1], dtype=like.dtype)
    first = _unit(like[0], axes[-1])
    rest = like[1] - jnp.sum(like[1] * first) * first
    # Some direction perpendicular to the first, where `like` offers none.
    axis = jnp.where(jnp.abs(first[0]) < 0.8, axes[0], axes[1])
    return first, _unit(rest, _unit(axis - jnp.sum(axis * first) * first, axis))


def _unit(vector: Array, otherwise: Array) -> Array:
    square = jnp.sum(vector**2)
    enough = square > 1e-24
    return jnp.where(enough, vector / jnp.sqrt(jnp.where(enough, square, 1.0)), otherwise)


def leading_pair_of(state: BilayerState, m: Float[Array, "2 n"]) -> LeadingPair:
    """Both moments as a pair, with the angle of their Gram matrix: a collinear one is exactly so."""
    a, b = safe_sqrt(state.gram.aa), safe_sqrt(state.gram.bb)
    first, second = in_space(m)
    cross = jnp.cross(first, second)
    square = jnp.sum(cross**2)
    apart = (state.phase == Phase.CHIRAL) & (square > 0)
    normal = jnp.where(apart, cross / jnp.sqrt(jnp.where(apart, square, 1.0)), 0.0)
    return LeadingPair(a, b, a * b * state.cosine, normal, a * b * state.sine)


def angular_velocity(state: BilayerState, pair: LeadingPair, precession: Float[Array, " n"]) -> Float[Array, "3"]:
    """Omega = omega_c n - gyro (j_BA m_A + j_AB m_B) in meV, n the normal of the plane with n . Omega > 0.

    **Arguments** `precession`: gyro (j_BA m_A + j_AB m_B). **Returns** zero for states that do not rotate.
    """
    rigid = state.chase_rate * state.normal_sign * pair.normal - in_space(precession[None])[0]
    return jnp.where(state.phase == Phase.CHIRAL, rigid, jnp.zeros_like(rigid))
