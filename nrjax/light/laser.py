"""The laser, and the optical transition that it drives."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .. import units
from .._numerics.small_matrices import safe_sqrt
from .._numerics.validation import (
    Number,
    Numbers,
    float_array,
    require_nonnegative,
    require_positive,
    warn_if_implausible,
)
from .envelopes import AbstractEnvelope

Envelope = AbstractEnvelope | Callable[[Any], Any]


class Laser(eqx.Module):
    """Light of amplitude E0 = sqrt(2 Z0 I) (Z0 = 1/(eps0 c)) and photon energy hnu; I(t) = I f(t) under an envelope f.

    **Arguments**

    - `intensity`: I in W/cm^2, 0 or greater: the peak of the pulse where f = 1. In vacuum; use the intensity that
      enters the sample.
    - `photon_energy`: hnu in meV, greater than 0.
    - `envelope`: f, one of `Constant`, `Gaussian`, `Square`, `Tabulated`, `Chirped`, or any callable (an Equinox
      module if it has parameters) of the time in ps. Default: light that is always on.

    **Raises** `ValueError` for a negative intensity or a photon energy that is not positive.

    **Source** docs/physics.md, "From the laser to the loss of doublons".
    """

    intensity: Float[Array, "..."]
    photon_energy: Float[Array, "..."]
    envelope: Envelope | None

    def __init__(self, intensity: Numbers, photon_energy: Numbers, envelope: Any = None):
        self.intensity = float_array("intensity", intensity)
        self.photon_energy = float_array("photon_energy", photon_energy)
        if not (envelope is None or callable(envelope)):
            raise ValueError(
                f"envelope = {envelope!r} is not callable: pass a function of the time in ps, "
                "for example nrjax.Gaussian(centre, width)."
            )
        self.envelope = envelope

    def __check_init__(self) -> None:
        require_nonnegative("intensity", self.intensity, "It is in W/cm^2; 0 is darkness.")
        require_positive("photon_energy", self.photon_energy, "It is in meV; visible light has 1600 to 3300.")
        for name in ("intensity", "photon_energy"):
            warn_if_implausible(name, getattr(self, name))

    @property
    def is_constant(self) -> bool:
        """Whether the light does not change in time."""
        return self.envelope is None

    def plateau(self) -> "Laser":
        """The constant laser of the same intensity and photon energy."""
        return Laser(self.intensity, self.photon_energy)

    def at(self, t: Number) -> "Laser":
        """The constant laser that this one is at time `t` (ps)."""
        if self.envelope is None:
            return self
        shift = self.envelope.photon_energy_shift(t) if isinstance(self.envelope, AbstractEnvelope) else 0.0
        factor = jnp.asarray(self.envelope(t), self.intensity.dtype)
        return Laser(self.intensity * factor, self.photon_energy + shift)

    @property
    def field_squared(self) -> Float[Array, "..."]:
        """E0^2 = 2 Z0 I in (meV / (e angstrom))^2: linear in the intensity, so that derivatives at 0 are finite."""
        volt_per_cm = 1e-6 * units.MV_per_cm
        return 2.0 * units.VACUUM_IMPEDANCE_OHM * volt_per_cm**2 * self.intensity

    @property
    def peak_field(self) -> Float[Array, "..."]:
        """E0 in MV/cm."""
        return safe_sqrt(self.field_squared) / units.MV_per_cm


class OpticalTransition(eqx.Module):
    """The excitation of a doublon's electron into a higher level: a Lorentzian line.

        Omega_R = d E0,   delta = hnu - hnu_0,
        kappa = (Omega_R^2/4) Gamma / (delta^2 + Gamma^2/4),   shift = (Omega_R^2/4) delta / (delta^2 + Gamma^2/4).

    **Arguments** (scalars, or arrays over moments)

    - `energy`: hnu_0 in meV, the photon energy on resonance with the *virtual* doublon of an exchange: eps_f - eps_F,
      the energy from the Fermi level to the upper level (`of_virtual_doublon`). The published condition, eps_f -
      (eps_d + U), is that of a real doublon and lies Delta_2 below (`of_real_doublon`).
    - `dipole`: d in e*angstrom, 0 or greater; 0 is a moment without this transition.
    - `linewidth`: Gamma in meV, full width of the upper level, greater than 0.

    **Raises** `ValueError` for values outside these ranges.

    **Source** elimination of doublon and upper level, derived in docs/physics.md,
    "The upper level, eliminated exactly".
    """

    energy: Float[Array, "..."]
    dipole: Float[Array, "..."]
    linewidth: Float[Array, "..."]

    def __init__(self, energy: Numbers, dipole: Numbers, linewidth: Numbers):
        self.energy = float_array("transition energy", energy)
        self.dipole = float_array("dipole", dipole)
        self.linewidth = float_array("linewidth", linewidth)

    def __check_init__(self) -> None:
        require_positive("transition energy", self.energy, "It is the photon energy on resonance, in meV.")
        require_nonnegative("dipole", self.dipole, "It is in e*angstrom; 0 takes the transition away.")
        require_positive("linewidth", self.linewidth, "It is the full width of the upper level, in meV.")
        for name, value in (("transition energy", self.energy), ("dipole", self.dipole), ("linewidth", self.linewidth)):
            warn_if_implausible(name, value)

    @classmethod
    def of_virtual_doublon(
        cls, upper_level: Numbers, dipole: Numbers, linewidth: Numbers, fermi_energy: Numbers = 0.0
    ) -> "OpticalTransition":
        """hnu_0 = eps_f - eps_F: the light meets the doublon that an electron at the Fermi level makes for a moment.

        **Arguments** `upper_level`: eps_f in meV. `fermi_energy`: eps_F in meV. The others as above.
        """
        energy = float_array("upper_level", upper_level) - float_array("fermi_energy", fermi_energy)
        return cls(energy, dipole, linewidth)

    @classmethod
    def of_real_doublon(
        cls, upper_level: Numbers, level: Numbers, repulsion: Numbers, dipole: Numbers, linewidth: Numbers
    ) -> "OpticalTransition":
        """hnu_0 = eps_f - (eps_d + U): the published condition, for a doublon that has its own energy.

        Virtual doublons, which carry the exchange, do not: Delta_2 = U + eps_d - eps_F is missing. Take it for upper
        levels that are broad against Delta_2, or to follow the paper's formula to the letter.

        **Arguments** `upper_level`, `level`, `repulsion`: eps_f, eps_d and U in meV. The others as above.

        **Source** Hanai, Ootsuki, Tazai 2025.
        """
        doublon = float_array("level", level) + float_array("repulsion", repulsion)
        return cls(float_array("upper_level", upper_level) - doublon, dipole, linewidth)

    def detuning(self, laser: Laser) -> Float[Array, "..."]:
        """delta = hnu - hnu_0 in meV."""
        return laser.photon_energy - self.energy

    def rabi_energy(self, laser: Laser) -> Float[Array, "..."]:
        """Omega_R = d E0 in meV."""
        return self.dipole * safe_sqrt(laser.field_squared)

    def admixture(self, laser: Laser) -> Float[Array, "..."]:
        """(Omega_R^2/4) / (delta^2 + Gamma^2/4) = kappa/Gamma: how much of the upper level the light mixes in."""
        half_rabi_squared = 0.25 * self.dipole**2 * laser.field_squared
        return half_rabi_squared / (self.detuning(laser) ** 2 + 0.25 * self.linewidth**2)

    def pump_rate(self, laser: Laser) -> Float[Array, "..."]:
        """kappa in meV: the rate at which a doublon loses its spin-up (or its spin-down) electron."""
        return self.linewidth * self.admixture(laser)

    def light_shift(self, laser: Laser) -> Float[Array, "..."]:
        """The shift of the doublon's energy through the transition of one of its two electrons, in meV."""
        return self.detuning(laser) * self.admixture(laser)
