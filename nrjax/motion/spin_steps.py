"""One step in time of many single spins, by rotations alone: |S| = 1 whatever happens.

llg: the drift by the midpoint rule of rotations, and a random kick, exact in the mean to second order in the step. The
splitting is of weak order 2. collision: precession about fields at the middle of the step, and new directions.
"""

from typing import Any, Final

import jax.numpy as jnp
from jaxtyping import Array, Float, UInt

from .._numerics.random_words import random_words
from .._numerics.vectors import Vector, cross, dot, scaled
from ..magnets.baths import reduced_coth
from ..magnets.spin_lattice import SpinLattice, Spins

# Of three throws of a die; and the words of a vector of the processor, or several.
OUTCOMES: Final = 6**3
WHOLE: Final = 64
# Newton's steps from an approximation of the inverse Langevin function that is right to a part in 300.
INVERSE_STEPS: Final = 3
# A drive closer to the rate than this is as good as beyond it.
LARGEST_MEAN: Final = 1.0 - 1e-6


def turned(spin: Vector, by: Vector) -> Vector:
    """A spin turned by a rotation vector (angle times axis), of less than a radian or so.

    By the Cayley transform of tan(angle/2), whose series is cut where a radian is off by 2e-4: a rotation to rounding.
    """
    x, y, z = by
    square = x * x + y * y + z * z
    stretch = 0.5 + square * (1.0 / 24.0 + square * (1.0 / 240.0 + square * (17.0 / 40320.0)))
    half = x * stretch, y * stretch, z * stretch
    across = cross(half, spin)
    further = cross(half, across)
    whole = 1.0 + square * (stretch * stretch)
    # Divided last: XLA keeps the result of a division, and would compute sums anew for every neighbour.
    return (
        (whole * spin[0] + 2.0 * (across[0] + further[0])) / whole,
        (whole * spin[1] + 2.0 * (across[1] + further[1])) / whole,
        (whole * spin[2] + 2.0 * (across[2] + further[2])) / whole,
    )


