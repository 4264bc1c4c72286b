"""Rigidly rotating states of any model: fixed points in a frame that turns with them.

Used where the shape of a bilayer does not close: a field, an anisotropy, one layer, three and more. The unknowns are
the moments m (L, n) and the angular velocity Omega, restricted to the rotations that leave the magnet as it is.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import lineax as lx
import optimistix as optx
from jaxtyping import Array, Float

from .. import units
from .._numerics.precision import (
    collinear_tolerance,
    integration_tolerance,
    newton_tolerance,
    rigid_tolerance,
    rotating_tolerance,
    singular_value,
)
from .._numerics.spectral_abscissa import largest_real_part
from ..magnets import AbstractOrderParameters
from ..motion.integration import simulate
from ..motion.phases import Phase, label
from ..motion.rigid_rotation import in_space, leading_pair, turning
from ..motion.solution import Solution
from . import following
from .following import closest_rigid_motion

# Relative residual of a motion that creeps towards a stable state, and how far off, relatively, that may be.
NEARLY_RIGID: Final = 1e-3
# The residual at which a state is looked for first.
SOON: Final = 1e-4
AHEAD: Final = 0.03
# How long to wait for it, in units of the slowest relaxation time of a free layer.
PATIENCE: Final = 300.0
# Of |m|^2, and of the share by which rates differ from those at m = 0: below is rounding.
VANISHED: Final = 1e-15
# Decay of deviations within the patience, as an exponent, below which they cannot be told from a lasting oscillation.
SLOW: Final = 10.0
# How often to go on, beside a saddle or towards a stable state, before giving up.
ROUNDS: Final = 3
# Samples of the last stretch from which an unsettled trajectory is classified.
SAMPLES: Final = 256


class RigidMotion(NamedTuple):
    """A relative equilibrium: moments, angular velocity (meV) and what follows from them."""

    m: Array
    omega: Array
    phase: Array
    growth_rate: Array
    converged: Array


def symmetry_projector(model: AbstractOrderParameters) -> Float[Array, "3 3"]:
    """Projector on the axes about which a common rotation is a symmetry: all, one or none; in the plane at most one."""
    dtype = model.dtype
    vectors = model.symmetry_axes().astype(dtype)
    # The axes about which n components can turn among themselves.
    identity = jnp.diag(
        jnp.asarray({1: [0.0, 0.0, 0.0], 2: [0.0, 0.0, 1.0], 3: [1.0, 1.0, 1.0]}[model.components], dtype)
    )
    if vectors.shape[0] == 0:
        return identity
    squares = jnp.sum(vectors**2, axis=1)
    longest = vectors[jnp.argmax(squares)]
    free = jnp.max(squares) == 0
    axis = longest / jnp.sqrt(jnp.where(free, 1.0, jnp.max(squares)))
    off_axis = jnp.max(jnp.sum(jnp.cross(vectors, axis[None, :]) ** 2, axis=1))
    one_axis = off_axis <= collinear_tolerance(dtype) ** 2 * jnp.max(squares)
    single = jnp.where(one_axis, jnp.outer(axis, axis), jnp.zeros((3, 3), dtype))
    # Of order parameters in the plane an axis out of it leaves the rotations that there are.
    return jax.lax.stop_gradient(jnp.where(free, identity, identity @ single @ identity))


def polish(model: AbstractOrderParameters, projector: Array, start: Float[Array, "L n"]) -> tuple[Array, Array, Array]:
    """Newton's method on dm/dt = Omega x m; minimum-norm steps leave the free orientation alone.

    **Returns** moments, Omega, and whether Newton's method converged. Differentiable by the implicit function theorem.
    """
    start = jax.lax.stop_gradient(start)
    omega, _ = closest_rigid_motion(model, projector, start, model.vector_field(0.0, start))
    largest = jnp.max(jnp.abs(start))
    # Order parameters in units of their size, whatever that is.
    size = jnp.where(largest > 0, largest, 1.0)
    scale = jax.lax.stop_gradient(jnp.maximum(model.term_size(start) / size, jnp.max(model.free_relaxation())))
    begin = start / size

    def equations(y: tuple[Array, Array], model: AbstractOrderParameters) -> tuple[Array, Array]:
        m, omega = y
        rest = model.vector_field(0.0, size * m) / size - turning(projector @ omega, m)
        gauge = jnp.sum(jnp.cross(in_space(begin), in_space(m - begin)), axis=0)
        return rest / scale, projector @ gauge + omega / scale - projector @ omega / scale

    (m, omega), converged = least_steps(equations, (begin, jax.lax.stop_gradient(omega)), model)
    return size * m, projector @ omega, converged


def least_steps(
    equations: Callable[[tuple[Array, Array], Any], tuple[Array, Array]], start: tuple[Array, Array], model: Any
) -> tuple[tuple[Array, Array], Array]:
    """Newton's method on equations((m, Omega), model) = 0 with minimum-norm steps, which leave alone what is free.

    **Returns** (m, Omega), and whether it converged. Differentiable by the implicit function theorem.
    """
    dtype = start[0].dtype
    tolerance = newton_tolerance(dtype)
    svd = lx.SVD(rcond=singular_value(dtype))
    solution = optx.root_find(
        equations,
        optx.Newton(rtol=tolerance, atol=tolerance, linear_solver=svd),
        start,
        args=model,
        max_steps=24,
        throw=False,
        adjoint=optx.ImplicitAdjoint(linear_solver=svd),
    )
    return solution.value, solution.result == optx.RESULTS.successful


def growth_rate(
    model: AbstractOrderParameters, projector: Array, m: Float[Array, "L n"], omega: Float[Array, "3"]
) -> Array:
    """The largest real part, in meV, of the spectrum in the co-rotating frame without the symmetry's own modes."""
    size = m.size
    identity = jnp.eye(3, dtype=m.dtype)

    def rest(flat: Array) -> Array:
        moments = flat.reshape(m.shape)
        return (model.vector_field(0.0, moments) - turning(omega, moments)).reshape(size)

    jacobian = jax.jacfwd(rest)(m.reshape(size))
    turned = jnp.stack([turning(projector @ e, m).reshape(size) for e in identity], axis=1)
    return growth_beside(jacobian, turned, collinear_tolerance(m.dtype) ** 0.5 * jnp.sqrt(jnp.sum(m**2)))


