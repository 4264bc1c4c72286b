"""Microscopic models under light: what they are made of, and their Lindbladians."""

import abc
import functools
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from ..exchange import hermitian
from ..lattices import Lattice
from ..light import Laser
from ..moment import Illumination, LocalMoment, stack_moments
from ..validation import Numbers, float_array, require_finite, require_nonnegative, require_positive
from .fermions import PAULI, Space, annihilator, density, double_occupation, fermion_spin, spin, total
from .generator import Generator


class Reservoir(eqx.Module):
    """A bath that keeps the conduction band in equilibrium by exchanging electrons with each of its levels k:

        jump operators sqrt(G (1 - f_k)) c_k and sqrt(G f_k) c_k^+,   f_k = 1/(exp((eps_k - mu)/T) + 1).

    **Arguments** `rate`: G in meV, 0 or greater. `temperature`: T in meV. `fermi_energy`: mu in meV.

    **Raises** `ValueError` for a negative rate or a temperature that is not positive.
    """

    rate: Float[Array, ""]
    temperature: Float[Array, ""]
    fermi_energy: Float[Array, ""]

    def __init__(self, rate: ArrayLike, temperature: ArrayLike, fermi_energy: ArrayLike = 0.0):
        self.rate = float_array("reservoir rate", rate, ())
        self.temperature = float_array("reservoir temperature", temperature, ())
        self.fermi_energy = float_array("reservoir fermi_energy", fermi_energy, ())

    def __check_init__(self) -> None:
        require_nonnegative("reservoir rate", self.rate, "It is how fast electrons are exchanged, in meV.")
        require_positive("reservoir temperature", self.temperature, "It is k_B T in meV.")
        require_finite("reservoir fermi_energy", self.fermi_energy)

    def rates(self, hopping: Array) -> tuple[Array, Array]:
        """(G f(h), G (1 - f(h))) in meV, the matrices of electrons coming in and going out; shape (n, n)."""
        occupied = fermi_function((hopping - self.fermi_energy * jnp.eye(hopping.shape[0])) / self.temperature)
        return self.rate * occupied, self.rate * (jnp.eye(hopping.shape[0]) - occupied)


@jax.custom_jvp
def fermi_function(x: Array) -> Array:
    """1/(exp(x) + 1) of a Hermitian matrix; its derivative is finite at degenerate levels as well."""
    levels, states = jnp.linalg.eigh(x)
    return (states * jax.nn.sigmoid(-levels)[None, :].astype(states.dtype)) @ jnp.conj(states.T)


@fermi_function.defjvp
def _fermi_function_jvp(primals: Any, tangents: Any) -> Any:
    (x,), (dx,) = primals, tangents
    levels, states = jnp.linalg.eigh(x)
    f = jax.nn.sigmoid(-levels)
    gap = levels[:, None] - levels[None, :]
    close = jnp.abs(gap) < 1e-4
    middle = 0.5 * (levels[:, None] + levels[None, :])
    slope = -jax.nn.sigmoid(middle) * jax.nn.sigmoid(-middle)
    divided = jnp.where(close, slope, (f[:, None] - f[None, :]) / jnp.where(close, 1.0, gap))
    adjoint = jnp.conj(states.T)
    inner = divided.astype(states.dtype) * (adjoint @ dx @ states)
    return (states * f[None, :].astype(states.dtype)) @ adjoint, states @ inner @ adjoint


