"""The layers of a magnet one by one, on scalars: under vmap every operation is one loop over the batch, and operations
that belong together are one kernel. `moments`: for each layer its (x, y, z)."""

import functools
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from .._numerics.vectors import Vector, combined, cross, dot, plus, scaled
from .layer_torque import LayerParameters, torque

Moments = Sequence[Vector]


def vector_fields(magnet: Any, moments: Moments) -> list[Vector]:
    """dm/dt of all layers of a `LayeredMagnet` under constant light, in meV."""
    torques, (pushes, loss, factor) = [], magnet.light_push()
    more = magnet.light.precession(magnet.exchange)
    for layer, m in enumerate(moments):
        along = combined(magnet.exchange[layer], moments)
        push = combined(pushes[layer], moments) if factor is None else scaled(factor[layer], along)
        h = _with_terms(magnet, along, layer, moments)
        p = LayerParameters(magnet.damping[layer], loss[layer], magnet.temperature[layer], magnet.gyro)
        rate = torque(m, h, push, p, magnet.bath)
        if more is not None:
            rate = plus(rate, cross(m, combined(more[layer], moments)))
        torques.append(rate)
    return torques


def sizes(magnet: Any, moments: Moments) -> tuple[Array, Array]:
    """`term_size` (meV) and `nonlinearity` of a `LayeredMagnet`."""
    lengths = [jnp.sqrt(dot(m, m)) for m in moments]
    rates, loss = magnet.exchange_rates(), magnet.light_torque()[1]
    terms, shares = [], []
    for layer, length in enumerate(lengths):
        h = _with_terms(magnet, combined(magnet.exchange[layer], moments), layer, moments)
        squared, temperature, damping = dot(h, h), magnet.temperature[layer], magnet.damping[layer]
        relaxation = 2.0 * damping * magnet.bath.relaxation_rate(squared, temperature) + loss[layer]
        pull = sum(
            jnp.abs(rates[layer, b] - (relaxation if b == layer else 0.0)) * lengths[b] for b in range(len(lengths))
        )
        terms.append((jnp.abs(magnet.gyro) * length + 2.0 * damping) * jnp.sqrt(squared) + pull)
        shares.append(squared / temperature**2)
    return functools.reduce(jnp.maximum, terms), functools.reduce(jnp.maximum, shares)


def _with_terms(magnet: Any, h: Vector, layer: int, moments: Moments) -> Vector:
    """The exchange's field of a layer, and those of all `field_terms`."""
    for term in magnet.field_terms:
        h = plus(h, term.layer_field(layer, moments))
    return h
