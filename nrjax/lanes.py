"""Iterating many small systems at once without waiting for the slowest.

Under a plain vmap a `while_loop` runs every lane until the last has finished. `iterate` is the same loop for one
system; batched, it keeps a fixed number of lanes busy and hands each finished lane the next system in the queue.
"""

from collections.abc import Callable
from typing import Any, Final

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PyTree

# Lanes worked on at a time on a CPU: few enough to stay in cache, enough to outweigh the cost of a dispatch.
CPU_WIDTH: Final = 256
# An accelerator wants all lanes at once.
ACCELERATOR_WIDTH: Final = 1 << 17
# Steps between two looks at the queue.
STEPS_PER_REFILL: Final = 8


def iterate(
    step: Callable[[PyTree, PyTree], PyTree],
    done: Callable[[PyTree], Bool[Array, ""]],
    parameters: PyTree,
    state: PyTree,
    max_steps: int,
) -> tuple[PyTree, Int[Array, ""]]:
    """state <- step(parameters, state) until done(state), at most `max_steps` times.

    Each lane does exactly what it would do alone, whatever it is batched with. Not differentiable: wrap it where
    derivatives pass.

    **Arguments** `step` and `done` act on one system; `parameters` and `state` are its arrays.

    **Returns** the last state and the number of steps taken.
    """
    if jax.default_backend() == "cpu":
        width = CPU_WIDTH
    else:
        width = ACCELERATOR_WIDTH

    def working(carry: tuple[PyTree, Array]) -> Array:
        return ~done(carry[0]) & (carry[1] < max_steps)

    def advance(parameters: PyTree, carry: tuple[PyTree, Array]) -> tuple[PyTree, Array]:
        return step(parameters, carry[0]), carry[1] + 1

    @jax.custom_batching.custom_vmap
    def run(parameters: PyTree, state: PyTree) -> tuple[PyTree, Array]:
        start = (state, jnp.asarray(0, jnp.int32))
        return jax.lax.while_loop(working, lambda carry: advance(parameters, carry), start)

    @run.def_vmap
    def run_batched(size: int, batched: Any, parameters: PyTree, state: PyTree) -> Any:
        parameters, state = jax.tree.map(
            lambda x, is_batched: x if is_batched else jnp.broadcast_to(x, (size, *jnp.shape(x))),
            (parameters, state),
            tuple(batched),
        )
        result = _run_queue(
            jax.vmap(advance), jax.vmap(working), parameters, (state, jnp.zeros(size, jnp.int32)), min(width, size)
        )
        return result, jax.tree.map(lambda _: True, result)

    return run(parameters, state)


def _run_queue(advance: Any, working: Any, queue: PyTree, carry: PyTree, width: int) -> PyTree:
    """Work through `queue` with `width` lanes; returns the final carry of every entry, in order."""
    size = jax.tree.leaves(carry)[0].shape[0]
    # One spare row takes the writes of lanes that have nothing to report.
    output = jax.tree.map(lambda x: jnp.concatenate([x, x[:1]]), carry)

    def select(mask: Array, new: PyTree, old: PyTree) -> PyTree:
        return jax.tree.map(lambda a, b: jnp.where(mask.reshape(mask.shape + (1,) * (a.ndim - 1)), a, b), new, old)

    def take(tree: PyTree, index: Array) -> PyTree:
        return jax.tree.map(lambda x: x[jnp.minimum(index, size - 1)], tree)

    def body(loop: tuple[Array, Array, PyTree, PyTree, PyTree]) -> tuple[Array, Array, PyTree, PyTree, PyTree]:
        index, following, parameters, lanes, output = loop

        def one(_: int, lanes: PyTree) -> PyTree:
            return select(working(lanes), advance(parameters, lanes), lanes)

        lanes = jax.lax.fori_loop(0, STEPS_PER_REFILL, one, lanes)
        finished = ~working(lanes)
        row = jnp.where(finished, index, size)
        output = jax.tree.map(lambda out, x: out.at[row].set(x), output, lanes)
        taken = jnp.cumsum(finished) - 1 + following
        index = jnp.where(finished, jnp.minimum(taken, size), index).astype(index.dtype)
        parameters = select(finished, take(queue, index), parameters)
        lanes = select(finished, take(carry, index), lanes)
        return index, following + jnp.sum(finished), parameters, lanes, output

    index = jnp.arange(width)
    start = (index, jnp.asarray(width), take(queue, index), take(carry, index), output)
    final = jax.lax.while_loop(lambda loop: jnp.any(loop[0] < size), body, start)
    return jax.tree.map(lambda x: x[:size], final[-1])
