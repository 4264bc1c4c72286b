"""What can be seen of the spins of a lattice, for `simulate_spins(observe=...)`."""

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
