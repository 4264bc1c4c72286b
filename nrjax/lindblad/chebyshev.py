"""The exponential of a Lindbladian by Chebyshev's series on the imaginary axis.

    exp(h L) x = sum_k c_k P_k(w) x,   w = h L/z,   P_(k+1) = 2 w P_k + P_(k-1),   c_k = (2 - delta_k0) J_k(z):

real arithmetic for a real L, and converged to rounding once k exceeds z, while the spectrum of h L lies within z of 0
along the imaginary axis and within a few units of it across.
"""

import functools
from collections.abc import Callable
from typing import Any, Final

import equinox.internal as eqxi
import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from jaxtyping import Array, Float

from .fermions import Sparse
from .generator import Generator
from .sparse import DrivenMatrix

# Phase z that one step advances: longer steps cost fewer products for a unit of time, but do not fit between times.
PHASE: Final = 16.0
# Terms of the series at that phase: the next ones are below rounding.
TERMS: Final = 50
# Largest decay exp(-x) that one step may contain.
DECAY: Final = 12.0


def exponential(product: Callable[[Array], Array], x: Array, scale: Array, shift: Array) -> Array:
    """exp(h L) x for h = PHASE scale, by the series for L + shift: decays lie on both sides of it.

    **Arguments** `product`: multiplies by L. `x`: shape (size, *batch). `scale`, `shift`: of shape batch, or 1 for all.
    """
    scale, shift = scale[None], shift[None]
    coefficients = 2.0 * scipy.special.jv(np.arange(1, TERMS), PHASE)

    def moved(y: Array) -> Array:
        return scale * (product(y) + shift * y)

    first = moved(x)

    def term(carry: Any, c: Array) -> Any:
        before, now, total = carry
        after = 2.0 * moved(now) + before
        return (now, after, total + c * after), None

    start = (x, first, float(scipy.special.jv(0, PHASE)) * x + float(coefficients[0]) * first)
    (_, _, total), _ = jax.lax.scan(term, start, jnp.asarray(coefficients[1:], x.dtype))
    return total * jnp.exp(-shift * scale * PHASE)


def march(
    matrix: DrivenMatrix,
    look: Any,
    reverse: bool,
    values: Float[Array, "width size #*batch"],
    light: Float[Array, "lights #*batch"],
    x0: Float[Array, "size *batch"],
    rate: Float[Array, "#*batch"],
    shift: Float[Array, "#*batch"],
    gaps: Float[Array, "gaps #*batch"],
) -> tuple[Any, Array, Array]:
    """What `look` sees at the start and after each gap (hbar/meV), the last state, and the number of products."""
    product = functools.partial(matrix.product, values, light)

    def cross(x: Array, gap: Array) -> Any:
        count = jnp.maximum(jnp.ceil(jnp.max(gap * rate)), 1.0)
        scale = gap / (count * PHASE)
        options: Any = {"kind": "checkpointed", "checkpoints": 64} if reverse else {"kind": "lax"}
        _, x = eqxi.while_loop(
            lambda s: s[0] < count,
            lambda s: (s[0] + 1.0, exponential(product, s[1], scale, shift)),
            (jnp.zeros_like(count), x),
            **options,
        )
        return x, (look(x), count)

    state, (record, counts) = jax.lax.scan(cross, x0, gaps)
    record = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), look(x0), record)
    return record, state, jnp.broadcast_to(jnp.sum(counts) * TERMS, x0.shape[1:])


