"""The steady state of a model that a reservoir keeps filled."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Bool, Complex, Float

from .._numerics.precision import in_full_precision
from .._numerics.validation import in_range
from .generator import Reached, diagonal_pairs, reached_size
from .models import AbstractLindbladModel
from .observables import DEFAULT, Request, wanted_observables
from .sparse import ParametricMatrix
from .time_evolution import plan_of, to_matrix

# Beyond this the dense Lindbladian takes more than 1 GiB and a factorization minutes.
LARGEST: Final = 11_000
TOLERANCE: Final = 1e-8
# A solution that grows by this much over rounding shows that the state is not unique.
SINGULAR: Final = 1e-2


class StationaryState(eqx.Module):
    """The state with d rho/dt = 0.

    - `observables`: name -> value, as in `evolve`.
    - `state`: as the real vector of `reached`; `rho` as a matrix.
    - `residual`: largest |d rho/dt| relative to the largest rate, dimensionless.
    - `valid`: finite, unique, with a small residual: false if more than one state is stationary.
    """

    observables: dict[str, Array]
    state: Float[Array, " size"]
    residual: Float[Array, ""]
    valid: Bool[Array, ""]
    reached: Reached = eqx.field(static=True)

    @property
    def rho(self) -> Complex[Array, "n n"]:
        """The density matrix, shape (n, n)."""
        return to_matrix(self.reached, self.state)


@in_full_precision
def steady_state(
    model: AbstractLindbladModel,
    observables: Sequence[str] | Mapping[str, Any] = DEFAULT,
    *,
    largest: int = LARGEST,
) -> StationaryState:
    """Solve L(rho) = 0 with Tr rho = 1, among states without coherence between charges.

    **Arguments** `model`: with a reservoir of positive rate, under constant light (an envelope counts with its value at
    t = 0). `observables`: as in `evolve`. `largest`: the most real numbers of the state.

    **Returns** a `StationaryState`; differentiable with respect to every array in `model`.

    **Raises** `ValueError` without a reservoir (electrons drain away, the steady state is empty) or for a system too
    large for a direct solution.
    """
    if model.reservoir is None:
        raise ValueError(
            "without a reservoir light empties the band, or nothing or more than one state is stationary. Give the "
            "model a Reservoir, or use evolve for a long time."
        )
    start = diagonal_pairs(model.generator)
    size = reached_size(model.generator, start)
    if size > largest:
        raise ValueError(
            f"the Lindbladian is a matrix of {size} rows ({size**2 * 8 / 2**30:.3g} GiB), more than "
            f"largest = {largest}. Use evolve() for a long time, or raise `largest`."
        )
    wanted, purity = wanted_observables(model, observables)
    plan = plan_of(Request.of(model, start, wanted))
    reached = plan.reached
    theta = model.parameters(0.0)
    matrix = ParametricMatrix.pack(reached.size, reached.triplets)
    values = matrix.values(theta)
    rows = jnp.broadcast_to(jnp.arange(reached.size)[None, :], matrix.columns.shape)
    dense = jnp.zeros((reached.size, reached.size), values.dtype).at[rows, matrix.columns].add(values)
    scale = jnp.max(jnp.abs(values))
    # The equations of the populations add up to zero: the normalization takes the place of the first.
    dense = dense.at[0].set(scale * jnp.asarray(reached.populations, values.dtype))
    right = jnp.zeros(reached.size, values.dtype).at[0].set(scale)
    operator, solver = lx.MatrixLinearOperator(dense), lx.LU()
    factors = solver.init(operator, {})
    state = lx.linear_solve(operator, right, solver, state=factors, throw=False).value
    residual = jnp.max(jnp.abs(matrix.product(values, state))) / scale
    # Of a singular matrix rounding picks one solution out of many: then any right-hand side grows without bound.
    probe = jax.lax.stop_gradient(scale) * jnp.cos(jnp.arange(reached.size, dtype=values.dtype))
    growth = jnp.max(jnp.abs(lx.linear_solve(operator, probe, solver, state=factors, throw=False).value))
    unique = growth < SINGULAR / jnp.finfo(values.dtype).eps
    means, squares, _ = plan.look(state)
    valid = jnp.all(jnp.isfinite(state)) & (residual < TOLERANCE) & unique & in_range(model)
    return StationaryState(plan.values(means, squares, theta, purity), state, residual, valid, reached)
