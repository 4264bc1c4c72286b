"""Steady states of layers of single spins: rotating distributions of directions."""

from typing import Any, Final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._numerics.small_matrices import safe_sqrt
from ..magnets import FokkerPlanckMagnet
from ..motion.phases import Phase
from ..motion.rigid_rotation import closest_rotation
from .bilayer_states import plane_of
from .collinear_distributions import collinear_distributions
from .corotating_solver import CorotatingSolver
from .corotating_states import growth_beside, least_steps, phase_of
from .rigid_states import RESULTS, SteadyState, rigid_state
from .shape_solver import ShapeSolver
from .solvers import AbstractSteadyStateSolver

# Degrees of harmonics added to see what those left out would change, and the largest relative change that is valid.
MORE: Final = 2
TRUNCATED: Final = 1e-4
# How much a rotation must change the means of the harmonics to count as one.
TURNED: Final = 1e-7
# Between the moments of two layers, where the closure's state is no attractor: collinear, and the openings of a chase.
COSINES: Final = (-1.0, 1.0, -0.98, -0.9, -0.6, 0.9)


class FokkerPlanckSolver(AbstractSteadyStateSolver):
    """<S>_a = m_a in the fields of the moments m themselves, in a frame that turns with Omega: Newton's method from the
    steady state of the closure (`model.magnet`).

    `residual` is what harmonics of two more degrees change of the moments, relative to the longest. `growth_rate` is
    that of the whole distribution. Which of several states is found, the closure decides. Where its state is none of
    the distribution's attractors, next to a boundary, two layers are tried collinear, then tilted.

    **Source** docs/physics.md, "Single spins".
    """

    def applies_to(self, model: Any) -> bool:
        """Whether the model is a `FokkerPlanckMagnet`."""
        return isinstance(model, FokkerPlanckMagnet)

    @eqx.filter_jit
    def find(self, model: FokkerPlanckMagnet, start: Float[Array, "L 3"], max_steps: int) -> SteadyState:
        """The state next to the one that the closure reaches from `start`."""
        fixed = jax.tree.map(jax.lax.stop_gradient, model)
        closure = ShapeSolver() if model.magnet.shape_closes else CorotatingSolver()
        seed = closure.find(fixed.magnet, start, max_steps)
        first = self.near(model, seed)
        if not model.magnet.shape_closes:
            return first
        # More harmonics may be wanted, but no other state; and beside a closure that keeps moving none is told.
        decided = first.valid | (first.result == RESULTS.truncated) | ~seed.is_rigid

        def elsewhere() -> SteadyState:
            sides = jnp.stack([jnp.abs(collinear_distributions(fixed, sign).m) for sign in (-1.0, 1.0)])

            def closer(found: SteadyState, cosine: Array) -> tuple[SteadyState, None]:
                m = _tilted(sides[(cosine > 0).astype(int)], cosine, start)
                omega, _ = closest_rotation(m, fixed.magnet.vector_field(0.0, m))
                here = jax.lax.cond(found.valid, lambda: found, lambda: _at(model, m, omega, jnp.asarray(True)))
                return jax.tree.map(lambda a, b: jnp.where(here.valid, a, b), here, found), None

            return jax.lax.scan(closer, first, jnp.asarray(COSINES, start.dtype))[0]

        return jax.lax.cond(decided, lambda: first, elsewhere)

    def find_many(self, models: FokkerPlanckMagnet, starts: Float[Array, "lanes L 3"], max_steps: int) -> SteadyState:
        """`find`, lane by lane: see `FokkerPlanckMagnet.distributions`."""
        return _find_each(self, models, starts, max_steps)

    def near_many(self, models: FokkerPlanckMagnet, states: SteadyState) -> SteadyState:
        """`near`, lane by lane."""
        return _find_each_near(self, models, states)

    def near(self, model: FokkerPlanckMagnet, state: SteadyState) -> SteadyState:
        """Newton's method from the moments and the angular velocity of `state`."""
        return _at(model, state.m, state.angular_velocity, state.is_rigid)


@eqx.filter_jit
def _find_each(solver: FokkerPlanckSolver, models: Any, starts: Array, max_steps: int) -> SteadyState:
    return jax.lax.map(lambda lane: solver.find(lane[0], lane[1], max_steps), (models, starts))


@eqx.filter_jit
def _find_each_near(solver: FokkerPlanckSolver, models: Any, states: SteadyState) -> SteadyState:
    return jax.lax.map(lambda lane: solver.near(lane[0], lane[1]), (models, states))


def _tilted(lengths: Array, cosine: Array, like: Array) -> Array:
    """Two moments at an angle, in the plane of `like`."""
    along, across = plane_of(like)
    return jnp.stack([lengths[0] * along, lengths[1] * (cosine * along + jnp.sqrt(1.0 - cosine**2) * across)])


def _at(model: FokkerPlanckMagnet, m: Array, omega: Array, rigid: Array) -> SteadyState:
    """The state that Newton's method finds from moments m and an angular velocity in meV. `rigid`: whether it may."""
    m, omega, converged = _polish(model, m, omega)
    growth = _growth_rate(model, m, omega)
    more = model.moments(model.distributions(m, omega, MORE), MORE)
    size = jnp.max(safe_sqrt(jnp.sum(m**2, axis=1)))
    residual = jnp.max(safe_sqrt(jnp.sum((more - m) ** 2, axis=1))) / jnp.maximum(size, 1e-12)
    residual = jnp.maximum(jnp.where(size > 1e-9, residual, 0.0), jnp.finfo(m.dtype).eps)
    attractor = converged & rigid & (growth < 0)
    phase = phase_of(model, m, omega)
    state = rigid_state(model, m, omega, phase, growth, attractor, residual=residual, tolerance=TRUNCATED)
    # Too few harmonics can also make a state seem unstable.
    seems = (state.result == RESULTS.not_an_attractor) & converged & rigid & ~(residual < TRUNCATED)
    result = RESULTS.where((state.result == RESULTS.inconsistent) | seems, RESULTS.truncated, state.result)
    phase = jnp.where(state.valid, phase, Phase.UNRESOLVED).astype(jnp.int32)
    return eqx.tree_at(lambda s: (s.phase, s.result), state, (phase, result))


def _polish(model: FokkerPlanckMagnet, start: Array, omega: Array) -> tuple[Array, Array, Array]:
    """Moments, Omega (meV), and whether Newton's method converged; derivatives by the implicit function theorem."""
    start, omega = jax.lax.stop_gradient((start, omega))
    scale = jax.lax.stop_gradient(jnp.max(model.free_relaxation()))

    def equations(y: tuple[Array, Array], model: FokkerPlanckMagnet) -> tuple[Array, Array]:
        m, omega = y
        rest = model.moments(model.distributions(m, omega * scale)) - m
        return rest, jnp.sum(jnp.cross(start, m - start), axis=0)

    (m, omega), converged = least_steps(equations, (start, omega / scale), model)
    return m, omega * scale, converged


def _growth_rate(model: FokkerPlanckMagnet, m: Array, omega: Array) -> Array:
    """The largest real part of the linearization about the distribution, in meV, without the three rotations."""
    _, jacobian, turned = model.modes(m, omega)
    return growth_beside(jacobian, turned, jnp.asarray(TURNED, m.dtype))
