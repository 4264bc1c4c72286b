"""Ten thousand trajectories of the reference bilayer: simulate_many against peers at equal tolerance.

    python benchmarks/trajectories.py            writes results/trajectories-<device>.json

Peers: a plain jitted vmap of Diffrax (Tsit5, PID), and the same method written by hand in Numba, compiled for the
processor, one lane at a time on all cores: what a C program would do. Errors are against tolerance 1e-13.
"""

import sys
from pathlib import Path

import diffrax
import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import plain
import record

import nrjax
from nrjax import units

LANES = 10_000
# hbar/meV
DURATION = 50.0
TOLERANCE = 1e-8
START = np.array([[0.1, 0.0, 0.87], [0.0, 0.05, 0.7]])


def numba_solver():
    """Tsit5 with the same error norm and first step, one lane after the other; None without Numba."""
    try:
        import numba  # pyright: ignore[reportMissingImports]  (the benchmarks extra)
    except ImportError:
        return None
    tableau = diffrax.Tsit5.tableau
    a = np.zeros((7, 7))
    for row, weights in enumerate(tableau.a_lower, start=1):
        a[row, : len(weights)] = weights
    b, error_weights = np.asarray(tableau.b_sol), np.asarray(tableau.b_error)

    @numba.njit(fastmath=True)
    def velocity(y, gamma, j_ab, out):
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

    @numba.njit(parallel=True, fastmath=True)
    def solve(gammas, exchanges, start, duration, tolerance):
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
                            total += a[stage, s] * k[s, i]
                        new[i] = y[i] + step * total
                    velocity(new, gammas[lane], exchanges[lane], k[stage])
                square = 0.0
                for i in range(6):
                    total, error = 0.0, 0.0
                    for s in range(7):
                        total += b[s] * k[s, i]
                        error += error_weights[s] * k[s, i]
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

    return solve


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    rng = np.random.default_rng(0)
    gammas, exchanges = rng.uniform(0, 0.12, LANES), rng.uniform(0, 12, LANES)
    batch = jax.vmap(nrjax.hanai2025_bilayer)(jnp.asarray(gammas), jnp.asarray(exchanges))
    stop = DURATION / units.ps

    def ours(tolerance=TOLERANCE):
        return nrjax.simulate_many(batch, START, stop, rtol=tolerance, max_steps=None, progress=False)

    exact = np.asarray(ours(1e-13).ms[:, -1])

    def error(ms) -> dict[str, float]:
        worst = np.abs(np.asarray(ms).reshape(LANES, 2, 3) - exact).max(axis=(1, 2))
        return {"median_error": float(np.median(worst)), "max_error": float(worst.max())}

    times = np.array([DURATION])
    run_plain = jax.jit(lambda gammas, exchanges: plain.integrate(gammas, exchanges, times, START, TOLERANCE))
    result: dict = {"lanes": LANES, "duration_ps": stop, "tolerance": TOLERANCE}
    result["simulate_many"] = record.timed(lambda: ours().ms) | error(ours().ms[:, -1])
    ms, steps = run_plain(gammas, exchanges)
    ms = ms[:, 0]
    result["plain_diffrax"] = record.timed(lambda: run_plain(gammas, exchanges), repeats=3) | error(ms)
    result["mean_steps"], result["max_steps"] = float(np.mean(steps)), int(np.max(steps))
    result["times_faster_than_plain_diffrax"] = (
        result["plain_diffrax"]["median_s"] / result["simulate_many"]["median_s"]
    )
    solve = numba_solver()
    if solve is not None and jax.default_backend() == "cpu":
        arguments = (gammas, exchanges, START.ravel(), DURATION, TOLERANCE)
        result["numba"] = record.timed(lambda: solve(*arguments)) | error(solve(*arguments))
        result["times_faster_than_numba"] = result["numba"]["median_s"] / result["simulate_many"]["median_s"]
    record.write("trajectories", result)


if __name__ == "__main__":
    main()
