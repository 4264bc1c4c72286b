"""How cost grows: with the number of lanes, of layers, and of states of the Lindbladian.

    python benchmarks/scaling.py            writes results/scaling-<device>.json

Lanes, layers: seconds for each trajectory of `simulate_many` and of a plain vmap of Diffrax at tolerance 1e-8 (lanes:
the reference bilayer; layers: chains of random nearest-neighbour exchange with light on every other layer), and Numba
where it has the bilayer. Steady states: seconds for each point of `sweep`. Lindbladian: one evolution of an illuminated
Anderson model against QuTiP (Adams) and dynamiqs (Dopri8) at tolerance 1e-7. First calls include compilation.
"""

import importlib.util
import sys
import time
from pathlib import Path
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import lindblad
import lindblad_peers
import plain
import record
from trajectories import DURATION, START, TOLERANCE

import nrjax
from nrjax import Laser, LocalMoment, OpticalTransition, units
from nrjax.lindblad import AndersonModel, conduction_state, evolve, product_state

LANES = (1, 10, 100, 1_000, 10_000)
# The vmap of Diffrax up to this many.
PEERS_LANES = 1_000
SIDES = (16, 256)
LAYERS = (2, 4, 16)
LAYER_LANES = 64
# hbar/meV
LAYER_DURATION = 10.0
# Impurities and conduction sites; QuTiP and dynamiqs up to this many states.
SYSTEMS = ((1, 1), (1, 2), (2, 2), (2, 3))
PEERS_STATES = 256


def first_and_warm(run: Any, repeats: int = 3) -> dict[str, float]:
    """Seconds of the first call, and of warm ones."""
    begin = time.perf_counter()
    jax.block_until_ready(run())
    first = time.perf_counter() - begin
    return {"first_call_s": first} | record.timed(run, repeats, warm=True)


def lanes(count: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    gammas, exchanges = rng.uniform(0, 0.12, count), rng.uniform(0, 12, count)
    batch = jax.vmap(nrjax.hanai2025_bilayer)(jnp.asarray(gammas), jnp.asarray(exchanges))
    stop, times = DURATION / units.ps, np.array([DURATION])
    row: dict[str, Any] = {"lanes": count}
    row["simulate_many"] = first_and_warm(
        lambda: nrjax.simulate_many(batch, START, stop, rtol=TOLERANCE, max_steps=None, progress=False).ms
    )
    if count <= PEERS_LANES:
        run = jax.jit(lambda gammas, exchanges: plain.integrate(gammas, exchanges, times, START, TOLERANCE)[0])
        row["plain_diffrax"] = first_and_warm(lambda: run(gammas, exchanges))
    if importlib.util.find_spec("numba"):
        import machine_code

        row["numba"] = first_and_warm(lambda: machine_code.tsit5(gammas, exchanges, START.ravel(), DURATION, TOLERANCE))
    return row


def steady_states(side: int) -> dict[str, Any]:
    grid = {"loss_rate": np.linspace(0.0, 0.12, side), "interlayer_exchange": np.linspace(0.0, 12.0, side)}
    run = first_and_warm(lambda: nrjax.sweep(nrjax.hanai2025_bilayer, grid, progress=False)["phase"].values)
    return {"points": side**2, "sweep": run}


def chain(exchange: Any) -> nrjax.LayeredMagnet:
    """Layers with the given exchange between neighbours (meV, shape (layers - 1,)), light on every other layer."""
    count = exchange.shape[0] + 1
    matrix = 8.0 * jnp.eye(count) + jnp.diag(exchange, 1) + jnp.diag(exchange, -1)
    light = 0.05 * (jnp.arange(count) % 2)
    return nrjax.LayeredMagnet(
        exchange=matrix, damping=0.02, sd_coupling=-10.0, loss_rate=light, filling=1.0, temperature=6.0
    )


def layers(count: int) -> dict[str, Any]:
    rng = np.random.default_rng(count)
    batch = jax.vmap(chain)(jnp.asarray(rng.uniform(1.0, 5.0, (LAYER_LANES, count - 1))))
    start = rng.normal(size=(count, 3))
    start *= 0.5 / np.linalg.norm(start, axis=-1, keepdims=True)

    def one(magnet):
        return diffrax.diffeqsolve(
            diffrax.ODETerm(magnet.vector_field),
            diffrax.Tsit5(),
            0.0,
            LAYER_DURATION,
            None,
            jnp.asarray(start),
            stepsize_controller=diffrax.PIDController(rtol=TOLERANCE, atol=TOLERANCE),
            max_steps=None,
        ).ys

    stop = LAYER_DURATION / units.ps
    run = jax.jit(jax.vmap(one))
    return {
        "layers": count,
        "lanes": LAYER_LANES,
        "simulate_many": first_and_warm(
            lambda: nrjax.simulate_many(batch, start, stop, rtol=TOLERANCE, progress=False).ms
        ),
        "plain_diffrax": first_and_warm(lambda: run(batch)),
    }


def hilbert(system: tuple[int, int]) -> dict[str, Any]:
    impurities, sites = system
    lit = OpticalTransition(1550.0, 1.0, 100.0)
    moments = [LocalMoment(-35.0, 80.0, 5.0, lit), LocalMoment(-40.0, 80.0, 6.0)]
    hopping = -(np.eye(sites, k=1) + np.eye(sites, k=-1))
    model = AndersonModel(moments[:impurities], hopping, Laser(8e10, 1560.0))
    spins = [[0.6, 0.0, 0.8], [0.0, 0.6, -0.8]][:impurities]
    rho = np.asarray(product_state(model, spins, conduction_state(model, 0.5, electrons=sites)))
    row: dict[str, Any] = {"states": model.space.dimension, "impurities": impurities, "sites": sites}
    row["nrjax"] = first_and_warm(lambda: evolve(model, rho, lindblad.TIMES).state)
    if model.space.dimension <= PEERS_STATES:
        peer = (model, rho, lindblad.TIMES)
        row["qutip"] = record.timed(lambda: lindblad_peers.by_qutip(*peer, "adams", lindblad.RTOL), 1)
        if importlib.util.find_spec("dynamiqs"):
            row["dynamiqs"] = first_and_warm(lindblad_peers.by_dynamiqs(*peer, "Dopri8", lindblad.RTOL), 1)
    return row


def grow(job: Any, sizes: Any) -> list[dict[str, Any]]:
    """One row for each size, told as it comes."""
    rows = []
    for size in sizes:
        rows.append(job(size))
        print(rows[-1], flush=True)
    return rows


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    record.write(
        "scaling",
        {
            "duration_ps": DURATION / units.ps,
            "tolerance": TOLERANCE,
            "lanes": grow(lanes, LANES),
            "steady_states": grow(steady_states, SIDES),
            "layers": grow(layers, LAYERS),
            "hilbert": grow(hilbert, SYSTEMS),
        },
    )
