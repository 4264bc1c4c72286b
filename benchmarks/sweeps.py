"""Phase diagrams in full and refined: points per second, and whether they are the same map; what a store costs, what a
second worker gains, and whether ten million points cost ten times a million.

The reference bilayer, loss rate 0 to 0.12 meV by interlayer exchange 0 to 12 meV. A refined map solves points in full
only next to boundaries; all others are polished to the same residual. Both in tiles of the default size, warm.

python benchmarks/sweeps.py        writes benchmarks/results/sweeps-DEVICE.json (about fifteen minutes)
"""

import concurrent.futures
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import jax
import numpy as np
import record

import nrjax

SIZES: Final = (129, 401, 1001)
TILES: Final = (256, 2048, 16384)
LARGE: Final = (316, 1000, 3162)


def axes(n: int) -> dict[str, np.ndarray]:
    return {"loss_rate": np.linspace(0.0, 0.12, n), "interlayer_exchange": np.linspace(0.0, 12.0, n)}


def solved(n: int, **options: Any) -> Any:
    return nrjax.sweep(nrjax.hanai2025_bilayer, axes(n), progress=False, **options)


def speed(n: int, **options: Any) -> dict[str, Any]:
    """Seconds and points per second of a warm sweep."""
    time = record.timed(lambda: solved(n, **options), repeats=3)
    return time | {"points_per_s": round(n * n / time["median_s"])}


def compared(n: int) -> dict[str, Any]:
    """Both maps of n x n points, and how far they differ."""
    refined, full = solved(n, refine=True), solved(n)
    same = full["valid"] & refined["valid"]
    return {
        "points": n * n,
        "full": speed(n),
        "refined": speed(n, refine=True),
        "share_in_full": refined.attrs["points_in_full"] / (n * n),
        "labels_that_differ": int(((refined["phase"] != full["phase"]) & (full["phase"] >= 0)).sum()),
        "unresolved_in_full": int((full["phase"] < 0).sum()),
        "unresolved_when_refined": int((refined["phase"] < 0).sum()),
        "largest_difference_GHz": float(
            abs(refined["rotation_frequency"] - full["rotation_frequency"]).where(same).max()
        ),
        "largest_residual": float(refined["residual"].where(refined["valid"]).max()),
    }


def stored(n: int) -> dict[str, Any]:
    """Seconds of a full map in memory and in a store, one after the other and in pairs."""
    pairs = []
    for _ in range(3):
        begun = time.perf_counter()
        solved(n)
        between = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            solved(n, store=Path(folder) / "map.zarr")
            pairs.append((between - begun, time.perf_counter() - between))
    overhead = statistics.median(there / here - 1.0 for here, there in pairs)
    return {"points": n * n, "memory_s": [a for a, _ in pairs], "zarr_s": [b for _, b in pairs], "overhead": overhead}


def workers(n: int) -> list[dict[str, Any]]:
    """Points per second with one thread and with two."""
    rows = []
    for number in (1, 2):
        with concurrent.futures.ThreadPoolExecutor(number) as pool:
            rows.append({"threads": number, **speed(n, executor=pool)})
    return rows


def large(n: int) -> dict[str, Any]:
    """A full map kept as Zarr, once: points per second, and the most memory that the process has had until then."""
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        solved(n, store=Path(folder) / "map.zarr")
        seconds = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"points": n * n, "seconds": seconds, "points_per_s": round(n * n / seconds), "peak_bytes": peak}


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    tiles = [{"tile": tile, **speed(401, tile=tile)} for tile in TILES]
    record.write(
        "sweeps",
        {
            "large": [large(n) for n in LARGE],
            "store": stored(1001),
            "workers": workers(401),
            "maps": [compared(n) for n in SIZES],
            "tiles_of_a_full_map": tiles,
        },
    )


if __name__ == "__main__":
    main()