class AbstractLindbladModel(eqx.Module):
    """d rho/dt = -i [sum_p h_p O_p, rho] + sum_p r_p G_p(rho), with parameters theta = (h, r) that may follow the light.

    Impurities a = 0, 1, ... each sit on a site of the conduction band, whose hopping matrix is `hopping`.
    """

    hopping: eqx.AbstractVar[Array]
    sites: eqx.AbstractVar[tuple[int, ...]]

    @property
    @abc.abstractmethod
    def generator(self) -> Generator:
        """The fixed operators."""

    @abc.abstractmethod
    def parameters(self, t: ArrayLike) -> Float[Array, " parameters"]:
        """theta in meV at time `t` (ps)."""

    @property
    @abc.abstractmethod
    def varying(self) -> tuple[int, ...]:
        """Which parameters change in time."""

    @property
    @abc.abstractmethod
    def driving_laser(self) -> Laser | None:
        """The laser whose envelope they follow."""

    @property
    @abc.abstractmethod
    def light_parameters(self) -> tuple[tuple[int, ...], ...]:
        """For each impurity the parameters of its loss through light."""

    @property
    @abc.abstractmethod
    def impurity_modes(self) -> tuple[int, ...] | None:
        """The first fermion mode of each impurity; None if impurities are spins."""

    @property
    @abc.abstractmethod
    def site_modes(self) -> tuple[int, ...]:
        """The first fermion mode of each conduction site."""

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

        H = sum h_ij c+_is c_js + sum_a [eps_a n_a + U_a n_a,up n_a,dn + v_a (d+_as c_(R_a)s + h.c.)] - 2 B.(S + s),
        jump operators sqrt(kappa_a) d_as n_a,-s, and those of the reservoir.

    With `keep_upper_level` each impurity has its higher level f_as as well, in the frame rotating with the light:
    energy eps_a + U_a - delta_a, coupling (Omega_R/2) (f+_as d_as n_a,-s + h.c.), jump operators sqrt(Gamma_a) f_as. Then
    kappa is not put in but comes out.

    **Arguments**

    - `moments`: `LocalMoment`s, one for each impurity (or one for all, with `sites`).
    - `conduction`: Hermitian hopping matrix in meV, shape (n, n), or a `Lattice`.
    - `laser`: a `Laser`, its envelope included; None for darkness.
    - `reservoir`: a `Reservoir`, or None.
    - `sites`: R_a, the site of each impurity; default 0, 1, ...
    - `field`: B in meV, the energy of a unit moment 2S along it, shape (3,).
    - `keep_upper_level`: see above; needs a constant laser and a transition for each moment.

    **Raises** `ValueError` for a hopping matrix that is not Hermitian, sites that do not exist, more than one impurity
    on a site's number out of range.

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
        conduction: Lattice | ArrayLike,
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

    @property
    def site_modes(self) -> tuple[int, ...]:
        """c modes of each site."""
        first = (4 if self.keep_upper_level else 2) * self.impurities
        return tuple(first + 2 * i for i in range(self.hopping.shape[0]))

    @property
    def generator(self) -> Generator:
        """The fixed operators."""
        return _anderson(
            self.sites,
            self.hopping.shape[0],
            jnp.iscomplexobj(self.hopping),
            self.field is not None,
            self.reservoir is not None,
            self.keep_upper_level,
        )

    def parameters(self, t: ArrayLike = 0.0) -> Float[Array, " parameters"]:
        """theta in meV at time `t` (ps)."""
        laser = None if self.laser is None else self.laser.at(t)
        p = self.moments
        h = [_hopping_parameters(self.hopping), p.level, p.repulsion, p.hybridization]
        if self.keep_upper_level and laser is not None and p.transition is not None:
            upper = p.level + p.repulsion - p.transition.detuning(laser)
            h += [upper, 0.5 * p.transition.rabi_energy(laser)]
            loss = p.transition.linewidth
        else:
            loss = p.pump_rate(laser)
        return _collect(h, self.field, loss, self.reservoir, self.hopping)

    @property
    def varying(self) -> tuple[int, ...]:
        """The pump rates, under an envelope."""
        if self.laser is None or self.laser.is_constant:
            return ()
        return tuple(p for group in self.light_parameters for p in group)

    @property
    def driving_laser(self) -> Laser | None:
        """The laser."""
        return self.laser

    @property
    def light_parameters(self) -> tuple[tuple[int, ...], ...]:
        """The pump rate (or the loss from the upper level) of each impurity."""
        first = len(self.generator.hamiltonian)
        return tuple((first + a,) for a in range(self.impurities))


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

    sd_coupling: Float[Array, " impurities"]
    loss_rate: Float[Array, " impurities"]
    potential: Float[Array, " impurities"]
    hopping: Array
    reservoir: Reservoir | None
    field: Float[Array, "3"] | None
    light: Illumination | None
    sites: tuple[int, ...] = eqx.field(static=True)

    def __init__(
        self,
        sd_coupling: Numbers,
        loss_rate: Numbers,
        conduction: Lattice | ArrayLike,
        reservoir: Reservoir | None = None,
        *,
        potential: Numbers = 0.0,
        sites: Sequence[int] | None = None,
        field: Numbers | None = None,
    ):
        g = float_array("sd_coupling", sd_coupling)
        count = len(sites) if sites is not None else g.size
        self.sd_coupling = float_array("sd_coupling", sd_coupling, (count,))
        self.loss_rate = float_array("loss_rate", loss_rate, (count,))
        self.potential = float_array("potential", potential, (count,))
        self.hopping = _hopping(conduction)
        self.sites = _checked_sites(sites, count, self.hopping.shape[0])
        self.reservoir = reservoir
        self.field = None if field is None else float_array("field", field, (3,))
        self.light = None
        require_finite("sd_coupling", self.sd_coupling)
        require_nonnegative("loss_rate", self.loss_rate, "It is the strength of the light: 0 switches it off.")
        require_finite("potential", self.potential)

    @classmethod
    def project(cls, model: AndersonModel) -> "SpinFermionModel":
        """The projection of an Anderson model on its local moments, to second order in the hybridization."""
        p, laser = model.moments, model.laser
        plateau = None if laser is None else laser.plateau()
        projected = cls(
            p.sd_coupling(plateau),
            p.loss_rate(plateau),
            model.hopping,
            model.reservoir,
            potential=p.potential_scattering(plateau),
            sites=model.sites,
            field=model.field,
        )
        if laser is None or laser.is_constant:
            return projected
        return eqx.tree_at(lambda x: x.light, projected, Illumination(p, laser), is_leaf=lambda x: x is None)

    @property
    def impurity_modes(self) -> None:
        """Impurities are spins."""
        return None

    @property
    def site_modes(self) -> tuple[int, ...]:
        """c modes of each site."""
        return tuple(2 * i for i in range(self.hopping.shape[0]))

    @property
    def generator(self) -> Generator:
        """The fixed operators."""
        return _spin_fermion(
            self.sites,
            self.hopping.shape[0],
            jnp.iscomplexobj(self.hopping),
            self.field is not None,
            self.reservoir is not None,
        )

    def parameters(self, t: ArrayLike = 0.0) -> Float[Array, " parameters"]:
        """theta in meV at time `t` (ps)."""
        g, gamma, potential = self.sd_coupling, self.loss_rate, self.potential
        if self.light is not None:
            g, gamma = self.light.couplings(jnp.asarray(t))
            potential = self.light.moments.potential_scattering(self.light.laser.at(t))
        return _collect(
            [_hopping_parameters(self.hopping), g, potential], self.field, gamma, self.reservoir, self.hopping
        )

    @property
    def varying(self) -> tuple[int, ...]:
        """g, K and gamma, under an envelope."""
        if self.light is None:
            return ()
        first = _hopping_parameters(self.hopping).shape[0]
        return (*range(first, first + 2 * self.impurities), *(p for group in self.light_parameters for p in group))

    @property
    def driving_laser(self) -> Laser | None:
        """The laser, for rates that follow an envelope."""
        return None if self.light is None else self.light.laser

    @property
    def light_parameters(self) -> tuple[tuple[int, ...], ...]:
        """The loss rate of each impurity."""
        first = len(self.generator.hamiltonian)
        return tuple((first + a,) for a in range(self.impurities))


