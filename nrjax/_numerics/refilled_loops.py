"""Iterating many small systems at once without waiting for the slowest.

Under a plain vmap a `while_loop` runs every lane until the last has finished. `iterate` is the same loop for one
system; batched, it keeps a fixed number of lanes busy and hands each finished lane the next system in the queue, if
there are more systems than lanes.
"""

from collections.abc import Callable
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, PyTree

from .tiles import power_of_two_above

# Lanes worked on at a time on a CPU: few enough to stay in cache, enough to outweigh the cost of a dispatch.
CPU_WIDTH: Final = 128
# The same where few systems are expected to need any step at all, or some a great many; and the least.
CPU_WIDTH_FEW: Final = 32
LEAST_WIDTH: Final = 16
# The same on an accelerator.
ACCELERATOR_WIDTH: Final = 1 << 17
ACCELERATOR_WIDTH_FEW: Final = 1 << 12
# Lanes computed together where nothing is refilled, on a CPU; and how many more, thrown away: the compiler may do the
# last ones of a loop one by one, with other roundings.
BLOCK: Final = 128
SPARE: Final = 16
# Steps between two looks at the queue, which on an accelerator take as long as several steps.
STEPS_PER_REFILL: Final = 8
ACCELERATOR_STEPS_PER_REFILL: Final = 32


def iterate(
    step: Callable[[PyTree, PyTree], PyTree],
    done: Callable[[PyTree], Bool[Array, ""]],
    parameters: PyTree,
    state: PyTree,
    *,
    few: bool = False,
    long: bool = False,
) -> PyTree:
    """state <- step(parameters, state) until done(state).

    Each lane does exactly what it would do alone, whatever it is batched with. Not differentiable: wrap it where
    derivatives pass.

    **Arguments** `step` and `done` act on one system; `parameters` and `state` are its arrays. `few`: most
    systems are done before they start. `long`: some take thousands of steps, and the last of them should not wait for
    many lanes that have nothing to do.

    **Returns** the last state.
    """

    @jax.custom_batching.custom_vmap
    def run(parameters: PyTree, state: PyTree) -> PyTree:
        return jax.lax.while_loop(lambda s: ~done(s), lambda s: step(parameters, s), state)

    @run.def_vmap
    def run_batched(size: int, batched: Any, parameters: PyTree, state: PyTree) -> Any:
        parameters, state = jax.tree.map(
            lambda x, is_batched: x if is_batched else jnp.broadcast_to(x, (size, *jnp.shape(x))),
            (parameters, state),
            tuple(batched),
        )
        if jax.default_backend() == "cpu":
            width, steps = CPU_WIDTH_FEW if few or long else CPU_WIDTH, STEPS_PER_REFILL
        else:
            width, steps = ACCELERATOR_WIDTH_FEW if few else ACCELERATOR_WIDTH, ACCELERATOR_STEPS_PER_REFILL
        # Whole vectors of the processor, whatever the size: what is left over would be rounded differently.
        width = min(width, max(power_of_two_above(size), LEAST_WIDTH))
        work = _run_together if size <= width else _run_queue
        result = work(jax.vmap(step), jax.vmap(done), parameters, state, width, steps)
        return result, jax.tree.map(lambda _: True, result)

    return run(parameters, state)


