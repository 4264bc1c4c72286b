"""Microscopic models under light: what they are made of, and their Lindbladians."""

import abc
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from .._numerics.hermitian_matrices import from_spectrum, hermitian
from .._numerics.small_matrices import safe_sqrt
from .._numerics.validation import Number, Numbers, float_array, is_concrete, require_finite
from ..bands.lattices import Lattice
from ..light.illumination import AbstractLight, GivenRates, Illumination
from ..light.laser import Laser
from ..light.local_moment import LocalMoment, stack_moments
from .elimination import EffectiveLindbladian, project, warn_of
from .fermions import Space, Sparse, annihilator, density, fermion_spin, spin
from .generator import Generator
from .operators import anderson_generator, hopping_parameters, spin_fermion_generator, weighted_sum
from .reservoir import Reservoir


class AbstractLindbladModel(eqx.Module):
    """d rho/dt = -i [sum_p h_p O_p, rho] + sum_p r_p G_p(rho), with parameters (h, r) that may follow the light.

    Impurities a = 0, 1, ... each sit on a site of the conduction band, whose hopping matrix is `hopping`.
    """

    hopping: eqx.AbstractVar[Array]
    reservoir: eqx.AbstractVar[Reservoir | None]
    sites: eqx.AbstractVar[tuple[int, ...]]

    @property
    @abc.abstractmethod
    def generator(self) -> Generator:
        """The fixed operators."""

    @abc.abstractmethod
    def fixed_parameters(self) -> Float[Array, " parameters"]:
        """theta in meV, with 0 for those that the laser decides."""

    @abc.abstractmethod
    def light_values(self, t: Number) -> Float[Array, " lights"]:
        """Those that the laser decides, in meV at time `t` (ps), in the order of `light_indices`."""

    @property
    @abc.abstractmethod
    def light_indices(self) -> tuple[int, ...]:
        """Which parameters the laser decides."""

    @property
    @abc.abstractmethod
    def driving_laser(self) -> Laser | None:
        """The laser, if it is known."""

    @property
    @abc.abstractmethod
    def impurity_modes(self) -> tuple[int, ...] | None:
        """The first fermion mode of each impurity; None if impurities are spins."""

    @property
    def has_band(self) -> bool:
        """Whether there are conduction sites beside the impurities."""
        return True

    @property
    def modes_of_each(self) -> int:
        """How many fermion modes an impurity has."""
        return (self.space.modes - 2 * self.hopping.shape[0]) // self.impurities

    @property
    def site_modes(self) -> tuple[int, ...]:
        """The first fermion mode of each conduction site: the last of all modes."""
        sites = self.hopping.shape[0]
        return tuple(range(self.space.modes - 2 * sites, self.space.modes, 2))

    @property
    def loss_indices(self) -> tuple[int, ...]:
        """For each impurity the parameter of its loss through light: the first behind the Hamiltonian's."""
        first = len(self.generator.hamiltonian)
        return tuple(range(first, first + self.impurities))

    def parameters(self, t: Number = 0.0) -> Float[Array, " parameters"]:
        """theta in meV at time `t` (ps)."""
        return self.fixed_parameters().at[np.array(self.light_indices, int)].set(self.light_values(t))

    def hamiltonian(self, t: Number = 0.0) -> Complex[Array, "n n"]:
        """H in meV at time `t` (ps), a dense matrix."""
        operators = self.generator.hamiltonian
        return weighted_sum(self.parameters(t)[: len(operators)], operators)

    def jump_operators(self, t: Number = 0.0) -> Complex[Array, "jumps n n"]:
        """All jump operators L in sqrt(meV) at time `t` (ps), dense: of the light, then of the reservoir."""
        weights = self.jump_weights(self.parameters(t))
        bases = jnp.asarray(np.stack([base.toarray() for base in self.jump_bases()]), weights.dtype)
        return jnp.einsum("jb,bmn->jmn", weights, bases)

    def jump_bases(self) -> list[Sparse]:
        """Fixed operators that the jump operators are combinations of: light's own, then c_is and c+_is."""
        split = len(self.generator.hamiltonian)
        bases = [a for p in self.loss_indices for _, a, _ in self.generator.jumps[p - split]]
        if self.reservoir is not None:
            for conjugate in (False, True):
                for s in range(2):
                    c = [annihilator(self.space, mode + s) for mode in self.site_modes]
                    bases += [Sparse(x.T) if conjugate else x for x in c]
        return bases

    def jump_weights(self, theta: Float[Array, " parameters"]) -> Complex[Array, "jumps bases"]:
        """The jump operators as rows of weights of `jump_bases`, for given parameters."""
        split = len(self.generator.hamiltonian)
        rates = jnp.stack([theta[p] for p in self.loss_indices for _ in self.generator.jumps[p - split]])
        light = safe_sqrt(rates)
        blocks = [jnp.diag(jax.lax.complex(light, jnp.zeros_like(light)))]
        if self.reservoir is not None:
            incoming, outgoing = (_root(x).astype(blocks[0].dtype) for x in self.reservoir.rates(self.hopping))
            # sum_k L_k rho L_k^+ with L_k = sum_i root_ki c_i has the rates conj(root^2), those of c_i rho c+_j.
            blocks += [outgoing] * 2 + [jnp.conj(incoming)] * 2
        return jax.scipy.linalg.block_diag(*blocks)

    @property
    def changes_in_time(self) -> bool:
        """Whether the laser has an envelope."""
        return self.driving_laser is not None and not self.driving_laser.is_constant

    @property
    def space(self) -> Space:
        """The Hilbert space."""
        return self.generator.space

    @property
    def impurities(self) -> int:
        """How many."""
        return len(self.sites)

    def impurity_spin(self, impurity: int, axis: int) -> Any:
        """S_x, S_y or S_z of an impurity, as a sparse matrix."""
        if self.impurity_modes is None:
            return spin(self.space, impurity, axis)
        return fermion_spin(self.space, self.impurity_modes[impurity], axis)


