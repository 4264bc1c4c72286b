"""Sums over neighbours in a lattice of cells: sum_k w_k x[i + k]."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Cells = tuple[int, int, int]
Ends = tuple[bool, bool, bool]
Bonds = Sequence[tuple[Cells, float]]


def shifted_sum(x: Float[Array, "X Y Z"], bonds: Bonds, periodic: Ends) -> Float[Array, "X Y Z"]:
    """sum_k w_k x[i + k] at every cell i, for bonds (k, w_k); beyond an open end there is nothing.

    On a CPU, where moving an array takes as long as computing with it, all shifted x are read from one copy that has a
    rim; elsewhere indices are computed.
    """
    largest = max((weight for _, weight in bonds), key=abs)

    def summed(x: Array, of: type["_Rimmed"] | type["_Rolled"]) -> Array:
        source = of(x, [step for step, _ in bonds], periodic)
        total = jnp.zeros_like(x)
        for step, weight in bonds:
            there = source.at(step)
            total = total + (there if weight == largest else (weight / largest) * there)
        # Divided last: XLA keeps the result of a division, and would compute sums anew for every neighbour.
        return total / (1.0 / largest)

    return jax.lax.platform_dependent(
        x, cpu=functools.partial(summed, of=_Rimmed), default=functools.partial(summed, of=_Rolled)
    )


def beside_its_shifts(x: Float[Array, "X Y Z"], bonds: Bonds, periodic: Ends) -> Float[Array, "X Y Z"]:
    """x itself, for what goes through memory together with `shifted_sum` of it: on a CPU a part of the same copy."""

    def part(x: Array) -> Array:
        return _Rimmed(x, [step for step, _ in bonds], periodic).at((0, 0, 0))

    return jax.lax.platform_dependent(x, cpu=part, default=lambda x: x)


class _Rolled:
    """x seen from cells some way away, by computed indices."""

    def __init__(self, x: Array, steps: Sequence[Cells], periodic: Ends):
        del steps
        self.x, self.periodic = x, periodic

    def at(self, step: Cells) -> Array:
        there = self.x
        for axis, k in enumerate(step):
            if k:
                there = jnp.roll(there, -k, axis)
            if k and not self.periodic[axis]:
                place = jax.lax.broadcasted_iota(int, there.shape, axis) + k
                there = jnp.where((place >= 0) & (place < there.shape[axis]), there, 0.0)
        return there


class _Rimmed:
    """x seen from cells some way away, as parts of a copy with a rim: the other end of a periodic axis, else zeros."""

    def __init__(self, x: Array, steps: Sequence[Cells], periodic: Ends):
        self.shape = x.shape
        self.below = tuple(max(0, -min(along)) for along in zip(*steps, strict=True))
        self.above = tuple(max(0, max(along)) for along in zip(*steps, strict=True))
        rims = list(zip(self.below, self.above, strict=True))
        whole = jnp.pad(x, rims)
        for axis in range(3):
            if not periodic[axis]:
                continue
            n, (below, above) = x.shape[axis], rims[axis]
            for places in (range(-below, 0), range(n, n + above)):
                if not places:
                    continue
                face, origin = _cut(x, places, axis), list(self.below)
                origin[axis] += places[0]
                # With the rims of the axes before, so that edges and corners are filled.
                for before in range(axis):
                    if periodic[before]:
                        m, (low, high) = x.shape[before], rims[before]
                        face, origin[before] = _cut(face, range(-low, m + high), before), 0
                whole = jax.lax.dynamic_update_slice(whole, face, origin)
        self.whole = whole

    def at(self, step: Cells) -> Array:
        start = [below + k for below, k in zip(self.below, step, strict=True)]
        return jax.lax.slice(self.whole, start, [a + n for a, n in zip(start, self.shape, strict=True)])


def _cut(x: Array, places: range, axis: int) -> Array:
    """The cells at these places along a periodic axis, those that follow each other in one piece."""
    n, parts, at = x.shape[axis], [], places.start
    while at < places.stop:
        first = at % n
        last = min(n, first + places.stop - at)
        parts.append(jax.lax.slice_in_dim(x, first, last, axis=axis))
        at += last - first
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis)
