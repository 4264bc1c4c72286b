"""Layers of finitely many spins, each of which forgets its direction now and then and takes a thermal one."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._numerics.small_matrices import safe_sqrt
from .baths import AbstractBath
from .layer_torque import weighted_sums
from .layers import LayeredMagnet
from .planar_bath import PlanarBath

# Newton's iterations, at most, for the field that makes a moment of a given length.
ITERATIONS = 48


class Collisions(NamedTuple):
    """How the spins of each layer take new directions.

    `rate`: r_a in meV, shape (L,). `mean`: u_a/r_a, that of a new direction, shape (L, 3), 0 where spins never forget;
    spins exist while it is shorter than 1.
    """

    rate: Float[Array, " L"]
    mean: Float[Array, "L 3"]


def collisions(magnet: LayeredMagnet, m: Float[Array, "L 3"]) -> Collisions:
    """dm_a/dt = (precession) + u_a - r_a m_a:   u = 2 alpha h + Lambda m,   r = 2 alpha phi(h) + loss.

    **Arguments** `magnet`: under constant light. `m`: moments, shape (L, 3).
    """
    field = magnet.effective_field(m)
    rate, (push, _) = magnet.relaxation_in(field), magnet.light_torque()
    drive = 2.0 * magnet.damping[:, None] * field + weighted_sums(push, m)
    forgets = rate > 0
    mean = drive / jnp.where(forgets, rate, 1.0)[:, None]
    return Collisions(rate, jnp.where(forgets[:, None], mean, 0.0))


def require_all_directions(bath: AbstractBath) -> None:
    """Raise `ValueError` for a bath whose spins do not point in all directions of space, as those do whose second
    moments are known here."""
    if isinstance(bath, PlanarBath):
        raise ValueError(
            "bath = PlanarBath(): how spins that lie in a plane fluctuate out of it is not known. Take ClassicalBath() "
            "for moments of three components, or leave the noise out."
        )


def second_moment(bath: AbstractBath, mean: Float[Array, "3"], temperature: Float[Array, ""]) -> Float[Array, "3 3"]:
    """<S S^T> of a thermal moment whose mean is given, |mean| < 1: across it the bath's `transverse_variance`, along it
    B'(x) + B(x)^2 at the field x = h/T that makes a moment of that length."""
    square = jnp.sum(mean**2)
    length = safe_sqrt(square)
    unit = jnp.ones_like(temperature)
    x = _frozen_field(bath, length, unit)
    # Newton's last two iterations carry the first two derivatives.
    for _ in range(2):
        x = _newton(bath, length, unit, x)
    across = bath.transverse_variance(x**2, unit)
    along = jax.jvp(lambda x: bath.equilibrium_length(x, unit), (x,), (unit,))[1] + square
    direction = jnp.outer(mean, mean) / jnp.where(square > 0, square, 1.0)
    return across * jnp.eye(3, dtype=mean.dtype) + (along - across) * direction


def _newton(bath: AbstractBath, length: Array, unit: Array, x: Array) -> Array:
    """A step towards B(x) = length: from below, without overshooting."""
    value, slope = jax.jvp(lambda x: bath.equilibrium_length(x, unit), (x,), (unit,))
    return x + (length - value) / slope


def _frozen_field(bath: AbstractBath, length: Array, unit: Array) -> Array:
    """x with B(x) = length, to half of the digits, as a constant."""
    bath, length, unit = jax.lax.stop_gradient((bath, length, unit))
    close = jnp.finfo(length.dtype).eps ** 0.5

    def rises(state: tuple[Array, Array, Array]) -> Array:
        x, step, count = state
        return (jnp.abs(step) > close * x) & (count < ITERATIONS)

    def rise(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        x, _, count = state
        new = _newton(bath, length, unit, x)
        return new, new - x, count + 1

    start = length * bath.free_rate(unit)
    return jax.lax.while_loop(rises, rise, (start, jnp.ones_like(start), jnp.asarray(0)))[0]


def change_covariance(
    m: Float[Array, "3"], old: Float[Array, "3 3"], mean: Float[Array, "3"], new: Float[Array, "3 3"]
) -> Float[Array, "3 3"]:
    """<(S' - S)(S' - S)^T> of a spin S that takes a new direction S': old = <S S^T>, new = <S' S'^T>."""
    return new + old - jnp.outer(mean, m) - jnp.outer(m, mean)