def _hopping(conduction: Lattice | ArrayLike) -> Array:
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


def _hopping_parameters(hopping: Array) -> Array:
    """The independent real parts of a Hermitian matrix: real part of the upper triangle, then its imaginary part."""
    rows, columns = np.triu_indices(hopping.shape[0])
    real = jnp.real(hopping)[rows, columns]
    if not jnp.iscomplexobj(hopping):
        return real
    rows, columns = np.triu_indices(hopping.shape[0], 1)
    return jnp.concatenate([real, jnp.imag(hopping)[rows, columns]])


def _collect(h: list[Array], field: Array | None, loss: Array, reservoir: Reservoir | None, hopping: Array) -> Array:
    """theta: Hamiltonian, field, light, reservoir in, reservoir out."""
    parts = [*h] if field is None else [*h, -2.0 * field]
    parts.append(loss)
    if reservoir is not None:
        parts += [_hopping_parameters(rates) for rates in reservoir.rates(hopping)]
    return jnp.concatenate(parts)


def _band(space: Space, modes: tuple[int, ...], complex_hopping: bool) -> list[Any]:
    """c+_i c_j + h.c. for each pair (n_i on the diagonal), then i (c+_i c_j - h.c.)."""

    def hop(i: int, j: int) -> Any:
        return total(annihilator(space, modes[i] + s).T @ annihilator(space, modes[j] + s) for s in range(2))

    n = len(modes)
    pairs = list(zip(*np.triu_indices(n), strict=True))
    operators = [hop(i, i) if i == j else total([hop(i, j), hop(j, i)]) for i, j in pairs]
    if complex_hopping:
        operators += [total([1j * hop(i, j), -1j * hop(j, i)]) for i, j in pairs if i < j]
    return operators


def _zeeman(space: Space, spins: list[Any], modes: Sequence[int]) -> list[Any]:
    """S + s along x, y and z, each spin of the list given by its three components."""
    return [
        total([*(s[axis] for s in spins), *(fermion_spin(space, mode, axis) for mode in modes)]) for axis in range(3)
    ]


