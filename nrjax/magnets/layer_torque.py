"""The torque on one layer, by components: what the mean-field dynamics is made of."""

from typing import NamedTuple

from jaxtyping import Array, Float

from .._numerics.vectors import Vector, cross, dot, short_sum
from .baths import AbstractBath


class LayerParameters(NamedTuple):
    """What one layer (or an array of layers) feels besides the field and light's push: damping, loss and bath."""

    damping: Array
    loss: Array
    temperature: Array
    gyro: Array


def weighted_sums(matrix: Float[Array, "L K"], m: Float[Array, "K n"]) -> Float[Array, "L n"]:
    """sum_b matrix_ab m_b, by sums: a product of small matrices would round differently in batches of another size."""
    return short_sum(matrix[:, :, None] * m[None, :, :], axis=1)


def torque(m: Vector, h: Vector, push: Vector, p: LayerParameters, bath: AbstractBath) -> Vector:
    """dm/dt = gyro m x h + 2 alpha [h - phi(h) m] + push - loss m, by components; push_a = sum_b Lambda_ab m_b.

    Every entry may be a scalar (one layer, the fast layout under vmap) or an array over layers.
    """
    phi = bath.relaxation_rate(dot(h, h), p.temperature)
    relaxation = 2.0 * p.damping * phi + p.loss
    precession = cross(m, h)
    tx, ty, tz = (p.gyro * precession[i] + 2.0 * p.damping * h[i] + push[i] - relaxation * m[i] for i in range(3))
    return tx, ty, tz
