"""A few warm calls, kept as a history by pytest-benchmark: a slower commit shows.

pytest benchmarks/test_speed.py --benchmark-storage=file://benchmarks/history --benchmark-autosave
pytest-benchmark --storage=file://benchmarks/history compare
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nrjax
from nrjax.lindblad import SpinFermionModel, conduction_state, evolve, product_state

jax.config.update("jax_enable_x64", True)
GRID = {"loss_rate": np.linspace(0.0, 0.12, 101), "interlayer_exchange": np.linspace(0.0, 12.0, 101)}


def one_steady_state():
    solve = jax.jit(lambda loss_rate: nrjax.steady_state(nrjax.hanai2025_bilayer(loss_rate, 6.0), throw=False).m)
    return lambda: solve(0.05)


def one_gradient():
    def chase(intensity):
        return nrjax.steady_state(nrjax.illuminated_bilayer(intensity), throw=False).chase_frequency

    slope = jax.jit(jax.grad(chase))
    return lambda: slope(2.65e10)


def phase_diagram():
    return lambda: nrjax.sweep(nrjax.hanai2025_bilayer, GRID, progress=False)["phase"].values


def thousand_trajectories():
    magnets = jax.vmap(nrjax.hanai2025_bilayer)(jnp.linspace(0.0, 0.12, 1000), jnp.full(1000, 6.0))
    start = [[0.1, 0.0, 0.87], [0.0, 0.05, 0.7]]
    return lambda: nrjax.simulate_many(magnets, start, 20.0, progress=False).ms


def lindbladian():
    model = SpinFermionModel([-1.0, -2.0], [0.0, 0.5], -(np.eye(3, k=1) + np.eye(3, k=-1)))
    rho = product_state(model, [[0.6, 0.0, 0.8], [0.0, 0.6, -0.8]], conduction_state(model, 0.5, electrons=3))
    return lambda: evolve(model, rho, [0.0, 3.0]).state


def laser_design():
    bounds = {"intensity": (0.0, 6e10), "photon_energy": (1300.0, 2100.0)}
    return lambda: (
        nrjax.design(
            nrjax.illuminated_bilayer, {"intensity": 0.0}, 40.0, bounds=bounds, restarts=8, progress=False
        ).achieved
    )


JOBS = (one_steady_state, one_gradient, phase_diagram, thousand_trajectories, lindbladian, laser_design)


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.__name__)
def test_speed(benchmark, job):
    call = job()
    benchmark.pedantic(lambda: jax.block_until_ready(call()), rounds=7, warmup_rounds=1)
