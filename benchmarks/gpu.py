"""A day with a GPU: whether it agrees with the CPU, how fast it is, and how far from what it could be.

Every part stands alone: what fails is written down, and costs only itself; the file is written after each. At most
eight minutes: parts that would begin later are left out, and said so. Beside the times stand estimates, made by hand,
of the least that arithmetic, memory and launches allow on an H200.

python benchmarks/gpu.py             writes benchmarks/results/gpu-DEVICE.json (or under $OUT, with a profiler's trace)
python benchmarks/gpu.py --small     the same road with few lanes, on any device: whether the script works
"""

import argparse
import os
import time
import traceback
from collections.abc import Callable
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
# Estimates for an H200 in double precision.
BOUNDS_S: Final = {"map": 0.1, "trajectories": 0.4, "designs": 0.3}
START: Final = [[0.1, 0.0, 0.8], [0.0, 0.1, 0.6]]


class Sizes(eqx.Module):
    """How much of everything: all of it, or enough to see that it works."""

    points: int
    map: int
    trajectories: int
    designs: int
    general: int
    settings: int

    @classmethod
    def of(cls, small: bool) -> "Sizes":
        return cls(64, 33, 64, 4, 4, 2) if small else cls(10_000, 1001, 1_000_000, 65_536, 10_000, 4096)


def bilayers(n: int, dtype: Any = float, **options: Any) -> Any:
    """Magnets with loss rates and exchanges all over the reference map."""
    rng = np.random.default_rng(0)
    losses, exchanges = rng.uniform(0.0, 0.12, n), rng.uniform(0.0, 12.0, n)
    made = jax.vmap(lambda g, j: nrjax.hanai2025_bilayer(g, j, **options))(jnp.asarray(losses), jnp.asarray(exchanges))
    return jax.tree.map(lambda x: x.astype(dtype) if eqx.is_inexact_array(x) else x, made)


def agreement(sizes: Sizes) -> dict[str, Any]:
    """Labels and frequencies of random points here and on the CPU."""
    magnets = bilayers(sizes.points)
    here = nrjax.steady_states(magnets)
    with jax.default_device(jax.devices("cpu")[0]):
        there = nrjax.steady_states(jax.device_put(magnets, jax.devices("cpu")[0]))
    same = np.asarray(here.phase) == np.asarray(there.phase)
    both = same & np.asarray(here.valid) & np.asarray(there.valid)
    apart = np.abs(np.asarray(here.rotation_frequency) - np.asarray(there.rotation_frequency))
    return {
        "points": sizes.points,
        "labels_that_differ": int((~same).sum()),
        "largest_difference_GHz": float(apart[both].max(initial=0.0)),
        "largest_residual": float(np.asarray(here.residual)[np.asarray(here.valid)].max(initial=0.0)),
    }


def maps(sizes: Sizes) -> list[dict[str, Any]]:
    """The reference map in full, by the lanes worked on together and by tile; and refined."""
    n, usual = sizes.map, refilled_loops.ACCELERATOR_WIDTH
    rows = []
    for tile, width in (
        (1 << 20, usual),
        (1 << 20, usual // 4),
        (1 << 20, usual * 4),
        (1 << 18, usual),
        (1 << 16, usual),
    ):
        refilled_loops.ACCELERATOR_WIDTH = width
        jax.clear_caches()
        try:
            rows.append({"tile": tile, "width": width} | sweeps.speed(n, tile=tile))
        finally:
            refilled_loops.ACCELERATOR_WIDTH = usual
            jax.clear_caches()
    return [*rows, {"points": n * n, "refined": True} | sweeps.speed(n, refine=True)]


def trajectories(sizes: Sizes, dtype: Any) -> dict[str, Any]:
    """Trajectories of 33 ps."""
    magnets = bilayers(sizes.trajectories, dtype)
    start = jnp.asarray(START, dtype)
    time = record.timed(lambda: nrjax.simulate_many(magnets, start, 33.0, progress=False).ms, repeats=3)
    return time | {"trajectories": sizes.trajectories, "dtype": jnp.dtype(dtype).name}


def designs(sizes: Sizes) -> dict[str, Any]:
    """Lasers for 40 GHz from many starts."""
    bounds = {"intensity": (0.0, 6e10), "photon_energy": (1300.0, 2100.0)}
    dark = {"intensity": 0.0, "photon_energy": 1700.0}

    def once() -> Any:
        return nrjax.design(
            nrjax.illuminated_bilayer, dark, 40.0, bounds=bounds, restarts=sizes.designs, progress=False
        ).achieved

    return record.timed(once, repeats=3) | {"restarts": sizes.designs}


def general_road(sizes: Sizes) -> dict[str, Any]:
    """Steady states in a field, by integration in time."""
    magnets = bilayers(sizes.general, field=[[0.0, 0.0, 0.1]] * 2)
    time = record.timed(lambda: nrjax.steady_states(magnets).rotation_frequency, repeats=2)
    return time | {"points": sizes.general}


def lindbladians(sizes: Sizes) -> list[dict[str, Any]]:
    """256 states under more and more laser settings, until they do not fit."""
    import lindblad

    from nrjax.lindblad import conduction_state, product_state

    model = lindblad.build(8e10)
    electrons = conduction_state(model, 0.5, electrons=2)
    rho = np.asarray(product_state(model, [[0.6, 0.0, 0.8], [0.0, 0.6, -0.8]], electrons))
    rows: list[dict[str, Any]] = []
    settings = min(16, sizes.settings)
    while settings <= sizes.settings:
        try:
            once = lindblad.with_nrjax(rho, intensities=np.linspace(0.0, 8e10, settings))
            rows.append({"settings": settings} | record.timed(once, repeats=2))
        except (RuntimeError, MemoryError) as error:
            return [*rows, {"settings": settings, "failed": str(error).splitlines()[0]}]
        settings *= 4
    return rows


def trace(sizes: Sizes) -> dict[str, Any]:
    """A profiler's trace of one warm map."""
    folder = Path(os.environ.get("OUT", "out")) / "trace"
    sweeps.solved(sizes.map)
    with jax.profiler.trace(str(folder)):
        sweeps.solved(sizes.map)
    return {"files": [path.name for path in sorted(folder.rglob("*")) if path.is_file()]}


PARTS: Final[dict[str, Callable[[Sizes], Any]]] = {
    "agreement": agreement,
    "map": maps,
    "trajectories": lambda sizes: [trajectories(sizes, dtype) for dtype in (jnp.float64, jnp.float32)],
    "designs": designs,
    "general_road": general_road,
    "lindbladians": lindbladians,
    "trace": trace,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="few lanes of everything; nothing is written")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"some of {', '.join(PARTS)}; default all")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    begin, sizes = time.perf_counter(), Sizes.of(options.small)
    result: dict[str, Any] = {"least_s": BOUNDS_S}
    for name in options.parts or PARTS:
        spent = time.perf_counter() - begin
        if spent > LONGEST_S:
            result[name] = {"left_out": f"{spent:.0f} s were spent"}
            continue
        try:
            result[name] = PARTS[name](sizes)
        except Exception as error:
            result[name] = {"failed": f"{type(error).__name__}: {error}", "where": traceback.format_exc()[-2000:]}
        if options.small:
            print(name, result[name])
        else:
            record.write("gpu", result)


if __name__ == "__main__":
    main()
