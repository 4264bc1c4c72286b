"""Published parameter sets."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import ArrayLike

from .magnets import LayeredMagnet


def hanai2025_bilayer(
    loss_rate: ArrayLike = 0.0, interlayer_exchange: ArrayLike = 5.0, **overrides: Any
) -> LayeredMagnet:
    """The bilayer of Hanai, Ootsuki and Tazai (2025), Fig. 1c: layer A orders by itself, layer B does not, and the
    light is resonant with B only.

    j = [[10, j_AB], [j_AB, 5]] meV, alpha = (0.1, 0.002), g = -10 meV, n = 1, k_B T = 9 meV, gyro = 2.

    **Arguments**

    - `loss_rate`: gamma_B in meV, the light on layer B.
    - `interlayer_exchange`: j_AB = j_BA in meV.
    - `overrides`: any argument of `LayeredMagnet`, replacing the value above.

    **Returns** a `LayeredMagnet` of two layers.

    **Raises** `TypeError` for an unknown name, `ValueError` for a value out of range.
    """
    gamma = jnp.asarray(loss_rate, jnp.result_type(float))
    j_ab = jnp.asarray(interlayer_exchange, jnp.result_type(float))
    arguments: dict[str, Any] = {
        "exchange": jnp.stack(
            [jnp.stack([jnp.full_like(j_ab, 10.0), j_ab]), jnp.stack([j_ab, jnp.full_like(j_ab, 5.0)])]
        ),
        "damping": (0.1, 2e-3),
        "sd_coupling": -10.0,
        "loss_rate": jnp.stack([jnp.zeros_like(gamma), gamma]),
        "filling": 1.0,
        "temperature": 9.0,
    }
    return LayeredMagnet(**(arguments | overrides))
