"""Inverse design of a laser: restarts against SciPy, gradients against differentiating a trajectory.

    python benchmarks/inverse_design.py          writes results/inverse_design-<device>.json

The job: intensity and photon energy for a chase frequency of 40 GHz, from 64 starting points. The peer is
scipy.optimize.minimize (L-BFGS-B, finite differences, box bounds) on the very same compiled steady_state and loss, from
the same starting points, in the same scaled coordinates, each start until it converges. The other comparison: the
derivative of the frequency with respect to both parameters through the implicit function theorem, and through a
trajectory from rest that is long enough for the frequency to settle to 1e-4.
"""

import sys
import time
from pathlib import Path

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize

sys.path.insert(0, str(Path(__file__).parent))
import record

import nrjax
from nrjax.inverse import Box
from nrjax.inverse.laser_design import LOGARITHMIC, starting_shares

RESTARTS = 64
TARGET = 40.0
BOUNDS = {"intensity": (0.0, 6e10), "photon_energy": (1300.0, 2100.0)}
START = {"intensity": 0.0, "photon_energy": 1700.0}
POINT = (2.6e10, 1560.0)
TARGETS = 200


def chase(parameters):
    state = nrjax.steady_state(nrjax.illuminated_bilayer(parameters[0], parameters[1]), throw=False)
    return jnp.where(state.valid, state.chase_frequency, 0.0)


def by_scipy(shares):
    """Reached or not, evaluations and seconds of L-BFGS-B from each start."""
    box = Box(BOUNDS, LOGARITHMIC)
    value = jax.jit(lambda y: (chase(box.vector(y)) / TARGET) ** 2 - 1.0)
    float(value(jnp.full(2, 0.5)))

    def loss(y):
        return float(value(jnp.asarray(y))) ** 2

    reached, evaluations, begin = 0, 0, time.perf_counter()
    for share in shares:
        found = minimize(
            loss,
            np.asarray(box.coordinates(share)),
            method="L-BFGS-B",
            bounds=[(0.0, 1.0)] * 2,
            options={"ftol": 1e-20, "gtol": 1e-12, "maxiter": 200},
        )
        reached += bool(abs(np.sqrt(max(float(value(jnp.asarray(found.x))) + 1.0, 0.0)) - 1.0) < 1e-6)
        evaluations += int(found.nfev)
    return {"reached": reached, "evaluations": evaluations, "seconds": time.perf_counter() - begin}


def by_trajectory(parameters, duration):
    """The chase frequency at the end of a trajectory from rest."""
    magnet = nrjax.illuminated_bilayer(parameters[0], parameters[1])
    start = jax.lax.stop_gradient(nrjax.default_start(magnet.without_light()))
    solution = nrjax.simulate(
        magnet, start, duration, adjoint=diffrax.RecursiveCheckpointAdjoint(), max_steps=1 << 16, throw=False
    )
    return nrjax.instantaneous_frequency(solution).chase[-1]


def restarts():
    """nrjax and SciPy from the same starting points."""

    def design():
        return nrjax.design(nrjax.illuminated_bilayer, START, TARGET, bounds=BOUNDS, restarts=RESTARTS, progress=False)

    begin = time.perf_counter()
    result = design()
    first_call = time.perf_counter() - begin
    ours = record.timed(lambda: design().achieved) | {
        "reached": int(result.history.reached.sum()),
        "first_call_s": first_call,
        "median_steps": float(result.history.steps.median()),
    }
    peer = by_scipy(starting_shares(Box(BOUNDS, LOGARITHMIC).shares_of(START), RESTARTS, 0))
    return {"restarts": RESTARTS, "nrjax": ours, "scipy": peer, "ratio": peer["seconds"] / ours["median_s"]}


def gradients():
    """One gradient through the steady state, and one through the trajectory."""
    point = jnp.asarray(POINT)
    implicit = jax.jit(jax.value_and_grad(chase))
    exact, slope = implicit(point)
    duration = 300.0
    while abs(float(jax.jit(by_trajectory)(point, duration)) / float(exact) - 1.0) > 1e-4:
        duration *= 1.25
    through = jax.jit(jax.value_and_grad(lambda p: by_trajectory(p, duration)))
    _, other = through(point)
    ours, peer = record.timed(lambda: implicit(point), 21), record.timed(lambda: through(point), 5)
    return {
        "trajectory_ps": duration,
        "largest_difference": float(jnp.max(jnp.abs(other / slope - 1.0))),
        "implicit": ours,
        "through_the_trajectory": peer,
        "ratio": peer["median_s"] / ours["median_s"],
    }


def round_trip():
    """Targets of hidden random lasers, each designed from darkness and three other starts."""
    light = jax.random.uniform(jax.random.key(1), (4096, 2)) * jnp.asarray([6e10, 800.0]) + jnp.asarray([0.0, 1300.0])
    found = np.asarray(jax.jit(jax.vmap(chase))(light))
    targets = found[found > 0][:TARGETS]
    results = nrjax.design(nrjax.illuminated_bilayer, START, targets, bounds=BOUNDS, restarts=4, progress=False)
    return {
        "targets": len(targets),
        "reached": sum(result.feasible for result in results),
        "reached_from_darkness": sum(bool(result.history.reached[0]) for result in results),
        "largest_relative_error": max(result.error for result in results if result.feasible),
    }


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    record.write("inverse_design", {"restarts": restarts(), "gradients": gradients(), "round_trip": round_trip()})
