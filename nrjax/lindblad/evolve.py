"""Evolving density matrices in time."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Final

import diffrax
import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from jaxtyping import Array, Bool, Complex, Float

from .. import units
from ..solve import require_envelope, step_control
from ..validation import Numbers, float_array, is_concrete, require_finite
from .fermions import Sparse
from .generator import Pair, Reached, all_pairs, occupied_pairs, reach
from .models import AbstractLindbladModel
from .observables import DEFAULT, NAMED, Readout, readout
from .sparse import ParametricMatrix

# Phase that one Chebyshev step advances: longer steps cost fewer products for a unit of time.
PHASE: Final = 32.0
# Terms of the series at that phase: the next ones are below rounding.
TERMS: Final = 78
# Largest decay exp(-x) that one step may contain.
DECAY: Final = 3.0
# Density matrices with more real numbers than this are refused unless asked for.
LARGEST: Final = 30_000_000
"""30 million doubles: 0.24 GB for a state, some twenty times that for its Lindbladian."""


class LindbladSolution(eqx.Module):
    """A density matrix in time.

    - `ts`: ps, shape (times,).
    - `observables`: name -> values with a leading axis of times. Spins in hbar, currents and torques in meV.
    - `state`: the last density matrix as the real vector of `reached`.
    - `stats`: `products` of the Lindbladian with a state, `size` of the state in real numbers, `trace_drift`.
    - `valid`: finite, successful, trace kept to 1e-6.
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
            f"({self.reached.size * self.state.dtype.itemsize / 2**20:.3g} MiB), {int(self.stats['products'])} products, "
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
    the times, at about two products with the Lindbladian for each radian of the fastest oscillation. Light with an
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

    **Raises** `ValueError` for a state that is none, unknown observables, matrices of the wrong shape, times that do not
    increase, a density matrix that is too large, with the size that it would need.

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
    reached = reach(model.generator, start)
    if reached.size > largest:
        gigabyte = reached.size * 8 / 2**30
        raise ValueError(
            f"the density matrix needs {reached.size:.3g} real numbers ({gigabyte:.3g} GiB, and about "
            f"{25 * gigabyte:.3g} GiB with its Lindbladian), more than largest = {largest:.3g}. Raise `largest` if the "
            "machine has that memory, or use quantum_trajectories."
        )
    wanted, purity = wanted_observables(model, observables)
    out = readout(model, reached, wanted)
    x0 = to_vector(reached, rho)
    reverse = isinstance(adjoint, diffrax.RecursiveCheckpointAdjoint)
    look_at = functools.partial(look, reached, out)
    if model.varying:
        record, state, products, okay = _by_diffrax(
            model, reached, x0, times, look_at, rtol, atol, solver, adjoint, max_steps, throw
        )
    else:
        record, state, products = _by_chebyshev(model, reached, x0, times, look_at, reverse)
        okay = jnp.asarray(True)
    means, squares, traces = record
    thetas = jax.vmap(model.parameters)(times)
    values = jax.vmap(out.components)(means, thetas)
    if purity:
        values["purity"] = squares
    drift = jnp.max(jnp.abs(traces - traces[0]))
    valid = okay & jnp.all(jnp.isfinite(state)) & (drift < 1e-6)
    return LindbladSolution(
        times, values, state, {"products": products, "size": reached.size, "trace_drift": drift}, valid, reached
    )


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


def wanted_observables(
    model: AbstractLindbladModel, observables: Sequence[str] | Mapping[str, Any]
) -> tuple[dict[str, Any], bool]:
    """Known names and given matrices, with the trace behind them; and whether the purity is asked for."""
    if isinstance(observables, str):
        observables = (observables,)
    chosen = dict(observables) if isinstance(observables, Mapping) else dict.fromkeys(observables)
    n = model.space.dimension
    for name, matrix in chosen.items():
        if matrix is None:
            if name not in NAMED and name != "purity":
                raise ValueError(
                    f"unknown observable {name!r}. Known: {', '.join((*NAMED, 'purity'))}; or give a matrix."
                )
            continue
        sparse = Sparse(matrix)
        if sparse.shape != (n, n):
            raise ValueError(f"observable {name!r} has shape {sparse.shape}: it must be ({n}, {n}).")
        if abs(sparse - sparse.conj().T).max() > 1e-9 * max(abs(sparse).max(), 1e-300):
            raise ValueError(
                f"observable {name!r} is not Hermitian: take its Hermitian and anti-Hermitian parts apart."
            )
        chosen[name] = sparse
    purity = "purity" in chosen and chosen.pop("purity") is None
    return chosen, purity


