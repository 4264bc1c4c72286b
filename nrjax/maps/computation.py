"""What a sweep computes of every tile of its points: models, their steady states, and what is told of these."""

import dataclasses
import inspect
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import equinox as eqx
import jax
import jax.numpy as jnp
from typing_extensions import TypeAliasType

from .._numerics.digests import computation_digest
from .._numerics.programs import SharedProgram, made_once
from .._numerics.ready_programs import FEW, PASSED_OVER, Place, known_digest
from ..rotation.attractors import continued_states, solver_for, steady_states
from ..rotation.observables import OBSERVABLES, OF_EVERY_STATE, AbstractObservable, observable_of
from ..rotation.rigid_states import RESULTS, SteadyState
from ..rotation.solvers import AbstractSteadyStateSolver

RESULT_NAMES: Final = (
    "successful",
    "modulated",
    "not_settled",
    "not_an_attractor",
    "nonfinite",
    "inconsistent",
    "truncated",
    "no_orbit",
    "beyond_saturation",
)
# Computations that a process remembers having received.
REMEMBERED: Final = 32

Observe = TypeAliasType("Observe", str | AbstractObservable | Sequence[str | AbstractObservable] | Callable[[Any], Any])
"""What a sweep looks at: one observable or several, or a function of the model."""


@dataclasses.dataclass(frozen=True)
class Observation:
    """What is looked at: observables of the steady state, or a function of the model."""

    observables: tuple[AbstractObservable, ...]
    function: Callable[[Any], Any] | None
    solver: AbstractSteadyStateSolver | None
    is_light: bool

    @classmethod
    def of(cls, observe: Observe, model: Any, solver: AbstractSteadyStateSolver | None) -> "Observation":
        """What `observe` asks for of models like `model`. Raises `ValueError` for what there is none of."""
        if callable(observe) and not isinstance(observe, AbstractObservable):
            return cls((), _never_throwing(observe), None, False)
        asked = [observe] if isinstance(observe, str | AbstractObservable) else list(observe)
        observables = tuple(map(observable_of, asked))
        for observable in observables:
            if not observable.exists_for(model):
                raise ValueError(f"observable {observable.name!r}: a {type(model).__name__} like this one has none.")
        names = [observable.name for observable in observables]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"observe asks for {', '.join(names) or 'nothing'}: ask for one observable of each name.")
        # The solver as it was asked for: None shares the program of all that leave it to the model.
        return cls(observables, None, solver, solver_for(model, solver).is_light)

    @property
    def names(self) -> dict[str, AbstractObservable]:
        """The observables of the table, and those asked for."""
        return OBSERVABLES | {observable.name: observable for observable in self.observables}

    @property
    def needs_model(self) -> bool:
        """Whether the state alone does not tell."""
        return not all(map(_of_table, self.observables))


@dataclasses.dataclass(frozen=True)
class Computation:
    """The observables of a tile of points. Another process that receives it, tile by tile, compiles it once.

    **Arguments** `build`, `observation`: of a sweep. `digest`: of what they compute, so that a function whose
    surroundings have changed is compiled anew.
    """

    build: Callable[..., Any]
    observation: Observation
    digest: str
    token: str = dataclasses.field(default_factory=lambda: uuid.uuid4().hex, compare=False)

    def __call__(self, values: Any) -> dict[str, Any]:
        return self.programs(values)

    @property
    def programs(self) -> Any:
        """The compiled programs, kept, so that a second sweep of the same functions compiles nothing."""
        return _compiled(self.build, self.observation, self.digest)

    def states(self, values: Any) -> SteadyState:
        """The steady states, solved in full."""
        return self.programs.states(values)

    def near(self, part: tuple[Any, SteadyState]) -> SteadyState:
        """The steady states next to given ones."""
        values, states = part
        return self.programs.near(values, states)

    def tell(self, part: tuple[Any, SteadyState]) -> dict[str, Any]:
        """The observables of given steady states."""
        values, states = part
        return self.programs.tell(values, states)

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, (self.token, self.build, self.observation, self.digest)


_remembered: dict[str, Computation] = {}
_one_at_a_time = threading.Lock()


def _received(token: str, build: Callable[..., Any], observation: Observation, digest: str) -> Computation:
    """A computation sent from another process: the one that came before, with its programs, if it is the same."""
    with _one_at_a_time:
        if token not in _remembered:
            while len(_remembered) >= REMEMBERED:
                _remembered.pop(next(iter(_remembered)))
            _remembered[token] = Computation(build, observation, digest, token)
        return _remembered[token]


@made_once
def _compiled(build: Callable[..., Any], observation: Observation, digest: str) -> Any:
    del digest
    return _programs(build, observation)