def batch_last(function: Any, state: int) -> Any:
    """`function` of arrays whose batches stand behind all other axes, made to work so under vmap, jvp and both.

    A CPU multiplies a sparse matrix several times faster in this layout than in the one that vmap would give. What is
    the same for all lanes keeps an axis of 1, except argument number `state`, which is given to every lane.
    """

    def over(run: Any, with_tangents: bool) -> Any:
        wrapped = jax.custom_batching.custom_vmap(run)

        @wrapped.def_vmap
        def _rule(axis_size: int, batched: Any, *arguments: Any) -> Any:
            last = [
                jnp.moveaxis(x, 0, -1) if is_batched else x[..., None]
                for x, is_batched in zip(arguments, batched, strict=True)
            ]
            for i in range(state, len(last), len(last) // (2 if with_tangents else 1)):
                last[i] = jnp.broadcast_to(last[i], (*last[i].shape[:-1], axis_size))
            result = jax.tree.map(lambda x: jnp.moveaxis(x, -1, 0), wrapped(*last))
            every = jax.tree.map(lambda _: True, result)
            if with_tangents and not any(jax.tree.leaves(batched[: len(batched) // 2])):
                # One point with many directions: its value is the same for all.
                values, slopes = result
                one = jax.tree.map(lambda x: x[0], values)
                return (one, slopes), (jax.tree.map(lambda _: False, one), every[1])
            return result, every

        return wrapped

    def tangent(*both: Any) -> Any:
        half = len(both) // 2
        pairs = [jnp.broadcast_arrays(*pair) for pair in zip(both[:half], both[half:], strict=True)]
        return jax.jvp(function, tuple(x for x, _ in pairs), tuple(dx for _, dx in pairs))

    value = jax.custom_jvp(over(function, False))
    derivative = over(tangent, True)

    @value.defjvp
    def _jvp(primals: Any, tangents: Any) -> Any:
        return derivative(*primals, *tangents)

    return value


def step_rate(
    generator: Generator, states: frozenset[int], theta: Float[Array, " parameters"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """(how many steps a unit of time needs, largest decay rate of populations) on some basis states, in meV.

    Steps are so many that in one neither the largest difference of energies exceeds PHASE, nor the decay DECAY; both
    are bounded by Gershgorin's circles.
    """
    theta = jax.lax.stop_gradient(theta)
    split = len(generator.hamiltonian)
    top, bottom = _circles(_entries(generator, states, tuple(range(split))), theta)
    decay, _ = _circles(_entries(generator, states, tuple(range(split, generator.parameters))), theta)
    return jnp.maximum((top - bottom) / PHASE, decay / DECAY), decay


def _circles(entries: Any, theta: Array) -> tuple[Array, Array]:
    """Bounds (above, below) of the spectrum of a Hermitian matrix."""
    owner, factor, cell, row, column, kept = entries
    if len(kept) == 0 or len(owner) == 0:
        return jnp.zeros((), theta.dtype), jnp.zeros((), theta.dtype)
    real, imaginary = (
        jax.ops.segment_sum(jnp.asarray(part, theta.dtype) * theta[owner], cell, len(row))
        for part in (factor.real, factor.imag)
    )
    here = row == column
    diagonal = jax.ops.segment_sum(jnp.where(here, real, 0.0), row, len(kept))
    around = jax.ops.segment_sum(jnp.where(here, 0.0, jnp.hypot(real, imaginary)), row, len(kept))
    return jnp.max(diagonal + around), jnp.min(diagonal - around)


@functools.lru_cache(maxsize=64)
def _entries(generator: Generator, states: frozenset[int], parameters: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """Entries of sum theta O (of sum theta L^+ L for jumps) on some states: parameter, factor and cell of each; row and
    column of each cell; the states."""
    kept = np.array(sorted(states), int)
    position = np.full(generator.space.dimension, -1)
    position[kept] = np.arange(len(kept))
    parts = []
    for p in parameters:
        coo = Sparse(generator.decay(p) if p >= len(generator.hamiltonian) else generator.hamiltonian[p]).tocoo()
        row, column = position[coo.row], position[coo.col]
        inside = (row >= 0) & (column >= 0)
        parts.append((np.full(inside.sum(), p), coo.data[inside].astype(complex), row[inside], column[inside]))
    owner, factor, row, column = (np.concatenate(x) for x in zip(*parts, strict=True)) if parts else [kept[:0]] * 4
    cells, cell = np.unique(row.astype(np.int64) * len(kept) + column, return_inverse=True)
    return owner, factor, cell.reshape(-1), cells // max(len(kept), 1), cells % max(len(kept), 1), kept
