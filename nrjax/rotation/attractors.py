"""The attractor that a model reaches, solved for rather than read off a trajectory: the front door to all solvers."""

from functools import partial
from typing import Any, Final, overload

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._numerics.failures import raise_if
from .._numerics.programs import SharedProgram
from .._numerics.ready_programs import A_LINE, FEW, kept
from .._numerics.refilled_loops import in_blocks
from .._numerics.validation import Numbers, is_concrete, moments_array, require_batch
from ..magnets import AbstractOrderParameters, ThermalModel
from ..motion.phases import Phase
from .corotating_solver import CorotatingSolver, deviated
from .fokker_planck_solver import FokkerPlanckSolver
from .rigid_states import RESULTS, SteadyState
from .shape_solver import ShapeSolver
from .solvers import AbstractSteadyStateSolver
from .warm_states import WarmState, require_cooled, warm_state

# The first that applies is taken: the special ones before the general one.
SOLVERS: Final[tuple[AbstractSteadyStateSolver, ...]] = (
    FokkerPlanckSolver(),
    ShapeSolver(),
    CorotatingSolver(),
)


def solver_for(model: Any, solver: AbstractSteadyStateSolver | None = None) -> AbstractSteadyStateSolver:
    """The solver of steady states that is taken for a model.

    **Arguments** `solver`: the one that is wanted; None for the first that applies.

    **Raises** `ValueError` if it does not apply, or none does.
    """
    wanted = SOLVERS if solver is None else (solver,)
    for candidate in wanted:
        if candidate.applies_to(model):
            return candidate
    names = " or ".join(type(candidate).__name__ for candidate in wanted)
    raise ValueError(
        f"a {type(model).__name__} has no steady state by {names}. Make it an AbstractOrderParameters, or pass "
        "solver=, an AbstractSteadyStateSolver that applies to it."
    )


def _start(model: AbstractOrderParameters, m0: Numbers | None) -> Float[Array, "L n"]:
    """The moments that a model starts from, without derivative."""
    if m0 is None:
        start = default_start(jax.tree.map(jax.lax.stop_gradient, model))
    else:
        start = moments_array(m0, model.layers, model.components)
    return jax.lax.stop_gradient(start.astype(model.dtype))


@partial(kept, brief=FEW)
def default_start(model: AbstractOrderParameters) -> Float[Array, "L n"]:
    """The state without light along the last axis (m_a = B(h_a/T) along z for a magnet), with a small generic
    deviation. Shape (L, n)."""
    lengths = model.dark_lengths()
    still = [jnp.zeros_like(lengths)] * (model.components - 1)
    return deviated(jnp.stack([*still, lengths], axis=1))


@overload
def steady_state(
    model: AbstractOrderParameters,
    m0: Numbers | None = None,
    *,
    solver: AbstractSteadyStateSolver | None = None,
    max_steps: int = 1500,
    cycles: bool = True,
    throw: bool = True,
    thermal: None = None,
) -> SteadyState: ...


@overload
def steady_state(
    model: AbstractOrderParameters,
    m0: Numbers | None = None,
    *,
    solver: AbstractSteadyStateSolver | None = None,
    max_steps: int = 1500,
    cycles: bool = True,
    throw: bool = True,
    thermal: ThermalModel,
) -> WarmState: ...


def steady_state(
    model: AbstractOrderParameters,
    m0: Numbers | None = None,
    *,
    solver: AbstractSteadyStateSolver | None = None,
    max_steps: int = 1500,
    cycles: bool = True,
    throw: bool = True,
    thermal: ThermalModel | None = None,
) -> SteadyState | WarmState:
    """The attractor that dm/dt = model.vector_field(t, m) reaches from m0: a state with dm_a/dt = Omega x m_a.

    An isotropic bilayer is followed through its shape (lengths and angle, no fast precession); any other magnet
    through time integration. Newton's method then polishes the state, and derivatives follow from the implicit
    function theorem, so that the path taken does not matter to them.

    **Arguments**

    - `model`: a `LayeredMagnet` or other `AbstractOrderParameters`; light with an envelope counts with its full
      intensity.
    - `m0`: initial moments, shape (L, n). Default: the state without light, with a small generic deviation. Moments
      that are exactly collinear get a deviation as well: no sample is, and the attractor may be beside them.
    - `solver`: default `ShapeSolver()` where it applies, else `CorotatingSolver()`.
    - `max_steps`: the most pseudo-time steps to settle; four times as many, finer ones are spent on a shape that
      does not. Where time integration is needed: a thousand time steps for each.
    - `cycles`: solve for the closed orbit of a shape that keeps moving. With False nothing is told of a MODULATED
      state, which is not valid then; a program that holds this function compiles in half the time.
    - `throw`: raise if the state is UNRESOLVED; with False look at `valid` and `result` (for use in batches).
    - `thermal`: a `ThermalModel`: the state at the temperature that its own light keeps (no closed orbits then).

    **Returns** a `SteadyState`; a `WarmState` with `thermal`. Works under jit, vmap, grad and jacfwd.

    **Raises** `ValueError` for bad input; a runtime error with the text of `RESULTS` if UNRESOLVED and `throw` is set.

    **Source** docs/physics.md, "Shape dynamics".
    """
    chosen = solver_for(model, solver)
    chosen = chosen if cycles else chosen.of_rigid_states()
    warm = None
    if thermal is not None:
        require_cooled(model, thermal)
        warm = _warm(model, thermal, m0, solver, max_steps)
        state = warm.state
    else:
        model = model.plateau()
        state = chosen.find(model, _start(model, m0), max_steps)
    if throw:
        failed = (state.phase == Phase.UNRESOLVED) | ~(state.valid | (state.phase == Phase.MODULATED))
        result = RESULTS.where(failed, state.result, RESULTS.successful)
        state = raise_if(failed, RESULTS, result, state)
    return state if warm is None else eqx.tree_at(lambda warm: warm.state, warm, state)


