"""Ten thousand trajectories of the reference bilayer: simulate_many against peers at equal tolerance.

    python benchmarks/trajectories.py            writes results/trajectories-<device>.json

Peers: a plain jitted vmap of Diffrax (Tsit5, PID); the same method written by hand in Numba, compiled for the
processor, one lane at a time on all cores: what a C program would do; scipy.integrate.solve_ivp (DOP853) with the same
compiled right-hand side on all cores, on fewer lanes, counted per lane. Errors are against tolerance 1e-13.
"""

import importlib.util
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import plain
import record

import nrjax
from nrjax import units

LANES = 10_000
SCIPY_LANES = 128
# hbar/meV
DURATION = 50.0
TOLERANCE = 1e-8
START = np.array([[0.1, 0.0, 0.87], [0.0, 0.05, 0.7]])


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
        ms = np.asarray(ms).reshape(-1, 2, 3)
        worst = np.abs(ms - exact[: len(ms)]).max(axis=(1, 2))
        return {"median_error": float(np.median(worst)), "max_error": float(worst.max())}

    times = np.array([DURATION])
    run_plain = jax.jit(lambda gammas, exchanges: plain.integrate(gammas, exchanges, times, START, TOLERANCE))
    result: dict = {"lanes": LANES, "duration_ps": stop, "tolerance": TOLERANCE}
    result["simulate_many"] = error(ours().ms[:, -1]) | record.timed(lambda: ours().ms, warm=True)
    ms, steps = run_plain(gammas, exchanges)
    ms = jax.block_until_ready(ms)[:, 0]
    result["plain_diffrax"] = error(ms) | record.timed(lambda: run_plain(gammas, exchanges), repeats=3, warm=True)
    result["mean_steps"], result["max_steps"] = float(np.mean(steps)), int(np.max(steps))
    result["times_faster_than_plain_diffrax"] = (
        result["plain_diffrax"]["median_s"] / result["simulate_many"]["median_s"]
    )
    if importlib.util.find_spec("numba") and jax.default_backend() == "cpu":
        import machine_code

        arguments = (gammas, exchanges, START.ravel(), DURATION, TOLERANCE)
        ms = machine_code.tsit5(*arguments)
        result["numba"] = error(ms) | record.timed(lambda: machine_code.tsit5(*arguments), warm=True)
        result["times_faster_than_numba"] = result["numba"]["median_s"] / result["simulate_many"]["median_s"]

        some = list(zip(gammas.tolist(), exchanges.tolist(), strict=True))[:SCIPY_LANES]
        with record.all_cores() as pool:

            def by_scipy():
                return machine_code.scipy_lanes(pool, some, START.ravel(), DURATION, TOLERANCE)

            result["solve_ivp"] = {"lanes": SCIPY_LANES} | error(by_scipy()) | record.timed(by_scipy, 3, warm=True)
        result["times_faster_than_solve_ivp"] = (result["solve_ivp"]["median_s"] / SCIPY_LANES) / (
            result["simulate_many"]["median_s"] / LANES
        )
    record.write("trajectories", result)


if __name__ == "__main__":
    main()
