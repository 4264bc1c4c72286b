"""Units as plain multipliers, and the constants behind them.

Inside every kernel energies are in meV and hbar = 1, so the internal unit of time is hbar / meV.
At the public interface time is in ps, frequency is an ordinary frequency in GHz, a laser intensity is in
W/cm^2, a transition dipole in e*angstrom, and a temperature is k_B T in meV. Multiply by a unit to enter the
internal system and divide by it to leave: `t = 40 * units.ps`, `t / units.ps`.

Values: CODATA 2018 (exact in the revised SI except the Bohr magneton).
"""

from typing import Final

HBAR_MEV_PS: Final = 0.6582119569509066
"""Reduced Planck constant in meV ps."""

PLANCK_MEV_PS: Final = 4.135667696923859
"""Planck constant in meV ps."""

BOLTZMANN_MEV_PER_KELVIN: Final = 0.08617333262145
"""Boltzmann constant in meV/K."""

BOHR_MAGNETON_MEV_PER_TESLA: Final = 0.05788381806
"""Bohr magneton in meV/T."""

VACUUM_IMPEDANCE_OHM: Final = 376.730313668
"""Impedance of free space: the amplitude of a light wave of intensity I is sqrt(2 Z0 I)."""

ELEMENTARY_CHARGE_COULOMB: Final = 1.602176634e-19
"""Charge of the proton in C."""

meV: Final = 1.0
"""Energy: the internal unit."""

ps: Final = 1.0 / HBAR_MEV_PS
"""One picosecond in units of hbar / meV."""

GHz: Final = PLANCK_MEV_PS * 1e-3
"""The angular velocity, in meV, of an ordinary frequency of 1 GHz: omega = 2 pi hbar f."""

kelvin: Final = BOLTZMANN_MEV_PER_KELVIN
"""Temperature: k_B times one kelvin, in meV."""

tesla: Final = BOHR_MAGNETON_MEV_PER_TESLA
"""Field energy, in meV, of a moment of one Bohr magneton in a field of one tesla."""

MV_per_cm: Final = 10.0
"""Electric field of 1 MV/cm in meV / (e angstrom): times a dipole in e*angstrom it is an energy in meV."""

nW: Final = 1e-9 / (ELEMENTARY_CHARGE_COULOMB * 1e-3) * 1e-12 / ps
"""Power of one nanowatt in meV^2 / hbar: an energy in meV times a rate in meV."""
