"""Two macrospins that exchange turns about each other: simulate_many against cmtj and the closed form.

    python benchmarks/macrospins.py            writes results/macrospins-<device>.json

Without light and damping both moments turn about m_A + m_B at the angular frequency 2 j |m_A + m_B|/hbar: the one
problem that nrjax (which has no Landau-Lifshitz-Gilbert damping of rigid moments) and cmtj (which has no light) share.
cmtj runs one junction after the other on all cores. Of its solvers Heun's is the best for coupled layers: of second
order here, where RK4 is of first order and Dormand-Prince does not keep the phase (both are measured, to show it). A
step and a tolerance are chosen so that both sides meet the same error.
"""

import importlib
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import record

import nrjax
from nrjax import units

PAIRS = 1000
# Steps in s of cmtj's solvers, and the pairs that each turns.
MODES = {"Heun": ((1e-13, 3e-14, 1e-14, 5e-15), 100), "RK4": ((1e-14, 1e-15), 20), "DormandPrince": ((1e-14,), 20)}
# cmtj's own constant, m/(A s).
GYROMAGNETIC = 220_880.0
# J/m^2, T, m: an exchange field of 1e6 A/m.
COUPLING, MAGNETIZATION, THICKNESS = 1e-3, 1.0, 1e-9
# rad/s of a moment in the field of a neighbour of length one, and the exchange of the same strength in meV.
RATE = GYROMAGNETIC * COUPLING / (MAGNETIZATION * THICKNESS)
EXCHANGE = 0.5 * RATE * 1e-12 / units.ps
DURATION = 40.0  # ps
ALLOWED = 1e-5


def starts() -> np.ndarray:
    m = np.random.default_rng(0).normal(size=(PAIRS, 2, 3))
    return m / np.linalg.norm(m, axis=-1, keepdims=True)


def closed_form(m: np.ndarray, sense: float, duration: float) -> np.ndarray:
    """The pairs after `duration` (ps), turned by Rodrigues' formula; `sense` +1 or -1 as dm/dt = +-m x h."""
    total = m.sum(axis=1, keepdims=True)
    length = np.linalg.norm(total, axis=-1, keepdims=True)
    axis = np.broadcast_to(total / length, m.shape)
    angle = -sense * RATE * length * duration * 1e-12
    along = np.sum(axis * m, axis=-1, keepdims=True)
    return m * np.cos(angle) + np.cross(axis, m) * np.sin(angle) + axis * along * (1.0 - np.cos(angle))


def cmtj_pair(arguments: tuple[np.ndarray, str, float]) -> np.ndarray:
    pair, mode, step = arguments
    c: Any = importlib.import_module("cmtj")
    nothing = [c.CVector(0, 0, 0)] * 3
    layers = [
        c.Layer(name, c.CVector(*m), c.CVector(0, 0, 1), MAGNETIZATION, THICKNESS, 1e-18, nothing, damping=0.0)
        for name, m in zip("AB", pair, strict=True)
    ]
    junction = c.Junction(layers)
    junction.setIECDriver("A", "B", c.ScalarDriver.getConstantDriver(COUPLING))
    duration = DURATION * 1e-12
    junction.runSimulation(duration, step, duration, False, False, getattr(c.SolverMode, mode))
    end = [junction.getLayerMagnetisation(name) for name in "AB"]
    return np.array([[m.x, m.y, m.z] for m in end])


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    m = starts()
    exchange = jnp.asarray([[0.0, EXCHANGE], [EXCHANGE, 0.0]])
    magnets = jax.vmap(
        lambda scale: nrjax.LayeredMagnet(
            exchange=scale * exchange, damping=0.0, sd_coupling=-1.0, loss_rate=0.0, filling=1.0, temperature=1.0
        )
    )(jnp.ones(PAIRS))

    def ours(tolerance):
        return nrjax.simulate_many(magnets, m, DURATION, rtol=tolerance, progress=False).ms[:, -1]

    expected = closed_form(m, 1.0, DURATION)
    result: dict[str, Any] = {"pairs": PAIRS, "duration_ps": DURATION, "allowed_error": ALLOWED}
    result["mean_turns"] = float(np.linalg.norm(m.sum(axis=1), axis=-1).mean() * RATE * DURATION * 1e-12 / (2 * np.pi))

    def entry(run, exact, repeats):
        out = np.asarray(run())
        return {"max_error": float(np.abs(out - exact[: len(out)]).max())} | record.timed(run, repeats)

    rows = [entry(lambda t=t: ours(t), expected, 5) | {"rtol": t} for t in (1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10)]
    result["simulate_many"] = rows
    best = min((row for row in rows if row["max_error"] <= ALLOWED), key=lambda row: row["median_s"])

    peers = []
    with record.all_cores() as pool:
        for mode, (steps, count) in MODES.items():
            for step in steps:
                jobs = [(pair, mode, step) for pair in m[:count]]

                def run(jobs=jobs):
                    return np.array(list(pool.map(cmtj_pair, jobs, chunksize=max(1, len(jobs) // 16))))

                run()
                # Its loop ends one step early.
                mirrored = closed_form(m, -1.0, DURATION - 1e12 * step)
                peers.append(entry(run, mirrored, 3) | {"mode": mode, "step_s": step, "pairs": count})
                print(peers[-1], flush=True)
    result["cmtj"] = peers
    fitting = [row for row in peers if row["max_error"] <= ALLOWED]
    peer = min(fitting, key=lambda row: row["median_s"] / row["pairs"])
    result["ratio"] = (peer["median_s"] / peer["pairs"]) / (best["median_s"] / PAIRS)
    result["used"] = {"rtol": best["rtol"], "step_s": peer["step_s"], "mode": peer["mode"]}
    record.write("macrospins", result)


if __name__ == "__main__":
    main()
