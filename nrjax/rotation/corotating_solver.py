"""Steady states of any model, by integration in time until the motion is a rigid rotation."""

from typing import Any, Final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._numerics.precision import in_full_precision
from .._numerics.ready_programs import kept
from .._numerics.validation import in_range
from ..magnets import AbstractOrderParameters
from ..motion.phases import Phase, classify_trajectory
from . import corotating_states
from .corotating_states import generic_directions
from .rigid_states import RESULTS, SteadyState, moving_state, reached_state, rigid_state, unsolved_shape
from .solvers import AbstractSteadyStateSolver, without_derivative

# Size of the deviation that the default initial state carries, so that no symmetry of the start is special.
DEVIATION: Final = 1e-2


class CorotatingSolver(AbstractSteadyStateSolver):
    """dm_a/dt = Omega x m_a for any model: a fixed point in a frame that turns with it.

    The motion is integrated until it is rigid, then polished by Newton's method in m and Omega together. For fields,
    anisotropies, one layer, three and more; also for what `ShapeSolver` takes, a hundred times slower.
    """

    def applies_to(self, model: Any) -> bool:
        """Whether the model is of order parameters with one, two or three components."""
        return isinstance(model, AbstractOrderParameters) and model.components in (1, 2, 3)

    @kept
    @in_full_precision
    def find(self, model: AbstractOrderParameters, start: Float[Array, "L n"], max_steps: int) -> SteadyState:
        """The state reached from `start`, with a thousand time steps for each of `max_steps`."""
        steps = 1000 * max_steps
        start = _not_quite_collinear(start)
        arrays, rest = eqx.partition(model, eqx.is_array)

        def search(arrays: Any, start: Array) -> Any:
            frozen = eqx.combine(arrays, rest)
            state, end, slow = corotating_states.integrate_until_rigid(frozen, start, steps)
            moving = ~(state.converged & (state.growth_rate < 0))
            last = corotating_states.unsettled(frozen, end, steps, moving)
            observed = classify_trajectory(last)
            label = jnp.where(slow & (observed.phase == Phase.MODULATED), Phase.UNRESOLVED, observed.phase)
            return state.m, state.converged & ~moving, label, observed.lengths, observed.angle

        seed, settled, phase, lengths, angle = without_derivative(search)(arrays, start)
        state = _state_near(model, seed)
        finite = (state.result != RESULTS.nonfinite) & jnp.all(jnp.isfinite(start))
        reached = reached_state(state, settled=settled, finite=finite, steps=jnp.asarray(0, jnp.int32))
        moves = ~settled & (phase == Phase.MODULATED) & in_range(model)
        return moving_state(model, reached, moves, unsolved_shape(state.m, lengths, angle))

    @in_full_precision
    def near(self, model: AbstractOrderParameters, state: SteadyState) -> SteadyState:
        """Newton's method from the moments of `state`."""
        return _state_near(model, state.m)


def deviated(m: Float[Array, "L n"]) -> Float[Array, "L n"]:
    """Moments with a small deviation in general position."""
    return m + DEVIATION * generic_directions(m.shape[0], m.shape[1], m.dtype)


def _not_quite_collinear(start: Float[Array, "L n"]) -> Float[Array, "L n"]:
    """The start, with the default deviation where its moments are collinear: exactly collinear ones would stay so for
    ever, also where any tilt grows."""
    if start.shape[0] == 1:
        return start
    gram = start @ start.T
    squares = jnp.diagonal(gram)
    areas = squares[:, None] * squares[None, :] - gram**2
    tilted = jnp.max(areas) > jnp.finfo(start.dtype).eps * jnp.max(squares) ** 2
    return jnp.where(tilted, start, deviated(start))


def _state_near(model: AbstractOrderParameters, seed: Float[Array, "L n"]) -> SteadyState:
    """The rigid state next to moments `seed`, polished and described; `valid` if it is an attractor."""
    projector = corotating_states.symmetry_projector(model)
    m, omega, converged = corotating_states.polish(model, projector, seed)
    state = corotating_states.describe(model, projector, m, omega, converged)
    return rigid_state(model, m, omega, state.phase, state.growth_rate, converged & (state.growth_rate < 0))
