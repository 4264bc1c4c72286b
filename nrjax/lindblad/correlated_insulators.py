"""Insulators in which light takes electrons from virtual states: Hubbard clusters, and a pair with Hund's rule."""

import abc
import functools
import itertools
from typing import Any, Final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from .._numerics.hermitian_matrices import hermitian
from .._numerics.small_matrices import safe_sqrt
from .._numerics.validation import (
    Number,
    Numbers,
    float_array,
    is_concrete,
    require_finite,
    require_nonnegative,
    require_positive,
)
from ..bands.lattices import Lattice
from ..light.hopping_light import HundLight, MottLight
from .elimination import EffectiveLindbladian, project
from .fermions import Space, Sparse, annihilator, density, double_occupation, fermion_spin, identity, total
from .generator import Generator
from .models import AbstractLindbladModel
from .operators import Pairs, all_pairs_of, band, hopping_parameters, zeeman
from .reservoir import Reservoir

REFILLS: Final = ("none", "unpolarized", "return")
# What keeps a second electron out of an orbital that has none to spare, in units of the largest energy.
FORBIDDEN: Final = 50.0


class AbstractInsulator(AbstractLindbladModel):
    """A model all of whose electrons sit on its orbitals: there is no band beside them, and no laser that is known."""

    @property
    def light_indices(self) -> tuple[int, ...]:
        """Those of the losses."""
        return self.loss_indices

    @property
    def driving_laser(self) -> None:
        """None."""
        return None

    @property
    def has_band(self) -> bool:
        """False."""
        return False

    @property
    def modes_of_each(self) -> int:
        """Two: an orbital with spin."""
        return 2

    def jump_bases(self) -> list[Sparse]:
        """All jump operators at the rate 1."""
        return [a for channel in self.generator.jumps for _, a, _ in channel]

    def jump_weights(self, theta: Float[Array, " parameters"]) -> Complex[Array, "jumps bases"]:
        """The square roots of their rates, on the diagonal."""
        split = len(self.generator.hamiltonian)
        rates = [theta[split + p] for p, channel in enumerate(self.generator.jumps) for _ in channel]
        roots = safe_sqrt(jnp.stack(rates))
        return jnp.diag(jax.lax.complex(roots, jnp.zeros_like(roots)))

    @abc.abstractmethod
    def spin_states(self) -> np.ndarray:
        """The basis states that are not virtual, as a mask of shape (n,)."""

    def project(self) -> EffectiveLindbladian:
        """What spins (and holes) see of the virtual states, to second order in the hopping: `lindblad.project`."""
        return project(self.hamiltonian(), list(self.jump_operators()), self.spin_states())