def growth_beside(jacobian: Float[Array, "M M"], turned: Float[Array, "M 3"], least: Array) -> Array:
    """The largest real part of the spectrum of a linearization without the directions that rotations reach.

    **Arguments** `turned`: those of the rotation about each axis. `least`: how long one must be to count.
    """
    still, now = jax.lax.stop_gradient((jacobian, turned))
    # The linearization maps those directions to themselves, J T = T M, so that J - T C has the rest of its spectrum for
    # every constant C, also while J and T change. This one moves M far to the left. Moments are not turned about their
    # own axis.
    left, weights, right = jnp.linalg.svd(now, full_matrices=False)
    far = jnp.sqrt(jnp.sum(still**2)) + 1.0
    reached = weights > least
    inverse = jnp.where(reached, far / jnp.where(reached, weights, 1.0), 0.0)
    return largest_real_part(jacobian - turned @ (right.T @ (inverse[:, None] * left.T)))


def describe(model: AbstractOrderParameters, projector: Array, m: Array, omega: Array, converged: Array) -> RigidMotion:
    """Label and stability of a relative equilibrium."""
    return RigidMotion(m, omega, phase_of(model, m, omega), growth_rate(model, projector, m, omega), converged)


def phase_of(model: AbstractOrderParameters, m: Float[Array, "L n"], omega: Float[Array, "3"]) -> Array:
    """The label of moments that turn with Omega (meV)."""
    square = jnp.sum(m**2, axis=1)
    tolerance = collinear_tolerance(m.dtype)
    # Order parameters may have units of their own; then the rates tell whether they are there.
    ordered = (jnp.max(square) > VANISHED) | (model.nonlinearity(m) > VANISHED)
    largest = jnp.max(square)
    present = square > tolerance**1.5 * largest
    # What rounding leaves of Omega.
    unseen = rotating_tolerance(m.dtype) * model.term_size(m) / jnp.sqrt(jnp.where(largest > 0, largest, 1.0))
    pair = square[:, None] * square[None, :]
    both = present[:, None] & present[None, :]
    sine_squared = jnp.where(both, 1.0 - (m @ m.T) ** 2 / jnp.where(both, pair, 1.0), 0.0)
    return label(
        ordered=ordered,
        cosine=leading_pair(jnp.where(present[:, None], m, 0.0)).cosine,
        collinear=jnp.max(sine_squared) < tolerance,
        rotating=jnp.sqrt(jnp.sum(omega**2)) > unseen,
    )


def paramagnet_is_stable(model: AbstractOrderParameters) -> Array:
    """Whether m = 0 is a state, and small moments die out. Larger ones then do so faster: phi grows with the field."""
    still = jnp.zeros((model.layers, model.components), model.dtype)
    nothing = jnp.zeros((3, 3), still.dtype)
    decays = growth_rate(model, nothing, still, nothing[0]) < 0
    return decays & jnp.all(model.vector_field(0.0, still) == 0)