def random_outcomes(key: Array, count: int) -> UInt[Array, " count"]:
    """Which of the `OUTCOMES` of three throws of a die, for so many spins: a random word for each, modulo 216.

    (There is no multiple of 216 words: probabilities are off by 1e-8.)
    """
    # An even number of words and of those of a vector: of an odd one XLA computes one after the other, in one thread.
    whole = -(-count // WHOLE) * WHOLE
    return (random_words(key, whole) % OUTCOMES)[:count]


def three_points(outcomes: UInt[Array, "..."], dtype: Any) -> Vector:
    """Three independent numbers 0, +-sqrt 3 with probabilities 2/3, 1/6, 1/6: the moments of Gaussian noise up to the
    fifth."""
    # By multiplication, exact below 216 and below 36: XLA takes a division through memory, once for each of the three.
    up = (outcomes * jnp.uint32(57)) >> jnp.uint32(11)
    rest = outcomes - jnp.uint32(36) * up
    middle = (rest * jnp.uint32(43)) >> jnp.uint32(8)
    size = jnp.asarray(3.0**0.5, dtype)

    def number(digit: Array) -> Array:
        return jnp.where(digit == 0, -size, jnp.where(digit == 1, size, jnp.zeros_like(size)))

    return number(rest - jnp.uint32(6) * middle), number(middle), number(up)


def kick_size(diffusion: Array, dt: Array) -> Array:
    """sigma of a kick, the standard deviation of its rotation vector's components: <Y_l> decays by
    exp(-l (l + 1) D dt), up to terms of dt^3."""
    sigma_squared = 2.0 * diffusion * dt
    return jnp.sqrt(sigma_squared) * (1.0 - sigma_squared / 24.0)


def kicked(spin: Vector, sigma: Array, outcomes: UInt[Array, "..."]) -> Vector:
    """A spin turned about a random axis."""
    return turned(spin, scaled(sigma, three_points(outcomes, spin[0].dtype)))


def all_kicked(lattice: SpinLattice, spins: Spins, sigma: Array, key: Array) -> list[Vector]:
    """Free diffusion of all spins on the sphere; sigma of shape (L,)."""
    # Counted in one row: XLA would compute the count along each axis in a kernel of its own.
    outcomes = random_outcomes(key, lattice.layers * lattice.spins).reshape(lattice.layers, *lattice.cells)
    return [kicked(spin, sigma[a], outcomes[a]) for a, spin in enumerate(spins)]


def llg_drift(lattice: SpinLattice, spins: Spins, dt: Array, light: Any = None) -> list[Vector]:
    """The rotation vectors -(gyro h + u x S) dt."""
    found = []
    for spin, (field, drive) in zip(lattice.beside(spins), lattice.fields(spins, light), strict=True):
        torque = cross(drive, spin)
        x, y, z = (
            -(dt * (lattice.magnet.gyro * h + lattice.llg_factor * t)) for h, t in zip(field, torque, strict=True)
        )
        found.append((x, y, z))
    return found


def llg_step(
    lattice: SpinLattice, spins: Spins, light: Any, dt: Float[Array, ""], sigma: Float[Array, " L"], key: Array
) -> tuple[list[Vector], Array]:
    """A drift of the time dt and a kick. Returns the spins, and that nothing was out of range.

    In this order, since a kick needs no neighbours: on a GPU it is part of the kernel that ends the drift.
    """
    begin = llg_drift(lattice, spins, dt, light)
    middle = [turned(spin, scaled(0.5, by)) for spin, by in zip(lattice.beside(spins), begin, strict=True)]
    drifted = list(map(turned, spins, llg_drift(lattice, middle, dt, light)))
    return all_kicked(lattice, drifted, sigma, key), jnp.asarray(True)


def collision_step(
    lattice: SpinLattice, spins: Spins, light: Any, dt: Float[Array, ""], sigma: Float[Array, " L"], key: Array
) -> tuple[list[Vector], Array]:
    """Half a step to where the fields are taken, and the whole one. Returns the spins, and whether |u| < r held.

    Both with the same random words: what has happened by the middle belongs to what happens in the whole step, so that
    spins see what their neighbours do and not what they might have done.
    """
    del sigma
    words = random_words(key, 3 * lattice.layers * lattice.spins).reshape(lattice.layers, 3, *lattice.cells)
    middle, before = _collided(lattice, spins, lattice.fields(spins, light), 0.5 * dt, words)
    after, held = _collided(lattice, spins, lattice.fields(middle, light), dt, words)
    return after, before & held


def _collided(
    lattice: SpinLattice, spins: Spins, fields: list[tuple[Vector, Vector]], dt: Array, words: Array
) -> tuple[list[Vector], Array]:
    """Precession for half the time, collisions, precession for the other half, in given fields."""
    magnet, loss, held = lattice.magnet, lattice.loss(), jnp.asarray(True)
    after = []
    for a, (spin, (field, drive)) in enumerate(zip(spins, fields, strict=True)):
        x, y, z = (-0.5 * dt * magnet.gyro * h for h in field)
        rate = 2.0 * magnet.damping[a] * magnet.bath.relaxation_rate(dot(field, field), magnet.temperature[a]) + loss[a]
        rate = jnp.maximum(rate, jnp.finfo(rate.dtype).tiny)
        mean = drive[0] / rate, drive[1] / rate, drive[2] / rate
        held = held & jnp.all(dot(mean, mean) < LARGEST_MEAN**2)
        happens = uniform(words[a, 0], rate.dtype) < -jnp.expm1(-rate * dt)
        fresh = drawn(mean, words[a, 1], words[a, 2])
        before = turned(spin, (x, y, z))
        u, v, w = (jnp.where(happens, new, old) for new, old in zip(fresh, before, strict=True))
        after.append(turned((u, v, w), (x, y, z)))
    return after, held


def uniform(words: UInt[Array, "..."], dtype: Any) -> Float[Array, "..."]:
    """Numbers between 0 and 1, the ends left out, from random words."""
    bits = min(32, jnp.finfo(dtype).nmant)
    return ((words >> (32 - bits)).astype(dtype) + 0.5) * (0.5**bits)


def drawn(mean: Vector, first: UInt[Array, "..."], second: UInt[Array, "..."]) -> Vector:
    """Directions S of density exp(kappa e . S) on the sphere with a given mean, |mean| < 1, from two random words."""
    dtype, square = mean[0].dtype, dot(mean, mean)
    some = square > 0
    size = jnp.sqrt(jnp.where(some, square, 1.0))
    ex, ey, ez = mean[0] / size, mean[1] / size, jnp.where(some, mean[2], 1.0) / size
    length = jnp.where(some, jnp.minimum(size, LARGEST_MEAN), 0.0)
    kappa = inverse_langevin(length)
    along = _cosine(kappa, uniform(first, dtype))
    turn = 2.0 * jnp.pi * uniform(second, dtype)
    across = jnp.sqrt(jnp.maximum(1.0 - along * along, 0.0))
    c, s = across * jnp.cos(turn), across * jnp.sin(turn)
    # Two directions across the axis (Duff et al., Journal of Computer Graphics Techniques 6 (2017) 1).
    sign = jnp.where(ez < 0, -1.0, 1.0).astype(dtype)
    a = -1.0 / (sign + ez)
    b = ex * ey * a
    x = along * ex + c * (1.0 + sign * ex * ex * a) + s * b
    y = along * ey + c * sign * b + s * (sign + ey * ey * a)
    z = along * ez - c * sign * ex - s * ey
    return x, y, z


def _cosine(kappa: Array, u: Array) -> Array:
    """cos of the angle to the axis at which the share u of the density exp(kappa cos) has been passed from below."""
    safe = jnp.maximum(kappa, 1e-3)
    exact = 1.0 + jnp.log1p((1.0 - u) * jnp.expm1(-2.0 * safe)) / safe
    # Uniform to first order in kappa.
    weak = 2.0 * u - 1.0 + 2.0 * kappa * u * (1.0 - u)
    return jnp.clip(jnp.where(kappa < 1e-3, weak, exact), -1.0, 1.0)


def inverse_langevin(length: Float[Array, "..."]) -> Float[Array, "..."]:
    """kappa with coth kappa - 1/kappa = length, 0 <= length < 1.

    Newton's method from the approximation of Kroeger, Journal of Non-Newtonian Fluid Mechanics 223 (2015) 77.
    """
    y = length * length
    kappa = length * (3.0 - y * (6.0 + y - 2.0 * y * y) / 5.0) / (1.0 - y)
    for _ in range(INVERSE_STEPS):
        q = reduced_coth(kappa * kappa)
        value = kappa * q
        slope = 1.0 - value * value - 2.0 * q
        kappa = kappa + (length - value) / slope
    return kappa
