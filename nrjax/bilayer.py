"""Rigidly rotating states of an isotropic bilayer: Newton's polish, closed forms, stability."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import lineax as lx
import optimistix as optx
from jaxtyping import Array, Float

from .magnets import LayeredMagnet
from .magnets.shape import Gram, Matrix, ShapeDynamics
from .phases import Phase, collinear_tolerance, label
from .settle import characteristic


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


def safe_sqrt(x: Array) -> Array:
    """sqrt(x) with value and derivative 0 at x <= 0."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0)


def largest_real_part_2(a: Array, b: Array, c: Array, d: Array) -> Array:
    """The largest real part of the eigenvalues of [[a, b], [c, d]]."""
    return 0.5 * (a + d) + safe_sqrt(0.25 * (a - d) ** 2 + b * c)


def largest_real_part_3(matrix: Matrix) -> Array:
    """The largest real part of the eigenvalues of a 3 x 3 matrix: a root of its characteristic cubic.

    Differentiable wherever that eigenvalue is simple; exact multiple roots give derivative 0, never NaN.
    """
    trace, minors, determinant = characteristic(matrix)
    shift = trace / 3.0
    p = minors - trace * shift
    q = -2.0 * shift**3 + shift * minors - determinant
    discriminant = (q / 2.0) ** 2 + (p / 3.0) ** 3
    three = discriminant < 0
    # Three real roots: the trigonometric form; the largest is the one with the smallest angle.
    radius = jnp.sqrt(jnp.where(three, -p / 3.0, 1.0))
    argument = jnp.where(three, -q / (2.0 * radius**3), 0.0)
    inside = jnp.abs(argument) < 1.0
    angle = jnp.where(inside, jnp.arccos(jnp.where(inside, argument, 0.0)), jnp.where(argument > 0, 0.0, jnp.pi))
    trigonometric = 2.0 * radius * jnp.cos(angle / 3.0)
    # One real root u + v and a complex pair of real part -(u + v)/2.
    root = safe_sqrt(jnp.where(three, 0.0, discriminant))
    large = -q / 2.0 - jnp.where(q > 0, root, -root)
    nonzero = large != 0
    u = jnp.where(nonzero, jnp.cbrt(jnp.where(nonzero, large, 1.0)), 0.0)
    single = u - jnp.where(nonzero, p / (3.0 * jnp.where(nonzero, u, 1.0)), 0.0)
    cardano = jnp.where(single > 0, single, -0.5 * single)
    return shift + jnp.where(three, trigonometric, cardano)


def polish(shape: ShapeDynamics, start: Gram) -> tuple[Gram, Array]:
    """Newton's method on dG/dt = 0 from `start`, by Optimistix; derivatives by the implicit function theorem.

    **Returns** the root and whether Newton's method converged.
    """
    dtype = start.aa.dtype
    size = Gram(*(jax.lax.stop_gradient(jnp.where(x == 0, 1.0, jnp.abs(x))) for x in start))
    size = size._replace(ab=jnp.sqrt(size.aa * size.bb))
    rates_scale = jax.lax.stop_gradient(jnp.sqrt(sum(x * x for row in shape.rates_and_jacobian(start)[1] for x in row)))

    def scaled_rates(y: Array, shape: ShapeDynamics) -> Array:
        g = Gram(*(y[i] * size[i] for i in range(3)))
        return jnp.stack([f / (s * rates_scale) for f, s in zip(shape.rates(g), size, strict=True)])

    tolerance = 1e-9 if dtype == jnp.float64 else 3e-5
    solution = optx.root_find(
        scaled_rates,
        optx.Newton(rtol=tolerance, atol=tolerance, linear_solver=lx.LU()),
        jax.lax.stop_gradient(jnp.stack([x / s for x, s in zip(start, size, strict=True)])),
        args=shape,
        max_steps=16,
        throw=False,
        adjoint=optx.ImplicitAdjoint(linear_solver=lx.LU()),
    )
    root = Gram(*(solution.value[i] * size[i] for i in range(3)))
    return root, solution.result == optx.RESULTS.successful


