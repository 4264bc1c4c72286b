"""Which way round: the axis about which a rotating state turns."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from .._numerics.validation import Numbers, require_positive, unit_vector
from ..rotation.rigid_states import SteadyState


def turning_about(state: SteadyState, axis: Numbers) -> Float[Array, "L 3"]:
    """Moments of a rotating state of an isotropic magnet, turned so that Omega points along `axis`:

        m_a -> R m_a,   R Omega/|Omega| = axis/|axis|.

    Rotation symmetry leaves the axis and so the handedness free; the moments at the start decide. A `simulate` from
    these turns about `axis` counter-clockwise, about -`axis` clockwise.

    **Arguments** `state`: chiral, from `steady_state` or a `DesignResult`. `axis`: shape (3,).

    **Returns** moments, shape (L, 3).

    **Raises** `ValueError` for a state that does not rotate, or an axis of length 0.

    **Source** docs/physics.md, "Shape dynamics".
    """
    then = unit_vector("axis", axis)
    rate = jnp.sqrt(jnp.sum(state.angular_velocity**2))
    require_positive("rotation rate of the state", rate, "Only a chiral state turns.")
    now = state.angular_velocity / rate
    # The half turn about the bisector takes one direction to the other; opposite ones have none of their own.
    middle = now + then
    square = jnp.sum(middle**2)
    across = jnp.cross(now, jnp.eye(3, dtype=now.dtype)[jnp.argmin(jnp.abs(now))])
    middle = jnp.where(square > 1e-12, middle, across)
    middle = middle / jnp.sqrt(jnp.sum(middle**2))
    return 2.0 * (state.m @ middle)[:, None] * middle[None, :] - state.m
