"""Which way to the chase, from a state that does not chase and whose frequency has no slope to follow."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..magnets import LayeredMagnet
from ..rotation.rigid_states import SteadyState


def chase_distance(model: LayeredMagnet, state: SteadyState) -> Float[Array, ""]:
    """How far a magnet is from the chiral phase, dimensionless; 0 inside it. Where moments are ordered

        D = 1 + s_AB s_BA + max(0, -lambda)/r,   s_ab = w_ab / (2 alpha_a |j_ab| + |Lambda_ab|),

    which asks for opposite torques of the first two layers (s_AB s_BA is 1 in darkness, -1 where one is fully reversed)
    and for a deviation that grows; where nothing is ordered

        D = max(0, s_AB s_BA) + max(0, -lambda)/r,

    which asks for order first. lambda is tr W(m) for an isotropic bilayer, the growth rate of its tilt, and the growth
    rate of the state for others; r is the sum of all relaxation rates. D has a slope wherever nothing chases.

    **Arguments** `model`: a `LayeredMagnet`. `state`: its `steady_state`.

    **Returns** a scalar, 0 or greater; differentiable.

    **Source** docs/physics.md, "Shape dynamics": chiral states need W_AB W_BA < 0 and tr W = 0.
    """
    relaxation = jnp.sum(model.free_relaxation())
    if model.shape_closes:
        growth = jnp.trace(model.linear_rates(jnp.where(jnp.isfinite(state.m), state.m, 0.0)))
    else:
        growth = jnp.where(jnp.isfinite(state.growth_rate), state.growth_rate, 0.0)
    distance = jnp.maximum(-growth, 0.0) / relaxation
    if model.layers > 1:
        rates = model.exchange_rates()
        push = model.light.push_size(model.light_exchange(), model.filling)
        size = 2.0 * model.damping[:, None] * jnp.abs(model.exchange) + push
        product = size[0, 1] * size[1, 0]
        alike = jnp.where(product > 0, rates[0, 1] * rates[1, 0] / jnp.where(product > 0, product, 1.0), 0.0)
        ordered = jnp.max(state.lengths) > 0
        distance = distance + jnp.where(ordered, 1.0 + alike, jnp.maximum(alike, 0.0))
    return jnp.where(state.chase_frequency > 0, 0.0, distance)
