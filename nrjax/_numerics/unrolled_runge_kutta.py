"""Explicit Runge-Kutta steps for small systems kept as scalars."""

from typing import Any

import diffrax
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from .stored_values import stored, unseen_one


class UnrolledTsit5(diffrax.Tsit5):
    """Diffrax's `Tsit5` (same tableau, error estimate and interpolation) with its stages written out.

    With a state of scalars every stage fuses into one loop over the batch under vmap, without the stage buffers
    that the general implementation carries. Meant for systems of a few moments: compile time grows with their number.
    """

    def init(self, terms: Any, t0: Any, t1: Any, y0: PyTree, args: PyTree) -> PyTree:
        """The slope at the start: the last stage of a step is the first of the next."""
        return terms.vf(t0, y0, args)

    def step(
        self, terms: Any, t0: Any, t1: Any, y0: PyTree, args: PyTree, solver_state: PyTree, made_jump: Any
    ) -> tuple[PyTree, PyTree, dict[str, Any], PyTree, diffrax.RESULTS]:
        """One step from t0 to t1; see `diffrax.AbstractSolver.step`."""
        dt = t1 - t0
        tableau = self.tableau
        del made_jump  # the vector field has no jumps
        slopes, one = [solver_state], unseen_one(dt)
        for weights, c in zip(tableau.a_lower, tableau.c, strict=True):
            slope = terms.vf(t0 + float(c) * dt, _combine(weights, slopes, dt, y0), args)
            slopes.append(stored(slope, one))
        y1 = _combine(tableau.b_sol, slopes, dt, y0)
        error = _combine(tableau.b_error, slopes, dt, jax.tree.map(jnp.zeros_like, y0))
        increments = jax.tree.map(lambda *k: dt * jnp.stack(k), *slopes)
        dense = {"y0": y0, "y1": y1, "k": increments}
        return y1, error, dense, slopes[-1], diffrax.RESULTS.successful


def _combine(weights: Any, slopes: list[PyTree], dt: Any, start: PyTree) -> PyTree:
    """start + dt * sum(weights * slopes), skipping zero weights."""
    used = [(float(w), k) for w, k in zip(weights, slopes, strict=True) if w != 0]

    def leaf(y: Any, *ks: Any) -> Any:
        return y + dt * sum((w * k for (w, _), k in zip(used[1:], ks[1:], strict=True)), used[0][0] * ks[0])

    return jax.tree.map(leaf, start, *(k for _, k in used))
