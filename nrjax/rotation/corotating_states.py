"""Rigidly rotating states of any magnet: fixed points in a frame that turns with them.

Used where the shape of a bilayer does not close: a field, an anisotropy, one layer, three and more. The unknowns are
the moments m (L, 3) and the angular velocity Omega, restricted to the rotations that leave the magnet as it is.
"""

from typing import Any, Final, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import lineax as lx
import optimistix as optx
from jaxtyping import Array, Float

from .. import units
from .._numerics.small_matrices import safe_sqrt
from ..magnets import LayeredMagnet
from ..motion.integration import Solution, default_tolerance, simulate
from ..motion.phases import Phase, collinear_tolerance, label

# Relative residual at which a trajectory counts as close to a rigid rotation.
CLOSE: Final = 1e-6
# The same for one that creeps towards a stable state, and how far off, relatively, that may be.
NEARLY_RIGID: Final = 1e-3
AHEAD: Final = 0.03
# How long to wait for it, in units of the slowest relaxation time of a free layer.
PATIENCE: Final = 300.0
# |h|^2/T^2 and |m|^2 below which moments that die out linearly have done so: what is nonlinear only damps further.
LINEAR_FIELD: Final = 1e-3
# Decay of deviations within the patience, as an exponent, below which they cannot be told from a lasting oscillation.
SLOW: Final = 10.0
# How often to go on, beside a saddle or towards a stable state, before giving up.
ROUNDS: Final = 3
# Samples of the last stretch from which an unsettled trajectory is classified.
SAMPLES: Final = 256


class RigidState(NamedTuple):
    """A relative equilibrium: moments, angular velocity (meV) and what follows from them."""

    m: Array
    omega: Array
    phase: Array
    growth_rate: Array
    residual: Array
    converged: Array


def symmetry_projector(magnet: LayeredMagnet) -> Float[Array, "3 3"]:
    """Projector on the axes about which a common rotation of all moments is a symmetry: all, one or none."""
    dtype = magnet.exchange.dtype
    directions = [term.axes(magnet.layers) for term in magnet.field_terms]
    identity = jnp.eye(3, dtype=dtype)
    if not directions:
        return identity
    vectors = jnp.concatenate(directions)
    squares = jnp.sum(vectors**2, axis=1)
    longest = vectors[jnp.argmax(squares)]
    free = jnp.max(squares) == 0
    axis = longest / jnp.sqrt(jnp.where(free, 1.0, jnp.max(squares)))
    off_axis = jnp.max(jnp.sum(jnp.cross(vectors, axis[None, :]) ** 2, axis=1))
    one_axis = off_axis <= 1e-20 * jnp.max(squares)
    single = jnp.where(one_axis, jnp.outer(axis, axis), jnp.zeros((3, 3), dtype))
    return jax.lax.stop_gradient(jnp.where(free, identity, single))


def term_size(magnet: LayeredMagnet, m: Float[Array, "L 3"]) -> Float[Array, ""]:
    """The size of the terms of dm/dt, in meV: the scale of a relative residual."""
    h = jnp.sqrt(jnp.sum(magnet.effective_field(m) ** 2, axis=1))
    length = jnp.sqrt(jnp.sum(m**2, axis=1))
    rates = jnp.abs(magnet.linear_rates(m))
    dissipative = 2.0 * magnet.damping * h + jnp.sum(rates * length[None, :], axis=1)
    return jnp.max(jnp.abs(magnet.gyro) * length * h + dissipative)


def rigid_residual(magnet: LayeredMagnet, m: Float[Array, "L 3"], omega: Float[Array, "3"]) -> Float[Array, ""]:
    """max_a |dm_a/dt - Omega x m_a| from the magnet's own `vector_field`, relative to the terms of dm/dt.

    It knows nothing of how m and Omega (meV) were found. Not below the rounding unit, which is all that can be told.
    """
    rest = magnet.vector_field(0.0, m) - jnp.cross(omega[None, :], m)
    scale = jnp.maximum(term_size(magnet, m), jnp.max(magnet.damping * magnet.bath.free_rate(magnet.temperature)))
    scale = jnp.maximum(scale, jnp.finfo(m.dtype).tiny ** 0.5)
    return jnp.maximum(safe_sqrt(jnp.max(jnp.sum(rest**2, axis=1))) / scale, jnp.finfo(m.dtype).eps)


def fitted_rotation(
    magnet: LayeredMagnet, projector: Float[Array, "3 3"], m: Float[Array, "L 3"]
) -> tuple[Float[Array, "3"], Float[Array, ""]]:
    """The Omega that makes dm/dt - Omega x m smallest, in meV, and what remains, relative to the terms of dm/dt."""
    rates = magnet.vector_field(0.0, m)
    square = jnp.sum(m**2)
    inertia = square * jnp.eye(3, dtype=m.dtype) - m.T @ m
    torque = jnp.sum(jnp.cross(m, rates), axis=0)
    weight = jnp.maximum(square, jnp.finfo(m.dtype).tiny ** 0.5)
    matrix = projector @ inertia @ projector + weight * (jnp.eye(3, dtype=m.dtype) - projector)
    matrix = matrix + 1e-13 * weight * jnp.eye(3, dtype=m.dtype)
    omega = projector @ jnp.linalg.solve(matrix, projector @ torque)
    rest = rates - jnp.cross(omega[None, :], m)
    scale = jnp.maximum(term_size(magnet, m), jnp.finfo(m.dtype).tiny ** 0.5)
    return omega, jnp.sqrt(jnp.max(jnp.sum(rest**2, axis=1))) / scale