class AndersonModel(AbstractLindbladModel):
    """Anderson impurities on a conduction band, with doublons that light empties:

        H = sum h_ij c+_is c_js + sum_a [eps_a n_a + (U_a + 2 shift_a) n_a,up n_a,dn + v_a (d+_as c_(R_a)s + h.c.)]
            - 2 B.(S + s),
        jump operators sqrt(kappa_a) d_as n_a,-s, and those of the reservoir.

    kappa and shift are those of the virtual doublons that carry the exchange (see `OpticalTransition`); the rare real
    doublon, Delta_2 off resonance, is lost as fast here. With `keep_upper_level` each impurity has its higher level
    f_as as well, in the frame rotating with the light: energy eps_F - delta_a, coupling (Omega_R/2) (f+_as d_as n_a,-s
    + h.c.), jump operators sqrt(Gamma_a) f_as. Then kappa and shift are not put in but come out, for virtual and real
    doublons.

    **Arguments**

    - `moments`: `LocalMoment`s, one for each impurity (or one for all, with `sites`).
    - `conduction`: Hermitian hopping matrix in meV, shape (n, n), or a `Lattice`.
    - `laser`: a `Laser`, its envelope included; None for darkness.
    - `reservoir`: a `Reservoir`, or None.
    - `sites`: R_a, the site of each impurity; default 0, 1, ...
    - `field`: B in meV, the energy of a unit moment 2S along it, shape (3,).
    - `keep_upper_level`: see above; needs a constant laser and a transition for each moment.

    **Raises** `ValueError` for a hopping matrix that is not Hermitian, or sites that do not exist.

    **Source** the model is the paper's; jump operators derived in docs/physics.md, "From the laser to the loss of
    doublons".
    """

    moments: LocalMoment
    hopping: Array
    laser: Laser | None
    reservoir: Reservoir | None
    field: Float[Array, "3"] | None
    sites: tuple[int, ...] = eqx.field(static=True)
    keep_upper_level: bool = eqx.field(static=True)

    def __init__(
        self,
        moments: LocalMoment | Sequence[LocalMoment],
        conduction: Lattice | Numbers,
        laser: Laser | None = None,
        reservoir: Reservoir | None = None,
        *,
        sites: Sequence[int] | None = None,
        field: Numbers | None = None,
        keep_upper_level: bool = False,
    ):
        self.hopping = _hopping(conduction)
        self.sites, self.moments = _placed(moments, sites, self.hopping.shape[0])
        self.laser, self.reservoir = laser, reservoir
        self.field = None if field is None else float_array("field", field, (3,))
        self.keep_upper_level = keep_upper_level
        if keep_upper_level and (laser is None or not laser.is_constant or self.moments.transition is None):
            raise ValueError("keep_upper_level needs a constant laser and moments with a transition. Pass both.")

    @property
    def impurity_modes(self) -> tuple[int, ...]:
        """d modes of each impurity."""
        return tuple((4 if self.keep_upper_level else 2) * a for a in range(self.impurities))

    def project(self) -> EffectiveLindbladian:
        """What spins and electrons see of holes and doublons, by `lindblad.project`, with the band's energies in the
        denominators. `SpinFermionModel.project` is its closed form for a narrow band."""
        if self.keep_upper_level:
            raise ValueError("keep_upper_level: one level of virtual states is eliminated, not two. Leave it out.")
        states = [density(self.space, m).diagonal() == 1 for m in self.impurity_modes]
        return project(self.hamiltonian(), list(self.jump_operators()), np.all(states, axis=0))

    @property
    def generator(self) -> Generator:
        """The fixed operators."""
        return anderson_generator(
            self.sites,
            self.hopping.shape[0],
            jnp.iscomplexobj(self.hopping),
            self.field is not None,
            self.reservoir is not None,
            self.keep_upper_level,
        )

    def fixed_parameters(self) -> Float[Array, " parameters"]:
        """theta in meV, with 0 for those that the laser decides."""
        p, unlit = self.moments, jnp.zeros_like(self.moments.level)
        repulsion = p.repulsion if self.keep_upper_level else unlit
        h = [hopping_parameters(self.hopping), p.level, repulsion, p.hybridization]
        h += [unlit, unlit] if self.keep_upper_level else []
        return _collect(h, self.field, unlit, self.reservoir, self.hopping)

    def light_values(self, t: Number = 0.0) -> Float[Array, " lights"]:
        """U + 2 shift and kappa; with the upper level its energy, half the Rabi energy and its width."""
        laser, p = None if self.laser is None else self.laser.at(t), self.moments
        if not self.keep_upper_level or laser is None or p.transition is None:
            return jnp.concatenate([p.repulsion + 2.0 * p.light_shift(laser), p.pump_rate(laser)])
        upper = p.fermi_energy - p.transition.detuning(laser)
        return jnp.concatenate([upper, 0.5 * p.transition.rabi_energy(laser), p.transition.linewidth])

    @property
    def light_indices(self) -> tuple[int, ...]:
        """Repulsion and pump rates; with the upper level all that is put in their place."""
        if not self.keep_upper_level:
            first = _count(self.hopping) + self.impurities
            return (*range(first, first + self.impurities), *self.loss_indices)
        first = _count(self.hopping) + 3 * self.impurities
        return (*range(first, first + 2 * self.impurities), *self.loss_indices)

    @property
    def driving_laser(self) -> Laser | None:
        """The laser."""
        return self.laser


