"""Single spins on a lattice: spin steps per second, against machine code for the same scheme.

One layer with gyro = 2, noise of three points, a kick and a drift by the midpoint rule for each step. Neighbours: all
(mean field), the six of a simple cubic lattice, a box of 27. The peer is Numba on all cores, fused by hand: the same
rotations in as many stages, and a hash of site and step for its noise. Both warm.

python benchmarks/lattices.py        writes benchmarks/results/lattices-DEVICE.json (about two minutes)
"""

import math
from typing import Any, Final

import jax
import jax.numpy as jnp
import numba  # pyright: ignore[reportMissingImports]
import numpy as np
import record

import nrjax
from nrjax.motion.spin_dynamics import _advance_compiled, _apart_compiled, _start

SIZES: Final = (16, 48, 100)
REACHES: Final = ("all", "nearest", 1)
# About half a second, as `simulate_spins` makes its calls.
STEPS_OF_SPINS: Final = 4e7
EXCHANGE, FIELD, TEMPERATURE, DAMPING, GYRO, FACTOR, DT = 10.0, 1.0, 2.0, 0.1, 2.0, 1.5, 0.01
ROOT_3: Final = math.sqrt(3.0)


def nrjax_run(n: int, reach: str | int, dtype: Any, spin_steps: float = STEPS_OF_SPINS) -> dict[str, Any]:
    """Spin steps per second of nrjax on n x n x n cells, over about so many of them."""
    magnet = nrjax.LayeredMagnet(
        jnp.asarray([[EXCHANGE]], dtype), DAMPING, -10.0, 0.0, 1.0, TEMPERATURE, gyro=GYRO, bath=nrjax.ClassicalBath()
    )
    lattice = nrjax.SpinLattice.from_layers(magnet, (n, n, n), reach=reach)
    spins = _apart_compiled(_start(lattice, None, jax.random.key(0)))
    steps = max(4, int(spin_steps // n**3))
    arguments = jnp.asarray(True), jnp.asarray(0), jnp.asarray(steps), jnp.asarray(0), jnp.asarray(DT, dtype)
    return speed(lambda: _advance_compiled(lattice, jax.random.key(1), spins, *arguments)[0], n**3 * steps)


def speed(run: Any, spin_steps: int) -> dict[str, Any]:
    time = record.timed(run, repeats=5)
    return time | {"spin_steps_per_s": round(spin_steps / time["median_s"])}


@numba.njit(inline="always")
def digit(x: Any, size: Any) -> Any:
    return -size if x == 0 else (size if x == 1 else size * 0)


@numba.njit(inline="always")
def hashed(site: Any, step: Any) -> Any:
    x = np.uint64(site) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(step) * np.uint64(0xD1B54A32D192ED03)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.uint32((x ^ (x >> np.uint64(31))) >> np.uint64(32))


@numba.njit(inline="always", fastmath=True)
def turned(sx: Any, sy: Any, sz: Any, bx: Any, by: Any, bz: Any) -> Any:
    one = sx * 0 + 1
    q = bx * bx + by * by + bz * bz
    g = one / 2 + q * (one / 24 + q * (one / 240))
    x, y, z = bx * g, by * g, bz * g
    scale = 2 / (1 + q * g * g)
    ax, ay, az = y * sz - z * sy, z * sx - x * sz, x * sy - y * sx
    return (
        sx + scale * (ax + y * az - z * ay),
        sy + scale * (ay + z * ax - x * az),
        sz + scale * (az + x * ay - y * ax),
    )


@numba.njit(inline="always", fastmath=True)
def around(x: Any, i: int, h: int, m: int, up: int, down: int, right: int, left: int, fore: int, back: int) -> Any:
    return x[up, h, m] + x[down, h, m] + x[i, right, m] + x[i, left, m] + x[i, h, fore] + x[i, h, back]


@numba.njit(parallel=True, fastmath=True)
def cubic(s: Any, k: Any, p: Any, n: int, steps: int, numbers: Any) -> None:
    """Steps on n x n x n sites: s the spins, k after the kick, p in the middle of the drift; each (3, n, n, n)."""
    j, sigma, gyro, mobility, dt, root = numbers
    for step in range(steps):
        for i in numba.prange(n):
            for h in range(n):
                for m in range(n):
                    d = hashed((i * n + h) * n + m, step) % 216
                    x, y, z = digit(d % 6, root), digit((d // 6) % 6, root), digit(d // 36, root)
                    k[0, i, h, m], k[1, i, h, m], k[2, i, h, m] = turned(
                        s[0, i, h, m], s[1, i, h, m], s[2, i, h, m], sigma * x, sigma * y, sigma * z
                    )
        for half in range(2):
            of = k if half == 0 else p
            by = dt / 2 if half == 0 else dt
            for i in numba.prange(n):
                up, down = (i + 1) % n, (i - 1) % n
                for h in range(n):
                    right, left = (h + 1) % n, (h - 1) % n
                    for m in range(n):
                        fore, back = (m + 1) % n, (m - 1) % n
                        hx = j * around(of[0], i, h, m, up, down, right, left, fore, back)
                        hy = j * around(of[1], i, h, m, up, down, right, left, fore, back)
                        hz = j * around(of[2], i, h, m, up, down, right, left, fore, back)
                        x, y, z = of[0, i, h, m], of[1, i, h, m], of[2, i, h, m]
                        tx = -by * (gyro * hx + mobility * (hy * z - hz * y))
                        ty = -by * (gyro * hy + mobility * (hz * x - hx * z))
                        tz = -by * (gyro * hz + mobility * (hx * y - hy * x))
                        a, b, c = turned(k[0, i, h, m], k[1, i, h, m], k[2, i, h, m], tx, ty, tz)
                        if half == 0:
                            p[0, i, h, m], p[1, i, h, m], p[2, i, h, m] = a, b, c
                        else:
                            s[0, i, h, m], s[1, i, h, m], s[2, i, h, m] = a, b, c


def numba_run(n: int, dtype: Any) -> dict[str, Any]:
    """Spin steps per second of the peer with six neighbours."""
    rng = np.random.default_rng(0)
    s = rng.normal(size=(3, n, n, n)).astype(dtype)
    s /= np.linalg.norm(s, axis=0)
    k, p, steps = np.empty_like(s), np.empty_like(s), max(4, int(STEPS_OF_SPINS // n**3))
    spread = 2.0 * FACTOR * 2.0 * DAMPING * TEMPERATURE * DT
    sigma = math.sqrt(spread) * (1.0 - spread / 24.0)
    values = (EXCHANGE / 6.0, sigma, GYRO, FACTOR * 2.0 * DAMPING, DT, ROOT_3)
    numbers = tuple(dtype(x) for x in values)
    found = speed(lambda: cubic(s, k, p, n, steps, numbers), n**3 * steps)
    assert np.abs(np.linalg.norm(s, axis=0) - 1.0).max() < 1e-3
    return found


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    rows = []
    for dtype in (np.float32, np.float64):
        for n in SIZES:
            for reach in REACHES:
                row = {
                    "cells": n**3,
                    "reach": reach,
                    "dtype": np.dtype(dtype).name,
                    "nrjax": nrjax_run(n, reach, dtype),
                }
                if reach == "nearest":
                    row["numba"] = numba_run(n, dtype)
                rows.append(row)
                print(row, flush=True)
    record.write("lattices", {"rows": rows})


if __name__ == "__main__":
    main()