@functools.lru_cache(maxsize=64)
def matrix_of(reached: Reached, parameters: tuple[int, ...]) -> ParametricMatrix:
    """The Lindbladian's matrix for some of its parameters."""
    return ParametricMatrix.pack(reached.size, reached.triplets.of(parameters))


def look(reached: Reached, out: Readout, x: Float[Array, "size *batch"]) -> tuple[Array, Array, Array]:
    """Means of the operators, Tr rho^2 and Tr rho."""
    diagonal = (reached.state_row == reached.state_column) & ~reached.state_imaginary
    # An entry off the diagonal stands for two.
    weights = np.where(reached.state_row == reached.state_column, 1.0, 2.0).reshape((-1,) + (1,) * (x.ndim - 1))
    return out.means(x), jnp.sum(jnp.asarray(weights, x.dtype) * x**2, axis=0), jnp.sum(x[diagonal], axis=0)


def read_values(
    reached: Reached, out: Readout, state: Float[Array, " size"], theta: Float[Array, " parameters"], purity: bool
) -> dict[str, Array]:
    """The observables of one state by name."""
    means, square, _ = look(reached, out, state)
    values = out.components(means, theta)
    return values | {"purity": square} if purity else values


@functools.lru_cache(maxsize=64)
def _bound_entries(reached: Reached) -> tuple[Any, ...]:
    """Entries (row, parameter, complex factor, cell, is diagonal) of H, and of sum L^+ L, on the states reached."""
    generator = reached.generator
    kept = np.zeros(generator.space.dimension, bool)
    kept[reached.state_row] = kept[reached.state_column] = True
    matrices = []
    for parameters in (range(len(generator.hamiltonian)), range(len(generator.hamiltonian), generator.parameters)):
        rows, columns, owners, factors = (
            [np.zeros(0, int)],
            [np.zeros(0, int)],
            [np.zeros(0, int)],
            [np.zeros(0, complex)],
        )
        for p in parameters:
            if p < len(generator.hamiltonian):
                operator = generator.hamiltonian[p]
            else:
                operator = sum(w * (b.conj().T @ a) for w, a, b in generator.jumps[p - len(generator.hamiltonian)])
            coo = Sparse(operator).tocoo()
            inside = kept[coo.row] & kept[coo.col]
            rows.append(coo.row[inside])
            columns.append(coo.col[inside])
            owners.append(np.full(inside.sum(), p))
            factors.append(coo.data[inside].astype(complex))
        row, column, owner, factor = (np.concatenate(x) for x in (rows, columns, owners, factors))
        cells, cell = np.unique(row.astype(np.int64) * generator.space.dimension + column, return_inverse=True)
        matrices.append(
            (
                owner,
                factor,
                cell.reshape(-1),
                len(cells),
                cells // generator.space.dimension,
                cells % generator.space.dimension,
            )
        )
    return tuple(matrices), np.flatnonzero(kept)


