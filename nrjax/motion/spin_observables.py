"""What can be seen of the spins of a lattice, for `simulate_spins(observe=...)`."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def structure_factor(spins: Float[Array, "L X Y Z 3"]) -> Float[Array, "L X Y Z"]:
    """S_a(q) = |sum_i S_a,i exp(-i q R_i)|^2 / N of every layer, q in the order of `numpy.fft.fftfreq` along each axis.

    **Arguments** `spins`: of length 1, shape (L, X, Y, Z, 3). **Returns** N |m_a|^2 at q = 0; 1 on average for
    independent spins.

    **Source** the equal-time structure factor of neutron scattering, without form factors.
    """
    waves = jnp.fft.fftn(spins, axes=(1, 2, 3))
    return jnp.sum(jnp.abs(waves) ** 2, axis=-1) / spins[0, ..., 0].size


def local_chirality(spins: Float[Array, "L X Y Z 3"]) -> Float[Array, "3"]:
    """<S_0 x S_1> over all cells: the normal of the plane in which the first two layers chase each other.

    Its length is that of m_0 x m_1 where the layers are uniform, and larger where they chase in patches.

    **Arguments** `spins`: of two layers or more, shape (L, X, Y, Z, 3).
    """
    return jnp.mean(jnp.cross(spins[0], spins[1]), axis=(0, 1, 2))


def defect_density(spins: Float[Array, "L X Y Z 3"]) -> Float[Array, " L"]:
    """<|Q|> of every layer: how many hedgehogs a cube of eight neighbouring cells holds.

        Q = sum over the faces of Omega/4 pi,   tan(Omega/2) = a.(b x c)/(1 + a.b + b.c + c.a)  for each half of a face,

    the solid angle that the spins a, b, c span. Q is a whole number, but for rounding: +-1 where the spins around a
    point show every direction once, 0 where they hardly turn.

    **Arguments** `spins`: of length 1, shape (L, X, Y, Z, 3), two cells or more along each axis. Cubes across a
    periodic end are left out.

    **Returns** shape (L,), per cube.

    **Raises** `ValueError` for fewer cells: in a plane there are no hedgehogs.

    **Source** Berg, Luescher, Nuclear Physics B 190 (1981) 412; Lau, Dasgupta, Physical Review B 39 (1989) 7212.
    """
    if min(spins.shape[1:4]) < 2:
        raise ValueError(f"spins on {spins.shape[1:4]} cells: hedgehogs need two cells or more along each axis.")
    charge = jnp.zeros((), spins.dtype)
    for axis in (1, 2, 3):
        # Both ways across a face of this normal, in right-handed order.
        across, up = axis % 3 + 1, (axis + 1) % 3 + 1

        def corner(i: int, j: int, across: int = across, up: int = up) -> Array:
            """The spins at one corner of all faces."""
            some = jax.lax.slice_in_dim(spins, i, spins.shape[across] - 1 + i, axis=across)
            return jax.lax.slice_in_dim(some, j, spins.shape[up] - 1 + j, axis=up)

        a, b, c, d = corner(0, 0), corner(1, 0), corner(1, 1), corner(0, 1)
        flux = (_solid_angle(a, b, c) + _solid_angle(a, c, d)) / (4.0 * jnp.pi)
        charge = charge + jnp.diff(flux, axis=axis)
    return jnp.mean(jnp.abs(charge), axis=(1, 2, 3))


def _solid_angle(a: Array, b: Array, c: Array) -> Array:
    """Of the spherical triangle, between -2 pi and 2 pi."""

    def dot(x: Array, y: Array) -> Array:
        return jnp.sum(x * y, axis=-1)

    return 2.0 * jnp.arctan2(dot(a, jnp.cross(b, c)), 1.0 + dot(a, b) + dot(b, c) + dot(c, a))
