"""Evolving density matrices in time."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import diffrax
import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Complex, Float

from .. import units
from .._numerics.failures import raise_if
from .._numerics.precision import in_full_precision
from .._numerics.validation import Numbers, float_array, in_range, is_concrete, require_finite
from ..motion.step_sizes import require_envelope, step_control
from .chebyshev import batch_last, march, step_rate
from .generator import Pair, Reached, all_pairs, occupied_pairs, reach, reached_size
from .models import AbstractLindbladModel
from .observables import DEFAULT, Components, Readout, Request, readout, wanted_observables
from .sparse import DrivenMatrix

# Density matrices with more real numbers than this are refused unless asked for.
LARGEST: Final = 30_000_000
"""30 million doubles: 0.24 GB for a state, some twenty times that for its Lindbladian."""

REVERSE: Final = (
    "evolve() was called for derivatives in forward mode (jvp, jacfwd). For jax.grad or jacrev pass "
    "adjoint=diffrax.RecursiveCheckpointAdjoint()."
)


class LindbladSolution(eqx.Module):
    """A density matrix in time.

    - `ts`: ps, shape (times,).
    - `observables`: name -> values with a leading axis of times. Spins in hbar, currents and torques in meV.
    - `state`: the last density matrix as the real vector of `reached`.
    - `stats`: `products` of the Lindbladian with a state, `size` of the state in real numbers, `trace_drift`.
    - `valid`: finite, successful, trace kept to 1e-6 (1e-3 in single precision).
    """

    ts: Float[Array, " times"]
    observables: dict[str, Array]
    state: Float[Array, " size"]
    stats: dict[str, Any]
    valid: Bool[Array, ""]
    reached: Reached = eqx.field(static=True)

    @property
    def rho(self) -> Complex[Array, "n n"]:
        """The last density matrix, shape (n, n)."""
        return to_matrix(self.reached, self.state)

    def __getitem__(self, name: str) -> Array:
        return self.observables[name]

    def __str__(self) -> str:
        if not is_concrete(self.ts) or self.ts.ndim > 1:
            return f"LindbladSolution(ts{self.ts.shape}, {', '.join(self.observables)})"
        return (
            f"LindbladSolution: {len(self.ts)} times, {float(self.ts[0]):.4g} to {float(self.ts[-1]):.4g} ps, "
            f"{self.reached.generator.space.dimension} states, {self.reached.size} real numbers "
            f"({self.reached.size * self.state.dtype.itemsize / 2**20:.3g} MiB), "
            f"{int(self.stats['products'])} products, "
            f"trace drift {float(self.stats['trace_drift']):.1e}, {'valid' if bool(self.valid) else 'not valid'}"
        )


def to_vector(reached: Reached, rho: Array) -> Float[Array, " size"]:
    """The real vector of a density matrix."""
    entries = rho[reached.state_row, reached.state_column]
    return jnp.where(reached.state_imaginary, jnp.imag(entries), jnp.real(entries))


def to_matrix(reached: Reached, x: Float[Array, " size"]) -> Complex[Array, "n n"]:
    """The density matrix of a real vector; entries that are not reached are zero."""
    n = reached.generator.space.dimension
    part = jnp.zeros((2, n, n), x.dtype).at[
        reached.state_imaginary.astype(int), reached.state_row, reached.state_column
    ]
    real, imaginary = part.set(x)
    half = jax.lax.complex(real, imaginary)
    mirrored = jnp.conj(half.T)
    return half + mirrored - jnp.diag(jnp.diag(mirrored))


@in_full_precision
def evolve(
    model: AbstractLindbladModel,
    rho0: Numbers,
    ts: Numbers,
    observables: Sequence[str] | Mapping[str, Any] = DEFAULT,
    *,
    rtol: float = 1e-8,
    atol: float = 1e-10,
    solver: diffrax.AbstractSolver | None = None,
    adjoint: diffrax.AbstractAdjoint | None = None,
    max_steps: int | None = 1_000_000,
    largest: int = LARGEST,
    throw: bool = True,
) -> LindbladSolution:
    """Integrate d rho/dt = -i[H, rho] + sum_L (L rho L^+ - {L^+ L, rho}/2) from ts[0] on.

    Constant light: the exponential of the Lindbladian by Chebyshev's series on the imaginary axis, to rounding whatever
    the times, at about three products with the Lindbladian for each radian of the fastest oscillation. Light with an
    envelope: Diffrax. Only blocks of charge (particle number, S_z) that rho0 occupies or that it feeds are kept.

    **Arguments**

    - `model`: an `AndersonModel` or a `SpinFermionModel`.
    - `rho0`: the density matrix at ts[0], shape (n, n), Hermitian with trace 1 and without coherence between particle
      numbers. Under jit or vmap its entries are not known, and every such block is kept.
    - `ts`: times in ps, increasing, shape (times,).
    - `observables`: names (see `nrjax.lindblad.NAMED`, and "purity"), or a mapping of names to Hermitian matrices of
      shape (n, n), sparse or dense (None for a known name).
    - `rtol`, `atol`, `solver`, `max_steps`: of the integration under an envelope; default solver Dopri8.
    - `adjoint`: `diffrax.ForwardMode()` (the default, for jvp, jacfwd and vmap) or
      `diffrax.RecursiveCheckpointAdjoint()` for reverse mode.
    - `largest`: the most real numbers that a state may have.
    - `throw`: raise if the integration fails.

    **Returns** a `LindbladSolution`. Differentiable with respect to every array in `model`, and rho0.

    **Raises** `ValueError` for a state that is none, unknown observables, matrices of the wrong shape, times that do
    not increase, a density matrix that is too large, with the size that it would need.

    **Source** docs/physics.md, "The Lindbladian".
    """
    times = float_array("ts", ts)
    if times.ndim != 1 or times.size == 0:
        raise ValueError(f"ts has shape {times.shape}: it must be a list of times in ps, for example linspace.")
    require_finite("ts", times)
    if is_concrete(times) and (np.diff(np.asarray(times)) < 0).any():
        raise ValueError("ts must increase: sort the times (ps).")
    rho = jnp.asarray(rho0)
    if not jnp.iscomplexobj(rho):
        rho = jax.lax.complex(*(x.astype(jnp.result_type(float)) for x in (rho, jnp.zeros_like(rho))))
    start = _checked_start(model, rho)
    size = reached_size(model.generator, start)
    if size > largest:
        gigabyte = size * 8 / 2**30
        raise ValueError(
            f"the density matrix needs {size:.3g} real numbers ({gigabyte:.3g} GiB, and about "
            f"{25 * gigabyte:.3g} GiB with its Lindbladian), more than largest = {largest:.3g}. Raise `largest` if the "
            "machine has that memory, or use quantum_trajectories."
        )
    wanted, purity = wanted_observables(model, observables)
    plan = plan_of(Request.of(model, start, wanted))
    reached = plan.reached
    laser = model.driving_laser
    if laser is not None:
        require_envelope(laser, times[0], times[-1])
    reverse = isinstance(adjoint, diffrax.RecursiveCheckpointAdjoint)
    options = (rtol, atol, solver, adjoint, max_steps)
    try:
        values, state, stats, result, valid = _solve(plan, model, rho, times, purity, reverse, options)
    except ValueError as error:
        if "Linearization failed" not in str(error):
            raise
        raise ValueError(REVERSE) from error
    if throw:
        state = raise_if(~diffrax.is_okay(result), diffrax.RESULTS, result, state)
    if not reverse:
        values, state = eqxi.nondifferentiable_backward((values, state), msg=REVERSE)
    return LindbladSolution(times, values, state, stats | {"size": reached.size}, valid, reached)


@dataclass(frozen=True, eq=False)
class Plan:
    """What is computed, apart from numbers; compared by identity."""

    reached: Reached
    together: Components
    out: Readout

    def look(self, x: Float[Array, "size *batch"]) -> tuple[Array, Array, Array]:
        """Means of the operators, Tr rho^2 and Tr rho."""
        here = self.reached.state_row == self.reached.state_column
        # An entry off the diagonal stands for two.
        weights = np.where(here, 1.0, 2.0).reshape((-1,) + (1,) * (x.ndim - 1))
        squares = jnp.sum(jnp.asarray(weights, x.dtype) * x**2, axis=0)
        return self.out.means(x), squares, jnp.sum(x[self.reached.populations], axis=0)

    def values(self, means: Array, squares: Array, theta: Array, purity: bool) -> dict[str, Array]:
        """The observables of one state by name."""
        values = self.together.assemble(means, theta)
        return values | {"purity": squares} if purity else values


@functools.lru_cache(maxsize=64)
def plan_of(request: Request) -> Plan:
    """The plan of a request; made once."""
    reached = reach(request.generator, request.start)
    together, operators = request.components()
    return Plan(reached, together, readout(reached, operators))


@eqx.filter_jit
def _solve(
    plan: Plan, model: AbstractLindbladModel, rho: Array, times: Array, purity: bool, reverse: bool, options: Any
) -> tuple[dict[str, Array], Array, dict[str, Array], diffrax.RESULTS, Array]:
    """Observables, last state, statistics, Diffrax's result and validity."""
    x0 = to_vector(plan.reached, rho)
    if model.changes_in_time:
        record, state, products, result = _by_diffrax(model, plan.reached, x0, times, plan.look, *options)
    else:
        record, state, products = _by_chebyshev(model, plan.reached, x0, times, plan.look, reverse)
        result = diffrax.RESULTS.successful
    means, squares, traces = record
    thetas = jax.vmap(model.parameters)(times)
    values = jax.vmap(lambda m, s, theta: plan.values(m, s, theta, purity))(means, squares, thetas)
    drift = jnp.max(jnp.abs(traces - traces[0]))
    tolerance = 1e-6 if state.dtype == jnp.float64 else 1e-3
    valid = diffrax.is_okay(result) & jnp.all(jnp.isfinite(state)) & (drift < tolerance) & in_range(model)
    return values, state, {"products": products, "trace_drift": drift}, result, valid


