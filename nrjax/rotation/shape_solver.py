"""Steady states of two order parameters from their shape: no fast precession, no integration in time."""

from typing import Any, Final, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .. import units
from .._numerics.precision import collinear_tolerance, residual_tolerance
from .._numerics.programs import SharedProgram
from .._numerics.ready_programs import kept
from .._numerics.refilled_loops import in_blocks
from .._numerics.small_matrices import safe_sqrt
from ..magnets import AbstractOrderParameters
from ..magnets.relaxation import Gram
from ..magnets.shape import ShapeDynamics
from ..motion.phases import Phase
from . import bilayer_states
from .bilayer_relaxation import VANISHED, Journey, Motion, is_slow_spiral, log_tilt, set_out, settle
from .modulated_shapes import Watch, averages, is_modulated, nothing_seen, watch_for_repetition
from .rigid_states import Averages, SteadyState, reached_state, rigid_state
from .solvers import AbstractSteadyStateSolver, without_derivative

# Shapes that keep moving are watched this many at a time.
WATCHED: Final = 1024
# Fine steps spent on a shape that does not settle, for each step spent on settling.
WATCH_FACTOR: Final = 4


class ShapeSolver(AbstractSteadyStateSolver):
    """dG/dt = W G + G W^T = 0 for the scalar products of two order parameters on which nothing singles out a direction.

    Their shape is followed through pseudo-time to where it settles, then polished by Newton's method. A shape that
    keeps moving is watched until it repeats itself, which makes it MODULATED.

    **Source** docs/physics.md, "Shape dynamics".
    """

    def applies_to(self, model: Any) -> bool:
        """Whether the model is an isotropic bilayer, or two order parameters like it."""
        return isinstance(model, AbstractOrderParameters) and model.shape_closes

    @property
    def is_light(self) -> bool:
        """True."""
        return True

    @kept
    def find(self, model: AbstractOrderParameters, start: Float[Array, "2 n"], max_steps: int) -> SteadyState:
        """The state reached from `start`; `max_steps` pseudo-time steps to settle, four times as many to repeat."""
        arrays, rest = eqx.partition(model, eqx.is_array)

        def search(arrays: Any, start: Array) -> Search:
            frozen = eqx.combine(arrays, rest)
            return _watched(frozen, _settled(*_set_out(frozen, start), max_steps), max_steps)

        return _told(model, start, without_derivative(search)(arrays, start))

    def find_many(
        self, models: AbstractOrderParameters, starts: Float[Array, "lanes 2 n"], max_steps: int
    ) -> SteadyState:
        """`find` in up to three programs: shapes settle, those that do not are watched, and all are told. Watching is
        compiled only if a lane needs it."""
        _tell_all.compile_ahead(models, starts, _settle_all.shapes(models, starts, max_steps))
        search = _settle_all(models, starts, max_steps)
        moving = np.flatnonzero(~np.asarray(search.journey.motion.arrived))
        for first in range(0, moving.size, WATCHED):
            lanes = moving[first : first + WATCHED]
            # Filled up, so that all are of one size, with lanes beyond the end that have no steps left.
            rows = np.concatenate([lanes, starts.shape[0] + np.arange(WATCHED - lanes.size)])
            some, searches = _lanes_of((models, search), rows)
            searches.journey.steps[lanes.size :] = np.iinfo(np.int32).max
            search = _with_lanes(search, rows, _watch_all(some, searches, max_steps))
        return _tell_all(models, starts, search)

    def near(self, model: AbstractOrderParameters, state: SteadyState) -> SteadyState:
        """Newton's method from the Gram matrix of `state`."""
        return state_near_gram(model, gram_of(state.m), state.phase == Phase.PARAMAGNETIC, state.m)

    def near_many(self, models: AbstractOrderParameters, states: SteadyState) -> SteadyState:
        """`near` in the program that tells what searches have come to: they have arrived at `states.m`."""
        return _tell_all(models, states.m, _arrived_all(states.m, states.phase))


class Search(NamedTuple):
    """How far a search has come: the motion of the shape, and what was seen of it where it was watched."""

    journey: Journey
    watch: Watch


def _set_out(model: AbstractOrderParameters, start: Float[Array, "2 n"]) -> tuple[ShapeDynamics, Array, Journey]:
    shape = ShapeDynamics(model)
    return shape, *set_out(shape, gram_of(start))


def _settled(shape: ShapeDynamics, paramagnet_is_stable: Array, journey: Journey, max_steps: int) -> Search:
    journey = settle(shape, paramagnet_is_stable, journey, max_steps)
    return Search(journey, nothing_seen(journey.motion.gram))


def _watched(model: AbstractOrderParameters, search: Search, max_steps: int) -> Search:
    """The search of a shape that has not settled, in fine steps, until it does or repeats itself."""
    steps = (1 + WATCH_FACTOR) * max_steps
    return Search(*watch_for_repetition(ShapeDynamics(model), _turning_rates(model), search.journey, steps))


def _arrived(m: Float[Array, "2 n"], phase: Int[Array, ""]) -> Search:
    """A search that has come to an end."""
    gram, zero = gram_of(m), jnp.zeros((), m.dtype)
    motion = Motion(gram, log_tilt(gram), zero, zero, zero == 0, phase == Phase.PARAMAGNETIC)
    return Search(Journey(motion, zero.astype(jnp.int32)), nothing_seen(gram))


