"""Where the absorbed light goes: two temperatures, of the electrons and of the lattice."""

from typing import Any, Final, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .. import units
from .._numerics.validation import Number, float_array, require_nonnegative, require_positive
from .absorption import absorbed_power
from .layers import LayeredMagnet

JOULE: Final = 1e3 / units.ELEMENTARY_CHARGE_COULOMB
"""One joule in meV."""

GADOLINIUM_VOLUME: Final = 33.1
"""Cubic angstrom per atom of gadolinium."""

DULONG_PETIT: Final = 3.0 * units.kelvin
"""Heat capacity of a lattice above its Debye temperature, 3 k_B per atom, in meV/K."""


def at_temperature(magnet: LayeredMagnet, temperature: Float[Array, "..."]) -> LayeredMagnet:
    """The same magnet at another k_B T in meV, of one number or of one for each layer."""
    everywhere = jnp.broadcast_to(temperature, magnet.temperature.shape).astype(magnet.dtype)
    return eqx.tree_at(lambda magnet: magnet.temperature, magnet, everywhere)


def penetration_depth(intensity: Number, power: Number, volume: Number) -> Any:
    """I V/P in nm: how deep light of `intensity` (W/cm^2) reaches into sites that take `power` (meV/ps) and `volume`
    (cubic angstrom) each."""
    watts = power / JOULE * 1e12
    return intensity * 1e4 * volume * 1e-30 / watts * 1e9


class Heat(NamedTuple):
    """Energies per atom in meV, each of shape (K,): K = 1 where all layers share one temperature, else L.

    - `electrons`, `lattice`: what both hold. `absorbed`: from the light so far. `carried`: to the substrate so far.
    """

    electrons: Array
    lattice: Array
    absorbed: Array
    carried: Array