@kept
def _warm(
    model: Any, thermal: ThermalModel, m0: Numbers | None, solver: AbstractSteadyStateSolver | None, max_steps: int
) -> WarmState:
    find = partial(steady_state, m0=m0, solver=solver, max_steps=max_steps, cycles=False, throw=False)
    return warm_state(find, model, thermal)


def steady_states(
    models: AbstractOrderParameters,
    m0: Float[Array, "L n"] | None = None,
    solver: AbstractSteadyStateSolver | None = None,
    *,
    max_steps: int = 1500,
    cycles: bool = True,
) -> SteadyState:
    """`steady_state` of many models, batched along the first axis of every array; one program for all that are alike.

    **Arguments** `models`: whose arrays have a leading axis (lanes). `m0`: one start for all, shape (L, n), or None.
    `solver`, `max_steps`, `cycles`: as in `steady_state`.

    **Returns** a `SteadyState` whose arrays have that axis; bad lanes are flagged.
    """
    require_batch("models", models)
    if not is_concrete(*jax.tree.leaves((models, m0))):
        find = partial(steady_state, solver=solver, max_steps=max_steps, cycles=cycles, throw=False)
        return jax.vmap(lambda model: find(model, m0))(models)
    models, starts = _ready(models, m0)
    chosen = _solver_of_each(models, solver)
    return (chosen if cycles else chosen.of_rigid_states()).find_many(models, starts, max_steps)


def continued_states(
    models: AbstractOrderParameters, states: SteadyState, solver: AbstractSteadyStateSolver | None = None
) -> SteadyState:
    """The steady states of many models next to known ones, of which `m` and `phase` are taken, in their orientation.
    One program for all that are alike; not within another program."""
    return _solver_of_each(models, solver).near_many(models, states)


def _ready_each(
    models: AbstractOrderParameters, m0: Float[Array, "L n"] | None
) -> tuple[AbstractOrderParameters, Float[Array, "lanes L n"]]:
    """Models under constant light, and where they start from."""

    def one(model: AbstractOrderParameters) -> tuple[AbstractOrderParameters, Array]:
        model = model.plateau()
        return model, _start(model, m0)

    return in_blocks(one, models)


_ready = SharedProgram(_ready_each, shared=[1], brief=A_LINE)


def _solver_of_each(models: AbstractOrderParameters, solver: AbstractSteadyStateSolver | None) -> Any:
    """The solver that one model of a batch takes, and so all."""
    chosen = []
    jax.eval_shape(jax.vmap(lambda model: chosen.append(solver_for(model, solver))), models)
    return chosen[0]


def continued(
    model: AbstractOrderParameters, state: SteadyState, solver: AbstractSteadyStateSolver | None = None
) -> SteadyState:
    """The steady state of `model` next to a known one: dm_a/dt = Omega x m_a solved by Newton's method from `state.m`.

    For derivatives at a known state and for small changes of it: nothing is followed through time again.

    **Arguments** `model`, `solver`: as in `steady_state`. `state`: the `SteadyState` of this model, or of one that
    differs little.

    **Returns** a `SteadyState` in the orientation of `state`, differentiable; `valid` only if it is an attractor near
    the known one. A state that is not rigid, or not valid, is returned as it is, with derivative zero.

    **Source** docs/physics.md, "Shape dynamics".
    """
    chosen = solver_for(model, solver)
    state = jax.lax.stop_gradient(state)
    near = chosen.near(model.plateau(), state)
    near = eqx.tree_at(lambda s: s.steps, near, state.steps)
    return jax.tree.map(lambda new, old: jnp.where(state.is_rigid, new, old), near, state)
