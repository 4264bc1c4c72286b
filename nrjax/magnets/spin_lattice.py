"""Single classical spins on a lattice: the layers of a magnet resolved in space and in noise."""

from collections.abc import Sequence
from typing import Any, Final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._numerics.validation import Number, float_array, require_positive
from .._numerics.vectors import Vector, combined, plus, scaled
from .baths import ClassicalBath
from .biaxial_anisotropy import BiaxialAnisotropy
from .field_terms import UniaxialAnisotropy, Zeeman, strongest_field
from .layers import LayeredMagnet
from .neighbours import AbstractNeighbours, AllToAll, Box, Cells, Shells

DYNAMICS: Final = ("llg", "collision")
# For every layer (x, y, z), each over the cells: operations of the same spin then meet in one loop.
Spins = Sequence[Vector]

# What acts on one spin by itself.
ONE_SITE: Final = (Zeeman, UniaxialAnisotropy, BiaxialAnisotropy)


class SpinLattice(eqx.Module):
    """Classical spins |S_i| = 1, one of each layer in every cell of a lattice. With s_b the mean spin of layer b around
    a site (see `AbstractNeighbours`),

        h_i = sum_b j_ab s_b + B_a + K_a (S_i . e) e,    p_i = sum_b Lambda_ab s_b  (the light's push),

    and one of two kinds of noise:

        llg         dS = S x [(gyro h + u x S) dt + sqrt(2 D) o dW],   u = c (2 alpha h + p),  D = c 2 alpha T + loss/2;
        collision   at the rate r = 2 alpha phi(h) + loss a spin takes a new direction at random, of density
                    exp(kappa e . S) with mean u/r, u = 2 alpha h + p; between, dS/dt = gyro S x h.

    In darkness both have the equilibrium exp(-H/T). With all-to-all exchange and infinitely many cells, llg is a
    `FokkerPlanckMagnet` and collision the `LayeredMagnet` itself; uniform spins of any lattice feel its fields.

    **Arguments**

    - `magnet`: a `LayeredMagnet` with a `ClassicalBath`; field and anisotropy act on every spin by itself (single-ion
      anisotropy: of a layer of many spins it makes more than the layer's own K m). Light at its full intensity.
    - `cells`: numbers of cells (X, Y, Z).
    - `neighbours`: which spins see which: `AllToAll` (the default), `Box`, `Shells` of a Bravais lattice, `Matrix`.
    - `dynamics`: "llg" or "collision" (which goes without anisotropy).
    - `llg_factor`: c of llg; 3/2 agrees with the layers for small moments, 1 is the usual convention.

    **Raises** `ValueError` for magnets, cells and neighbours that do not fit.

    **Source** docs/physics.md, "Single spins".
    """

    magnet: LayeredMagnet
    llg_factor: Float[Array, ""]
    neighbours: AbstractNeighbours
    cells: Cells = eqx.field(static=True)
    dynamics: str = eqx.field(static=True)

    def __init__(
        self,
        magnet: LayeredMagnet,
        cells: Sequence[int],
        neighbours: AbstractNeighbours | None = None,
        *,
        dynamics: str = "llg",
        llg_factor: Number = 1.5,
    ):
        if not isinstance(magnet.bath, ClassicalBath):
            raise ValueError(
                f"the bath is a {type(magnet.bath).__name__}: single spins are classical. Take bath=ClassicalBath()."
            )
        if dynamics not in DYNAMICS:
            raise ValueError(f"dynamics = {dynamics!r} is unknown. Take one of {', '.join(DYNAMICS)}.")
        for term in magnet.field_terms:
            if not isinstance(term, ONE_SITE):
                raise ValueError(
                    f"{type(term).__name__} acts between layers, where a lattice has only the exchange. Leave it out."
                )
            if dynamics == "collision" and not isinstance(term, Zeeman):
                raise ValueError(
                    f"{type(term).__name__} depends on the spin's own direction, which a collision forgets: the "
                    "equilibrium would not be Boltzmann's. Take dynamics='llg', or leave it out."
                )
        if magnet.light.precession(magnet.exchange) is not None:
            raise ValueError(f"{type(magnet.light).__name__} turns moments about each other, which spins do not here.")
        if len(cells) != 3 or not all(int(n) == n and n >= 1 for n in cells):
            raise ValueError(f"cells = {cells}: give the numbers of cells along x, y and z, each 1 or more.")
        factor = float_array("llg_factor", llg_factor, shape=(), dtype=magnet.dtype)
        x, y, z = map(int, cells)
        neighbours = AllToAll() if neighbours is None else neighbours
        neighbours.check(magnet.layers, (x, y, z))
        self.magnet, self.llg_factor, self.neighbours = magnet.plateau(), factor, neighbours
        self.cells, self.dynamics = (x, y, z), dynamics

    def __check_init__(self) -> None:
        require_positive("llg_factor", self.llg_factor, "3/2 agrees with the layers.")

    @classmethod
    def from_layers(
        cls,
        magnet: LayeredMagnet,
        cells: Sequence[int],
        *,
        reach: str | int = "all",
        dynamics: str = "llg",
        llg_factor: Number = 1.5,
    ) -> "SpinLattice":
        """A periodic lattice whose uniform states feel the fields of the layers.

        **Arguments** `reach`: "all", every spin sees all; "nearest", the nearest neighbours on a lattice whose layers
        lie along the diagonal of a cube (one layer: simple cubic, two: CsCl); or cells along each axis, a `Box`. The
        others as in the class docstring.

        **Raises** `ValueError` as the class does, and for another reach.
        """
        if reach == "all":
            neighbours: AbstractNeighbours = AllToAll()
        elif reach == "nearest":
            neighbours = Shells(magnet.layers)
        elif isinstance(reach, int) and reach >= 1:
            neighbours = Box(reach)
        else:
            raise ValueError(f"reach = {reach!r}: give 'all', 'nearest', or a number of cells, 1 or more.")
        return cls(magnet, cells, neighbours, dynamics=dynamics, llg_factor=llg_factor)

    @property
    def layers(self) -> int:
        """L."""
        return self.magnet.layers

    @property
    def spins(self) -> int:
        """N, in each layer."""
        return int(np.prod(self.cells))

    @property
    def dtype(self) -> Any:
        """The floating-point type."""
        return self.magnet.dtype

    def fields(self, spins: Spins, light: Any = None) -> list[tuple[Vector, Vector]]:
        """For every layer (h, u without c) at its sites, in meV: the effective field, and 2 alpha h + p.

        What a spin would do to itself through the exchange is left out where it counts, in a collision. `light`: the
        magnet's `light_push()`, for loops that know it already.
        """
        magnet, (push, _, factor) = self.magnet, self.magnet.light_push() if light is None else light
        found, same = [], self._means(0, spins) if self.neighbours.are_alike else None
        for a in range(self.layers):
            around = self._means(a, spins) if same is None else list(same)
            if self.dynamics == "collision":
                around[a] = plus(around[a], scaled(-self.neighbours.own_share(self.cells), spins[a]))
            exchange = combined(magnet.exchange[a], around)
            pushed = combined(push[a], around) if factor is None else scaled(factor[a], exchange)
            field = exchange
            for term in magnet.field_terms:
                field = plus(field, term.layer_field(a, spins))
            # Not by 2 alpha, which a GPU would compute in a kernel of its own.
            twice = scaled(2.0, scaled(magnet.damping[a], field))
            found.append((field, plus(twice, pushed)))
        return found

    def beside(self, spins: Spins) -> list[Vector]:
        """The same spins, from where `fields` reads those around them."""
        read = self.neighbours.beside
        return [(read(x, a), read(y, a), read(z, a)) for a, (x, y, z) in enumerate(spins)]

    def _means(self, a: int, spins: Spins) -> list[Vector]:
        """The mean spin of every layer around the sites of layer a."""
        means = []
        for b, (x, y, z) in enumerate(spins):
            means.append((self.neighbours.mean(x, a, b), self.neighbours.mean(y, a, b), self.neighbours.mean(z, a, b)))
        return means

    def diffusion(self) -> Float[Array, " L"]:
        """D_a = c 2 alpha_a T_a + loss_a/2 in meV, of llg."""
        return 2.0 * self.llg_factor * self.magnet.damping * self.magnet.temperature + 0.5 * self.loss()

    def loss(self) -> Float[Array, " L"]:
        """The light's loss_a in meV."""
        return self.magnet.light_torque()[1]

    def fastest_rate(self) -> Float[Array, ""]:
        """The most that a spin can turn in the fields of all others, |gyro| h + c (2 alpha h + p), in meV."""
        push, _ = self.magnet.light_torque()
        reach, _ = self._sizes()
        field = jnp.sum(jnp.abs(self.magnet.exchange) * reach, axis=1)
        field = field + strongest_field(self.magnet.field_terms, self.layers, self.dtype)
        drive = 2.0 * self.magnet.damping * field + jnp.sum(jnp.abs(push) * reach, axis=1)
        factor = self.llg_factor if self.dynamics == "llg" else 1.0
        return jnp.max(jnp.abs(self.magnet.gyro) * field + factor * drive)

    def forgetting(self) -> Float[Array, ""]:
        """How fast spins relax over how fast they turn about each other as single partners do,

            (2 alpha_a h_a + loss_a) / (gyro h_a s_a),   h_a = sum_b |j_ab|,   s_a = sum_b j_ab^2 v_ab^2 / h_a^2,

        the least of all layers; without unit, infinite where nothing turns. s_a is 1 for a single partner, and 1/z for
        z neighbours, whose mean stands still.
        """
        magnet, (reach, squares) = self.magnet, self._sizes()
        exchange = jnp.sum(jnp.abs(magnet.exchange) * reach, axis=1)
        turning = jnp.abs(magnet.gyro) * jnp.sum(magnet.exchange**2 * squares, axis=1)
        relaxing = (2.0 * magnet.damping * exchange + self.loss()) * exchange
        return jnp.min(jnp.where(turning > 0, relaxing / jnp.where(turning > 0, turning, 1.0), jnp.inf))

    def _sizes(self) -> tuple[Float[Array, "L L"], Float[Array, "L L"]]:
        """sum |v_ab| and sum v_ab^2 of all pairs of layers."""
        pairs = [[self.neighbours.sizes(a, b, self.cells) for b in range(self.layers)] for a in range(self.layers)]
        first, second = (
            jnp.stack([jnp.stack([jnp.asarray(pair[i], self.dtype) for pair in row]) for row in pairs]) for i in (0, 1)
        )
        return first, second
