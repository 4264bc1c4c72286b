"""Single spins in time: `simulate_spins`, and what it returns."""

import os
import time
import warnings
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, Final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from .. import units
from .._numerics.digests import computation_digest, value_digest
from .._numerics.files import atomic, require_writable
from .._numerics.tiles import progress_bar
from .._numerics.validation import (
    Number,
    Numbers,
    float_array,
    in_range,
    is_concrete,
    require,
    require_finite,
    require_memory,
    require_positive,
)
from ..magnets.spin_lattice import SpinLattice, Spins
from .saved_times import require_times
from .spin_steps import all_kicked, collision_step, drawn, kick_size, llg_step

# What a spin turns in a step, at most, in radians; and the mean square of a kick.
TURN: Final = 0.3
KICK: Final = 0.1
# A turn theta in a step gives spins that turn about each other energy at a rate of theta^3, which damping has to take:
# where it takes more than theta^3 over this number, averages of two spins are off by less than half a per cent.
PUMPED: Final = {"llg": 0.25, "collision": 0.09}
# Spins that forget more slowly, relative to how fast they turn, take steps as if they did not.
LEAST_FORGETTING: Final = 1e-4
# Steps of all spins in the first call; between calls progress is told and an interrupt is heard. While a call takes
# less than so many seconds, the next has twice the steps: beginning one takes a million spins as long as a step.
AT_A_TIME: Final = 2e7
A_CALL: Final = 0.5
# Sets the noise of the half kick that begins an interval apart from that of its first step.
OPENING: Final = 1
# Seconds.
BETWEEN_CHECKPOINTS: Final = 60.0

Observe = Mapping[str, Callable[[Any], Any]]


class SpinSolution(eqx.Module):
    """Layers of single spins in time.

    - `ts`: ps, shape (times,).
    - `moments`: mean spin of each layer, shape (times, L, 3).
    - `spins`: at the last of these times, shape (L, X, Y, Z, 3).
    - `observed`: what `observe` asked for, by name, each with a leading axis of times.
    - `dt`: the step in ps. `spins_per_layer`: N; |moment| below a few 1/sqrt(N) is noise.
    - `valid`: finite, and (collision dynamics) never driven faster than spins forget.
    """

    ts: Float[Array, " times"]
    moments: Float[Array, "times L 3"]
    spins: Float[Array, "L X Y Z 3"]
    observed: dict[str, Any]
    dt: Float[Array, ""]
    spins_per_layer: int = eqx.field(static=True)
    valid: Bool[Array, ""]

    def __str__(self) -> str:
        if self.ts.ndim > 1 or not is_concrete(self.ts):
            return f"SpinSolution(ts{self.ts.shape}, moments{self.moments.shape})"
        return (
            f"SpinSolution: {self.ts.shape[0]} times to {float(self.ts[-1]):.4g} ps, steps of {float(self.dt):.3g} ps, "
            f"{self.moments.shape[1]} layers of {self.spins_per_layer} spins, "
            f"{'valid' if self.valid else 'not valid'}, {self.moments.dtype}"
        )


