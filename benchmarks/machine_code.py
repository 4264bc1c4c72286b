"""The reference bilayer compiled by Numba: Tsit5 lane by lane on all cores, and the right-hand side for SciPy.

What a C program would do. Without Numba (the benchmarks extra) this module cannot be imported.
"""

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import diffrax
import numba  # pyright: ignore[reportMissingImports]  (the benchmarks extra)
import numpy as np
from scipy.integrate import solve_ivp


@numba.njit(fastmath=True)
def velocity(y, gamma, j_ab, out):
    """dm/dt in meV of `nrjax.hanai2025_bilayer(gamma, j_ab)` for y = (m_A, m_B) in a row, into `out`."""
    for layer in range(2):
        i, k = 3 * layer, 3 - 3 * layer
        j_self = 10.0 if layer == 0 else 5.0
        alpha = 0.1 if layer == 0 else 2e-3
        light = 0.0 if layer == 0 else gamma
        hx, hy, hz = (
            j_self * y[i] + j_ab * y[k],
            j_self * y[i + 1] + j_ab * y[k + 1],
            j_self * y[i + 2] + j_ab * y[k + 2],
        )
        h = np.sqrt(hx * hx + hy * hy + hz * hz)
        phi = h / np.tanh(h / 9.0) if h > 1e-6 else 9.0
        gain, loss = 2.0 * alpha - 0.2 * light, 2.0 * alpha * phi + light
        out[i] = 2.0 * (y[i + 1] * hz - y[i + 2] * hy) + gain * hx - loss * y[i]
        out[i + 1] = 2.0 * (y[i + 2] * hx - y[i] * hz) + gain * hy - loss * y[i + 1]
        out[i + 2] = 2.0 * (y[i] * hy - y[i + 1] * hx) + gain * hz - loss * y[i + 2]


TABLEAU = diffrax.Tsit5.tableau
A = np.zeros((7, 7))
for _row, _weights in enumerate(TABLEAU.a_lower, start=1):
    A[_row, : len(_weights)] = _weights
B, ERROR_WEIGHTS = np.asarray(TABLEAU.b_sol), np.asarray(TABLEAU.b_error)


@numba.njit(parallel=True, fastmath=True)
def tsit5(gammas, exchanges, start, duration, tolerance):
    """The moments at the end, shape (lanes, 6): Diffrax's method, error norm and step control, without its overhead.

    `gammas`, `exchanges` in meV, shape (lanes,); `start` shape (6,); `duration` in hbar/meV.
    """
    result = np.empty((gammas.size, 6))
    for lane in numba.prange(gammas.size):
        y, new, k = start.copy(), np.empty(6), np.empty((7, 6))
        t, step = 0.0, 1e-3
        velocity(y, gammas[lane], exchanges[lane], k[0])
        while t < duration:
            step = min(step, duration - t)
            for stage in range(1, 7):
                for i in range(6):
                    total = 0.0
                    for s in range(stage):
                        total += A[stage, s] * k[s, i]
                    new[i] = y[i] + step * total
                velocity(new, gammas[lane], exchanges[lane], k[stage])
            square = 0.0
            for i in range(6):
                total, error = 0.0, 0.0
                for s in range(7):
                    total += B[s] * k[s, i]
                    error += ERROR_WEIGHTS[s] * k[s, i]
                new[i] = y[i] + step * total
                size = tolerance + tolerance * max(abs(y[i]), abs(new[i]))
                square += (step * error / size) ** 2
            norm = np.sqrt(square / 6.0)
            if norm <= 1.0:
                t += step
                for i in range(6):
                    y[i] = new[i]
                    k[0, i] = k[6, i]
            step *= min(10.0, max(0.2, 0.9 * max(norm, 1e-10) ** -0.2))
        result[lane] = y
    return result


def _scipy_lane(lane: tuple[float, float], start: np.ndarray, duration: float, tolerance: float, method: str) -> Any:
    out = np.empty(6)

    def slope(_: float, y: np.ndarray) -> np.ndarray:
        velocity(y, *lane, out)
        return out.copy()

    return solve_ivp(slope, (0.0, duration), start, method, t_eval=[duration], rtol=tolerance, atol=tolerance).y[:, -1]


def scipy_lanes(
    pool: ProcessPoolExecutor,
    lanes: list[tuple[float, float]],
    start: np.ndarray,
    duration: float,
    tolerance: float,
    method: str = "DOP853",
) -> np.ndarray:
    """The moments at the end, shape (lanes, 6), by `scipy.integrate.solve_ivp`, lanes spread over a pool's cores."""
    one = partial(_scipy_lane, start=start, duration=duration, tolerance=tolerance, method=method)
    return np.array(list(pool.map(one, lanes, chunksize=max(1, len(lanes) // 8))))
