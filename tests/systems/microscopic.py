"""Exact small systems behind the light: two and three levels, one singlet, non-interacting electrons on a lattice."""

import numpy as np


def slowest_eigenvalue(matrix: np.ndarray) -> complex:
    """The eigenvalue of the smallest modulus: the state that weak couplings leave nearly unchanged."""
    values = np.linalg.eigvals(matrix)
    return complex(values[np.argmin(np.abs(values))])


def driven_doublon(rabi: float, detuning: float, linewidth: float) -> complex:
    """Energy of a doublon that light couples to an upper level of width Gamma, in the frame rotating with the light."""
    return slowest_eigenvalue(np.array([[0.0, rabi / 2], [rabi / 2, -detuning - 0.5j * linewidth]]))


def singlet_with_upper_level(
    v: float, doublon_cost: float, hole_cost: float, rabi: float, detuning: float, linewidth: float
) -> complex:
    """Energy of the singlet of one conduction electron (at the Fermi energy) and one local moment, nothing eliminated.

    It hops with sqrt(2) v to the doublon, each of whose electrons light couples to the upper level, and to the hole.
    The triplet hops nowhere. `detuning` counts from the energy that takes an electron from the Fermi level to the
    upper level.
    """
    a, r, upper = np.sqrt(2.0) * v, rabi / 2, -detuning - 0.5j * linewidth
    return slowest_eigenvalue(
        np.array(
            [
                [0.0, a, a, 0.0, 0.0],
                [a, doublon_cost, 0.0, r, r],
                [a, 0.0, hole_cost, 0.0, 0.0],
                [0.0, r, 0.0, upper, 0.0],
                [0.0, r, 0.0, 0.0, upper],
            ]
        )
    )


def spin_polarization(hopping: np.ndarray, temperature: float, mu: float, field: np.ndarray) -> np.ndarray:
    """<s_z(i)> of electrons with the energy -sum_i B_i s_z(i), by diagonalizing each spin."""

    def density(sign: float) -> np.ndarray:
        energies, states = np.linalg.eigh(hopping - 0.5 * sign * np.diag(field))
        occupation = 1.0 / (1.0 + np.exp((energies - mu) / temperature))
        return (np.abs(states) ** 2) @ occupation

    return 0.5 * (density(1.0) - density(-1.0))
