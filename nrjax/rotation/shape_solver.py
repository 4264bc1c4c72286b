"""Steady states of two order parameters from their shape: no fast precession, no integration in time."""

from collections.abc import Iterator
from functools import partial
from typing import Any, Final, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .. import units
from .._numerics.cpu_options import lanes_options
from .._numerics.precision import collinear_tolerance, residual_tolerance
from .._numerics.programs import SharedProgram
from .._numerics.ready_programs import A_LINE, FEW, PASSED_OVER, kept
from .._numerics.refilled_loops import in_blocks
from .._numerics.small_matrices import safe_sqrt
from .._numerics.stored_values import stored, unseen_one
from .._numerics.validation import in_range, is_concrete
from ..magnets import AbstractOrderParameters
from ..magnets.relaxation import Gram
from ..magnets.shape import ShapeDynamics
from ..motion.phases import Phase
from . import bilayer_states
from .bilayer_relaxation import VANISHED, Journey, Motion, is_slow_spiral, set_out, settle, tilt_of
from .modulated_shapes import Watch, is_modulated, nothing_seen, watch_for_repetition
from .rigid_states import RESULTS, MovingShape, SteadyState, moving_state, reached_state, rigid_state, unsolved_shape
from .shape_cycles import Turn, find_cycle
from .solvers import AbstractSteadyStateSolver, without_derivative

# Shapes that keep moving are watched this many at a time.
WATCHED: Final = 1024
# Or this many, where there are no more.
FEW_WATCHED: Final = 16
# And so many closed orbits are solved for at a time.
CYCLES: Final = 16
# Fine steps spent on a shape that does not settle, for each step spent on settling.
WATCH_FACTOR: Final = 4


class ShapeSolver(AbstractSteadyStateSolver):
    """dG/dt = W G + G W^T = 0 for the scalar products of two order parameters on which nothing singles out a direction.

    Their shape is followed through pseudo-time to where it settles, then polished by Newton's method. A shape that
    keeps moving is watched until it repeats itself, which makes it MODULATED.

    **Arguments** `cycles`: whether the closed orbit of a MODULATED shape is solved for. `watches`: whether a shape that
    does not settle is watched at all; else it is UNRESOLVED.

    **Source** docs/physics.md, "Shape dynamics".
    """

    cycles: bool = eqx.field(default=True, static=True)
    watches: bool = eqx.field(default=True, static=True)

    def of_rigid_states(self) -> "ShapeSolver":
        """Without closed orbits."""
        return ShapeSolver(cycles=False, watches=self.watches)

    def of_settling_states(self) -> "ShapeSolver":
        """Without watching."""
        return ShapeSolver(cycles=False, watches=False)

    def applies_to(self, model: Any) -> bool:
        """Whether the model is an isotropic bilayer, or two order parameters like it."""
        return isinstance(model, AbstractOrderParameters) and model.shape_closes

    @property
    def is_light(self) -> bool:
        """True."""
        return True

    def find(self, model: AbstractOrderParameters, start: Float[Array, "2 n"], max_steps: int) -> SteadyState:
        """The state reached from `start`; `max_steps` pseudo-time steps to settle, four times as many to repeat."""
        if is_concrete(*jax.tree.leaves((model, start))):
            search, state = _at_once(model, start, max_steps)
            if not self.watches or bool(search.journey.motion.arrived):
                return state
            return _after_watching(model, start, search, max_steps, self.cycles)
        arrays, rest = eqx.partition(model, eqx.is_array)

        def find(arrays: Any, start: Array) -> Search:
            frozen = eqx.combine(arrays, rest)
            search = _settled(*_set_out(frozen, start), max_steps)
            return _watched(frozen, search, max_steps) if self.watches else search

        found = without_derivative(find)(arrays, start)
        state = _told(model, start, found)
        return _told_of_moving(model, start, found, state, self.cycles) if self.watches else state

    def find_many(
        self, models: AbstractOrderParameters, starts: Float[Array, "lanes 2 n"], max_steps: int
    ) -> SteadyState:
        """`find` in two programs, shapes settle and all are told; two more are for shapes that do not settle: they are
        compiled only if there are any, or where that takes little and many are asked for."""
        _tell_all.compile_ahead(models, starts, _shapes_of_searches(starts))
        search = _settle_all(models, starts, max_steps)
        if self.watches and starts.shape[0] >= WATCHED:
            # Among so many, as in a map, a few do not settle: the program is ready when it is known which.
            few = jax.tree.map(lambda x: jax.ShapeDtypeStruct((FEW_WATCHED, *x.shape[1:]), x.dtype), (models, search))
            _watch_all.compile_ahead(*few, max_steps, if_brief=True)
        moving = np.flatnonzero(self.watches & ~np.asarray(search.journey.motion.arrived))
        at_a_time = WATCHED if moving.size > FEW_WATCHED else FEW_WATCHED
        for rows, count in _in_turn(moving, at_a_time, starts.shape[0]):
            some, searches = _lanes_of((models, search), rows)
            # What fills up has no steps left.
            searches.journey.steps[count:] = np.iinfo(np.int32).max
            search = _with_lanes(search, rows, _watch_all(some, searches, max_steps))
        states = _tell_all(models, starts, search)
        moving = np.flatnonzero(is_modulated(np.asarray(search.watch.repeats)))
        for rows, count in _in_turn(moving, CYCLES, starts.shape[0]):
            some, begun, searches, known = _lanes_of((models, starts, search, states), rows)
            # Nothing is looked for in what fills up.
            searches.watch.repeats[count:] = 0
            states = _with_lanes(states, rows, _tell_moving(some, begun, searches, known, self.cycles))
        return states

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
    return Search(*watch_for_repetition(ShapeDynamics(model), search.journey, steps))


