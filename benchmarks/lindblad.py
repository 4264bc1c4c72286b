"""The Lindbladian of two impurities on two conduction sites (256 states), 16 laser settings: evolve against peers.

    python benchmarks/lindblad.py            writes results/lindblad-<device>.json

Peers on the same operators, times and tolerance, each with the faster of its solvers (benchmarks/work_precision.py
compares them): dynamiqs (sparse diagonal layout, Dopri8, one batched call) and QuTiP (sparse operators, Adams, all
cores). Errors are those of the last density matrix against QuTiP at tolerance 1e-12. Then the projected model with a
growing band, and trajectories.
"""

import resource
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import lindblad_peers
import record

from nrjax import Laser, Lattice, LocalMoment, OpticalTransition
from nrjax.lindblad import (
    AndersonModel,
    HubbardModel,
    SpinFermionModel,
    conduction_state,
    evolve,
    product_state,
    quantum_trajectories,
)

SETTINGS = 16
TIMES = np.linspace(0.0, 0.3, 7)
RTOL = 1e-7
CHAIN = np.array([[0.0, -1.0], [-1.0, 0.0]])
INTENSITIES = np.linspace(0.0, 8e10, SETTINGS)


def build(intensity):
    lit = OpticalTransition(1550.0, 1.0, 100.0)
    moments = [LocalMoment(-40.0, 80.0, 6.0), LocalMoment(-35.0, 80.0, 5.0, lit)]
    return AndersonModel(moments, CHAIN, Laser(intensity, 1560.0))


def with_qutip(arguments):
    intensity, rho, method, rtol = arguments
    start = time.perf_counter()
    return lindblad_peers.by_qutip(build(intensity), rho, TIMES, method, rtol), time.perf_counter() - start


def with_dynamiqs(rho, solver="Dopri8", intensities=INTENSITIES, rtol=RTOL):
    # The jump operators grow with the square root of the intensity.
    scales = np.sqrt(np.asarray(intensities) / intensities[-1])
    batch = [build(intensity) for intensity in intensities]
    return lindblad_peers.by_dynamiqs(batch[-1], rho, TIMES, solver, rtol, scales, batch)


def with_nrjax(rho, names=("impurity_spin", "site_spin", "doublon", "trace"), intensities=INTENSITIES):
    @jax.jit
    def once(intensities):
        def one(intensity):
            solution = evolve(build(intensity), rho, TIMES, names)
            return solution.observables, solution.rho

        return jax.vmap(one)(intensities)

    return lambda: once(jnp.asarray(intensities))


def errors(states, references, lanes):
    return max(float(np.abs(np.asarray(states[lane]) - references[lane]).max()) for lane in lanes)


def compare():
    model = build(INTENSITIES[-1])
    rho = np.asarray(
        product_state(model, [[0.6, 0.0, 0.8], [0.0, 0.6, -0.8]], conduction_state(model, 0.5, electrons=2))
    )
    lanes = (0, SETTINGS - 1)
    with record.all_cores() as pool:
        exact = list(pool.map(with_qutip, [(INTENSITIES[lane], rho, "vern9", 1e-12) for lane in lanes]))
        references = dict(zip(lanes, (state for state, _ in exact), strict=True))
        start = time.perf_counter()
        out = list(pool.map(with_qutip, [(i, rho, "adams", RTOL) for i in INTENSITIES]))
        wall = time.perf_counter() - start
    run, peer = with_nrjax(rho), with_dynamiqs(rho)
    row: dict[str, Any] = {
        "nrjax": record.timed(run, 3)
        | {
            "error": errors(run()[1], references, lanes),
            "real_numbers": evolve(build(1e10), rho, TIMES[:2], ()).reached.size,
        },
        "qutip": {
            "median_s": wall,
            "repeats": 1,
            "one_core_s": sum(seconds for _, seconds in out),
            "error": errors([state for state, _ in out], references, lanes),
        },
    }
    start = time.perf_counter()
    states = jax.block_until_ready(peer())
    first = time.perf_counter() - start
    error = errors(states, references, lanes)
    row["dynamiqs"] = record.timed(peer, 1, warm=True) | {"first_call_s": first, "error": error}
    for name in ("dynamiqs", "qutip"):
        row[f"times_faster_than_{name}"] = row[name]["median_s"] / row["nrjax"]["median_s"]
    print(row, flush=True)
    return row