def describe(shape: ShapeDynamics, gram: Gram, paramagnetic: Array) -> BilayerState:
    """Label, chase rate, stability and residual of a fixed point of the shape.

    **Arguments** `gram`: a root of dG/dt. `paramagnetic`: whether it is m = 0.

    **Source** docs/physics.md, "Shape dynamics".
    """
    ordered = ~paramagnetic
    both = ordered & (gram.aa > 0) & (gram.bb > 0)
    product = jnp.where(both, gram.aa * gram.bb, 1.0)
    cosine = jnp.where(both, gram.ab / jnp.sqrt(product), 0.0)
    sine_squared = jnp.where(both, 1.0 - cosine**2, 0.0)
    collinear = sine_squared < collinear_tolerance(product.dtype)
    sine = jnp.where(collinear, 0.0, safe_sqrt(sine_squared))
    cosine = jnp.where(collinear & both, jnp.sign(cosine), cosine)

    r_a, r_b = shape.relaxation_rates(gram)
    w_a, w_b = shape.w_aa - r_a, shape.w_bb - r_b
    determinant = w_a * w_b - shape.w_ab * shape.w_ba
    phase = label(ordered=ordered, cosine=cosine, collinear=collinear, rotating=determinant > 0)
    # A layer without moment has no direction: neither aligned nor antialigned.
    phase = jnp.where(ordered & ~both, Phase.UNRESOLVED, phase)
    chiral = phase == Phase.CHIRAL
    chase_rate = jnp.where(chiral, safe_sqrt(jnp.where(chiral, determinant, 0.0)), 0.0)

    rates, jacobian = shape.rates_and_jacobian(gram)
    in_shape = largest_real_part_3(jacobian)
    # Collinear: the lengths alone (signed, so that one layer may pass through zero), and the tilt at rate trace W.
    a, b = jnp.where(both, safe_sqrt(gram.aa), 0.0), jnp.where(both, safe_sqrt(gram.bb) * jnp.sign(cosine), 0.0)
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


def moments(state: BilayerState, like: Float[Array, "2 3"]) -> Float[Array, "2 3"]:
    """The state's moments in the plane of `like`: m_A along like_A, m_B turned towards like_B.

    Rotation symmetry leaves the orientation free; this choice turns with `like`.
    """
    first = _unit(like[0], jnp.array([0.0, 0.0, 1.0], like.dtype))
    rest = like[1] - jnp.dot(like[1], first) * first
    # Some direction perpendicular to the first, where `like` offers none.
    axis = jnp.where(jnp.abs(first[0]) < 0.8, jnp.array([1.0, 0.0, 0.0], like.dtype), jnp.array([0.0, 1.0, 0.0], like.dtype))
    second = _unit(rest, _unit(axis - jnp.dot(axis, first) * first, axis))
    a, b = safe_sqrt(state.gram.aa), safe_sqrt(state.gram.bb)
    return jnp.stack([a * first, b * (state.cosine * first + state.sine * second)])


def _unit(vector: Array, otherwise: Array) -> Array:
    square = jnp.sum(vector**2)
    enough = square > 1e-24
    return jnp.where(enough, vector / jnp.sqrt(jnp.where(enough, square, 1.0)), otherwise)


def angular_velocity(magnet: LayeredMagnet, state: BilayerState, m: Float[Array, "2 3"]) -> Float[Array, "3"]:
    """Omega = omega_c n - gyro (j_BA m_A + j_AB m_B) in meV, n the normal of the plane with n . Omega > 0.

    Zero for states that do not rotate.
    """
    chiral = state.phase == Phase.CHIRAL
    cross = jnp.cross(m[0], m[1])
    square = jnp.sum(cross**2)
    normal = state.normal_sign * cross / jnp.sqrt(jnp.where(chiral & (square > 0), square, 1.0))
    precession = magnet.gyro * (magnet.exchange[1, 0] * m[0] + magnet.exchange[0, 1] * m[1])
    return jnp.where(chiral, state.chase_rate * normal - precession, jnp.zeros_like(precession))
