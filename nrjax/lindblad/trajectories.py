"""Quantum trajectories: pure states with random jumps, for systems beyond density matrices."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .. import units
from .._numerics.precision import in_full_precision
from .._numerics.validation import Number, Numbers, float_array, require_finite
from ..motion.step_sizes import LOOKS_AT_LIGHT, require_envelope
from .chebyshev import PHASE, exponential, step_rate
from .fermions import Sparse
from .generator import Generator, Transitions, Triplets, sectors
from .models import AbstractLindbladModel
from .observables import DEFAULT, Components, Request, wanted_observables
from .sparse import DrivenMatrix, ParametricMatrix

# A jump happens where the logarithm of the squared norm has reached its threshold this closely.
JUMP_TOLERANCE: Final = 1e-9
# Most propagations of a trajectory between two saved times.
MOST_STEPS: Final = 1_000_000


class TrajectoryAverage(eqx.Module):
    """Averages over quantum trajectories.

    - `ts`: ps, shape (times,).
    - `observables`: name -> mean with a leading axis of times; `errors`: the same for its standard error.
    - `jumps`: how many each trajectory made, shape (trajectories,).
    - `valid`: for each trajectory, finite and complete; others are left out of the means.
    """

    ts: Float[np.ndarray, " times"]
    observables: dict[str, np.ndarray]
    errors: dict[str, np.ndarray]
    jumps: Int[np.ndarray, " trajectories"]
    valid: Bool[np.ndarray, " trajectories"]

    def __str__(self) -> str:
        return (
            f"TrajectoryAverage: {len(self.jumps)} trajectories ({int(self.valid.sum())} valid), {len(self.ts)} times, "
            f"{float(self.jumps.mean()):.3g} jumps each"
        )


@in_full_precision
def quantum_trajectories(
    model: AbstractLindbladModel,
    psi0: Number,
    ts: Numbers,
    observables: Sequence[str] | Mapping[str, Any] = tuple(name for name in DEFAULT if name != "purity"),
    *,
    trajectories: int,
    key: Array,
    batch: int = 64,
) -> TrajectoryAverage:
    """Monte Carlo wave functions: psi decays under H - (i/2) sum L^+ L until its squared norm has fallen to a random
    number, then jumps to L psi, with L chosen at the probability of |L psi|^2.

    Averages converge to those of `evolve` as 1/sqrt(trajectories), with states of 2 n instead of n^2 real numbers.

    **Arguments**

    - `model`: an `AndersonModel` or a `SpinFermionModel`; light may have an envelope.
    - `psi0`: the state at ts[0], shape (n,), of norm 1.
    - `ts`: times in ps, increasing.
    - `observables`: as in `evolve`, without "purity".
    - `trajectories`: how many, 2 or more. `key`: a JAX random key; trajectory i
      uses fold_in(key, i), whatever the batch.
    - `batch`: trajectories that run side by side.

    **Returns** a `TrajectoryAverage`. Not differentiable.

    **Raises** `ValueError` for a state of another shape or norm, times that do not increase, unknown observables.
    """
    times = float_array("ts", ts)
    require_finite("ts", times)
    if times.ndim != 1 or times.size == 0 or (np.diff(np.asarray(times)) < 0).any():
        raise ValueError(f"ts = {np.asarray(times)}: it must be a list of increasing times in ps.")
    if trajectories < 2 or batch < 1:
        raise ValueError(
            f"trajectories = {trajectories}, batch = {batch}: take 2 trajectories or more (an error needs them), in "
            "batches of 1 or more."
        )
    psi = np.asarray(psi0)
    if psi.shape != (model.space.dimension,):
        raise ValueError(f"psi0 has shape {psi.shape}: the model has {model.space.dimension} states.")
    norm = float(np.linalg.norm(psi))
    if not abs(norm - 1.0) < 1e-6:
        raise ValueError(f"psi0 has norm {norm:.6g}: a state has 1. Divide it by its norm.")
    if model.driving_laser is not None:
        require_envelope(model.driving_laser, times[0], times[-1])
    wanted, purity = wanted_observables(model, observables)
    if purity:
        raise ValueError("purity: a trajectory is pure at all times. Ask evolve() for it.")

    occupied = frozenset(i for i, part in enumerate(sectors(model.generator)) if (np.abs(psi[part]) > 1e-14).any())
    together, reached = _reach(Request.of(model, occupied, wanted))
    start = jnp.concatenate([jnp.asarray(part[reached.states], times.dtype) for part in (np.real(psi), np.imag(psi))])
    means, jumps, complete = [], [], []
    for first in range(0, trajectories, batch):
        # The last batch is filled up with trajectories that are thrown away: one compilation for all.
        keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(first, first + batch))
        record, made, done = _run(reached, model, start, keys, times)
        kept = min(batch, trajectories - first)
        means.append(np.asarray(record)[..., :kept])
        jumps.append(np.asarray(made)[:kept])
        complete.append(np.asarray(done)[:kept])
    values = np.concatenate(means, axis=-1)
    valid = np.concatenate(complete)
    good = jnp.asarray(values[..., valid])
    every = jax.vmap(together.assemble)(good, jax.vmap(model.parameters)(times))
    every = {name: np.asarray(x) for name, x in every.items()}
    averages = {name: x.mean(axis=-1) for name, x in every.items()}
    errors = {name: x.std(axis=-1, ddof=1) / np.sqrt(good.shape[-1]) for name, x in every.items()}
    return TrajectoryAverage(np.asarray(times), averages, errors, np.concatenate(jumps), valid)


@dataclass(frozen=True, eq=False)
class _Pure:
    """What pure states reach, on the real vector (Re psi, Im psi) of those basis states.

    - `states`: the basis states. `drift`: -i H - (1/2) sum L^+ L as triplets, for each parameter.
    - `jumps`: the operators that jumps are combinations of, on psi itself.
    - `operators`: observables, as quadratic forms.
    """

    generator: Generator
    states: np.ndarray
    drift: Triplets
    jumps: tuple[ParametricMatrix, ...]
    operators: tuple[Triplets, ...]

    def matrix(self, light: tuple[int, ...]) -> DrivenMatrix:
        """The drift, with the parameters that the laser decides kept apart."""
        return DrivenMatrix.pack(2 * len(self.states), self.drift, self.generator.parameters, light)


def _sectors_reached(generator: Generator, start: frozenset[Any], bases: list[Sparse]) -> tuple[int, ...]:
    moves = Transitions(generator)
    reached, queue = set(start), sorted(start)
    while queue:
        sector = queue.pop()
        for operator in (*generator.hamiltonian, *bases):
            image = moves.image(operator, sector)
            if image is not None and image[0] not in reached:
                reached.add(image[0])
                queue.append(image[0])
    return tuple(sorted(reached))


@functools.lru_cache(maxsize=16)
def _reach(request: Request) -> tuple[Components, _Pure]:
    """What pure states reach from the sectors that are occupied at first."""
    generator, bases = request.generator, request.model.jump_bases()
    together, operators = request.components()
    parts = sectors(generator)
    states = np.sort(np.concatenate([parts[i] for i in _sectors_reached(generator, request.start, bases)]))
    n = len(states)

    def inside(operator: Sparse) -> Any:
        return Sparse(operator)[states][:, states].tocoo()

    def on_real_vector(operator: Any, parameter: int) -> Triplets:
        """The matrix [[Re O, -Im O], [Im O, Re O]] that acts on (Re psi, Im psi)."""
        row = np.concatenate([operator.row, operator.row, operator.row + n, operator.row + n])
        column = np.concatenate([operator.col, operator.col + n, operator.col, operator.col + n])
        c = operator.data
        factor = np.concatenate([np.real(c), -np.imag(c), np.imag(c), np.real(c)])
        kept = factor != 0
        return Triplets(row[kept], column[kept], np.full(kept.sum(), parameter), factor[kept])

    split = len(generator.hamiltonian)
    entries = [on_real_vector(-1j * inside(operator), p) for p, operator in enumerate(generator.hamiltonian)]
    entries += [on_real_vector(-0.5 * inside(generator.decay(p)), p) for p in range(split, generator.parameters)]
    jumps = []
    for base in bases:
        coo = inside(base)
        jumps.append(ParametricMatrix.pack(n, Triplets(coo.row, coo.col, np.zeros(coo.nnz, int), np.real(coo.data))))
    forms = [on_real_vector(inside(operator), 0) for operator in operators]
    drift = Triplets(*(np.concatenate(x) for x in zip(*entries, strict=True)))
    return together, _Pure(generator, states, drift, tuple(jumps), tuple(forms))


class _Lanes(eqx.Module):
    """The state of a batch of trajectories; every array has the lanes last.

    - `x`: the state at time `t` (hbar/meV), its squared norm falling. `threshold`: where it jumps. `jumps`:
      made so far.
    - `trial`: the next propagation. `low`, `high`: bracket of the time to the jump, with the excess of the logarithm of
      the squared norm over the threshold at both; `high` is infinite while no jump is in sight.
    """

    x: Array
    t: Array
    threshold: Array
    jumps: Array
    trial: Array
    low: Array
    low_excess: Array
    high: Array
    high_excess: Array
    steps: Array


class _Flights(NamedTuple):
    """A batch of trajectories: how each moves without jumps, where it jumps, and what is seen of it.

    - `propagate`: (x, t, duration) -> x at t + duration, times in hbar/meV; `longest`: the longest duration.
    - `keys`: one for each lane.
    """

    pure: _Pure
    model: AbstractLindbladModel
    keys: Array
    propagate: Callable[..., Array]
    longest: Array

    def draw(self, key: Array, number: Array) -> Array:
        """Two uniform random numbers: which jump is taken, and the norm at which the next one is."""
        return jax.random.uniform(jax.random.fold_in(key, number), (2,), self.longest.dtype)

    def means(self, x: Array) -> Array:
        """Means of the operators, shape (operators, lanes)."""
        squares = jnp.sum(x**2, axis=0)
        values = [
            jnp.sum(jnp.asarray(form.factor, x.dtype)[:, None] * x[form.row] * x[form.column], axis=0)
            for form in self.pure.operators
        ]
        return jnp.stack(values) / squares[None, :] if values else jnp.zeros((0, x.shape[1]), x.dtype)

    def jump(self, x: Array, t: Array, choice: Array) -> Array:
        """The state after a jump, normalized: which one is decided by `choice`, uniform in [0, 1)."""
        theta = jax.vmap(self.model.parameters, out_axes=0)(t / units.ps)
        weights = jax.vmap(lambda p: self.model.jump_weights(p))(theta)
        n = len(self.pure.states)
        weighted = [(m, jnp.asarray(m.sum_of_all()[..., None], x.dtype)) for m in self.pure.jumps]
        moved = jnp.stack([jax.lax.complex(m.product(v, x[:n]), m.product(v, x[n:])) for m, v in weighted])
        candidates = jnp.einsum("ljb,bnl->jnl", weights, moved)
        chances = jnp.cumsum(jnp.sum(jnp.abs(candidates) ** 2, axis=1), axis=0)
        chosen = jnp.sum(chances < choice[None, :] * chances[-1:], axis=0)
        after = jnp.take_along_axis(candidates, chosen[None, None, :], axis=0)[0]
        size = jnp.sqrt(jnp.sum(jnp.abs(after) ** 2, axis=0))
        size = jnp.where(size > 0, size, 1.0)[None, :]
        return jnp.concatenate([jnp.real(after) / size, jnp.imag(after) / size])

    def advance(self, stop: Array, s: _Lanes) -> _Lanes:
        """One step of all lanes towards `stop`; a jump within it is bracketed until it is hit."""
        active = s.t < stop
        y = self.propagate(s.x, s.t, jnp.where(active, s.trial, 0.0))
        excess = jnp.log(jnp.sum(y**2, axis=0)) - jnp.log(s.threshold)
        arrives = active & (jnp.abs(excess) <= JUMP_TOLERANCE)
        over = active & ~arrives & (excess > 0) & jnp.isfinite(s.high)
        under = active & ~arrives & (excess < 0)
        passes = active & ~arrives & (excess > 0) & ~jnp.isfinite(s.high)

        random = jax.vmap(self.draw)(self.keys, 2 * s.jumps + 1)
        landed = jax.lax.cond(jnp.any(arrives), lambda: self.jump(y, s.t + s.trial, random[:, 0]), lambda: y)
        x = jnp.where(arrives[None, :], landed, jnp.where(passes[None, :], y, s.x))
        moved = arrives | passes
        # A step to the end of an interval ends on it exactly.
        t = jnp.where(moved, jnp.where(passes & (s.t + s.trial >= stop * (1.0 - 1e-15)), stop, s.t + s.trial), s.t)
        threshold = jnp.where(arrives, random[:, 1], s.threshold)
        low, low_excess = jnp.where(over, s.trial, s.low), jnp.where(over, excess, s.low_excess)
        high, high_excess = jnp.where(under, s.trial, s.high), jnp.where(under, excess, s.high_excess)
        # The logarithm of the norm is nearly straight: regula falsi, kept inside the bracket.
        share = jnp.clip(low_excess / jnp.where(under | over, low_excess - high_excess, 1.0), 0.02, 0.98)
        share = jnp.where(jnp.mod(s.steps, 4) == 3, 0.5, share)
        inside = low + (high - low) * share
        fresh_excess = jnp.log(jnp.sum(x**2, axis=0)) - jnp.log(threshold)
        return _Lanes(
            x,
            t,
            threshold,
            s.jumps + arrives.astype(s.jumps.dtype),
            jnp.where(moved, jnp.minimum(self.longest, stop - t), jnp.where(under | over, inside, s.trial)),
            jnp.where(moved, 0.0, low),
            jnp.where(moved, fresh_excess, low_excess),
            jnp.where(moved, jnp.inf, high),
            jnp.where(moved, 0.0, high_excess),
            s.steps + 1,
        )

    def cross(self, s: _Lanes, stop: Array) -> tuple[_Lanes, Array]:
        """From one saved time to the next."""
        trial = jnp.minimum(self.longest, stop - s.t)
        infinite = jnp.full_like(s.high, jnp.inf)
        excess = jnp.log(jnp.sum(s.x**2, axis=0)) - jnp.log(s.threshold)
        zero = jnp.zeros_like(s.low)
        s = _Lanes(s.x, s.t, s.threshold, s.jumps, trial, zero, excess, infinite, zero, jnp.zeros_like(s.steps))
        s = jax.lax.while_loop(
            lambda s: jnp.any((s.t < stop) & jnp.isfinite(s.x[0])) & (s.steps < MOST_STEPS),
            functools.partial(self.advance, stop),
            s,
        )
        return s, self.means(s.x)


@eqx.filter_jit
def _run(
    pure: _Pure, model: AbstractLindbladModel, start: Array, keys: Array, times: Array
) -> tuple[Array, Array, Array]:
    """(means of operators at all times, number of jumps, completed) of a batch of trajectories."""
    lanes = keys.shape[0]
    flights = _Flights(pure, model, keys, *_propagator(pure, model, times))
    x = jnp.broadcast_to(start[:, None], (start.shape[0], lanes))
    stops = times * units.ps
    zero = jnp.zeros(lanes, times.dtype)
    none = jnp.zeros(lanes, jnp.int32)
    first = jax.vmap(flights.draw)(keys, none)[:, 1]
    begin = _Lanes(x, zero + stops[0], first, none, zero, zero, zero, zero + jnp.inf, zero, jnp.zeros((), jnp.int32))
    end, record = jax.lax.scan(flights.cross, begin, stops[1:])
    record = jnp.concatenate([flights.means(x)[None], record])
    complete = (end.t >= stops[-1]) & jnp.all(jnp.isfinite(end.x), axis=0)
    return record, end.jumps, complete


def _propagator(pure: _Pure, model: AbstractLindbladModel, times: Array) -> tuple[Callable[..., Array], Array]:
    """(function (x, t, duration) -> x at t + duration without jumps, longest duration), times in hbar/meV.

    Constant light: the exponential. Light with an envelope: the fourth-order commutator-free Magnus expansion.
    """
    states = frozenset(pure.states.tolist())
    matrix = pure.matrix(model.light_indices)
    values = matrix.values(model.fixed_parameters())[..., None]
    if not model.changes_in_time:
        rate, decay = step_rate(pure.generator, states, model.parameters(times[0]))
        light = model.light_values(times[0])[:, None]
        shift = 0.25 * decay[None]

        def constant(x: Array, t: Array, duration: Array) -> Array:
            del t
            return exponential(functools.partial(matrix.product, values, light), x, duration / PHASE, shift)

        return constant, 1.0 / jnp.maximum(rate, 1e-6)

    looks = jnp.linspace(times[0], times[-1], int(LOOKS_AT_LIGHT))
    rates, decays = jax.vmap(lambda t: step_rate(pure.generator, states, model.parameters(t)))(looks)
    duration = (times[-1] - times[0]) * units.ps
    longest = jnp.minimum(1.0 / jnp.maximum(jnp.max(rates), 1e-6), duration / LOOKS_AT_LIGHT)
    shift = 0.25 * jnp.max(decays)[None]
    node = 3.0**0.5 / 6.0

    def driven(x: Array, t: Array, duration: Array) -> Array:
        early, late = (
            jax.vmap(model.light_values, out_axes=1)((t + c * duration) / units.ps) for c in (0.5 - node, 0.5 + node)
        )
        for a, b in ((0.5 + 2 * node, 0.5 - 2 * node), (0.5 - 2 * node, 0.5 + 2 * node)):
            mixed = functools.partial(matrix.product, values, a * early + b * late)
            x = exponential(mixed, x, 0.5 * duration / PHASE, shift)
        return x

    return driven, longest