class ThermalModel(eqx.Module):
    """Electrons and lattice of every layer, per atom:

        C_e(T_e) dT_e/dt = P - G (T_e - T_l) + between layers,    C_e = electronic T_e,
        C_l dT_l/dt      = G (T_e - T_l) - C_l (T_l - T_0)/tau.

    P is the power that the light leaves in a site (`exposure`); the moments feel the temperature T_e, or T_l.

    **Arguments**

    - `electronic`: C_e/T_e in meV/K^2. 0: no electrons; the light heats the lattice.
    - `lattice`: C_l in meV/K; 3 k_B = 0.2585 above the Debye temperature.
    - `coupling`: G in meV/(ps K).
    - `cooling_time`: tau in ps, to the substrate; `jnp.inf` for none.
    - `bath_temperature`: k_B T_0 in meV, of the substrate and of the sample before the light.
    - `conduction`: heat flow between the electrons (or lattices) of neighbouring layers, meV/(ps K). Default: fast, all
      layers share one temperature, and the power is their mean.
    - `follows`: "electrons" or "lattice", whose temperature the moments have.
    - `photon_energy`: meV, of a light that is given by rates instead of a laser.
    - `background_depth`: nm, at which everything else in the sample absorbs the laser's light: adds I V/depth to the
      power of every site. Default inf: nothing else absorbs. (Visible light reaches 10 to 30 nm deep into a metal.)
    - `volume`: V, cubic angstrom per site.

    **Raises** `ValueError` for numbers out of range.

    **Source** the two-temperature model (Anisimov, Kapeliovich, Perel'man, JETP 39 (1974) 375); docs/physics.md.
    """

    electronic: Float[Array, ""]
    lattice: Float[Array, ""]
    coupling: Float[Array, ""]
    cooling_time: Float[Array, ""]
    bath_temperature: Float[Array, ""]
    conduction: Float[Array, ""] | None
    photon_energy: Float[Array, ""] | None
    background_depth: Float[Array, ""]
    volume: Float[Array, ""]
    follows: str = eqx.field(static=True)

    def __init__(
        self,
        electronic: Number,
        lattice: Number,
        coupling: Number,
        cooling_time: Number,
        bath_temperature: Number,
        *,
        conduction: Number | None = None,
        follows: str = "electrons",
        photon_energy: Number | None = None,
        background_depth: Number = jnp.inf,
        volume: Number = GADOLINIUM_VOLUME,
    ):
        self.electronic = float_array("electronic", electronic, ())
        self.lattice = float_array("lattice", lattice, ())
        self.coupling = float_array("coupling", coupling, ())
        self.cooling_time = float_array("cooling_time", cooling_time, ())
        self.bath_temperature = float_array("bath_temperature", bath_temperature, ())
        self.conduction = None if conduction is None else float_array("conduction", conduction, ())
        self.photon_energy = None if photon_energy is None else float_array("photon_energy", photon_energy, ())
        self.background_depth = float_array("background_depth", background_depth, ())
        self.volume = float_array("volume", volume, ())
        self.follows = follows

    def __check_init__(self) -> None:
        require_nonnegative("electronic", self.electronic, "C_e/T_e in meV/K^2; 0 for a sample without electrons.")
        require_positive("lattice", self.lattice, "C_l in meV/K; 3 k_B is 0.2585.")
        require_positive("coupling", self.coupling, "G in meV/(ps K): without it the lattice never warms.")
        finite = jnp.where(self.cooling_time == jnp.inf, 1.0, self.cooling_time)
        require_positive("cooling_time", finite, "tau in ps; inf for no cooling.")
        require_positive("bath_temperature", self.bath_temperature, "k_B T_0 in meV; 1 K is 0.0862 meV.")
        if self.conduction is not None:
            require_nonnegative("conduction", self.conduction, "meV/(ps K); None for one temperature.")
        if self.photon_energy is not None:
            require_positive("photon_energy", self.photon_energy, "In meV.")
        deep = jnp.where(self.background_depth == jnp.inf, 1.0, self.background_depth)
        require_positive("background_depth", deep, "In nm; inf where nothing else absorbs.")
        require_positive("volume", self.volume, "Cubic angstrom per site.")
        if self.follows not in ("electrons", "lattice"):
            raise ValueError(
                f"follows = {self.follows!r}: the moments have the temperature of 'electrons' or 'lattice'."
            )

    @classmethod
    def gadolinium(cls, cooling_time: Number, bath_temperature: Number, **options: Any) -> "ThermalModel":
        """C_e/T_e = 225 J/(m^3 K^2) and G = 2.1e17 W/(m^3 K), 33 cubic angstrom per atom, C_l = 3 k_B.

        **Arguments** as in the class docstring. The coupling is known to a factor of two or so.

        **Source** Koopmans et al., Nature Materials 9 (2010) 259, for thin films.
        """
        return cls._of_volume(225.0, 2.1e17, GADOLINIUM_VOLUME, cooling_time, bath_temperature, **options)

    @classmethod
    def nickel(cls, cooling_time: Number, bath_temperature: Number, **options: Any) -> "ThermalModel":
        """C_e/T_e = 1065 J/(m^3 K^2) and G = 8e17 W/(m^3 K), 10.9 cubic angstrom per atom, C_l = 3 k_B.

        **Arguments** as in the class docstring. Fits of different experiments differ by a factor of two to five.

        **Source** Beaurepaire et al., Physical Review Letters 76 (1996) 4250, whose C_e/T_e is six times larger, and
        Koopmans et al., Nature Materials 9 (2010) 259.
        """
        return cls._of_volume(1065.0, 8e17, 10.9, cooling_time, bath_temperature, **options)

    @classmethod
    def insulator(cls, cooling_time: Number, bath_temperature: Number, **options: Any) -> "ThermalModel":
        """No conduction electrons: light heats the lattice of C_l = 3 k_B, and the moments follow it.

        **Source** Dulong and Petit's law: an upper bound below the Debye temperature.
        """
        follows = options.pop("follows", "lattice")
        return cls(0.0, DULONG_PETIT, 1.0, cooling_time, bath_temperature, follows=follows, **options)

    @classmethod
    def _of_volume(
        cls, electronic: float, coupling: float, atom: float, cooling_time: Number, bath: Number, **options: Any
    ) -> "ThermalModel":
        """From numbers per cubic metre, and the volume of an atom in cubic angstrom."""
        each = JOULE * atom * 1e-30
        given: dict[str, Any] = {"volume": atom} | options
        return cls(electronic * each, DULONG_PETIT, coupling * each * 1e-12, cooling_time, bath, **given)

    @property
    def base(self) -> Float[Array, ""]:
        """T_0 in K."""
        return self.bath_temperature / units.kelvin

    @property
    def lattice_resistance(self) -> Float[Array, ""]:
        """(T_l - T_0)/P of a steady sample, tau/C_l in K ps/meV."""
        return self.cooling_time / self.lattice

    @property
    def electron_resistance(self) -> Float[Array, ""]:
        """(T_e - T_0)/P of a steady sample, tau/C_l + 1/G in K ps/meV; the lattice's where there are no electrons."""
        return self.lattice_resistance + jnp.where(self.electronic > 0, 1.0 / self.coupling, 0.0)

    @property
    def resistance(self) -> Float[Array, ""]:
        """That of the temperature which the moments feel, in K ps/meV."""
        return self.electron_resistance if self.follows == "electrons" else self.lattice_resistance

    def layer_resistances(self, layers: int) -> Float[Array, "K K"]:
        """K_ab in K ps/meV: how much the power of layer b warms the electrons of layer a of a steady sample,
        K^-1 = 1/R + conduction along the chain of layers; R alone where all have one temperature."""
        identity = jnp.eye(1 if self.conduction is None else layers, dtype=self.lattice.dtype)
        if self.conduction is None:
            return self.electron_resistance * identity
        steps = jnp.diff(identity, axis=0)
        return jnp.linalg.inv(identity / self.electron_resistance + self.conduction * steps.T @ steps)

    def steady_warming(self, power: Float[Array, " K"]) -> Float[Array, " K"]:
        """T - T_0 in K that the moments of a steady sample feel, of powers in meV/ps."""
        electrons = jnp.sum(self.layer_resistances(power.shape[0]) * power[None, :], axis=1)
        return electrons * (self.resistance / self.electron_resistance)

    def at_rest(self, layers: int, dtype: Any) -> Heat:
        """The energies before the light."""
        ones = jnp.ones(1 if self.conduction is None else layers, dtype)
        zero = jnp.zeros_like(ones)
        return Heat(0.5 * self.electronic * self.base**2 * ones, self.lattice * self.base * ones, zero, zero)

    def temperatures(self, heat: Heat) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
        """(T_e, T_l) in K, of the shape of the energies; the same where there are no electrons."""
        lattice = heat.lattice / self.lattice
        metal = self.electronic > 0
        squared = 2.0 * jnp.maximum(heat.electrons, 1e-30) / jnp.where(metal, self.electronic, 1.0)
        return jnp.where(metal, jnp.sqrt(squared), lattice), lattice

    def felt(self, heat: Heat) -> Float[Array, "..."]:
        """k_B T in meV that the moments feel."""
        electrons, lattice = self.temperatures(heat)
        return (electrons if self.follows == "electrons" else lattice) * units.kelvin

    def warmed(self, magnet: LayeredMagnet, heat: Heat) -> LayeredMagnet:
        """The magnet at the temperature that it feels."""
        return at_temperature(magnet, self.felt(heat))

    def cold(self, magnet: LayeredMagnet) -> LayeredMagnet:
        """The magnet before the light."""
        return at_temperature(magnet, self.bath_temperature)

    def power(self, magnet: LayeredMagnet, m: Float[Array, "L 3"], t: Number | None = None) -> Float[Array, " K"]:
        """P in meV/ps per atom: of each layer, or the mean of all, shape (K,). `t` in ps; None for full intensity."""
        each = absorbed_power(magnet, m, t, self.photon_energy) * units.ps
        if magnet.has_laser:
            each = each + self.background(magnet.illumination.laser_at(t).intensity)
        return jnp.mean(each, keepdims=True) if self.conduction is None else each

    def background(self, intensity: Number) -> Float[Array, ""]:
        """I V/depth: what everything else absorbs of a laser of `intensity` W/cm^2, meV/ps per site."""
        watts = jnp.asarray(intensity) * 1e4 * self.volume * 1e-30 / (self.background_depth * 1e-9)
        return watts * JOULE * 1e-12

    def rates(self, power: Float[Array, " K"], heat: Heat) -> Heat:
        """d(heat)/dt in meV/ps."""
        hot, cold = self.temperatures(heat)
        metal = self.electronic > 0
        through = jnp.where(metal, self.coupling * (hot - cold), power)
        carried = self.lattice * (cold - self.base) / self.cooling_time
        between = jnp.zeros_like(power)
        if self.conduction is not None:
            # What comes in from the next layer less what goes out to the one before.
            between = jnp.diff(self.conduction * jnp.diff(hot), prepend=0.0, append=0.0)
        electrons = jnp.where(metal, power - through + between, 0.0)
        lattice = through - carried + jnp.where(metal, 0.0, between)
        return Heat(electrons, lattice, power, carried)