def in_blocks(function: Any, *arguments: PyTree) -> PyTree:
    """`function` of each lane, as vmap gives it; on a CPU in blocks of one width, so that the number of lanes leaves no
    trace in how the last digits are rounded."""
    if jax.default_backend() != "cpu":
        return jax.vmap(function)(*arguments)
    size = jax.tree.leaves(arguments)[0].shape[0]
    # Two at least: XLA makes no loop of one, and might round what is outside of loops differently.
    blocks = max(-(-size // BLOCK), 2)
    row = jnp.minimum(jnp.arange(blocks * BLOCK), size - 1).reshape(blocks, BLOCK)
    row = jnp.concatenate([row, jnp.repeat(row[:, -1:], SPARE, axis=1)], axis=1)
    results = jax.lax.map(lambda some: jax.vmap(function)(*jax.tree.map(lambda x: x[some], arguments)), row)
    return jax.tree.map(lambda x: x[:, :BLOCK].reshape(blocks * BLOCK, *x.shape[2:])[:size], results)


def _run_together(step: Any, done: Any, parameters: PyTree, states: PyTree, width: int, steps: int) -> PyTree:
    """`_run_queue` for systems that all have a lane from the start."""
    size = jax.tree.leaves(states)[0].shape[0]
    # What fills up is a copy of the last.
    row = np.minimum(np.arange(width), size - 1)
    own, lanes = jax.tree.map(lambda x: x[row], (parameters, states))

    lanes = jax.lax.while_loop(
        lambda lanes: ~jnp.all(done(lanes)), lambda lanes: _stepped(step, done, own, lanes, steps), lanes
    )
    first, *others = jax.tree.leaves(lanes)
    # A scatter, since XLA takes no loop whole that holds one: a loop around this one, and all that is in it, would
    # become one function, which takes one core twice as long to compile.
    first = jnp.zeros_like(first).at[np.arange(width)].set(first, unique_indices=True)
    lanes = jax.tree.unflatten(jax.tree.structure(lanes), [first, *others])
    return jax.tree.map(lambda x: x[:size], lanes)


def _stepped(step: Any, done: Any, own: PyTree, lanes: PyTree, steps: int) -> PyTree:
    """The lanes after so many steps; those that are done stay as they are."""
    return jax.lax.fori_loop(0, steps, lambda _, lanes: _select(done(lanes), lanes, step(own, lanes)), lanes)


def _select(mask: Array, new: PyTree, old: PyTree) -> PyTree:
    """The lanes that are new where the mask is set."""
    return jax.tree.map(lambda a, b: jnp.where(mask.reshape(mask.shape + (1,) * (a.ndim - 1)), a, b), new, old)


def _run_queue(step: Any, done: Any, parameters: PyTree, states: PyTree, width: int, steps: int) -> PyTree:
    """Work through all systems with `width` lanes, looking at the queue after so many `steps`; returns the final state
    of each, in order."""
    size = jax.tree.leaves(states)[0].shape[0]
    # Systems that are done before they start never enter a lane.
    finished = done(states)
    order = jnp.argsort(finished, stable=True)
    waiting = size - jnp.sum(finished)
    # Lanes that have nothing to report write beyond the end, each to a row of its own: on a GPU, rows written by
    # several lanes are written by atomic operations that wait for each other.
    beyond = size + jnp.arange(width)

    def take(tree: PyTree, place: Array) -> PyTree:
        row = order[jnp.minimum(place, size - 1)]
        return jax.tree.map(lambda x: x[row], tree)

    def body(loop: tuple[Array, Array, PyTree, PyTree, PyTree]) -> tuple[Array, Array, PyTree, PyTree, PyTree]:
        place, following, own, lanes, output = loop
        lanes = _stepped(step, done, own, lanes, steps)
        free = done(lanes) | (place >= waiting)
        row = jnp.where(free & (place < waiting), order[jnp.minimum(place, size - 1)], beyond)
        output = jax.tree.map(lambda out, x: out.at[row].set(x, mode="drop", unique_indices=True), output, lanes)
        place = jnp.where(free, following + jnp.cumsum(free) - 1, place)
        own = _select(free, take(parameters, place), own)
        lanes = _select(free, take(states, place), lanes)
        return place, following + jnp.sum(free), own, lanes, output

    place = jnp.arange(width)
    start = (place, jnp.asarray(width), take(parameters, place), take(states, place), states)
    final = jax.lax.while_loop(lambda loop: jnp.any(loop[0] < waiting), body, start)
    return final[-1]