class HubbardModel(AbstractInsulator):
    """A Hubbard cluster whose doublons light empties:

        H = sum h_ij c+_is c_js + sum_a U_a n_a,up n_a,dn - 2 B.s,   jump operators sqrt(kappa_a) c_as n_a,-s.

    Every site is an "impurity" of the observables: `impurity_spin` S_a, `doublon`, `light_torque`, `light_current`.

    **Arguments**

    - `hopping`: h in meV, Hermitian, shape (n, n), site energies on its diagonal; or a `Lattice`.
    - `repulsion`: U in meV, of all sites or shape (n,).
    - `pump_rate`: kappa in meV, shape (n,): at which light takes each electron of a doublon; 0 where no light falls.
    - `refill`: what becomes of the hole. "none"; "unpolarized": electrons of either spin come back at `refill_rate`,
      sqrt(rate/2) c+_as where no doublon is; "return": instead of leaving, the electron falls into an empty site,
      sqrt(kappa_a) sum_s c+_bs c_as on a doublon at a and a hole at b.
    - `refill_rate`: meV, of "unpolarized".
    - `field`: B in meV, shape (3,).

    **Raises** `ValueError` for numbers out of range.

    Sites between which the given matrix is 0 have no operators, which spares work. To differentiate with respect
    to a hopping that is 0, build the model inside the function: nothing is known of it there.

    All three refills give spins the same torques. Sites that are all parallel have no doublons and see no light: more
    than one state is stationary.

    **Source** docs/physics.md, "Light in other materials".
    """

    hopping: Array
    repulsion: Float[Array, " n"]
    pump_rate: Float[Array, " n"]
    refill_rate: Float[Array, ""]
    field: Float[Array, "3"] | None
    reservoir: Reservoir | None
    refill: str = eqx.field(static=True)
    sites: tuple[int, ...] = eqx.field(static=True)
    bonds: Pairs = eqx.field(static=True)

    def __init__(
        self,
        hopping: Lattice | Numbers,
        repulsion: Numbers,
        pump_rate: Numbers,
        *,
        refill: str = "none",
        refill_rate: Number = 0.0,
        field: Numbers | None = None,
    ):
        self.hopping = hopping.hopping_matrix() if isinstance(hopping, Lattice) else hermitian(hopping)
        n = self.hopping.shape[0]
        self.repulsion = float_array("repulsion", repulsion, (n,))
        self.pump_rate = float_array("pump_rate", pump_rate, (n,))
        self.refill_rate = float_array("refill_rate", refill_rate, ())
        self.field = None if field is None else float_array("field", field, (3,))
        self.reservoir = None
        self.refill = refill
        self.sites = tuple(range(n))
        self.bonds = _bonds(hopping, n)

    def __check_init__(self) -> None:
        require_finite("repulsion", self.repulsion)
        require_nonnegative("pump_rate", self.pump_rate, "It is a rate in meV.")
        require_nonnegative("refill_rate", self.refill_rate, "It is a rate in meV.")
        if self.refill not in REFILLS:
            raise ValueError(f"refill = {self.refill!r} is unknown: take {', '.join(map(repr, REFILLS))}.")

    @property
    def impurity_modes(self) -> tuple[int, ...]:
        """Those of all sites."""
        return tuple(2 * a for a in self.sites)

    @property
    def generator(self) -> Generator:
        """The fixed operators."""
        n = self.hopping.shape[0]
        if is_concrete(self.hopping):
            i, j = np.nonzero(np.triu(np.asarray(self.hopping), 1))
            new = set(zip(i.tolist(), j.tolist(), strict=True)) - set(self.bonds)
            if new:
                raise ValueError(
                    f"hopping was 0 between the sites {sorted(new)} when the model was built. Build it anew."
                )
        return _hubbard_generator(n, jnp.iscomplexobj(self.hopping), self.field is not None, self.refill, self.bonds)

    def fixed_parameters(self) -> Float[Array, " parameters"]:
        """theta in meV; 0 for kappa."""
        parts = [hopping_parameters(self.hopping, self.bonds), self.repulsion]
        parts += [] if self.field is None else [-2.0 * self.field]
        parts += [jnp.zeros_like(self.pump_rate)]
        return jnp.concatenate(parts + ([0.5 * self.refill_rate[None]] if self.refill == "unpolarized" else []))

    def light_values(self, t: Number) -> Float[Array, " n"]:
        """kappa of every site, whatever the time."""
        return self.pump_rate

    def spin_states(self) -> np.ndarray:
        """Those without doublons."""
        doubles = np.stack([double_occupation(self.space, m).diagonal() for m in self.impurity_modes])
        return doubles.sum(axis=0) < 0.5

    def light(self) -> MottLight:
        """What the light does to layers made of these sites, one site in a layer: Gamma_ab = kappa_b |h_ab|^2/(D_ab^2 +
        kappa_b^2) and the same with a and b exchanged, D_ab = U_b + h_bb - h_aa the cost of a doublon at b."""
        level = jnp.real(jnp.diagonal(self.hopping))
        cost = self.repulsion[None, :] + level[None, :] - level[:, None]
        kappa = self.pump_rate[None, :]
        one = jnp.eye(len(self.sites), dtype=level.dtype)
        # No site hops to itself, whatever its energy.
        each = jnp.abs(self.hopping) ** 2 * (1.0 - one) * kappa / (cost**2 + kappa**2 + one)
        return MottLight(each + each.T)


def _bonds(hopping: Any, n: int) -> Pairs:
    """The pairs of sites i <= j that a hopping matrix joins as far as it is known, i = j included."""
    if isinstance(hopping, Lattice):
        with jax.ensure_compile_time_eval():
            hopping = Lattice([1.0] * len(hopping.shape), hopping.shape).hopping_matrix()
    if not is_concrete(*jax.tree.leaves(hopping)):
        return all_pairs_of(n)
    matrix = np.asarray(hopping)
    return tuple((i, j) for i, j in all_pairs_of(n) if i == j or matrix[i, j] != 0)


@functools.lru_cache(maxsize=32)
def _hubbard_generator(n: int, complex_hopping: bool, field: bool, refill: str, bonds: Pairs) -> Generator:
    """The fixed operators of a Hubbard cluster, in the order of its parameters."""
    space = Space(0, 2 * n)
    modes = tuple(2 * i for i in range(n))
    doubles = [double_occupation(space, mode) for mode in modes]
    operators = [*band(space, modes, complex_hopping, bonds), *doubles]
    if field:
        operators += zeeman(space, [], modes)
    one = identity(space)
    # (1 - n_up)(1 - n_dn)
    holes = [total([one, -1.0 * density(space, m), d]) for m, d in zip(modes, doubles, strict=True)]
    c = [[annihilator(space, m + s) for s in range(2)] for m in modes]
    jumps: list[Any] = []
    for a in range(n):
        if refill == "return":
            falls = [total(c[b][s].T @ c[a][s] for s in range(2)) @ doubles[a] @ holes[b] for b in range(n) if b != a]
            lost = [total([x]) for x in falls]
        else:
            lost = [total([c[a][s] @ c[a][1 - s].T @ c[a][1 - s]]) for s in range(2)]
        jumps.append(tuple((1.0, x, x) for x in lost))
    if refill == "unpolarized":
        none = functools.reduce(lambda x, y: x @ y, [total([one, -1.0 * d]) for d in doubles])
        back = [total([c[a][s].T @ holes[a] @ none]) for a, s in itertools.product(range(n), range(2))]
        jumps.append(tuple((1.0, x, x) for x in back))
    return Generator(space, tuple(operators), tuple(jumps))