class SpinFermionModel(AbstractLindbladModel):
    """Local spins on a conduction band, with light-induced loss of singlets: the projection of the Anderson model,

        H = sum h_ij c+_is c_js + sum_a [-g_a S_a.(c+ sigma c)_(R_a) + K_a n_(R_a)] - 2 B.(S + s),
        jump operators sqrt(gamma_a) sum_s' (1/2 - S_a.sigma)_ss' c_(R_a)s', and those of the reservoir.

    **Arguments**

    - `sd_coupling`: g in meV, shape (impurities,); `loss_rate`: gamma in meV, 0 or greater.
    - `conduction`, `reservoir`, `sites`, `field`: as in `AndersonModel`.
    - `potential`: K in meV, shape (impurities,): the scattering that does not see the spin.

    `SpinFermionModel.project(anderson)` takes all of these from an `AndersonModel`, light in time included.

    **Raises** `ValueError` as `AndersonModel`, and for a negative loss rate.

    **Source** docs/physics.md, "Projection on the local moment".
    """

    given_potential: Float[Array, " impurities"] | None
    hopping: Array
    reservoir: Reservoir | None
    field: Float[Array, "3"] | None
    light: GivenRates | Illumination
    sites: tuple[int, ...] = eqx.field(static=True)

    def __init__(
        self,
        sd_coupling: Numbers,
        loss_rate: Numbers,
        conduction: Lattice | Numbers,
        reservoir: Reservoir | None = None,
        *,
        potential: Numbers = 0.0,
        sites: Sequence[int] | None = None,
        field: Numbers | None = None,
    ):
        g = float_array("sd_coupling", sd_coupling)
        count = len(sites) if sites is not None else g.size
        self.light = GivenRates(
            float_array("sd_coupling", sd_coupling, (count,)), float_array("loss_rate", loss_rate, (count,))
        )
        self.given_potential = float_array("potential", potential, (count,))
        self.hopping = _hopping(conduction)
        self.sites = _checked_sites(sites, count, self.hopping.shape[0])
        self.reservoir = reservoir
        self.field = None if field is None else float_array("field", field, (3,))
        require_finite("potential", self.given_potential)

    @classmethod
    def project(cls, model: AndersonModel) -> "SpinFermionModel":
        """The projection of an Anderson model on its local moments, to second order in the hybridization; under its
        laser, if it has one. `AndersonModel.project` in closed form for a narrow band, with its warning."""
        p, laser = model.moments, model.laser
        if is_concrete(*jax.tree.leaves((p, laser))):
            warn_of(jnp.max(_admixtures(p, None if laser is None else laser.plateau())))
        projected = cls(
            p.sd_coupling(),
            0.0,
            model.hopping,
            model.reservoir,
            potential=p.potential_scattering(),
            sites=model.sites,
            field=model.field,
        )
        if laser is None:
            return projected
        return eqx.tree_at(
            lambda x: (x.light, x.given_potential),
            projected,
            (Illumination(p, laser), None),
            is_leaf=lambda x: isinstance(x, AbstractLight),
        )

    @property
    def sd_coupling(self) -> Float[Array, " impurities"]:
        """g in meV, at full intensity."""
        return self._now(None).sd_coupling

    @property
    def loss_rate(self) -> Float[Array, " impurities"]:
        """gamma in meV, at full intensity."""
        return self._now(None).loss_rate

    @property
    def potential(self) -> Float[Array, " impurities"]:
        """K in meV, at full intensity."""
        return self._potential(None)

    def _now(self, t: Number | None) -> GivenRates:
        """g and gamma at time `t` (ps); at full intensity for None."""
        return self.light.plateau() if t is None else self.light.at(t)

    def _potential(self, t: Number | None) -> Float[Array, " impurities"]:
        """K in meV at time `t` (ps), from where g and gamma come from."""
        if isinstance(self.light, Illumination):
            return self.light.moments.potential_scattering(self.light.laser_at(t))
        return jnp.zeros_like(self.sd_coupling) if self.given_potential is None else self.given_potential

    @property
    def impurity_modes(self) -> None:
        """Impurities are spins."""
        return None

    @property
    def generator(self) -> Generator:
        """The fixed operators."""
        return spin_fermion_generator(
            self.sites,
            self.hopping.shape[0],
            jnp.iscomplexobj(self.hopping),
            self.field is not None,
            self.reservoir is not None,
        )

    def fixed_parameters(self) -> Float[Array, " parameters"]:
        """theta in meV, with 0 for those that the laser decides."""
        unlit = jnp.zeros(self.impurities, self.sd_coupling.dtype)
        return _collect(
            [hopping_parameters(self.hopping), unlit, unlit], self.field, unlit, self.reservoir, self.hopping
        )

    def light_values(self, t: Number = 0.0) -> Float[Array, " lights"]:
        """g, K and gamma."""
        now = self._now(jnp.asarray(t))
        return jnp.concatenate([now.sd_coupling, self._potential(jnp.asarray(t)), now.loss_rate])

    @property
    def light_indices(self) -> tuple[int, ...]:
        """g, K and gamma of each impurity."""
        first = _count(self.hopping)
        return (*range(first, first + 2 * self.impurities), *self.loss_indices)

    @property
    def driving_laser(self) -> Laser | None:
        """The laser, if g and gamma come from one."""
        return self.light.laser if isinstance(self.light, Illumination) else None


