"""Which attractor how many beginnings lead to."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from .._numerics.ready_programs import kept
from .._numerics.validation import require_positive
from ..magnets import AbstractOrderParameters
from ..motion.phases import Phase
from .attractors import steady_state


def basin_fractions(
    model: AbstractOrderParameters, key: PRNGKeyArray, starts: int = 256, *, max_steps: int = 1500
) -> dict[str, Float[Array, ""]]:
    """f_p = (number of random beginnings from which the dynamics reaches phase p) / (number of all): the sizes of the
    basins of attraction, where `steady_state` knows one of them.

    Beginnings are moments drawn one by one, evenly in the ball |m_a| < 1. Phases are told apart, attractors of one
    phase are not.

    **Arguments** `model`: as in `steady_state`. `key`: of the beginnings, the same for all models of a sweep. `starts`:
    how many; a share f is known to sqrt(f (1 - f)/starts). `max_steps`: as in `steady_state`.

    **Returns** a dictionary: "basin_chiral" and so on, for every `Phase`; "basin_unresolved" is the share of which
    nothing is known. For maps: `sweep(build, axes, observe=lambda model: basin_fractions(model, key))`.

    **Raises** `ValueError` for a number of beginnings below 1.
    """
    require_positive("starts", starts, "How many beginnings are drawn.")
    size = (starts, model.layers, model.components)
    direction_key, length_key = jax.random.split(key)
    directions = jax.random.normal(direction_key, size, model.dtype)
    directions = directions / jnp.sqrt(jnp.sum(directions**2, axis=2, keepdims=True))
    lengths = jax.random.uniform(length_key, (*size[:2], 1), model.dtype) ** (1.0 / model.components)

    phases = _reached(model, directions * lengths, max_steps)
    return {f"basin_{p.name.lower()}": jnp.mean((phases == p.value).astype(model.dtype)) for p in Phase}


@kept
def _reached(
    model: AbstractOrderParameters, starts: Float[Array, "starts L n"], max_steps: int
) -> Int[Array, " starts"]:
    """The phase that each beginning leads to."""

    def phase(start: Float[Array, "L n"]) -> Int[Array, ""]:
        state = steady_state(model, start, max_steps=max_steps, cycles=False, throw=False)
        moving = state.phase == Phase.MODULATED
        return jnp.where(state.valid | moving, state.phase, Phase.UNRESOLVED)

    return jax.vmap(phase)(starts)