def simulate_spins(
    lattice: SpinLattice,
    key: Array,
    t1: Number,
    *,
    dt: Number | None = None,
    saveat: Numbers | None = None,
    start: Numbers | SpinSolution | None = None,
    observe: Observe | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> SpinSolution:
    """The spins of a lattice from time 0 to t1, with noise; |S| = 1 to rounding.

    **Arguments**

    - `lattice`: a `SpinLattice`; its docstring has the equations.
    - `key`: from `jax.random.key`. The same key gives the same noise at the same site and step, whatever the batch.
    - `t1`: final time in ps.
    - `dt`: the longest step in ps, but for the rounding of saved times. Default: no spin turns by more than 0.3 in a
      step, nor is a kick larger; few neighbours and little damping ask for less, since a step gives spins that turn
      about each other energy, like dt^3 over the damping. Else the error of averages goes like dt^2. Compare two.
    - `saveat`: times in ps at which moments are saved, increasing, shape (times,). Steps end on them. Default: t1.
    - `start`: moments (L, 3), for which spins are drawn at random; spins (L, X, Y, Z, 3); or a `SpinSolution` to go on
      from, with another key. Default: the magnet's moments in darkness, a little off collinear.
    - `observe`: name -> function of the spins (L, X, Y, Z, 3), called at the saved times: `structure_factor`,
      `local_chirality`, `defect_density`, or your own. Nothing else is stored.
    - `checkpoint`: a .npz file for long runs, written about every minute; the same call goes on from it, and removes it
      at the end.
    - `progress`: a bar after two seconds, on a terminal.

    **Returns** a `SpinSolution`. Between saved times steps begin and end with half a kick: what is seen is right to
    second order in dt, transients too.

    **Raises** `ValueError` for bad input, and for a checkpoint of another run.

    Realizations: `jax.vmap(lambda key: simulate_spins(lattice, key, t1))(jax.random.split(key, 100))`. Under jit and
    vmap there is neither progress nor a checkpoint.

    **Source** docs/physics.md, "Single spins".
    """
    for name, value in (("t1", t1), ("dt", dt)):
        if value is not None:
            require_positive(name, value, "It is a time in ps.")
    require_times(saveat, 0.0, t1)
    if not (observe is None or (isinstance(observe, Mapping) and all(map(callable, observe.values())))):
        raise ValueError(
            f"observe = {observe!r}: give a name for each function, for example {{'s_q': structure_factor}}."
        )
    dtype, observe = lattice.dtype, dict(observe or {})
    times = jnp.atleast_1d(float_array("saveat", t1 if saveat is None else saveat, dtype=dtype).astype(dtype))
    # Spins, their fields at two times, the words, and copies on the way.
    needed = 24.0 * 3 * lattice.layers * lattice.spins * jnp.finfo(dtype).bits / 8
    require_memory(f"a lattice of {lattice.layers * lattice.spins:.3g} spins", needed, "Take fewer cells.")
    spins = _start(lattice, start, jax.random.fold_in(key, 0))
    longest = _longest_step(lattice) if dt is None else jnp.asarray(dt, dtype) * units.ps
    edges = jnp.concatenate([jnp.zeros(1, dtype), times]) * units.ps
    # Intervals of whole steps must not get another one by the rounding of late times.
    lengths, rounding = jnp.diff(edges), 4.0 * jnp.finfo(dtype).eps * edges[1:]
    whole = jnp.ceil((lengths - rounding) / longest * (1.0 - 1e-9))
    counts = jnp.where(lengths > 0, jnp.maximum(whole, 1), 0).astype(jnp.int32)
    noise = jax.random.fold_in(key, 1)
    if is_concrete(*jax.tree.leaves((eqx.filter(lattice, eqx.is_array), key, counts))):
        run = _Run(lattice, noise, edges, counts, observe, progress)
        digest = "" if checkpoint is None else _digest(lattice, noise, edges, counts, observe, spins)
        spins, moments, observed, held = run.to_the_end(spins, _Checkpoint(checkpoint, digest))
    else:
        if checkpoint is not None:
            raise ValueError("checkpoint cannot be written under jit and vmap. Leave it out.")
        spins, moments, observed, held = _traced(lattice, noise, edges, counts, observe, spins)
    steps = jnp.maximum(counts, 1).astype(dtype)
    return SpinSolution(
        times,
        moments,
        spins,
        observed,
        jnp.max(jnp.diff(edges) / steps) / units.ps,
        lattice.spins,
        held & jnp.all(jnp.isfinite(moments)) & in_range(lattice),
    )


def _start(lattice: SpinLattice, start: Any, key: Array) -> Float[Array, "L X Y Z 3"]:
    """Spins to begin with."""
    shape = (lattice.layers, *lattice.cells, 3)
    if isinstance(start, SpinSolution):
        start = start.spins
    if start is None:
        lengths = lattice.magnet.dark_lengths()
        off = 0.05 * jnp.arange(lattice.layers, dtype=lengths.dtype) * jnp.abs(lengths)
        start = jnp.stack([off, jnp.zeros_like(lengths), lengths], axis=1)
    given = float_array("start", start).astype(lattice.dtype)
    require_finite("start", given)
    if given.shape == shape:
        size = jnp.sqrt(jnp.sum(given**2, axis=-1, keepdims=True))
        require("length of the spins in start", size, lambda x: np.abs(x - 1.0) < 1e-3, "1", "Normalize them.")
        return given / size
    if given.shape != (lattice.layers, 3):
        raise ValueError(
            f"start has shape {given.shape}: it must be {(lattice.layers, 3)} (moments) or {shape} (spins)."
        )
    length = jnp.sqrt(jnp.sum(given**2, axis=1))
    require("length of the moments in start", length, lambda x: x < 1, "less than 1", "Single spins have length 1.")
    words = jax.random.bits(key, (2, lattice.layers, *lattice.cells), jnp.uint32)
    x, y, z = given.T[:, :, None, None, None]
    return jnp.stack(drawn((x, y, z), words[0], words[1]), axis=-1)


def _longest_step(lattice: SpinLattice) -> Array:
    """In hbar/meV."""
    held = PUMPED[lattice.dynamics] * jnp.maximum(lattice.forgetting(), LEAST_FORGETTING)
    step = jnp.minimum(TURN, jnp.cbrt(held)) / jnp.maximum(lattice.fastest_rate(), 1e-30)
    if lattice.dynamics == "llg":
        return jnp.minimum(step, KICK / (2.0 * jnp.maximum(jnp.max(lattice.diffusion()), 1e-30)))
    rate = 2.0 * jnp.max(lattice.magnet.damping * lattice.magnet.temperature) * 3.0 + jnp.max(lattice.loss())
    return jnp.minimum(step, KICK / jnp.maximum(rate, 1e-30))


def _advance(
    lattice: SpinLattice, key: Array, spins: Spins, held: Array, first: Array, number: Array, ends: Array, dt: Array
) -> tuple[Spins, Array]:
    """So many steps, counted from `first` in the order of the noise; the interval's last is number `ends` - 1, and ends
    with half a kick."""
    step = llg_step if lattice.dynamics == "llg" else collision_step
    # Not in the loop, where XLA makes a kernel of each number.
    diffusion, light = lattice.diffusion(), lattice.magnet.light_push()
    whole, half = kick_size(diffusion, dt), kick_size(diffusion, 0.5 * dt)

    def one(i: Array, state: tuple[Spins, Array]) -> tuple[Spins, Array]:
        spins, held = state
        sigma = jnp.where(i + 1 == ends, half, whole)
        spins, fine = step(lattice, spins, light, dt, sigma, jax.random.fold_in(key, i.astype(jnp.uint32)))
        return spins, held & fine

    return jax.lax.fori_loop(first, first + number, one, (spins, held))


def _begin(lattice: SpinLattice, key: Array, spins: Spins, begins: Array, dt: Array) -> Spins:
    """The spins after the half kick that an interval begins with."""
    if lattice.dynamics != "llg":
        return spins
    opening = jax.random.fold_in(jax.random.fold_in(key, begins.astype(jnp.uint32)), OPENING)
    return all_kicked(lattice, spins, kick_size(lattice.diffusion(), 0.5 * dt), opening)


def _look(observe: Observe, apart: Spins) -> tuple[Array, dict[str, Any]]:
    """Moments, and what else is asked for."""
    spins = _together(apart)
    return jnp.mean(spins, axis=(1, 2, 3)), {name: look(spins) for name, look in observe.items()}


def _apart(spins: Float[Array, "L X Y Z 3"]) -> Spins:
    """Components by themselves, as steps take and leave them: to part and to join many takes as long as a step."""
    return [(s[..., 0], s[..., 1], s[..., 2]) for s in spins]


def _together(spins: Spins) -> Float[Array, "L X Y Z 3"]:
    return jnp.stack([jnp.stack(s, axis=-1) for s in spins])


def _traced(
    lattice: SpinLattice, key: Array, edges: Array, counts: Array, observe: Observe, spins: Array
) -> tuple[Array, Array, dict[str, Any], Array]:
    def interval(state: Any, one: Any) -> Any:
        (spins, held), (first, number, length) = state, one
        dt = length / jnp.maximum(number, 1).astype(length.dtype)
        spins = _begin(lattice, key, spins, first, dt)
        spins, held = _advance(lattice, key, spins, held, first, number, first + number, dt)
        return (spins, held), _look(observe, spins)

    first = jnp.cumsum(counts) - counts
    (apart, held), (moments, observed) = jax.lax.scan(
        interval, (_apart(spins), jnp.asarray(True)), (first, counts, jnp.diff(edges))
    )
    return _together(apart), moments, observed, held


_advance_compiled = eqx.filter_jit(_advance)
_begin_compiled = eqx.filter_jit(_begin)
_look_compiled = eqx.filter_jit(_look)
_apart_compiled, _together_compiled = jax.jit(_apart), jax.jit(_together)


def _digest(lattice: SpinLattice, key: Array, edges: Array, counts: Array, observe: Observe, spins: Array) -> str:
    """Of what a run computes and looks at, and of every number that goes into it."""
    arrays, rest = eqx.partition(lattice, eqx.is_array)

    def whole(arrays: Any, key: Array, spins: Array, i: Array, dt: Array) -> Any:
        some = eqx.combine(arrays, rest)
        apart = _begin(some, key, _apart(spins), i, dt)
        apart, held = _advance(some, key, apart, jnp.asarray(True), i, i, i, dt)
        return held, _together(apart), _look(observe, apart)

    computed = computation_digest(whole, arrays, key, spins, counts[0], edges[0])
    return computed + value_digest(arrays, key, edges, counts, spins)


class _Run:
    """A run that can be watched, interrupted and gone on with."""

    def __init__(self, lattice: SpinLattice, key: Array, edges: Array, counts: Array, observe: Observe, progress: bool):
        self.lattice, self.key, self.observe, self.progress = lattice, key, observe, progress
        self.lengths, self.counts = np.diff(np.asarray(edges)), np.asarray(counts)
        self.at_a_time = max(1, int(AT_A_TIME // (lattice.layers * lattice.spins)))

    def to_the_end(self, spins: Array, checkpoint: "_Checkpoint") -> tuple[Array, Array, dict[str, Any], Array]:
        """The last spins, moments and observed values at all times, and whether all was in range."""
        done, spins, held, looks = checkpoint.read() or (0, spins, jnp.asarray(True), [])
        apart = _apart_compiled(spins)
        with progress_bar(int(self.counts.sum()), "spins", self.progress, "steps", done) as bar:
            for k, end in enumerate(np.cumsum(self.counts).tolist()):
                if k < len(looks):
                    continue
                dt = jnp.asarray(self.lengths[k] / max(self.counts[k], 1), spins.dtype)
                if done == end - int(self.counts[k]) < end:
                    apart = _begin_compiled(self.lattice, self.key, apart, jnp.asarray(done), dt)
                while done < end:
                    number, begun = min(self.at_a_time, end - done), time.monotonic()
                    numbers = jnp.asarray(done), jnp.asarray(number), jnp.asarray(end)
                    apart, held = _advance_compiled(self.lattice, self.key, apart, held, *numbers, dt)
                    jax.block_until_ready(apart)
                    if number == self.at_a_time and time.monotonic() - begun < A_CALL:
                        self.at_a_time *= 2
                    done += number
                    bar.update(number)
                    checkpoint.write(done, apart, held, looks)
                looks.append(jax.tree.map(np.asarray, _look_compiled(self.observe, apart)))
        checkpoint.remove()
        moments, observed = jax.tree.map(lambda *x: jnp.stack(x), *looks)
        return _together_compiled(apart), moments, observed, held


class _Checkpoint:
    """What a run has come to, in a file; nothing without a file."""

    def __init__(self, path: str | os.PathLike[str] | None, digest: str):
        self.path, self.digest, self.written = None, digest, time.monotonic()
        if path is not None:
            self.path = require_writable(path)

    def read(self) -> tuple[int, Array, Array, list[Any]] | None:
        """Steps done, spins, whether all was in range, and what was seen at the times until then."""
        if self.path is None or not self.path.exists():
            return None
        try:
            with np.load(self.path, allow_pickle=False) as content:
                kept = dict(content)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            warnings.warn(f"{self.path} is damaged ({error}): the run begins anew.", stacklevel=2)
            return None
        if str(kept.get("digest")) != self.digest:
            raise ValueError(f"{self.path} holds another run. Give another checkpoint, or remove that file.")
        seen = {name.removeprefix("seen "): x for name, x in kept.items() if name.startswith("seen ")}
        looks = [(kept["moments"][k], {name: x[k] for name, x in seen.items()}) for k in range(len(kept["moments"]))]
        return int(kept["done"]), jnp.asarray(kept["spins"]), jnp.asarray(kept["held"]), looks

    def write(self, done: int, apart: Spins, held: Array, looks: list[Any]) -> None:
        """Keep it, about every minute."""
        if self.path is None or time.monotonic() - self.written < BETWEEN_CHECKPOINTS:
            return
        self.written = time.monotonic()
        content = {"digest": self.digest, "done": done, "spins": _together_compiled(apart), "held": held}
        content["moments"] = np.stack([m for m, _ in looks]) if looks else np.zeros((0, len(apart), 3))
        for name in looks[0][1] if looks else ():
            content[f"seen {name}"] = np.stack([seen[name] for _, seen in looks])
        with atomic(self.path) as temporary, temporary.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **{name: np.asarray(x) for name, x in content.items()})

    def remove(self) -> None:
        """The run is over."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
