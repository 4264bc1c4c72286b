"""What a solver of steady states is."""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._numerics.programs import SharedProgram
from .rigid_states import SteadyState


class AbstractSteadyStateSolver(eqx.Module):
    """Finds the state dm_a/dt = Omega x m_a that a model reaches.

    `steady_state` takes the first solver that applies to a model, or the one it is told. A solver builds its answer
    with `rigid_states.rigid_state`, which decides by the model's own `vector_field` whether the state is valid.
    Numbers of a solver that are arrays may be traced; all else decides which program is compiled.
    """

    @abc.abstractmethod
    def applies_to(self, model: Any) -> bool:
        """Whether the solver can take this model. Decided by its structure, never by its numbers."""

    @abc.abstractmethod
    def find(self, model: Any, start: Float[Array, "L n"], max_steps: int) -> SteadyState:
        """The state that the dynamics of `model` reaches from `start`; differentiable, never raises under jit.

        **Arguments** `model`: constant in time. `start`: shape (L, n). `max_steps`: see `steady_state`.
        """

    def find_many(self, models: Any, starts: Float[Array, "lanes L n"], max_steps: int) -> SteadyState:
        """`find` for a batch, called with numbers and not from within another program.

        A solver that can leave out what no lane needs replaces it; the states must be those of `find`.
        """
        return _find_all(self, models, starts, max_steps)

    @abc.abstractmethod
    def near(self, model: Any, state: SteadyState) -> SteadyState:
        """The state of `model` next to a known one of a model that differs little; differentiable."""

    def near_many(self, models: Any, states: SteadyState) -> SteadyState:
        """`near` for a batch, called with numbers and not from within another program. `states` need no more than
        `m` and `phase`."""
        return _find_all_near(self, models, states)

    def of_rigid_states(self) -> "AbstractSteadyStateSolver":
        """This solver, for callers to whom a shape that keeps moving is no state."""
        return self

    def of_settling_states(self) -> "AbstractSteadyStateSolver":
        """This solver, but for motions that do not settle soon: `RESULTS.not_settled` may be all that it tells of them,
        for callers who then ask again without this."""
        return self

    @property
    def is_light(self) -> bool:
        """Whether a state costs microseconds and no call to a library of linear algebra.

        Sweeps then compute thousands at a time, in several threads; such calls can lock up in threads.
        """
        return False


def _find_each(solver: AbstractSteadyStateSolver, models: Any, starts: Array, max_steps: int) -> SteadyState:
    return jax.vmap(lambda model, start: solver.find(model, start, max_steps))(models, starts)


def _find_each_near(solver: AbstractSteadyStateSolver, models: Any, states: SteadyState) -> SteadyState:
    return jax.vmap(solver.near)(models, states)


# Lineax's SVD cannot be cut into parts.
_find_all = SharedProgram(_find_each, shared=[0], static_argnums=[3], spread=False)
_find_all_near = SharedProgram(_find_each_near, shared=[0], spread=False)


def without_derivative(function: Any) -> Any:
    """`function` with derivative zero: for searches whose result Newton's method polishes afterwards."""

    @jax.custom_jvp
    def wrapped(*arrays: Any) -> Any:
        return function(*arrays)

    @wrapped.defjvp
    def _jvp(primals: Any, tangents: Any) -> Any:
        del tangents
        output = wrapped(*primals)
        return output, jax.tree.map(_zero_tangent, output)

    return wrapped


def _zero_tangent(x: Array) -> Any:
    if jnp.issubdtype(x.dtype, jnp.inexact):
        return jnp.zeros_like(x)
    return np.zeros(jnp.shape(x), jax.dtypes.float0)