def _root(matrix: Array) -> Array:
    """The square root of a positive matrix."""
    levels, states = jnp.linalg.eigh(matrix)
    return from_spectrum(jnp.sqrt(jnp.maximum(levels, 0.0)), states)


@eqx.filter_jit
def _admixtures(moments: LocalMoment, laser: Laser | None) -> Float[Array, " impurities"]:
    """Of virtual states, as the engine finds it for each impurity on a site of its own."""
    return jax.vmap(lambda one: AndersonModel(one, [[0.0]], laser).project().admixture)(moments)


def _hopping(conduction: Lattice | Numbers) -> Array:
    return conduction.hopping_matrix() if isinstance(conduction, Lattice) else hermitian(conduction)


def _placed(
    moments: LocalMoment | Sequence[LocalMoment], sites: Sequence[int] | None, band: int
) -> tuple[tuple[int, ...], LocalMoment]:
    if isinstance(moments, LocalMoment):
        count = len(sites) if sites is not None else max(moments.level.size, 1)
        stacked = stack_moments(moments, count)
    else:
        count = len(moments)
        stacked = stack_moments(tuple(moments), count)
    return _checked_sites(sites, count, band), stacked


def _checked_sites(sites: Sequence[int] | None, count: int, band: int) -> tuple[int, ...]:
    chosen = tuple(range(count)) if sites is None else tuple(int(site) for site in sites)
    if len(chosen) != count or not all(0 <= site < band for site in chosen):
        raise ValueError(
            f"sites = {chosen} for {count} impurities on {band} conduction sites: give one number from 0 to {band - 1} "
            "for each impurity."
        )
    return chosen


def _count(hopping: Array) -> int:
    """How many independent real parts a hopping matrix has."""
    n = hopping.shape[0]
    return n * n if jnp.iscomplexobj(hopping) else n * (n + 1) // 2


def _collect(h: list[Array], field: Array | None, loss: Array, reservoir: Reservoir | None, hopping: Array) -> Array:
    """theta: Hamiltonian, field, light, reservoir in, reservoir out."""
    parts = [*h] if field is None else [*h, -2.0 * field]
    parts.append(loss)
    if reservoir is not None:
        parts += [hopping_parameters(rates) for rates in reservoir.rates(hopping)]
    return jnp.concatenate(parts)