def scaling():
    """The projected model of two impurities on chains of growing length, half filled."""
    rows = []
    for sites in (2, 3, 4):
        hopping = -(np.eye(sites, k=1) + np.eye(sites, k=-1))
        model = SpinFermionModel([-1.0, -2.0], [0.0, 0.5], hopping)
        rho = product_state(model, [[0.6, 0.0, 0.8], [0.0, 0.6, -0.8]], conduction_state(model, 0.5, electrons=sites))
        start = time.perf_counter()
        solution = evolve(model, rho, [0.0, 3.0])
        jax.block_until_ready(solution.state)
        first = time.perf_counter() - start
        warm = record.timed(lambda m=model, r=rho: evolve(m, r, [0.0, 3.0]).state, 3)
        rows.append(
            {
                "sites": sites,
                "states": model.space.dimension,
                "real_numbers": solution.reached.size,
                "products": int(solution.stats["products"]),
                "first_call_s": first,
                **warm,
                "peak_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
            }
        )
        print(rows[-1], flush=True)
    return rows


def clusters():
    """The same number of states and of settings, by the kind of model: time for each product with the Lindbladian."""
    lit = np.array([0.0, 30.0, 0.0, 30.0])
    chain = -20.0 * (np.eye(4, k=1) + np.eye(4, k=-1))
    kinds = {
        "Anderson, two impurities on two sites": (lambda x: build(INTENSITIES[-1] * x), 2.0),
        "Hubbard, chain of four": (lambda x: HubbardModel(chain, 1000.0, lit * x), 0.15),
        "Hubbard, ring of four": (lambda x: HubbardModel(Lattice.chain(4, 20.0), 1000.0, lit * x), 0.15),
    }
    rng = np.random.default_rng(0)
    random = rng.normal(size=(256, 256)) + 1j * rng.normal(size=(256, 256))
    runs, seconds = {}, {name: [] for name in kinds}
    for name, (make, end) in kinds.items():
        particles = make(1.0).space.particles
        # All blocks of a particle number: the same for every kind.
        rho = random @ random.conj().T * (particles[:, None] == particles)
        rho = rho / np.trace(rho)

        def run(scales, make=make, end=end, rho=rho):
            def one(x):
                solution = evolve(make(x), rho, [0.0, end], ["trace"])
                return solution.state, solution.stats["products"]

            return jax.vmap(one)(scales)

        runs[name] = jax.jit(run)
    scales = jnp.linspace(0.5, 1.5, SETTINGS)
    # In turn, so that all meet the same machine; the first round compiles.
    for _ in range(6):
        for name, run in runs.items():
            start = time.perf_counter()
            states, products = jax.block_until_ready(run(scales))
            seconds[name].append((time.perf_counter() - start) / (int(products.max()) * states.size))
    return {name: {"ns_per_product_and_number": 1e9 * float(np.median(s[1:]))} for name, s in seconds.items()}


def trajectories():
    """Two impurities on six sites: 16384 states, a density matrix of 268 million complex numbers."""
    sites = 6
    hopping = -(np.eye(sites, k=1) + np.eye(sites, k=-1))
    model = SpinFermionModel([-1.0, -2.0], [0.0, 0.5], hopping)
    psi = np.zeros(model.space.dimension)
    # Spin up, spin down; electrons up and down in turn.
    psi[int("01" + "100110011001", 2)] = 1.0
    start = time.perf_counter()
    out = quantum_trajectories(
        model, psi, [0.0, 1.0, 3.0], ("impurity_spin", "site_density"), trajectories=64, key=jax.random.key(0), batch=32
    )
    return {
        "sites": sites,
        "states": model.space.dimension,
        "trajectories": 64,
        "wall_s": time.perf_counter() - start,
        "jumps_each": float(out.jumps.mean()),
        "all_valid": bool(out.valid.all()),
        "largest_standard_error": float(max(e.max() for e in out.errors.values())),
        "peak_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    grown = scaling()
    large = trajectories()
    record.write(
        "lindblad",
        {
            "settings": SETTINGS,
            "times_ps": TIMES.tolist(),
            "rtol": RTOL,
            "comparison": compare(),
            "projected": grown,
            "clusters": clusters(),
            "trajectories": large,
        },
    )
