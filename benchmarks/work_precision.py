"""Work against precision: seconds for each trajectory, and for each Lindbladian evolution, against the error.

    python benchmarks/work_precision.py            writes results/work_precision-<device>.json

Trajectories: the reference bilayer at random loss rates and exchanges; errors on the first lanes against SciPy's DOP853
at tolerance 3e-14. Lindbladian: the model of benchmarks/lindblad.py with a few laser settings; errors of the last
density matrix against QuTiP's Verner 9(8) at tolerance 1e-12. Tolerances run over the range in which a solver is used.
"""

import importlib.util
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import lindblad
import plain
import record
from trajectories import DURATION, START

import nrjax
from nrjax import units

LANES = 512
# Lanes whose error is known, and that SciPy runs.
WATCHED = 32
# Where solvers are compared: the error that they must meet.
MEETING = 1e-6
SETTINGS = 2


def seconds_at(rows: list[dict[str, Any]], error: float) -> float | None:
    """Seconds at an error, from the line between the neighbouring points of a work-precision curve (both logarithmic).

    The least of all crossings; a solver that is better everywhere counts with its fastest point. None if it never gets
    there.
    """
    points = sorted((row["error"], row["seconds"]) for row in rows if row["error"] > 0)
    errors, seconds = (np.log([p[i] for p in points]) for i in (0, 1))
    if errors.size == 0 or np.log(error) < errors[0]:
        return None
    return float(np.exp(np.interp(np.log(error), errors, seconds)))


def trajectories() -> dict[str, list[dict[str, Any]]]:
    import machine_code

    rng = np.random.default_rng(0)
    gammas, exchanges = rng.uniform(0, 0.12, LANES), rng.uniform(0, 12, LANES)
    batch = jax.vmap(nrjax.hanai2025_bilayer)(jnp.asarray(gammas), jnp.asarray(exchanges))
    watched = list(zip(gammas.tolist(), exchanges.tolist(), strict=True))[:WATCHED]
    start, times = START.ravel(), np.array([DURATION])

    with record.all_cores() as pool:
        exact = machine_code.scipy_lanes(pool, watched, start, DURATION, 3e-14).reshape(WATCHED, 2, 3)

        def ours(tolerance):
            stop = DURATION / units.ps
            return nrjax.simulate_many(batch, START, stop, rtol=tolerance, max_steps=None, progress=False).ms

        def numba(tolerance):
            return machine_code.tsit5(gammas, exchanges, start, DURATION, tolerance)

        def scipy(method):
            return lambda tolerance: machine_code.scipy_lanes(pool, watched, start, DURATION, tolerance, method)

        def diffrax(solver):
            run = jax.jit(lambda tolerance: plain.integrate(gammas, exchanges, times, START, tolerance, solver)[0])
            return lambda tolerance: run(tolerance)

        tight = (1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-11)
        jobs = {
            "nrjax simulate_many": (ours, tight, LANES),
            "Numba Tsit5": (numba, tight, LANES),
            "vmap of Diffrax Tsit5": (diffrax("Tsit5"), tight[::2], LANES),
            "vmap of Diffrax Dopri8": (diffrax("Dopri8"), tight[::2], LANES),
            "SciPy DOP853": (scipy("DOP853"), tight[::2], WATCHED),
            "SciPy LSODA": (scipy("LSODA"), tight[::2], WATCHED),
        }
        curves = {}
        for name, (run, tolerances, lanes) in jobs.items():
            curves[name] = []
            for tolerance in tolerances:
                ms = np.asarray(run(tolerance)).reshape(-1, 2, 3)[:WATCHED]
                time = record.timed(lambda run=run, tolerance=tolerance: run(tolerance), 3, warm=True)
                error = float(np.median(np.abs(ms - exact).max(axis=(1, 2))))
                row = {"tolerance": tolerance, "error": error, "seconds": time["median_s"] / lanes, "lanes": lanes}
                curves[name].append(row | time)
                print(name, row, flush=True)
    return curves


def evolutions() -> dict[str, list[dict[str, Any]]]:
    intensities = np.linspace(0.0, 8e10, SETTINGS)
    model = lindblad.build(intensities[-1])
    spins = [[0.6, 0.0, 0.8], [0.0, 0.6, -0.8]]
    rho = np.asarray(lindblad.product_state(model, spins, lindblad.conduction_state(model, 0.5, electrons=2)))
    curves: dict[str, list[dict[str, Any]]] = {}
    with record.all_cores() as pool:

        def qutip(method, tolerance):
            jobs = [(intensity, rho, method, tolerance) for intensity in intensities]
            return [state for state, _ in pool.map(lindblad.with_qutip, jobs)]

        exact = np.array(qutip("vern9", 1e-12))

        def entry(name, run, tolerance, repeats, compiles=True):
            begin = perf_counter()
            states = np.asarray(run())
            first = perf_counter() - begin
            # Workers that compile nothing are warm since the exact solution.
            time = record.timed(run, repeats, warm=True) if compiles else {"median_s": first, "repeats": 1}
            row = {"error": float(np.abs(states - exact).max()), "seconds": time["median_s"] / SETTINGS}
            curves.setdefault(name, []).append({"tolerance": tolerance} | row | time)
            print(name, curves[name][-1], flush=True)

        run = lindblad.with_nrjax(rho, intensities=intensities)
        entry("nrjax evolve", lambda: run()[1], None, 5)
        for method, tolerances in (("adams", (1e-4, 1e-6, 1e-8, 1e-10)), ("vern7", (1e-4, 1e-6))):
            for tolerance in tolerances:
                entry(f"QuTiP {method}", lambda m=method, t=tolerance: qutip(m, t), tolerance, 1, compiles=False)
        if importlib.util.find_spec("dynamiqs"):
            for tolerance in (1e-4, 1e-6, 1e-8):
                for method in ("Tsit5", "Dopri8"):
                    peer = lindblad.with_dynamiqs(rho, method, intensities, tolerance)
                    entry(f"dynamiqs {method}", peer, tolerance, 1)
    return curves


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    result: dict[str, Any] = {
        "meeting_error": MEETING,
        "trajectories": {"lanes": LANES, "duration_ps": DURATION / units.ps, "curves": trajectories()},
        "lindblad": {"settings": SETTINGS, "curves": evolutions()},
    }
    for part in ("trajectories", "lindblad"):
        curves = result[part]["curves"]
        result[part]["seconds_at_meeting_error"] = {name: seconds_at(rows, MEETING) for name, rows in curves.items()}
    record.write("work_precision", result)


if __name__ == "__main__":
    main()
