"""Rigid rotation of order parameters, and the first two of them, which tell phase and angle."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .._numerics.precision import collinear_tolerance
from .._numerics.small_matrices import adjugate, safe_sqrt


def in_space(m: Float[Array, "L n"]) -> Float[Array, "L 3"]:
    """Order parameters of n components as vectors in space: those of the plane (n = 2) have z = 0."""
    return jnp.pad(m, ((0, 0), (0, 3 - m.shape[1]))) if m.shape[1] < 3 else m


def turning(omega: Float[Array, "3"], m: Float[Array, "L n"]) -> Float[Array, "L n"]:
    """Omega x m_a, shape (L, n), of a rotation that leaves the n components among themselves."""
    return jnp.cross(omega[None, :], in_space(m))[:, : m.shape[1]]


def closest_rotation(
    m: Float[Array, "L n"], velocity: Float[Array, "L n"], projector: Float[Array, "3 3"] | None = None
) -> tuple[Float[Array, "3"], Bool[Array, ""]]:
    """The rigid rotation that comes closest to a motion,

        Omega = argmin sum_a |dm_a/dt - Omega x m_a|^2,   i.e.  J Omega = sum_a m_a x dm_a/dt,
        J = sum_a (|m_a|^2 - m_a m_a^T).

    Of collinear moments only the rotation across their axis shows; along it Omega is 0.

    **Arguments** `m`: shape (L, n). `velocity`: dm/dt, shape (L, n). `projector`: on the axes about which a rotation is
    allowed, shape (3, 3); default: all.

    **Returns** Omega, in the unit of the velocity, and whether the order parameters are far enough from collinear to
    tell all of it.
    """
    vectors, rates = in_space(m), in_space(velocity)
    squares = jnp.sum(vectors**2)
    ordered = squares > 0
    # Half of trace J, in units of which J and the torque stand here.
    unit = jnp.where(ordered, squares, 1.0)
    torque = jnp.sum(jnp.cross(vectors, rates), axis=0) / unit
    identity = jnp.eye(3, dtype=m.dtype)
    inertia = identity - vectors.T @ vectors / unit
    if projector is not None:
        torque = projector @ torque
        inertia = projector @ inertia @ projector + identity - projector
    rows = tuple(tuple(inertia[i, j] for j in range(3)) for i in range(3))
    inverse, determinant = adjugate(rows)
    # At most 8/27; it vanishes with the square of the tilt where all moments are collinear.
    spread = ordered & (determinant > 0.08 * collinear_tolerance(m.dtype))
    rigid = jnp.stack([jnp.stack(row) for row in inverse]) @ torque / jnp.where(spread, determinant, 1.0)
    omega = jnp.where(spread, rigid, torque)
    return (omega if projector is None else projector @ omega), spread


class LeadingPair(NamedTuple):
    """The first two of several order parameters; of a single one, that one twice. One that vanishes, but for rounding,
    has length 0.

    - `first`, `second`: their lengths. `product`: their scalar product. `area`: |m_0 x m_1|.
    - `normal`: of their plane, a unit vector, shape (3,). Where they span none, of the plane of the first two that do;
      0 where no two do.
    """

    first: Float[Array, ""]
    second: Float[Array, ""]
    product: Float[Array, ""]
    normal: Float[Array, "3"]
    area: Float[Array, ""]

    @property
    def angle(self) -> Float[Array, ""]:
        """Between the two, rad; 0 where one vanishes."""
        ordered = (self.first > 0) & (self.second > 0)
        return jnp.arctan2(jnp.where(ordered, self.area, 0.0), jnp.where(ordered, self.product, 1.0))

    @property
    def cosine(self) -> Float[Array, ""]:
        """Of the angle; 1 where one vanishes."""
        ordered = (self.first > 0) & (self.second > 0)
        return jnp.where(ordered, self.product / jnp.where(ordered, self.first * self.second, 1.0), 1.0)


def leading_pair(m: Float[Array, "L n"]) -> LeadingPair:
    """The pair that phase, angle and chase are told from."""
    vectors = in_space(m)
    square = jnp.sum(vectors**2, axis=1)
    # Of a moment that vanishes rounding leaves a direction, which means nothing.
    there = square > collinear_tolerance(m.dtype) ** 1.5 * jnp.max(square)
    vectors = jnp.where(there[:, None], vectors, 0.0)
    a, b = vectors[0], vectors[min(1, len(vectors) - 1)]
    cross = jnp.cross(a, b)
    area = safe_sqrt(jnp.sum(cross**2))
    lengths = safe_sqrt(jnp.sum(a**2)), safe_sqrt(jnp.sum(b**2))
    across = cross if len(vectors) < 3 else _first_plane(vectors)
    size = safe_sqrt(jnp.sum(across**2))
    return LeadingPair(*lengths, jnp.dot(a, b), across / jnp.where(size > 0, size, 1.0), area)


def _first_plane(vectors: Float[Array, "L 3"]) -> Float[Array, "3"]:
    """m_a x m_b of the first two that are neither parallel nor opposite; of the first two if none are."""
    square = jnp.sum(vectors**2, axis=1)
    # Who is parallel to the first one spans no plane with another that is, too.
    first = jnp.argmax(square > 0)
    crosses = jnp.cross(vectors[first], vectors)
    apart = jnp.sum(crosses**2, axis=1) > collinear_tolerance(vectors.dtype) * square[first] * square
    return crosses[jnp.where(jnp.any(apart), jnp.argmax(apart), jnp.argmax((square > 0).at[first].set(False)))]
