"""A day with a GPU: whether it agrees with the CPU, how fast it is, and how far from what it could be.

Every part runs in a process of its own, with a limit: what fails or takes too long costs only itself, and the rows that
it had finished are kept; the file is written after each. At most eight minutes: parts that would begin later are left
out, and said so. Beside the times stand estimates, made by hand, of the least that arithmetic, memory and launches
allow on an H200; `first_s` is the first call, mostly XLA's compiler.

python benchmarks/gpu.py             writes benchmarks/results/gpu-DEVICE.json (or under $OUT, with a profiler's trace)
python benchmarks/gpu.py --small     the same road with few lanes, on any device: whether the script works
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import record
import sweeps

import nrjax
from nrjax._numerics import refilled_loops

LONGEST_S: Final = 480.0
# Seconds that one part may take.
PART_S: Final = 120.0
# Estimates for an H200 in double precision.
BOUNDS_S: Final = {"map": 0.1, "trajectories": 0.4, "designs": 0.3}
START: Final = [[0.1, 0.0, 0.8], [0.0, 0.1, 0.6]]
IN_A_FIELD: Final = {"field": [[0.0, 0.0, 0.1]] * 2}
# The share of the device's memory that a part has, where it is a small one.
SHARES: Final = {"little_memory": "0.02"}
# Parts that ask XLA for loops as graphs.
AS_GRAPHS: Final = ("as_graphs",)
Row = dict[str, Any]


class Sizes(eqx.Module):
    """How much of everything: all of it, or enough to see that it works."""

    points: int
    map: int
    trajectories: int
    designs: int
    general: tuple[int, ...]
    cycles: int
    cells: tuple[int, ...]
    settings: int
    spin_steps: float

    @classmethod
    def of(cls, small: bool) -> "Sizes":
        if small:
            return cls(64, 33, 64, 4, (4,), 32, (8,), 2, 1e4)
        return cls(10_000, 1001, 1_000_000, 65_536, (10_000, 100_000), 2_000, (48, 100, 200), 4096, 2e9)


def bilayers(n: int, dtype: Any = float, **options: Any) -> Any:
    """Magnets with loss rates and exchanges all over the reference map."""
    rng = np.random.default_rng(0)
    losses, exchanges = rng.uniform(0.0, 0.12, n), rng.uniform(0.0, 12.0, n)
    made = jax.vmap(lambda g, j: nrjax.hanai2025_bilayer(g, j, **options))(jnp.asarray(losses), jnp.asarray(exchanges))
    return jax.tree.map(lambda x: x.astype(dtype) if eqx.is_inexact_array(x) else x, made)


def on_both(function: Callable[[Any], Any], magnets: Any) -> tuple[Any, Any]:
    """function(magnets) here and on the CPU, as NumPy arrays."""
    here = jax.tree.map(np.asarray, function(magnets))
    cpu = jax.devices("cpu")[0]
    with jax.default_device(cpu):
        return here, jax.tree.map(np.asarray, function(jax.device_put(magnets, cpu)))


def same_states(here: Any, there: Any) -> Row:
    """How far the steady states are apart."""
    same = here.phase == there.phase
    both = same & here.valid & there.valid
    apart = np.abs(here.rotation_frequency - there.rotation_frequency)[both]
    return {
        "points": len(same),
        "labels_that_differ": int((~same).sum()),
        "not_valid_here": int((~here.valid).sum()),
        "not_valid_on_the_cpu": int((~there.valid).sum()),
        "largest_difference_GHz": float(apart.max(initial=0.0)),
        "largest_residual": float(here.residual[here.valid].max(initial=0.0)),
    }


def agreement(sizes: Sizes) -> Iterator[Row]:
    """Random points here and on the CPU: labels, frequencies and the ends of trajectories."""
    yield {"of": "steady states"} | same_states(*on_both(nrjax.steady_states, bilayers(sizes.points)))
    magnets = bilayers(sizes.points)

    def ends(magnets: Any) -> Any:
        return nrjax.simulate_many(magnets, jnp.asarray(START), 33.0, progress=False).ms[:, -1]

    here, there = on_both(ends, magnets)
    yield {"of": "trajectories", "points": sizes.points, "largest_difference": float(np.abs(here - there).max())}


def agreement_in_a_field(sizes: Sizes) -> Iterator[Row]:
    """The general road's states here and on the CPU."""
    yield same_states(*on_both(nrjax.steady_states, bilayers(sizes.general[0] // 4, **IN_A_FIELD)))


def random_bilayers(n: int) -> Any:
    """Magnets all over their parameters, of which some keep changing their shape."""
    rng = np.random.default_rng(0)
    low, high = np.array([[0.0, -8.0], [-8.0, 0.0]]), 12.0
    exchange = rng.uniform(low, high, (n, 2, 2))
    loss = rng.uniform(0.0, 0.15, (n, 2)) * (rng.uniform(size=(n, 2)) < 0.7)
    numbers = exchange, 10 ** rng.uniform(-2.7, -0.7, (n, 2)), loss, rng.uniform(3.0, 9.0, n)

    def build(exchange: Any, damping: Any, loss_rate: Any, temperature: Any) -> Any:
        return nrjax.LayeredMagnet(exchange, damping, -10.0, loss_rate, 1.0, temperature)

    return jax.vmap(build)(*(jnp.asarray(x) for x in numbers))


def agreement_of_cycles(sizes: Sizes) -> Iterator[Row]:
    """Random magnets, closed orbits among them, here and on the CPU."""
    magnets = random_bilayers(sizes.cycles)
    here, there = on_both(nrjax.steady_states, magnets)
    both = here.valid & there.valid & np.isfinite(here.period) & np.isfinite(there.period)
    apart = np.abs(here.period[both] / there.period[both] - 1.0)
    yield same_states(here, there) | {
        "closed_orbits": int(both.sum()),
        "largest_relative_difference_of_periods": float(apart.max(initial=0.0)),
    }
    yield record.timed(lambda: nrjax.steady_states(magnets).period, repeats=2, warm=True) | {"points": sizes.cycles}


def little_memory(sizes: Sizes) -> Iterator[Row]:
    """The map in tiles for which a small share of the device's memory does not suffice: halved until they fit."""
    usual = sweeps.solved(sizes.map)
    large = sweeps.solved(sizes.map, tile=1 << 20)
    stats = jax.local_devices()[0].memory_stats() or {}
    same = all(np.array_equal(usual[name], large[name], equal_nan=True) for name in ("phase", "rotation_frequency"))
    yield {"points": sizes.map**2, "memory_GiB": stats.get("bytes_limit", 0) / 2**30, "the_same_bits": same}


def maps(sizes: Sizes) -> Iterator[Row]:
    """The reference map in full."""
    yield sweeps.speed(sizes.map)


def refined_maps(sizes: Sizes) -> Iterator[Row]:
    """The reference map, solved in full only next to boundaries."""
    yield sweeps.speed(sizes.map, refine=True)


def widths(sizes: Sizes) -> Iterator[Row]:
    """The map in full by the lanes worked on together, and by their steps between two looks at the queue."""
    width, steps = refilled_loops.ACCELERATOR_WIDTH, refilled_loops.ACCELERATOR_STEPS_PER_REFILL
    for some in ((width, steps // 4), (width, steps * 4), (width // 4, steps), (width * 8, steps)):
        refilled_loops.ACCELERATOR_WIDTH, refilled_loops.ACCELERATOR_STEPS_PER_REFILL = some
        jax.clear_caches()
        yield {"width": some[0], "steps_per_refill": some[1]} | sweeps.speed(sizes.map)


def trajectories(sizes: Sizes, dtype: Any) -> Iterator[Row]:
    """Trajectories of 33 ps, with tiles of the default size and smaller ones."""
    magnets = bilayers(sizes.trajectories, dtype)
    start = jnp.asarray(START, dtype)
    for tile in (None, 1 << 16):

        def once(tile: int | None = tile) -> Any:
            return nrjax.simulate_many(magnets, start, 33.0, tile=tile, progress=False).ms

        yield record.timed(once, repeats=3) | {"trajectories": sizes.trajectories, "tile": tile or "default"}


def designs(sizes: Sizes) -> Iterator[Row]:
    """Lasers for 40 GHz from many starts."""
    bounds = {"intensity": (0.0, 6e10), "photon_energy": (1300.0, 2100.0)}
    dark = {"intensity": 0.0, "photon_energy": 1700.0}

    def once() -> Any:
        return nrjax.design(
            nrjax.illuminated_bilayer, dark, 40.0, bounds=bounds, restarts=sizes.designs, progress=False
        ).achieved

    yield record.timed(once, repeats=3) | {"restarts": sizes.designs, "achieved_GHz": float(once())}


def general_road(sizes: Sizes) -> Iterator[Row]:
    """Steady states in a field, by integration in time."""
    for n in sizes.general:
        magnets = bilayers(n, **IN_A_FIELD)
        yield record.timed(lambda m=magnets: nrjax.steady_states(m).rotation_frequency, repeats=2) | {"points": n}


def copied(sizes: Sizes) -> Row:
    """Bytes that a large copy reads and writes in a second: what bounds a lattice."""
    numbers = jnp.zeros(64 * sizes.cells[-1] ** 3, jnp.float32)
    turns = 10
    again = jax.jit(lambda x: jax.lax.fori_loop(0, turns, lambda _, x: x + 1.0, x))
    row = record.timed(lambda: again(numbers))
    return row | {"of": "a copy", "bytes_per_s": round(turns * 2 * numbers.nbytes / row["median_s"])}


def spin_lattices(sizes: Sizes, dtypes: tuple[Any, ...] = (np.float32, np.float64)) -> Iterator[Row]:
    """Spin steps of a lattice with six neighbours."""
    import lattices

    yield copied(sizes)
    for dtype in dtypes:
        for n in sizes.cells:
            yield {"cells": n**3, "dtype": np.dtype(dtype).name} | lattices.nrjax_run(
                n, "nearest", dtype, sizes.spin_steps
            )


def as_graphs(sizes: Sizes) -> Iterator[Row]:
    """What is made of whole loops as CUDA graphs: spins, a map and closed orbits."""
    yield from spin_lattices(sizes, (np.float32,))
    yield {"of": "a map"} | sweeps.speed(sizes.map)
    magnets = random_bilayers(sizes.cycles)
    row = record.timed(lambda: nrjax.steady_states(magnets).period, repeats=2)
    yield {"of": "closed orbits", "points": sizes.cycles} | row


def lindbladians(sizes: Sizes) -> Iterator[Row]:
    """256 states under more and more laser settings, until they do not fit."""
    import lindblad

    from nrjax.lindblad import conduction_state, product_state

    model = lindblad.build(8e10)
    electrons = conduction_state(model, 0.5, electrons=2)
    rho = np.asarray(product_state(model, [[0.6, 0.0, 0.8], [0.0, 0.6, -0.8]], electrons))
    settings = min(16, sizes.settings)
    while settings <= sizes.settings:
        try:
            once = lindblad.with_nrjax(rho, intensities=np.linspace(0.0, 8e10, settings))
            yield {"settings": settings} | record.timed(once, repeats=2)
        except (RuntimeError, MemoryError) as error:
            yield {"settings": settings, "failed": str(error).splitlines()[0]}
            return
        settings *= 8


def trace(sizes: Sizes) -> Iterator[Row]:
    """A profiler's trace of one warm map."""
    folder = Path(os.environ.get("OUT", "out")) / "trace"
    sweeps.solved(sizes.map)
    with jax.profiler.trace(str(folder)):
        sweeps.solved(sizes.map)
    yield {"files": [path.name for path in sorted(folder.rglob("*")) if path.is_file()]}


PARTS: Final[dict[str, Callable[[Sizes], Iterator[Row]]]] = {
    "agreement": agreement,
    "map": maps,
    "trajectories": lambda sizes: trajectories(sizes, jnp.float64),
    "trajectories_in_single_precision": lambda sizes: trajectories(sizes, jnp.float32),
    "designs": designs,
    "spin_lattices": spin_lattices,
    "agreement_in_a_field": agreement_in_a_field,
    "agreement_of_cycles": agreement_of_cycles,
    "general_road": general_road,
    "as_graphs": as_graphs,
    "little_memory": little_memory,
    "refined_map": refined_maps,
    "lindbladians": lindbladians,
    "trace": trace,
    "widths": widths,
}


def work(name: str, sizes: Sizes, path: Path) -> None:
    """One part: its rows go into a file of JSON lines as they come."""
    if name in AS_GRAPHS:
        nrjax.tune_gpu()
    jax.config.update("jax_enable_x64", True)
    with path.open("a") as file:
        try:
            for row in PARTS[name](sizes):
                print(json.dumps(row), file=file, flush=True)
        except Exception as error:
            row = {"failed": f"{type(error).__name__}: {error}"[:2000], "where": traceback.format_exc()[-2000:]}
            print(json.dumps(row), file=file, flush=True)


def in_a_process(name: str, small: bool, seconds: float) -> list[Row]:
    """One part's rows, the last of them saying so where the process came to an end of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows"
        path.touch()
        command = [sys.executable, __file__, "--into", str(path), *(["--small"] if small else []), name]
        memory = {"XLA_PYTHON_CLIENT_PREALLOCATE": "true"}
        if name in SHARES:
            memory["XLA_PYTHON_CLIENT_MEM_FRACTION"] = SHARES[name]
        try:
            end = f"ended with status {subprocess.run(command, timeout=seconds, env=os.environ | memory).returncode}"
        except subprocess.TimeoutExpired:
            end = f"stopped after {seconds:.0f} s"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
    return rows if end.endswith("status 0") else [*rows, {"failed": end}]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="few lanes of everything; nothing is written")
    parser.add_argument("--longest", type=float, default=PART_S, help="seconds that one part may take")
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"some of {', '.join(PARTS)}; default all")
    options = parser.parse_args()
    if options.into:
        work(options.parts[0], Sizes.of(options.small), options.into)
        return
    # This process only tells what the device is, and leaves its memory to those that compute.
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    jax.config.update("jax_enable_x64", True)
    begin, result = time.perf_counter(), dict[str, Any](least_s=BOUNDS_S)
    for name in options.parts or PARTS:
        spent = time.perf_counter() - begin
        if spent > LONGEST_S:
            result[name] = [{"left_out": f"{spent:.0f} s were spent"}]
        else:
            result[name] = in_a_process(name, options.small, options.longest)
            result[name].append({"part_s": round(time.perf_counter() - begin - spent, 1)})
        if options.small:
            print(name, result[name], flush=True)
        else:
            record.write("gpu", result)


if __name__ == "__main__":
    main()
