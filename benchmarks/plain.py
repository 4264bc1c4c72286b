"""The peer of the spin benchmarks: Diffrax on the full vector equation, batched by vmap as it comes."""

from typing import Any

import diffrax
import jax
import jax.numpy as jnp

import nrjax


def integrate(
    gammas: Any, exchanges: Any, times: Any, start: Any = None, tolerance: Any = 1e-8, solver: str = "Tsit5"
) -> tuple[Any, Any]:
    """Moments at `times` (hbar/meV) and step counts, with PID control, for a batch of reference bilayers.

    **Arguments** `gammas`, `exchanges`: meV, shape (lanes,). `start`: moments at time 0; default: no light. `solver`:
    the name of one of Diffrax's.
    """

    def one(gamma: Any, j_ab: Any) -> tuple[Any, Any]:
        magnet = nrjax.hanai2025_bilayer(gamma, j_ab)
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(magnet.vector_field),
            getattr(diffrax, solver)(),
            0.0,
            times[-1],
            None,
            nrjax.default_start(magnet) if start is None else jnp.asarray(start),
            saveat=diffrax.SaveAt(ts=jnp.asarray(times)),
            stepsize_controller=diffrax.PIDController(rtol=tolerance, atol=tolerance),
            max_steps=None,
        )
        return solution.ys, solution.stats["num_steps"]

    return jax.vmap(one)(gammas, exchanges)
