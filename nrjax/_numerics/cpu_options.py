"""What XLA's compiler is asked for on a CPU: loops over few lanes as one function each, and wide vectors."""

import os
import re
import warnings
from importlib.metadata import version
from typing import Any, Final

LOOPS: Final = "xla_cpu_small_while_loop_byte_threshold"
# Bytes that one turn of a loop may touch: a few hundred lanes of a magnet, not thousands of single spins, nor the
# matrices of a Lindbladian, which are better shared by all cores.
LARGEST: Final = 4_000_000
# What a loop taken whole is called by XLA.
TAKEN: Final = "xla_cpu_small_call"

WIDTH: Final = "--xla_cpu_prefer_vector_width"
# Bits. XLA's own choice is 256, also where a processor has twice as wide ones; where it has not, nothing changes.
WIDEST: Final = 512
# For programs that run for less time than it takes to compile them.
BRIEF: Final = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
# For programs that run no slower when LLVM goes over them once.
ONCE: Final = {"xla_backend_optimization_level": 1}
# Kernels by way of MLIR, which takes longer; the choice is gone since this jaxlib.
EMITTERS: Final = "xla_cpu_use_fusion_emitters"
ALWAYS_EMITTERS: Final = (0, 11)
# The first jaxlib that was not tried: XLA ends a process that sets a flag which it has not.
UNKNOWN: Final = (0, 13)


def tune_cpu() -> bool:
    """Let XLA compile programs for a CPU as nrjax profits from it; for everything in this process that uses JAX.

    Each loop over few lanes (a turn touches less than 4 MB) becomes one function of machine code: otherwise every
    operation of it is a function of its own, and calling them takes as long as what they do. And vectors are as wide as
    the processor has them, up to 512 bits. Maps and `simulate_many` take half to two thirds of the time; results change
    by rounding alone. Off until it is called; the `nrjax` command calls it.

    It adds to the environment variable `XLA_FLAGS`, which XLA reads once, so call it before JAX computes anything.
    Processes that this one starts inherit it. What is set there already is left as it is.

    **Returns** whether XLA takes loops whole; with a warning if not, because JAX had already computed something, has no
    CPU, or is of a version that knows no such option. All works as before then.
    """
    ask_for_cpu_options()
    taken = _is_taken()
    if not taken:
        warnings.warn(
            "XLA's options for this CPU are not in force: JAX had computed something before, has no CPU, or its "
            "version does not know them. Call tune_cpu() at the top of the script; results are the same without it, "
            "and slower.",
            stacklevel=2,
        )
    return taken


def ask_for_cpu_options() -> None:
    """Set the options, each unless it is set; JAX is not imported."""
    flags = os.environ.get("XLA_FLAGS", "")
    if LOOPS not in flags:
        flags += f" --xla_backend_extra_options={LOOPS}={LARGEST}"
    if WIDTH not in flags and jaxlib_version() < UNKNOWN:
        flags += f" {WIDTH}={WIDEST}"
    os.environ["XLA_FLAGS"] = flags.strip()


def brief_options() -> dict[str, Any]:
    """Options of XLA by which a program for the CPU is compiled soon, whatever it then takes to run."""
    return BRIEF | _without_emitters() if jaxlib_version() < UNKNOWN else {}


def lanes_options() -> dict[str, Any]:
    """Options of XLA by which steady states of many lanes are compiled sooner and found as fast."""
    return ONCE if jaxlib_version() < UNKNOWN else {}


def alone_options() -> dict[str, Any]:
    """Options of XLA by which one trajectory is compiled sooner and integrated as fast."""
    return ONCE | _without_emitters() if jaxlib_version() < UNKNOWN else {}


def _without_emitters() -> dict[str, Any]:
    return {EMITTERS: False} if jaxlib_version() < ALWAYS_EMITTERS else {}


def jaxlib_version() -> tuple[int, ...]:
    """(major, minor)."""
    return tuple(map(int, re.findall(r"\d+", version("jaxlib"))[:2]))


def _is_taken() -> bool:
    """Whether a loop that is larger than those that XLA takes by itself becomes a function."""
    import jax
    import jax.numpy as jnp

    def turn(i: int, x: jax.Array) -> jax.Array:
        return jnp.sin(x[::-1]) + x * i

    try:
        processor = jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # JAX was told to do without one
        return False
    with jax.default_device(processor):
        program = jax.jit(lambda x: jax.lax.fori_loop(0, 1000, turn, x)).lower(jnp.zeros(1024)).compile()
    return TAKEN in (program.as_text() or "")
