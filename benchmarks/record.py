"""Timing after warm-up, and results as JSON with the machine, versions and precision beside them."""

import datetime
import importlib.util
import json
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from nrjax._numerics.cpu_options import ask_for_cpu_options

# As the command line does; for the peers that use JAX as well.
ask_for_cpu_options()
PACKAGES = ("nrjax", "jax", "jaxlib", "equinox", "diffrax", "optimistix", "lineax", "numpy", "scipy")
PEERS = ("numba", "qutip", "dynamiqs", "cmtj", "spirit")


def all_cores() -> ProcessPoolExecutor:
    """A pool of fresh processes in double precision, one for each core, for peers that run on one."""
    return ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn"), initializer=_in_double_precision)


def _in_double_precision() -> None:
    jax.config.update("jax_enable_x64", True)


# Seconds of repeats after which a slow call is timed no more.
ENOUGH_S = 5.0
# And those until which a short one is.
LEAST_S = 0.1


def timed(function: Callable[[], Any], repeats: int = 5, warm: bool = False) -> dict[str, float]:
    """Seconds that a call takes once warm: median, least, most; and unless it has been called already, those of the
    first call, with its compilation. Short calls are repeated more often."""
    first = {}
    if not warm:
        start = time.perf_counter()
        jax.block_until_ready(function())
        first = {"first_s": time.perf_counter() - start}
    seconds = []
    while (len(seconds) < repeats and sum(seconds) < ENOUGH_S) or sum(seconds) < LEAST_S:
        start = time.perf_counter()
        jax.block_until_ready(function())
        seconds.append(time.perf_counter() - start)
    return first | {
        "median_s": statistics.median(seconds),
        "min_s": min(seconds),
        "max_s": max(seconds),
        "repeats": len(seconds),
    }


def machine() -> dict[str, Any]:
    """Where and with what a benchmark ran."""
    model = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), model)
    return {
        "date": datetime.date.today().isoformat(),
        "processor": model,
        "cores": os.cpu_count(),
        "device": jax.devices()[0].device_kind,
        "platform": jax.default_backend(),
        "python": platform.python_version(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "dtype": "float64" if jax.config.jax_enable_x64 else "float32",  # pyright: ignore[reportAttributeAccessIssue]
        "versions": {name: version(name) for name in (*PACKAGES, *filter(importlib.util.find_spec, PEERS))},
    }


def write(name: str, result: dict[str, Any], about: str | None = None) -> None:
    """Write benchmarks/results/NAME-DEVICE.json (or under $OUT, if that is set) and print it.

    `about`: in the place of the device, for what is not about this one.
    """
    folder = Path(os.environ.get("OUT", Path(__file__).parent / "results"))
    folder.mkdir(parents=True, exist_ok=True)
    where = machine()
    path = folder / f"{name}-{about or where['device'].lower().replace(' ', '-')}.json"
    path.write_text(json.dumps({"benchmark": name, "machine": where, **result}, indent=2) + "\n")
    print(path.read_text())