def _arrived(m: Float[Array, "2 n"], phase: Int[Array, ""]) -> Search:
    """A search that has come to an end."""
    gram, zero = gram_of(m), jnp.zeros((), m.dtype)
    motion = Motion(gram, tilt_of(gram), zero, zero, zero == 0, phase == Phase.PARAMAGNETIC)
    return Search(Journey(motion, zero.astype(jnp.int32)), nothing_seen(gram))


def _told(model: AbstractOrderParameters, start: Float[Array, "2 n"], search: Search) -> SteadyState:
    """What a search has come to."""
    search = jax.tree.map(jax.lax.stop_gradient, search)
    motion = search.journey.motion
    finite = _is_finite(model, search)
    arrived = motion.arrived & finite
    state = state_near_gram(model, _without_vanished(motion, arrived), motion.paramagnetic, start)
    found = jax.tree.map(jax.lax.stop_gradient, gram_of(state.m))
    # The steps themselves damp a cycle next to a Hopf bifurcation: what led there cannot tell it from the state.
    uncertain = (search.journey.steps > 0) & (state.phase == Phase.CHIRAL) & is_slow_spiral(ShapeDynamics(model), found)
    settled, finite = stored((arrived & ~uncertain, finite & jnp.all(jnp.isfinite(start))), unseen_one(found.aa))
    return reached_state(state, settled=settled, finite=finite, steps=search.journey.steps)


def _is_finite(model: AbstractOrderParameters, search: Search) -> Bool[Array, ""]:
    """Whether a search has come to numbers, from parameters that are in their range."""
    gram = search.journey.motion.gram
    rates = jax.tree.map(jax.lax.stop_gradient, ShapeDynamics(model).rates(gram))
    return jnp.isfinite(sum((*gram, *rates), start=jnp.zeros_like(gram.aa))) & in_range(model)


def _moves(model: AbstractOrderParameters, start: Float[Array, "2 n"], search: Search) -> Bool[Array, ""]:
    """Whether a search has come to a shape that repeats itself. Nothing of the state that was told enters: what chooses
    each of its numbers would be computed anew for each."""
    finite = _is_finite(model, search) & jnp.all(jnp.isfinite(start))
    return is_modulated(search.watch.repeats) & ~search.journey.motion.arrived & finite


def _told_of_moving(
    model: AbstractOrderParameters, start: Float[Array, "2 n"], search: Search, state: SteadyState, cycles: bool
) -> SteadyState:
    """`state`, or what the search has come to if that is a shape that repeats itself; its closed orbit, if wanted."""
    search = jax.lax.stop_gradient(search)
    moves = _moves(model, start, search)
    if not cycles:
        return moving_state(model, state, moves, unsolved_shape(state.m))
    near = Turn(search.journey.motion.gram, search.watch.period)
    cycle = find_cycle(model, near, search.watch.maxima, moves)
    mean = cycle.mean.gram
    m = bilayer_states.moments(bilayer_states.describe(ShapeDynamics(model), cycle.turn.start, ~moves), start)
    # Moments that swing along one line turn nowhere.
    turns = cycle.mean.tilt > collinear_tolerance(start.dtype) * cycle.mean.product
    shape = MovingShape(
        m=jnp.where(cycle.found, m, state.m),
        lengths=jnp.stack([safe_sqrt(mean.aa), safe_sqrt(mean.bb)]),
        angle=jnp.arctan2(safe_sqrt(mean.aa * mean.bb - mean.ab**2), jnp.where(cycle.found, mean.ab, 1.0)),
        chase_frequency=jnp.where(turns, cycle.mean.chase, 0.0) / units.GHz,
        rotation_frequency=jnp.where(turns, cycle.mean.rotation, 0.0) / units.GHz,
        period=cycle.turn.period / units.ps,
        growth_rate=cycle.growth_rate,
        residual=cycle.residual,
        solved=cycle.found,
    )
    # A slow way to a rigid state looks like a repetition: without an orbit there is no telling.
    told = moving_state(model, state, moves & cycle.found, shape)
    result = RESULTS.where(moves & ~cycle.found, RESULTS.no_orbit, told.result)
    return eqx.tree_at(lambda s: s.result, told, result)