def polish(magnet: LayeredMagnet, projector: Array, start: Float[Array, "L 3"]) -> tuple[Array, Array, Array]:
    """Newton's method on dm/dt = Omega x m; minimum-norm steps leave the free orientation alone.

    **Returns** moments, Omega, and whether Newton's method converged. Differentiable by the implicit function theorem.
    """
    dtype = start.dtype
    start = jax.lax.stop_gradient(start)
    omega, _ = fitted_rotation(magnet, projector, start)
    scale = jax.lax.stop_gradient(jnp.maximum(term_size(magnet, start), jnp.max(magnet.free_relaxation())))

    def equations(y: tuple[Array, Array], magnet: LayeredMagnet) -> tuple[Array, Array]:
        m, omega = y
        rest = magnet.vector_field(0.0, m) - jnp.cross((projector @ omega)[None, :], m)
        gauge = jnp.sum(jnp.cross(start, m - start), axis=0)
        return rest / scale, projector @ gauge + omega / scale - projector @ omega / scale

    tolerance = 1e-9 if dtype == jnp.float64 else 3e-5
    svd = lx.SVD(rcond=1e-9 if dtype == jnp.float64 else 1e-5)
    solution = optx.root_find(
        equations,
        optx.Newton(rtol=tolerance, atol=tolerance, linear_solver=svd),
        (start, jax.lax.stop_gradient(omega)),
        args=magnet,
        max_steps=24,
        throw=False,
        adjoint=optx.ImplicitAdjoint(linear_solver=svd),
    )
    m, omega = solution.value
    return m, projector @ omega, solution.result == optx.RESULTS.successful


def growth_rate(magnet: LayeredMagnet, projector: Array, m: Float[Array, "L 3"], omega: Float[Array, "3"]) -> Array:
    """The largest real part, in meV, of the spectrum in the co-rotating frame without the symmetry's own modes."""
    size = m.size
    identity = jnp.eye(3, dtype=m.dtype)

    def rest(flat: Array) -> Array:
        moments = flat.reshape(m.shape)
        return (magnet.vector_field(0.0, moments) - jnp.cross(omega[None, :], moments)).reshape(size)

    jacobian = jax.jacfwd(rest)(m.reshape(size))
    turned = jnp.stack([jnp.cross((projector @ e)[None, :], m).reshape(size) for e in identity], axis=1)
    turned = jax.lax.stop_gradient(turned)
    # An orthonormal basis of the directions that a rotation reaches; singular ones drop out.
    left, weights, _ = jnp.linalg.svd(turned, full_matrices=False)
    basis = jnp.where((weights > 1e-7 * jnp.maximum(weights[0], 1e-7))[None, :], left, 0.0)
    orbit = basis @ basis.T
    shape_only = jnp.eye(size, dtype=m.dtype) - orbit
    far = jnp.sqrt(jnp.sum(jacobian**2)) + 1.0
    reduced = shape_only @ jacobian @ shape_only - jax.lax.stop_gradient(far) * orbit
    return jnp.max(jnp.linalg.eigvals(reduced).real)


def describe(magnet: LayeredMagnet, projector: Array, m: Array, omega: Array, converged: Array) -> RigidState:
    """Label, stability and residual of a relative equilibrium."""
    square = jnp.sum(m**2, axis=1)
    tolerance = collinear_tolerance(m.dtype)
    ordered = jnp.max(square) > tolerance**1.5
    present = square > tolerance**1.5
    first, second = 0, min(1, magnet.layers - 1)
    product = jnp.where(present[first] & present[second], square[first] * square[second], 1.0)
    cosine = jnp.dot(m[first], m[second]) / jnp.sqrt(product)
    pair = square[:, None] * square[None, :]
    both = present[:, None] & present[None, :]
    sine_squared = jnp.where(both, 1.0 - (m @ m.T) ** 2 / jnp.where(both, pair, 1.0), 0.0)
    collinear = jnp.max(sine_squared) < tolerance
    residual = rigid_residual(magnet, m, omega)
    rotating = jnp.sqrt(jnp.sum(omega**2)) > 1e-9 * term_size(magnet, m)
    phase = label(ordered=ordered, cosine=cosine, collinear=collinear, rotating=rotating)
    return RigidState(m, omega, phase, growth_rate(magnet, projector, m, omega), residual, converged)


def paramagnet_is_stable(magnet: LayeredMagnet) -> Array:
    """Whether m = 0 is a state, and small moments die out. Larger ones then do so faster: phi grows with the field."""
    still = jnp.zeros((magnet.layers, 3), magnet.exchange.dtype)
    decays = growth_rate(magnet, jnp.zeros((3, 3), still.dtype), still, still[0]) < 0
    return decays & jnp.all(magnet.effective_field(still) == 0)