def _programs(build: Callable[..., Any], observation: Observation) -> Any:
    """What makes the observables of a tile, not yet compiled."""
    function, asked = observation.function, observation.observables
    if function is not None:
        return SharedProgram(jax.vmap(lambda values: _variables_of(function(build(**values)))))
    # Of these programs only the first depends on `build`, and the last where it is asked for more than the state.
    make = SharedProgram(lambda lanes: jax.vmap(lambda values: build(**values).plateau())(lanes), brief=FEW)
    if not observation.needs_model:
        names = [observable.name for observable in asked]
        return _OfStates(
            make,
            observation,
            lambda values, states: {name: x for name, x in _variables(states).items() if name in names},
        )

    def look(values: dict[str, Any], state: SteadyState) -> dict[str, Any]:
        model, plain = build(**values), _variables_of(state)
        return {f.name: plain[f.name] if _of_table(f) else f(model, state) for f in asked}

    return _OfStates(make, observation, SharedProgram(jax.vmap(look)))


@dataclasses.dataclass(frozen=True)
class _OfStates:
    """Observables of steady states of a batch of points: models, their states, and what is told of these."""

    make: Callable[[Any], Any]
    observation: Observation
    tell: Callable[[Any, SteadyState], dict[str, Any]]
    cycles: bool = True

    def __call__(self, values: Any) -> dict[str, Any]:
        return self.tell(values, self.states(values))

    def states(self, values: Any) -> SteadyState:
        return steady_states(self.make(values), solver=self.observation.solver, cycles=self.cycles)

    def near(self, values: Any, states: SteadyState) -> SteadyState:
        return continued_states(self.make(values), states, self.observation.solver)


def traced(computation: Computation) -> Any:
    """The whole computation as a function of a tile, to be traced anew. Without closed orbits, which take as long to
    trace as all the rest."""
    whole = _programs(computation.build, computation.observation)
    return dataclasses.replace(whole, cycles=False) if isinstance(whole, _OfStates) else whole


def identity(build: Callable[..., Any], observation: Observation, model: Any, part: dict[str, Any]) -> str:
    """What tells one computation from another in a store, whatever the points: a digest.

    Of nrjax's own observables, solvers and parts of models the source tells what they do, and only what `build` makes
    is traced; with anything of a user's own in it the whole computation is.

    **Arguments** `model`: one that `build` makes. `part`: shapes of a few points.
    """
    if observation.function is None:
        made = computation_digest(jax.vmap(lambda values: eqx.filter(build(**values), eqx.is_array)), part)
        shapes = jax.tree.map(lambda x: Place(x.shape, x.dtype) if eqx.is_array(x) else x, model)
        known = known_digest(made, shapes, observation.observables, observation.solver)
        if known is not None:
            return known
    # How closed orbits are solved for is told by the source of nrjax and the solver; what the model says, by the rest.
    digest = computation_digest(traced(Computation(build, observation, "")), part)
    return digest if observation.solver is None else f"{digest} {observation.solver}"


def batched(build: Callable[..., Any]) -> Callable[[dict[str, Any]], Any]:
    """`build` of many points; of magnets their rates at full intensity, so that all are of one kind."""

    def plain(values: dict[str, Any]) -> Any:
        model = build(**values)
        return model.plateau() if hasattr(model, "plateau") else model

    return jax.vmap(lambda values: eqx.filter(plain(values), eqx.is_array))


def _of_table(observable: AbstractObservable) -> bool:
    """Whether it is one of those that every state has, and not another of the same name."""
    return observable.name in OF_EVERY_STATE and type(observable) is type(OBSERVABLES[observable.name])


def _never_throwing(observe: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A function of the model, told to flag bad points instead of raising if it can be told."""
    try:
        takes = "throw" in inspect.signature(observe).parameters
    except ValueError:
        takes = False
    return _Quiet(observe) if takes else observe


@dataclasses.dataclass(frozen=True)
class _Quiet:
    """observe(model, throw=False); equal for equal functions, so that a second sweep compiles nothing."""

    observe: Callable[..., Any]

    def __call__(self, model: Any) -> Any:
        return self.observe(model, throw=False)


def _variables_of(observed: Any) -> dict[str, Any]:
    """What a sweep's Dataset holds of an observation, by name."""
    if isinstance(observed, SteadyState):
        return {
            **{name: getattr(observed, name) for name in OF_EVERY_STATE},
            "result": _code(observed.result),
            "phase": observed.phase.astype(jnp.int8),
        }
    if isinstance(observed, Mapping):
        return dict(observed)
    return {"value": observed}


_variables = SharedProgram(_variables_of, brief=PASSED_OVER)


def _code(result: Any) -> Any:
    """The number of a result, as an array."""
    return sum(
        (jnp.where(result == getattr(RESULTS, name), code, 0) for code, name in enumerate(RESULT_NAMES)), jnp.asarray(0)
    ).astype(jnp.int8)