@partial(kept, brief=FEW)
def _at_once(model: AbstractOrderParameters, start: Float[Array, "2 n"], max_steps: int) -> tuple[Search, SteadyState]:
    """A search that has settled, if it has, and what it has come to."""
    search = _settled(*_set_out(model, start), max_steps)
    return search, _told(model, start, search)


@partial(kept, brief=FEW)
def _after_watching(
    model: AbstractOrderParameters, start: Float[Array, "2 n"], search: Search, max_steps: int, cycles: bool
) -> SteadyState:
    """What a search that has not settled comes to."""
    search = _watched(model, search, max_steps)
    return _told_of_moving(model, start, search, _told(model, start, search), cycles)


def _in_turn(lanes: np.ndarray, size: int, end: int) -> Iterator[tuple[np.ndarray, int]]:
    """Lanes, `size` at a time, and how many there are: the last are filled up with rows from `end` on, which is one
    beyond the last lane."""
    for first in range(0, lanes.size, size):
        some = lanes[first : first + size]
        yield np.concatenate([some, end + np.arange(size - some.size)]), some.size


def _shapes_of_searches(starts: Array) -> Any:
    """Those of searches from all of these starts, wherever they come to."""
    return jax.eval_shape(jax.vmap(_arrived), starts, jax.ShapeDtypeStruct(starts.shape[:1], jnp.int32))


def _lanes_of(tree: Any, rows: np.ndarray) -> Any:
    """Some lanes of many, as NumPy arrays; the last one for those beyond the end."""
    if jax.default_backend() == "cpu":
        # NumPy's arrays lie where JAX's do, and need no program.
        return jax.tree.map(lambda x: np.take(np.asarray(x), rows, axis=0, mode="clip"), tree)
    return jax.tree.map(np.array, _taken(tree, rows))


def _with_lanes(tree: Any, rows: np.ndarray, some: Any) -> Any:
    """The lanes of a tree, `rows` of which become `some`; those beyond the end are dropped."""
    if jax.default_backend() != "cpu":
        return _replaced(tree, rows, some)

    def replaced(x: Any, y: Any) -> Array:
        inside = rows < len(x)
        whole = np.array(x)
        whole[rows[inside]] = np.asarray(y)[inside]
        return jnp.asarray(whole)

    return jax.tree.map(replaced, tree, some)


@jax.jit
def _taken(tree: Any, rows: Array) -> Any:
    return jax.tree.map(lambda x: jnp.take(x, rows, axis=0, mode="clip"), tree)


@jax.jit
def _replaced(tree: Any, rows: Array, some: Any) -> Any:
    return jax.tree.map(lambda x, y: x.at[rows].set(y, mode="drop", unique_indices=True), tree, some)


def _settle_each(models: Any, starts: Array, max_steps: int) -> Search:
    begun = in_blocks(_set_out, models, starts)
    return jax.vmap(lambda shape, stable, journey: _settled(shape, stable, journey, max_steps))(*begun)


def _watch_each(models: Any, searches: Search, max_steps: int) -> Search:
    return jax.vmap(lambda model, search: _watched(model, search, max_steps))(models, searches)


def _tell_each(models: Any, starts: Array, searches: Search) -> SteadyState:
    return in_blocks(_told, models, starts, searches)


def _tell_each_moving(models: Any, starts: Array, searches: Search, states: SteadyState, cycles: bool) -> SteadyState:
    def tell(model: Any, start: Array, search: Search, state: SteadyState) -> SteadyState:
        return _told_of_moving(model, start, search, state, cycles)

    if jax.default_backend() != "cpu":
        return jax.vmap(tell)(models, starts, searches, states)
    # One by one: a turn is a long loop over little, and no lane waits for another.
    return jax.lax.map(lambda lane: tell(*lane), (models, starts, searches, states))


def _arrived_each(m: Array, phase: Array) -> Search:
    return in_blocks(_arrived, m, phase)


_settle_all = SharedProgram(_settle_each, static_argnums=[2], brief=A_LINE, options=lanes_options)
_watch_all = SharedProgram(_watch_each, static_argnums=[2], brief=A_LINE, options=lanes_options)
_tell_all = SharedProgram(_tell_each, brief=A_LINE, options=lanes_options)
_tell_moving = SharedProgram(_tell_each_moving, static_argnums=[4])
_arrived_all = SharedProgram(_arrived_each, brief=PASSED_OVER)


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
    state = stored(bilayer_states.describe(shape, root, paramagnetic), unseen_one(root.aa))
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
