"""What XLA is asked for on a GPU: loops as one graph."""

import os
import sys
import warnings
from typing import Final

from .cpu_options import UNKNOWN, jaxlib_version

GRAPHS: Final = "--xla_gpu_enable_command_buffer"
LOOPS: Final = "+WHILE,+CONDITIONAL"


def tune_gpu() -> bool:
    """Let XLA hand whole loops to an NVIDIA GPU, as CUDA graphs; for everything in this process that uses JAX.

    Otherwise the processor launches every turn of a loop, and waits for the GPU to tell whether there is another. What
    that gains is in benchmarks/README.md, "On a GPU": most where a turn is short, as in lattices of 10^5 spins or
    closed orbits; nothing where lanes are many. Results are the same, to the bit. Off until it is called.

    It adds to the environment variable `XLA_FLAGS`, which XLA reads once, so call it before JAX computes anything, and
    before `tune_cpu`, which does. Processes that this one starts inherit it. What is set there already is left as it
    is. Without a GPU it changes nothing; with a driver older than CUDA 12.3 XLA leaves it out.

    **Returns** whether it was in time; with a warning if not.
    """
    if _has_read_them():
        warnings.warn(
            "JAX had computed something before, so that XLA's options for a GPU are not in force. Call tune_gpu() at "
            "the top of the script, before tune_cpu(); results are the same without it.",
            stacklevel=2,
        )
        return False
    flags = os.environ.get("XLA_FLAGS", "")
    if GRAPHS not in flags and jaxlib_version() < UNKNOWN:
        os.environ["XLA_FLAGS"] = f"{flags} {GRAPHS}={LOOPS}".strip()
    return True


def _has_read_them() -> bool:
    """Whether JAX has looked for its devices, as far as it tells."""
    bridge = sys.modules.get("jax._src.xla_bridge")
    return bridge is not None and getattr(bridge, "backends_are_initialized", bool)()
