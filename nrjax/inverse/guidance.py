"""Which way to the chase, from a state that does not chase and whose frequency has no slope to follow."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..equilibria import SteadyState
from ..magnets import LayeredMagnet, ShapeDynamics


def chase_distance(model: LayeredMagnet, state: SteadyState) -> Float[Array, ""]:
    """How far an isotropic bilayer is from the chiral phase, dimensionless; 0 inside it:

        D = max(0, s_AB s_BA) + max(0, -tr W(m) / sum r),   s_ab = w_ab / (2 alpha_a |j_ab| + 2 gamma_a |jm_ab/g_a|).

    The first term asks for opposite torques of the two layers; it is 1 in darkness. The second asks that the
    tilt of the collinear moments grows or, where nothing is ordered, that order survives; sum r is the relaxation of
    both layers. D has a slope in every phase that does not chase. For other magnets D is the distance of the
    growth rate from zero, over the largest relaxation rate.

    **Arguments** `model`: a `LayeredMagnet`. `state`: its `steady_state`.

    **Returns** a scalar, 0 or greater; differentiable.

    **Source** docs/physics.md, "Shape dynamics": chiral states need W_AB W_BA < 0 and tr W = 0.
    """
    relaxation = 2.0 * model.damping * model.temperature + model.loss_rate * model.filling
    if not ShapeDynamics.applies_to(model):
        growth = jnp.where(jnp.isfinite(state.growth_rate), state.growth_rate, 0.0)
        return jnp.maximum(-growth, 0.0) / jnp.max(relaxation)
    rates = model.exchange_rates()
    dark = 2.0 * model.damping[:, None] * jnp.abs(model.exchange)
    coupling = jnp.where(model.sd_coupling == 0, 1.0, jnp.abs(model.sd_coupling))
    size = dark + 2.0 * (model.loss_rate / coupling)[:, None] * jnp.abs(model.light_exchange())
    product = size[0, 1] * size[1, 0]
    reversal = jnp.where(product > 0, rates[0, 1] * rates[1, 0] / jnp.where(product > 0, product, 1.0), 0.0)
    trace = jnp.trace(model.linear_rates(jnp.where(jnp.isfinite(state.m), state.m, 0.0)))
    # The trace vanishes throughout the chiral phase: what rounding leaves of it is no distance.
    return jnp.where(
        state.chase_frequency > 0, 0.0, jnp.maximum(reversal, 0.0) + jnp.maximum(-trace, 0.0) / jnp.sum(relaxation)
    )
