"""Loops over few lanes, compiled for a CPU as one function each."""

import os
import warnings
from typing import Final

OPTION: Final = "xla_cpu_small_while_loop_byte_threshold"
# Bytes that one turn of a loop may touch: a few hundred lanes of a magnet, not the matrices of a Lindbladian, whose
# products XLA has from a library, on all cores.
LARGEST: Final = 10_000_000
# What a loop taken whole is called by XLA.
TAKEN: Final = "xla_cpu_small_call"


def compile_loops_whole() -> bool:
    """Let XLA compile each loop over few lanes, on a CPU, as one function of machine code.

    Otherwise every operation of such a loop is a function of its own, and calling them takes as long as what they do.
    Maps and `simulate_many` take about two thirds of the time, small batches half of it; results change by rounding
    alone. For loops of everything in this process that uses JAX, and in those that it starts, where a turn
    touches less than 10 MB. Off until it is called; the `nrjax` command calls it.

    It is an option in the environment variable `XLA_FLAGS`, which XLA reads once: call it before JAX computes anything.

    **Returns** whether XLA takes loops whole; with a warning if not, because JAX had already computed something, has no
    CPU, or is of a version that knows no such option. All works as before then.
    """
    ask_for_whole_loops()
    taken = _is_taken()
    if not taken:
        warnings.warn(
            "XLA does not take loops whole: JAX had computed something before, has no CPU, or its version cannot. "
            "Call compile_loops_whole() at the top of the script; results are the same without it, and slower.",
            stacklevel=2,
        )
    return taken


def ask_for_whole_loops() -> None:
    """Set the option, unless it is set; JAX is not imported."""
    flags = os.environ.get("XLA_FLAGS", "")
    if OPTION not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --xla_backend_extra_options={OPTION}={LARGEST}".strip()


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