def _checked_start(model: AbstractLindbladModel, rho: Array) -> frozenset[Pair]:
    n = model.space.dimension
    if rho.shape != (n, n):
        raise ValueError(f"rho0 has shape {rho.shape}: the model has {n} states, so that it must be ({n}, {n}).")
    if not is_concrete(rho):
        return all_pairs(model.generator)
    matrix = np.asarray(rho)
    if not np.isfinite(matrix).all():
        raise ValueError("rho0 holds NaN or infinity. Build it with product_state().")
    tolerance = 1e-9 if matrix.dtype == np.complex128 else 1e-4
    if np.abs(matrix - matrix.conj().T).max() > tolerance:
        raise ValueError("rho0 is not Hermitian. Build it with product_state(), or take (rho + rho^+)/2.")
    trace = float(np.trace(matrix).real)
    if abs(trace - 1.0) > tolerance:
        raise ValueError(f"rho0 has trace {trace:.6g}: a state has 1. Divide it by its trace.")
    if float(np.linalg.eigvalsh(matrix)[0]) < -tolerance:
        raise ValueError(
            f"rho0 has the eigenvalue {float(np.linalg.eigvalsh(matrix)[0]):.3g}: probabilities are 0 or greater."
        )
    particles = model.space.particles
    rows, columns = np.nonzero(np.abs(matrix) > tolerance)
    if (particles[rows] != particles[columns]).any():
        raise ValueError("rho0 has coherence between different particle numbers, which fermions cannot have.")
    return occupied_pairs(model.generator, matrix)