def _told(model: AbstractOrderParameters, start: Float[Array, "2 n"], search: Search) -> SteadyState:
    """What a search has come to."""
    search = jax.tree.map(jax.lax.stop_gradient, search)
    motion = search.journey.motion
    rates = jax.tree.map(jax.lax.stop_gradient, ShapeDynamics(model).rates(motion.gram))
    finite = jnp.isfinite(sum((*motion.gram, *rates), start=jnp.zeros_like(motion.gram.aa)))
    arrived, averaged = motion.arrived & finite, averages(search.watch)
    mean = averaged.gram
    state = state_near_gram(model, _without_vanished(motion, arrived), motion.paramagnetic, start)
    found = jax.tree.map(jax.lax.stop_gradient, gram_of(state.m))
    # The steps themselves damp a cycle next to a Hopf bifurcation: what led there cannot tell it from the state.
    uncertain = (search.journey.steps > 0) & (state.phase == Phase.CHIRAL) & is_slow_spiral(ShapeDynamics(model), found)
    return reached_state(
        state,
        settled=arrived & ~uncertain,
        modulated=is_modulated(search.watch) & ~arrived & finite,
        averages=Averages(
            jnp.sqrt(jnp.stack([mean.aa, mean.bb])),
            jnp.arctan2(safe_sqrt(mean.aa * mean.bb - mean.ab**2), mean.ab),
            averaged.chase / units.GHz,
            averaged.rotation / units.GHz,
        ),
        finite=finite & jnp.all(jnp.isfinite(start)),
        steps=search.journey.steps,
    )


@jax.jit
def _taken(tree: Any, rows: Array) -> Any:
    return jax.tree.map(lambda x: jnp.take(x, rows, axis=0, mode="clip"), tree)


def _lanes_of(tree: Any, rows: np.ndarray) -> Any:
    """Some lanes of many, as NumPy arrays; the last one for those beyond the end."""
    return jax.tree.map(np.array, _taken(tree, rows))


@jax.jit
def _with_lanes(tree: Any, rows: Array, some: Any) -> Any:
    """The lanes of a tree, `rows` of which become `some`; those beyond the end are dropped."""
    return jax.tree.map(lambda x, y: x.at[rows].set(y, mode="drop", unique_indices=True), tree, some)


def _settle_each(models: Any, starts: Array, max_steps: int) -> Search:
    begun = in_blocks(_set_out, models, starts)
    return jax.vmap(lambda shape, stable, journey: _settled(shape, stable, journey, max_steps))(*begun)


def _watch_each(models: Any, searches: Search, max_steps: int) -> Search:
    return jax.vmap(lambda model, search: _watched(model, search, max_steps))(models, searches)


def _tell_each(models: Any, starts: Array, searches: Search) -> SteadyState:
    return in_blocks(_told, models, starts, searches)


def _arrived_each(m: Array, phase: Array) -> Search:
    return in_blocks(_arrived, m, phase)


_settle_all = SharedProgram(_settle_each, static_argnums=[2])
_watch_all = SharedProgram(_watch_each, static_argnums=[2])
_tell_all = SharedProgram(_tell_each)
_arrived_all = SharedProgram(_arrived_each)


def gram_of(m: Float[Array, "2 n"]) -> Gram:
    """Scalar products of two moments."""
    return Gram(jnp.sum(m[0] ** 2), jnp.sum(m[1] ** 2), jnp.sum(m[0] * m[1]))


def _turning_rates(model: AbstractOrderParameters) -> tuple[Array, Array]:
    """(J_BA, J_AB) in meV: the plane of the moments turns at their sum over m_A and m_B."""
    exchange = model.precession_exchange()
    return exchange[1, 0], exchange[0, 1]


def state_near_gram(
    model: AbstractOrderParameters, seed: Gram, paramagnetic: Bool[Array, ""], like: Float[Array, "2 n"]
) -> SteadyState:
    """The rigid state of two order parameters next to `seed`, polished and described.

    **Arguments** `seed`: its Gram matrix, nearly. `paramagnetic`: whether m = 0 is meant. `like`: moments that
    choose the orientation, shape (2, n).

    **Returns** a `SteadyState`; `valid` only if it is an attractor. Differentiable.
    """
    shape = ShapeDynamics(model)
    seed = jax.lax.stop_gradient(seed)
    root, converged = bilayer_states.polish(shape, seed)
    state = bilayer_states.describe(shape, root, paramagnetic)
    stayed = (jnp.abs(root.aa - seed.aa) <= 0.3 * seed.aa) & (jnp.abs(root.bb - seed.bb) <= 0.3 * seed.bb)
    physical = root.ab**2 <= root.aa * root.bb * (1.0 + collinear_tolerance(like.dtype))
    tolerance = residual_tolerance(like.dtype)
    # Next to a boundary two roots merge and Newton's method creeps; a residual at rounding level is as good.
    solved = (converged & (state.residual < tolerance)) | (state.residual < 1e-3 * tolerance)
    attractor = solved & stayed & physical & (state.growth_rate < 0)
    m = bilayer_states.moments(state, like)
    pair = bilayer_states.leading_pair_of(state, m)
    to_a, to_b = _turning_rates(model)
    omega = bilayer_states.angular_velocity(state, pair, to_a * m[0] + to_b * m[1])
    return rigid_state(model, m, omega, state.phase, state.growth_rate, attractor, pair, state.chase_rate)


def _without_vanished(motion: Motion, arrived: Bool[Array, ""]) -> Gram:
    """The seed for Newton's method, with moments that have vanished set to zero."""
    gram = motion.gram
    total = gram.aa + gram.bb
    no_a = motion.paramagnetic | (arrived & (gram.aa < VANISHED * total))
    no_b = motion.paramagnetic | (arrived & (gram.bb < VANISHED * total))
    return Gram(jnp.where(no_a, 0.0, gram.aa), jnp.where(no_b, 0.0, gram.bb), jnp.where(no_a | no_b, 0.0, gram.ab))
