"""Rigid rotation of order parameters, and the first two of them, which tell phase and angle."""

import functools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .._numerics.precision import collinear_tolerance
from .._numerics.small_matrices import adjugate, safe_sqrt, solve
from .._numerics.vectors import Vector, cross, dot, short_sum, times


def in_space(m: Float[Array, "L n"]) -> Float[Array, "L 3"]:
    """Order parameters of n components as vectors in space: those of the plane (n = 2) have z = 0."""
    return jnp.pad(m, ((0, 0), (0, 3 - m.shape[1]))) if m.shape[1] < 3 else m


def turning(omega: Float[Array, "3"], m: Float[Array, "L n"]) -> Float[Array, "L n"]:
    """Omega x m_a, shape (L, n), of a rotation that leaves the n components among themselves."""
    return jnp.stack(cross(omega, in_space(m).T)[: m.shape[1]], axis=1)


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
    omega, spread = rotation_among([tuple(in_space(m).T)], [tuple(in_space(velocity).T)], projector)
    return jnp.stack(omega), spread


def rotation_among(
    moments: Sequence[Vector], rates: Sequence[Vector], projector: Float[Array, "3 3"] | None = None
) -> tuple[Vector, Bool[Array, ""]]:
    """`closest_rotation` of vectors by components, each a scalar (one layer) or an array over layers."""

    def total(values: Iterable[Array]) -> Array:
        return functools.reduce(jnp.add, (short_sum(x) if x.ndim else x for x in values))

    squares = total(dot(m, m) for m in moments)
    ordered = squares > 0
    # Half of trace J, in units of which J and the torque stand here.
    unit = jnp.where(ordered, squares, 1.0)
    crosses = [cross(m, v) for m, v in zip(moments, rates, strict=True)]
    x, y, z = (total(t[i] for t in crosses) / unit for i in range(3))
    torque = x, y, z

    def entry(i: int, k: int) -> Array:
        return float(i == k) - total(m[i] * m[k] for m in moments) / unit

    inertia = tuple(tuple(entry(i, k) for k in range(3)) for i in range(3))
    if projector is not None:
        torque = times(projector, torque)
        columns = [times(projector, column) for column in zip(*inertia, strict=True)]
        rows = [times(projector, row) for row in zip(*columns, strict=True)]
        # The inertia among allowed axes, and 1 for the others.
        inertia = tuple(tuple(float(i == k) - projector[i, k] + rows[i][k] for k in range(3)) for i in range(3))
    inverse, determinant = adjugate(inertia)
    # At most 8/27; it vanishes with the square of the tilt where all moments are collinear.
    spread = ordered & (determinant > 0.08 * collinear_tolerance(squares.dtype))
    rigid = solve((inverse, jnp.where(spread, determinant, 1.0)), torque)
    x, y, z = (jnp.where(spread, a, b) for a, b in zip(rigid, torque, strict=True))
    return (x, y, z) if projector is None else times(projector, (x, y, z)), spread


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
    normal = jnp.cross(a, b)
    area = safe_sqrt(jnp.sum(normal**2))
    lengths = safe_sqrt(jnp.sum(a**2)), safe_sqrt(jnp.sum(b**2))
    across = normal if len(vectors) < 3 else _first_plane(vectors)
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