def patience(model: AbstractOrderParameters) -> Float[Array, ""]:
    """How long to follow a trajectory, in ps: PATIENCE relaxation times of the slowest free layer."""
    slowest = jnp.min(model.free_relaxation())
    return PATIENCE / jnp.maximum(slowest, 1e-6) / units.ps


def integrate_until_rigid(
    model: AbstractOrderParameters, m0: Float[Array, "L n"], max_steps: int
) -> tuple[RigidMotion, Array, Array]:
    """Integrate from m0 until the motion is a rigid rotation, polish it, and leave saddles behind.

    **Returns** the state (not differentiable; polish it again for derivatives), the moments at the end of the
    integration, and whether the motion may still be on its way to a stable state nearby, so slowly that it looks
    periodic.
    """
    projector, dies_out = symmetry_projector(model), paramagnet_is_stable(model)
    tolerance, close = integration_tolerance(m0.dtype), rigid_tolerance(m0.dtype)
    duration = patience(model) * units.ps

    def attempt(carry: Any) -> Any:
        start, number, _, again, _ = carry
        rigid = jnp.where(number < 0, max(SOON, close), close)
        motion = following.set_out(model, projector, dies_out, start)
        motion = following.follow(
            model, projector, dies_out, motion, jnp.where(again, duration, 0.0), rigid, tolerance, max_steps
        )
        end = motion.m
        close_enough = (motion.rest < close) | motion.vanishing
        polished, omega, converged = polish(model, projector, jnp.where(motion.vanishing, 0.0, end))
        state = describe(model, projector, polished, omega, converged)
        # Critically slow next to a boundary: a stable state just ahead of a nearly rigid motion will be reached.
        ahead = jnp.max(jnp.abs(polished - end)) < AHEAD * jnp.max(jnp.abs(end))
        creeping = (motion.rest < NEARLY_RIGID) & ahead & (state.growth_rate < 0)
        there = close_enough | creeping
        # Where there is a stable state, but the motion is still on its way to something, wait for longer. Where it
        # stopped on a saddle, go on from beside it; where it only came near one, go on.
        saddle, waiting = there & converged & (state.growth_rate > 0), ~there & converged & (state.growth_rate < 0)
        early = ~there & (motion.rest < rigid)
        kick = generic_directions(model.layers, model.components, m0.dtype) * jnp.where(saddle, 1e-2, 0.0)
        slow = waiting & (-state.growth_rate * duration < SLOW)
        again = saddle | waiting | early
        return end + kick, number + 1, state._replace(converged=converged & there), again, slow

    def go_on(carry: Any) -> Array:
        _, number, _, again, _ = carry
        return (number < ROUNDS) & again

    no = jnp.asarray(False)
    begin = (m0, jnp.asarray(-1, jnp.int32), _blank(model, m0), ~no, no)
    end, _, state, _, slow = jax.lax.while_loop(go_on, attempt, begin)
    return state, end, slow


def unsettled(model: AbstractOrderParameters, start: Float[Array, "L n"], max_steps: int, needed: Array) -> Solution:
    """The last stretch of a trajectory that has not settled, for classification: another half of the patience.

    Where it is not `needed` the stretch is a thousand times shorter, so that a settled lane costs next to nothing.
    """
    duration = jnp.where(needed, 0.5, 5e-4) * patience(model)
    times = jnp.linspace(0.0, duration, SAMPLES)
    return simulate(model, start, duration, saveat=times, max_steps=max_steps, throw=False, watch_tilt=False)


def _blank(model: AbstractOrderParameters, m0: Array) -> RigidMotion:
    zero = jnp.zeros((), m0.dtype)
    phase = jnp.asarray(Phase.UNRESOLVED, jnp.int32)
    return RigidMotion(m0, jnp.zeros(3, m0.dtype), phase, zero, jnp.asarray(False))


def generic_directions(layers: int, components: int, dtype: Any) -> Float[Array, "L n"]:
    """Vectors in general position, one for each layer: unit vectors in space (a golden-angle spiral), or their first
    components."""
    index = jnp.arange(layers, dtype=dtype)
    z = 1.0 - 2.0 * (index + 0.5) / (layers + 0.5)
    radius, turn = jnp.sqrt(1.0 - z**2), 2.399963229728653 * (index + 1.0)
    return jnp.stack([radius * jnp.cos(turn), radius * jnp.sin(turn), z], axis=1)[:, :components]