def _exchange_with_reservoir(space: Space, modes: tuple[int, ...], complex_hopping: bool) -> list[Any]:
    """Channels of electrons in and out for the independent parts of a Hermitian matrix of rates.

    In: R = G f(h) with sum_ij R_ij c+_i rho c_j; out: sum_ij R_ji c_i rho c+_j.
    """
    channels = []
    n = len(modes)
    for incoming in (True, False):

        def jump(i: int, j: int, weight: complex, incoming: bool = incoming) -> list[Any]:
            c = [[annihilator(space, modes[x] + s) for s in range(2)] for x in (i, j)]
            if incoming:
                return [(weight, total([c[0][s].T]), total([c[1][s].T])) for s in range(2)]
            return [(np.conj(weight), c[0][s], c[1][s]) for s in range(2)]

        pairs = list(zip(*np.triu_indices(n), strict=True))
        channels += [tuple(jump(i, i, 1.0) if i == j else jump(i, j, 1.0) + jump(j, i, 1.0)) for i, j in pairs]
        if complex_hopping:
            channels += [tuple(jump(i, j, 1j) + jump(j, i, -1j)) for i, j in pairs if i < j]
    return channels


@functools.lru_cache(maxsize=32)
def _anderson(
    sites: tuple[int, ...], band: int, complex_hopping: bool, field: bool, reservoir: bool, upper: bool
) -> Generator:
    count = len(sites)
    width = 4 if upper else 2
    space = Space(0, width * count + 2 * band)
    d = [width * a for a in range(count)]
    modes = tuple(width * count + 2 * i for i in range(band))
    c = functools.partial(annihilator, space)

    def hop(first: int, second: int) -> Any:
        forth = [c(first + s).T @ c(second + s) for s in range(2)]
        return total([*forth, *(x.T for x in forth)])

    def emptied(a: int, s: int) -> Any:
        """d_as n_a,-s"""
        return total([c(d[a] + s) @ c(d[a] + 1 - s).T @ c(d[a] + 1 - s)])

    operators = _band(space, modes, complex_hopping)
    operators += [density(space, d[a]) for a in range(count)]
    operators += [double_occupation(space, d[a]) for a in range(count)]
    operators += [hop(d[a], modes[sites[a]]) for a in range(count)]
    spins = [[fermion_spin(space, mode, axis) for axis in range(3)] for mode in d]
    if upper:
        operators += [density(space, d[a] + 2) for a in range(count)]
        excite = [[c(d[a] + 2 + s).T @ emptied(a, s) for s in range(2)] for a in range(count)]
        operators += [total([*x, *(y.T for y in x)]) for x in excite]
        spins += [[fermion_spin(space, mode + 2, axis) for axis in range(3)] for mode in d]
    if field:
        operators += _zeeman(space, spins, modes)
    jumps: list[Any] = []
    for a in range(count):
        lost = [c(d[a] + 2 + s) if upper else emptied(a, s) for s in range(2)]
        jumps.append(tuple((1.0, x, x) for x in lost))
    if reservoir:
        jumps += _exchange_with_reservoir(space, modes, complex_hopping)
    return Generator(space, tuple(operators), tuple(jumps))


@functools.lru_cache(maxsize=32)
def _spin_fermion(sites: tuple[int, ...], band: int, complex_hopping: bool, field: bool, reservoir: bool) -> Generator:
    count = len(sites)
    space = Space(count, 2 * band)
    modes = tuple(2 * i for i in range(band))

    def exchange(a: int) -> Any:
        """-S_a.(c+ sigma c)"""
        return total(-2.0 * spin(space, a, axis) @ fermion_spin(space, modes[sites[a]], axis) for axis in range(3))

    def lost(a: int, s: int) -> Any:
        """sum_s' (1/2 - S_a.sigma)_ss' c_s'"""
        c = [annihilator(space, modes[sites[a]] + t) for t in range(2)]
        terms = [0.5 * c[s]]
        for axis in range(3):
            for t in range(2):
                weight = PAULI[axis][s, t]
                if weight != 0:
                    terms.append(-weight * spin(space, a, axis) @ c[t])
        return total(terms)

    operators = _band(space, modes, complex_hopping)
    operators += [exchange(a) for a in range(count)]
    operators += [density(space, modes[site]) for site in sites]
    if field:
        operators += _zeeman(space, [[spin(space, a, axis) for axis in range(3)] for a in range(count)], modes)
    jumps: list[Any] = [tuple((1.0, x, x) for x in (lost(a, 0), lost(a, 1))) for a in range(count)]
    if reservoir:
        jumps += _exchange_with_reservoir(space, modes, complex_hopping)
    return Generator(space, tuple(operators), tuple(jumps))