def patience(magnet: LayeredMagnet) -> Float[Array, ""]:
    """How long to follow a trajectory, in ps: PATIENCE relaxation times of the slowest free layer."""
    slowest = jnp.min(magnet.free_relaxation())
    return PATIENCE / jnp.maximum(slowest, 1e-6) / units.ps


def integrate_until_rigid(
    magnet: LayeredMagnet, m0: Float[Array, "L 3"], max_steps: int
) -> tuple[RigidState, Array, Array]:
    """Integrate from m0 until the motion is a rigid rotation, polish it, and leave saddles behind.

    **Returns** the state (not differentiable; polish it again for derivatives), the moments at the end of the
    integration, and whether the motion may still be on its way to a stable state nearby, so slowly that it looks
    periodic.
    """
    projector = symmetry_projector(magnet)
    tolerance = default_tolerance(m0.dtype)
    close = CLOSE if m0.dtype == jnp.float64 else 1e-3

    dies_out = paramagnet_is_stable(magnet)

    def vanishing(y: Array, args: LayeredMagnet) -> Array:
        fields = jnp.sum(args.effective_field(y) ** 2, axis=1) / args.temperature**2
        small = (jnp.max(fields) < LINEAR_FIELD) & (jnp.max(jnp.sum(y**2, axis=1)) < LINEAR_FIELD)
        return small & dies_out

    def rigid(t: Any, y: Array, args: Any, **unused: Any) -> Array:
        _, rest = fitted_rotation(args, projector, y)
        return (rest < close) | vanishing(y, args)

    duration = patience(magnet)

    def attempt(carry: Any) -> Any:
        start, number, *_ = carry
        trajectory = simulate(
            magnet,
            start,
            duration,
            rtol=tolerance,
            event=diffrax.Event(rigid),
            max_steps=max_steps,
            throw=False,
            watch_tilt=False,
        )
        end = jnp.where(jnp.isfinite(trajectory.ms[-1]), trajectory.ms[-1], start)
        close_enough = rigid(0.0, end, magnet)
        seed = jnp.where(vanishing(end, magnet), 0.0, end)
        polished, omega, converged = polish(magnet, projector, seed)
        state = describe(magnet, projector, polished, omega, converged)
        # Critically slow next to a boundary: a stable state just ahead of a nearly rigid motion will be reached.
        _, rest = fitted_rotation(magnet, projector, end)
        ahead = jnp.max(jnp.abs(polished - end)) < AHEAD * jnp.max(jnp.abs(end))
        creeping = (rest < NEARLY_RIGID) & ahead & (state.growth_rate < 0)
        there = close_enough | creeping
        # Where there is a stable state, but the motion is still on its way to something, wait for longer. Where it
        # stopped on a saddle, go on from beside it.
        saddle, waiting = there & converged & (state.growth_rate > 0), ~there & converged & (state.growth_rate < 0)
        kick = generic_directions(magnet.layers, m0.dtype) * jnp.where(saddle, 1e-2, 0.0)
        slow = waiting & (-state.growth_rate * duration * units.ps < SLOW)
        return end + kick, number + 1, state._replace(converged=converged & there), saddle | waiting, slow

    def go_on(carry: Any) -> Array:
        _, number, _, again, _ = carry
        return (number < ROUNDS) & again

    no = jnp.asarray(False)
    begin = (m0, jnp.asarray(0, jnp.int32), _blank(magnet, m0), ~no, no)
    end, _, state, _, slow = jax.lax.while_loop(go_on, attempt, begin)
    return state, end, slow


def unsettled(magnet: LayeredMagnet, start: Float[Array, "L 3"], max_steps: int, needed: Array) -> Solution:
    """The last stretch of a trajectory that has not settled, for classification: another half of the patience.

    Where it is not `needed` the stretch is a thousand times shorter, so that a settled lane costs next to nothing.
    """
    duration = jnp.where(needed, 0.5, 5e-4) * patience(magnet)
    times = jnp.linspace(0.0, duration, SAMPLES)
    return simulate(magnet, start, duration, saveat=times, max_steps=max_steps, throw=False, watch_tilt=False)


def _blank(magnet: LayeredMagnet, m0: Array) -> RigidState:
    zero = jnp.zeros((), m0.dtype)
    phase = jnp.asarray(Phase.UNRESOLVED, jnp.int32)
    return RigidState(m0, jnp.zeros(3, m0.dtype), phase, zero, zero, jnp.asarray(False))


def generic_directions(layers: int, dtype: Any) -> Float[Array, "L 3"]:
    """Unit vectors in general position, one for each layer (golden-angle spiral)."""
    index = jnp.arange(layers, dtype=dtype)
    z = 1.0 - 2.0 * (index + 0.5) / (layers + 0.5)
    radius, turn = jnp.sqrt(1.0 - z**2), 2.399963229728653 * (index + 1.0)
    return jnp.stack([radius * jnp.cos(turn), radius * jnp.sin(turn), z], axis=1)