def bounds(reached: Reached, theta: Float[Array, " parameters"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """(largest energy difference, largest decay rate) of a Lindbladian in meV, by Gershgorin's circles."""
    theta = jax.lax.stop_gradient(theta)
    matrices, states = _bound_entries(reached)
    dimension = reached.generator.space.dimension
    results = []
    for owner, factor, cell, count, row, column in matrices:
        real, imaginary = (
            jax.ops.segment_sum(jnp.asarray(part, theta.dtype) * theta[owner], cell, count)
            for part in (factor.real, factor.imag)
        )
        diagonal = jax.ops.segment_sum(jnp.where(row == column, real, 0.0), row, dimension)[states]
        size = jnp.where(row == column, 0.0, jnp.hypot(real, imaginary))
        around = jax.ops.segment_sum(size, row, dimension)[states]
        results.append((jnp.max(diagonal + around, initial=0.0), jnp.min(diagonal - around)))
    (top, bottom), (decay, _) = results
    return jnp.maximum(top, jnp.max(jnp.asarray(0.0))) - bottom, decay


def _by_chebyshev(
    model: AbstractLindbladModel, reached: Reached, x0: Array, times: Array, look: Any, reverse: bool
) -> tuple[Any, Array, Array]:
    """exp(t L) x0 at all times: sum_k c_k P_k(h L/z) x with P_(k+1) = 2 w P_k + P_(k-1), c_k = (2 - delta_k0) J_k(z)."""
    matrix = matrix_of(reached, tuple(range(reached.generator.parameters)))
    theta = model.parameters(times[0])
    values = matrix.values(theta)
    radius, decay = bounds(reached, theta)
    rate = jnp.maximum(radius / PHASE, decay / DECAY)
    gaps = jnp.diff(times) * units.ps
    march = functools.partial(_march, matrix, look, reverse)
    return (march if reverse else batch_last(march))(values, x0, rate, gaps)


def batch_last(function: Any) -> Any:
    """`function` of arrays whose batches stand behind all other axes, made to work so under vmap, jvp and both.

    A CPU multiplies a sparse matrix several times faster in this layout than in the one that vmap would give.
    """

    def over(run: Any, with_tangents: bool) -> Any:
        wrapped = jax.custom_batching.custom_vmap(run)

        @wrapped.def_vmap
        def _rule(axis_size: int, batched: Any, *arguments: Array) -> Any:
            last = [
                jnp.moveaxis(x, 0, -1) if is_batched else jnp.broadcast_to(x[..., None], (*x.shape, axis_size))
                for x, is_batched in zip(arguments, batched, strict=True)
            ]
            result = jax.tree.map(lambda x: jnp.moveaxis(x, -1, 0), wrapped(*last))
            every = jax.tree.map(lambda _: True, result)
            if with_tangents and not any(jax.tree.leaves(batched[: len(batched) // 2])):
                # One point with many directions: its value is the same for all.
                values, slopes = result
                one = jax.tree.map(lambda x: x[0], values)
                return (one, slopes), (jax.tree.map(lambda _: False, one), every[1])
            return result, every

        return wrapped

    def tangent(*both: Array) -> Any:
        half = len(both) // 2
        return jax.jvp(function, both[:half], both[half:])

    value = jax.custom_jvp(over(function, False))
    derivative = over(tangent, True)

    @value.defjvp
    def _jvp(primals: Any, tangents: Any) -> Any:
        return derivative(*primals, *tangents)

    return value


def _march(
    matrix: ParametricMatrix,
    look: Any,
    reverse: bool,
    values: Float[Array, "width size *batch"],
    x0: Float[Array, "size *batch"],
    rate: Float[Array, "*batch"],
    gaps: Float[Array, "gaps *batch"],
) -> tuple[Any, Array, Array]:
    """What `look` sees at the start and after each gap (hbar/meV), the last state, and the number of products."""
    coefficients = scipy.special.jv(np.arange(1, TERMS), PHASE)
    first = float(scipy.special.jv(0, PHASE))

    def step(x: Array, scale: Array) -> Array:
        one = scale * matrix.product(values, x)

        def term(carry: Any, c: Array) -> Any:
            before, now, total = carry
            after = 2.0 * scale * matrix.product(values, now) + before
            return (now, after, total + 2.0 * c * after), None

        start = (x, one, first * x + 2.0 * float(coefficients[0]) * one)
        (_, _, total), _ = jax.lax.scan(term, start, jnp.asarray(coefficients[1:], x.dtype))
        return total

    def cross(x: Array, gap: Array) -> Any:
        count = jnp.maximum(jnp.ceil(jnp.max(gap * rate)), 1.0)
        scale = gap / (count * PHASE)
        options = {"kind": "checkpointed", "checkpoints": 64} if reverse else {"kind": "lax"}
        _, x = eqxi.while_loop(
            lambda s: s[0] < count, lambda s: (s[0] + 1.0, step(s[1], scale)), (jnp.zeros_like(count), x), **options
        )
        return x, (look(x), count)

    state, (record, counts) = jax.lax.scan(cross, x0, gaps)
    record = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), look(x0), record)
    return record, state, jnp.broadcast_to(jnp.sum(counts) * TERMS, rate.shape)


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
    throw: bool,
) -> tuple[Any, Array, Array, Array]:
    """The same with light that changes: the fixed part of the Lindbladian once, the light's part at every stage."""
    laser = model.driving_laser
    if laser is not None:
        require_envelope(laser, times[0], times[-1])
    varying = model.varying
    fixed = matrix_of(reached, tuple(p for p in range(reached.generator.parameters) if p not in varying))
    moving = matrix_of(reached, varying)
    constant = fixed.values(model.parameters(times[0]))

    def field(t: Any, x: Any, args: Any) -> Any:
        constant, model = args
        return fixed.product(constant, x) + moving.product(moving.values(model.parameters(t / units.ps)), x)

    ts = times * units.ps
    at_times = diffrax.SubSaveAt(ts=ts, fn=lambda t, x, args: look(x))
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        diffrax.Dopri8() if solver is None else solver,
        ts[0],
        ts[-1],
        None,
        x0,
        args=(constant, model),
        saveat=diffrax.SaveAt(subs=[at_times, diffrax.SubSaveAt(t1=True)]),
        stepsize_controller=step_control(laser, ts[0], ts[-1], rtol, atol),
        adjoint=diffrax.ForwardMode() if adjoint is None else adjoint,
        max_steps=max_steps,
        throw=throw,
    )
    assert solution.ys is not None
    record, last = solution.ys
    stages = 13 * solution.stats["num_steps"]
    return record, last[0], stages, diffrax.is_okay(solution.result)
