"""QuTiP and dynamiqs on the very operators of a Lindbladian of nrjax."""

import importlib
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp

from nrjax import units

# Steps before a peer gives up; and absolute tolerance relative to the relative one.
MOST_STEPS = 10_000_000
ABSOLUTE = 1e-2


def operators(model: Any) -> tuple[Any, list[Any]]:
    """H in meV and the jump operators that are not zero, sparse, under constant light."""
    generator, theta = model.generator, np.asarray(model.parameters(0.0))
    split = len(generator.hamiltonian)
    h: Any = sum(theta[p] * operator for p, operator in enumerate(generator.hamiltonian))
    groups = enumerate(generator.jumps)
    return h, [np.sqrt(theta[split + p]) * a for p, group in groups if theta[split + p] > 0 for _, a, _ in group]


def by_qutip(model: Any, rho: Any, times: Any, method: str, rtol: float) -> np.ndarray:
    """The density matrix at the last of `times` (ps) by `qutip.mesolve`."""
    qutip: Any = importlib.import_module("qutip")
    h, jumps = operators(model)
    hamiltonian, *collapse = (qutip.Qobj(sp.csr_matrix(x)) for x in (h, *jumps))
    options = {"rtol": rtol, "atol": ABSOLUTE * rtol, "nsteps": MOST_STEPS, "method": method, "progress_bar": ""}
    result = qutip.mesolve(hamiltonian, qutip.Qobj(rho), np.asarray(times) * units.ps, collapse, options=options)
    return result.states[-1].full()


def by_dynamiqs(
    model: Any, rho: Any, times: Any, solver: str, rtol: float, scales: Any = None, batch: Any = ()
) -> Callable[[], Any]:
    """A function without arguments: the density matrix at the last of `times` (ps) by `dynamiqs.mesolve`.

    For one batched call `batch`: the models, whose Hamiltonians differ; `scales`: the factors of all jump operators
    against those of `model`, shape (batch,).
    """
    dq: Any = importlib.import_module("dynamiqs")
    dq.set_precision("double")
    h, jumps = operators(model)
    each = [operators(one)[0].toarray().astype(complex) for one in batch]
    hamiltonian = dq.asqarray(np.stack(each) if each else h.toarray().astype(complex), layout=dq.dia)
    batched = [dq.asqarray(x.toarray().astype(complex), layout=dq.dia) for x in jumps]
    if scales is not None:
        batched = [x * jnp.asarray(scales)[:, None, None] for x in batched]
    method = getattr(dq.method, solver)(rtol=rtol, atol=ABSOLUTE * rtol, max_steps=MOST_STEPS)

    def run() -> Any:
        result = dq.mesolve(
            hamiltonian,
            batched,
            jnp.asarray(rho),
            jnp.asarray(times) * units.ps,
            method=method,
            save_states=False,
            cartesian_batching=False,
            progress_meter=False,
        )
        return result.final_state.to_jax()

    return run
