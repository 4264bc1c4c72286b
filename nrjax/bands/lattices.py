"""Conduction bands: tight-binding lattices, their dispersion and their hopping matrix."""

import math
from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._numerics.validation import Number, float_array, require_finite


class Lattice(eqx.Module):
    """A periodic lattice with hopping between nearest neighbours,

        H = -sum_(i, axis) t_axis (c+_(i + axis) c_i + h.c.),   eps_k = -2 sum_axis t_axis cos k_axis.

    Make one with `Lattice.chain`, `square`, `cubic` or `layered`.

    - `hopping`: t along each axis, meV, shape (d,).
    - `shape`: sites along each axis.
    """

    hopping: Float[Array, " d"]
    shape: tuple[int, ...] = eqx.field(static=True)

    def __init__(self, hopping: Sequence[Number], shape: tuple[int, ...]):
        self.hopping = jnp.stack([float_array("hopping", t, ()) for t in hopping])
        self.shape = shape

    def __check_init__(self) -> None:
        require_finite("hopping", self.hopping)
        if len(self.shape) != self.hopping.shape[0] or not all(isinstance(n, int) and n >= 3 for n in self.shape):
            raise ValueError(
                f"shape = {self.shape} is out of range: it must be {self.hopping.shape[0]} whole numbers, 3 or greater "
                "(sites along each axis)."
            )

    @classmethod
    def chain(cls, sites: int, hopping: Number) -> "Lattice":
        """A ring of `sites` sites; hopping in meV."""
        return cls((hopping,), (sites,))

    @classmethod
    def square(cls, sites: int, hopping: Number) -> "Lattice":
        """A square lattice of `sites` x `sites` sites; hopping in meV."""
        return cls((hopping,) * 2, (sites,) * 2)

    @classmethod
    def cubic(cls, sites: int, hopping: Number) -> "Lattice":
        """A simple cubic lattice of `sites` sites along each axis; hopping in meV."""
        return cls((hopping,) * 3, (sites,) * 3)

    @classmethod
    def layered(cls, sites: int, layers: int, hopping: Number, hopping_across: Number) -> "Lattice":
        """`layers` square layers of `sites` x `sites` sites, stacked along the last axis; both hoppings in meV."""
        return cls((hopping, hopping, hopping_across), (sites, sites, layers))

    @property
    def sites(self) -> int:
        """The number of sites."""
        return math.prod(self.shape)

    def energies(self) -> Float[Array, "..."]:
        """eps_k in meV on the grid of wave vectors k = 2 pi n / N, of shape `shape`."""
        total = jnp.zeros(self.shape, self.hopping.dtype)
        for axis, n in enumerate(self.shape):
            k = 2.0 * jnp.pi / n * jnp.arange(n, dtype=self.hopping.dtype)
            band = -2.0 * self.hopping[axis] * jnp.cos(k)
            total = total + band.reshape([n if i == axis else 1 for i in range(len(self.shape))])
        return total

    def hopping_matrix(self) -> Float[Array, "n n"]:
        """H between sites in meV; site (x, y, ...) has the number of its C order."""
        index = np.arange(self.sites).reshape(self.shape)
        matrix = jnp.zeros((self.sites, self.sites), self.hopping.dtype)
        for axis in range(len(self.shape)):
            neighbour = np.roll(index, -1, axis).ravel()
            matrix = matrix.at[neighbour, index.ravel()].add(-self.hopping[axis])
            matrix = matrix.at[index.ravel(), neighbour].add(-self.hopping[axis])
        return matrix
