"""The phase diagram of the reference bilayer: sweep() against plain time integration to the same labels.

    python benchmarks/phase_diagram.py            writes results/phase_diagram-<device>.json

Reports points per second, the ratio to a jitted vmap of Diffrax on the full vector equation, memory of a 1001 x 1001
map, compile times, and what bad lanes cost a batch.
"""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import plain
import record

import nrjax

POINTS = 401
PLAIN_LANES = 64
# hbar/meV: long enough that the plain integration has the label of all but a few points.
PLAIN_TIME = 4000.0
# meV: the loss rate at which the paramagnet becomes stable.
MELTING = 0.092


def axes(points: int) -> dict[str, np.ndarray]:
    return {"loss_rate": np.linspace(0.0, 0.12, points), "interlayer_exchange": np.linspace(0.0, 12.0, points)}


def sweep(points: int, **options):
    return nrjax.sweep(nrjax.hanai2025_bilayer, axes(points), progress=False, **options)


def labels_of(ts, ms):
    solution = nrjax.Solution(ts, ms, diffrax.RESULTS.successful, {}, jnp.asarray(True))
    return nrjax.classify_trajectory(solution).phase


def compile_times() -> dict[str, float]:
    """Seconds of the first call of each entry point, less the second."""
    magnet = nrjax.hanai2025_bilayer(0.05, 6.0)
    start = nrjax.default_start(magnet)
    batch = jax.vmap(nrjax.hanai2025_bilayer)(jnp.linspace(0, 0.1, 16), jnp.full(16, 6.0))
    gradient = jax.jit(jax.grad(lambda g: nrjax.steady_state(nrjax.hanai2025_bilayer(g, 6.0)).chase_frequency))
    calls = {
        "steady_state": lambda: nrjax.steady_state(magnet),
        "grad of steady_state": lambda: gradient(0.05),
        "steady_state with field": lambda: nrjax.steady_state(nrjax.hanai2025_bilayer(0.0, 5.0, field=[0, 0, 1.0])),
        "sweep": lambda: sweep(41),
        "simulate": lambda: nrjax.simulate(magnet, start, 1.0),
        "simulate_many": lambda: nrjax.simulate_many(batch, start, 1.0, progress=False),
        "branches": lambda: nrjax.branches(magnet),
        "boundary": lambda: nrjax.boundary(
            nrjax.hanai2025_bilayer, nrjax.Boundary.ANTIALIGNED_CHIRAL, "loss_rate", (0.0, 0.1), interlayer_exchange=6.0
        ),
    }
    seconds = {}
    for name, call in calls.items():
        lap = []
        for _ in range(2):
            begin = time.perf_counter()
            jax.block_until_ready(jax.tree.leaves(eqx.filter(call(), eqx.is_array)))
            lap.append(time.perf_counter() - begin)
        seconds[name] = lap[0] - lap[1]
    return seconds


def bad_lanes() -> dict[str, float]:
    """The time of a batch of 256 with a NaN, a diverging and a stiff lane, relative to the healthy batch."""
    magnets = jax.vmap(lambda g: nrjax.hanai2025_bilayer(g, 6.0))(jnp.linspace(0.0, 0.12, 256))
    loss, damping, temperature = (np.array(getattr(magnets, n)) for n in ("loss_rate", "damping", "temperature"))
    temperature[3, 0], damping[100, 1], loss[100, 1], damping[200, 0] = np.nan, -0.5, -0.5, 1e9
    bad = eqx.tree_at(
        lambda m: (m.light.loss_rate, m.damping, m.temperature),
        magnets,
        tuple(map(jnp.asarray, (loss, damping, temperature))),
    )
    solve = jax.jit(jax.vmap(lambda m: nrjax.steady_state(m, throw=False).phase))
    good_s, bad_s = record.timed(lambda: solve(magnets)), record.timed(lambda: solve(bad))
    return {"ratio": bad_s["median_s"] / good_s["median_s"], "healthy_s": good_s["median_s"]}


def map_1001() -> dict[str, float]:
    """Memory of a large map, in a process of its own."""
    command = [sys.executable, __file__, "memory"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(run.stdout.splitlines()[-1])


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    if sys.argv[1:] == ["memory"]:
        start = time.perf_counter()
        dataset = sweep(1001)
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(json.dumps({"peak_gib": peak, "seconds_with_compilation": seconds, "valid": float(dataset.valid.mean())}))
        return

    result: dict = {"compile_s": compile_times()}
    ours = record.timed(lambda: sweep(POINTS)["phase"].values)
    result["sweep"] = {"points": POINTS**2, **ours, "points_per_s": POINTS**2 / ours["median_s"]}

    grid = axes(POINTS)
    rng = np.random.default_rng(0)
    gammas, exchanges = rng.choice(grid["loss_rate"], PLAIN_LANES), rng.choice(grid["interlayer_exchange"], PLAIN_LANES)
    # A last stretch, from which the label is told.
    times = jnp.linspace(PLAIN_TIME, PLAIN_TIME + 100.0, 32)
    run_plain = jax.jit(lambda gammas, exchanges: plain.integrate(gammas, exchanges, times))
    ms, steps = jax.block_until_ready(run_plain(gammas, exchanges))
    theirs = record.timed(lambda: run_plain(gammas, exchanges), repeats=1, warm=True)
    told = jax.vmap(labels_of, in_axes=(None, 0))(jnp.linspace(0.0, 100.0, 32), ms)
    states = jax.vmap(lambda g, j: nrjax.steady_state(nrjax.hanai2025_bilayer(g, j), throw=False))(gammas, exchanges)
    other = np.asarray(told) != np.asarray(states.phase)
    per_point = {"plain": theirs["median_s"] / PLAIN_LANES, "sweep": ours["median_s"] / POINTS**2}
    result["plain_diffrax"] = {
        "lanes": PLAIN_LANES,
        **theirs,
        "mean_steps": float(np.mean(steps)),
        "duration": PLAIN_TIME,
        "others": int(np.sum(other)),
        "others_within": float(np.max(np.abs(gammas / MELTING - 1.0)[other], initial=0.0)),
        "unresolved": float(np.mean(np.asarray(told) == nrjax.Phase.UNRESOLVED)),
    }
    result["times_faster_than_plain_diffrax"] = per_point["plain"] / per_point["sweep"]
    result["bad_lanes"] = bad_lanes()
    result["map_1001"] = map_1001()
    record.write("phase_diagram", result)


if __name__ == "__main__":
    main()