@functools.lru_cache(maxsize=64)
def matrix_of(reached: Reached, light: tuple[int, ...]) -> DrivenMatrix:
    """The Lindbladian's matrix, with the parameters that the laser decides kept apart."""
    return DrivenMatrix.pack(reached.size, reached.triplets, reached.generator.parameters, light)


def _by_chebyshev(
    model: AbstractLindbladModel, reached: Reached, x0: Array, times: Array, look: Any, reverse: bool
) -> tuple[Any, Array, Array]:
    """exp(t L) x0 at all times."""
    matrix = matrix_of(reached, model.light_indices)
    states = frozenset(np.union1d(reached.state_row, reached.state_column).tolist())
    rate, decay = step_rate(reached.generator, states, model.parameters(times[0]))
    run = functools.partial(march, matrix, look, reverse)
    return (run if reverse else batch_last(run, state=2))(
        matrix.values(model.fixed_parameters()),
        model.light_values(times[0]),
        x0,
        rate,
        0.5 * decay,
        jnp.diff(times) * units.ps,
    )


def _by_diffrax(
    model: AbstractLindbladModel,
    reached: Reached,
    x0: Array,
    times: Array,
    look: Any,
    rtol: float,
    atol: float,
    solver: diffrax.AbstractSolver | None,
    adjoint: diffrax.AbstractAdjoint | None,
    max_steps: int | None,
) -> tuple[Any, Array, Array, diffrax.RESULTS]:
    """The same with light that changes: the fixed part of the Lindbladian once, the light's part at every stage."""
    laser = model.driving_laser
    matrix = matrix_of(reached, model.light_indices)
    values = matrix.values(model.fixed_parameters())

    def field(t: Any, x: Any, args: Any) -> Any:
        # The model is closed over: Diffrax would look askance at a complex hopping matrix among its arguments.
        del args
        return matrix.product(values, model.light_values(t / units.ps), x)

    ts = times * units.ps
    at_times = diffrax.SubSaveAt(ts=ts, fn=lambda t, x, args: look(x))
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        diffrax.Dopri8() if solver is None else solver,
        ts[0],
        ts[-1],
        None,
        x0,
        saveat=diffrax.SaveAt(subs=[at_times, diffrax.SubSaveAt(t1=True)]),
        stepsize_controller=step_control(laser, ts[0], ts[-1], rtol, atol),
        adjoint=diffrax.ForwardMode() if adjoint is None else adjoint,
        max_steps=max_steps,
        throw=False,
    )
    assert solution.ys is not None
    record, last = solution.ys
    stages = 13 * solution.stats["num_steps"]
    return record, last[0], stages, solution.result