class HundModel(AbstractInsulator):
    """A pair whose first site lends an electron to the second's empty orbital, where Hund's rule meets it:

        H = t (c+_As c_2s + h.c.) + n_B n_2 (3 D_T + D_S)/4 + (D_T - D_S) S_B.s_2,   jumps sqrt(kappa) c_2s:

    the electron in orbital 2 costs D_T in a triplet with B's and D_S in a singlet, and light takes it. Orbitals A and B
    hold one electron at most, and orbital 2 none but the borrowed one (a wall of 50 times the largest cost).

    `impurity_spin` is that of A and of B.

    **Arguments** in meV: `hopping` t; `triplet` D_T and `singlet` D_S; `linewidth` kappa; `refill_rate`, at which A's
    hole is filled by an electron of either spin.

    **Raises** `ValueError` for numbers out of range.

    **Source** docs/physics.md, "Light in other materials".
    """

    hopping: Array
    triplet: Float[Array, ""]
    singlet: Float[Array, ""]
    linewidth: Float[Array, ""]
    refill_rate: Float[Array, ""]
    reservoir: Reservoir | None
    sites: tuple[int, ...] = eqx.field(static=True)

    def __init__(
        self, hopping: Number, triplet: Number, singlet: Number, linewidth: Number, *, refill_rate: Number = 0.0
    ):
        t = float_array("hopping", hopping, ())
        self.hopping = jnp.zeros((3, 3), t.dtype).at[np.array([0, 2]), np.array([2, 0])].set(t)
        self.triplet, self.singlet = float_array("triplet", triplet, ()), float_array("singlet", singlet, ())
        self.linewidth = float_array("linewidth", linewidth, ())
        self.refill_rate = float_array("refill_rate", refill_rate, ())
        self.reservoir = None
        self.sites = (0, 1)

    def __check_init__(self) -> None:
        require_positive("triplet", self.triplet, "The cost of the borrowed electron in meV.")
        require_positive("singlet", self.singlet, "The cost of the borrowed electron in meV.")
        require_nonnegative("linewidth", self.linewidth, "It is a rate in meV.")
        require_nonnegative("refill_rate", self.refill_rate, "It is a rate in meV.")

    @property
    def impurity_modes(self) -> tuple[int, ...]:
        """Those of A and of B."""
        return (0, 2)

    @property
    def loss_indices(self) -> tuple[int, ...]:
        """The one of orbital 2."""
        return (len(self.generator.hamiltonian),)

    @property
    def generator(self) -> Generator:
        """The fixed operators."""
        return _hund_generator()

    def fixed_parameters(self) -> Float[Array, " parameters"]:
        """theta in meV: t, mean cost, Hund's splitting, the wall; then kappa and the refill of each spin."""
        mean, splitting = 0.25 * (3.0 * self.triplet + self.singlet), self.triplet - self.singlet
        wall = FORBIDDEN * jnp.maximum(self.triplet, self.singlet)
        t = self.hopping[0, 2]
        return jnp.stack([t, mean, splitting, wall, jnp.zeros_like(t), 0.5 * self.refill_rate])

    def light_values(self, t: Number) -> Float[Array, "1"]:
        """kappa, whatever the time."""
        return self.linewidth[None]

    def spin_states(self) -> np.ndarray:
        """One electron at most in A and in B, none in orbital 2."""
        filled = [density(self.space, 2 * o).diagonal() for o in range(3)]
        return (filled[0] < 1.5) & (filled[1] < 1.5) & (filled[2] < 0.5)

    def light(self) -> HundLight:
        """What the light does to layers A and B of such pairs, with one neighbour each."""
        return HundLight.of(self.hopping[0, 2], self.triplet, self.singlet, self.linewidth)


@functools.lru_cache(maxsize=1)
def _hund_generator() -> Generator:
    """The fixed operators of the pair, in the order of its parameters."""
    space = Space(0, 6)
    c = [[annihilator(space, 2 * o + s) for s in range(2)] for o in range(3)]
    n = [density(space, 2 * o) for o in range(3)]
    double = [double_occupation(space, 2 * o) for o in range(3)]
    one = identity(space)
    forth = [c[0][s].T @ c[2][s] for s in range(2)]
    hop = total([*forth, *(x.T for x in forth)])
    spins = total(fermion_spin(space, 2, axis) @ fermion_spin(space, 4, axis) for axis in range(3))
    wall = total([*double, n[2] @ total([one, -1.0 * n[1]])])
    lost = [c[2][s] for s in range(2)]
    nothing = total([one, -1.0 * n[2]])
    hole = total([one, -1.0 * n[0], double[0]])
    back = [total([c[0][s].T @ hole @ nothing]) for s in range(2)]
    jumps = (tuple((1.0, x, x) for x in lost), tuple((1.0, x, x) for x in back))
    return Generator(space, (hop, total([n[1] @ n[2]]), spins, wall), jumps)
