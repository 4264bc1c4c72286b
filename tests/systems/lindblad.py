"""Lindbladians as QuTiP sees them: operators built from QuTiP's own spins and Jordan-Wigner fermions."""

import functools
from typing import Any

import numpy as np
import qutip


def fermion(mode: int, modes: int, spins: int = 0) -> qutip.Qobj:
    """The annihilator of a mode behind `spins` spins, on a flat space."""
    factors = [qutip.qeye(2)] * spins + [qutip.sigmaz()] * mode + [qutip.Qobj([[0, 1], [0, 0]])]
    return flat(qutip.tensor(*factors, *[qutip.qeye(2)] * (modes - mode - 1)))


def spin(which: int, spins: int, modes: int) -> list[qutip.Qobj]:
    """S_x, S_y, S_z of a spin in front of fermion modes."""
    result = []
    for sigma in (qutip.sigmax(), qutip.sigmay(), qutip.sigmaz()):
        factors = [qutip.qeye(2)] * (spins + modes)
        factors[which] = 0.5 * sigma
        result.append(flat(qutip.tensor(*factors)))
    return result


def flat(operator: qutip.Qobj) -> qutip.Qobj:
    return qutip.Qobj(operator.data, dims=[[operator.shape[0]], [operator.shape[1]]])


PAULI = [np.array([[0, 1], [1, 0]]), np.array([[0, -1j], [1j, 0]]), np.array([[1, 0], [0, -1]])]


def electron_spin(up: Any, down: Any) -> list[Any]:
    c = (up, down)
    return [sum(0.5 * p[a, b] * c[a].dag() * c[b] for a in range(2) for b in range(2)) for p in PAULI]


def reservoir_jumps(hopping, c, rate, temperature, mu):
    """Jump operators of a bath on the eigenstates of a hopping matrix; c[i][s] annihilates at a site."""
    energies, states = np.linalg.eigh(hopping)
    occupation = 1 / (np.exp((energies - mu) / temperature) + 1)
    jumps = []
    for k, f in enumerate(occupation):
        for s in range(2):
            level: Any = sum(np.conj(states[i, k]) * c[i][s] for i in range(len(energies)))
            jumps += [np.sqrt(rate * (1 - f)) * level, np.sqrt(rate * f) * level.dag()]
    return jumps


def anderson(hopping, levels, repulsions, hybridizations, sites, kappas, field=(0, 0, 0), reservoir=None):
    """(H, jump operators): modes of impurities first, then of sites, up and down in turn."""
    count, band = len(levels), len(hopping)
    make = functools.partial(fermion, modes=2 * (count + band))
    d: Any = [[make(2 * a + s) for s in range(2)] for a in range(count)]
    c: Any = [[make(2 * (count + i) + s) for s in range(2)] for i in range(band)]
    h: Any = sum(hopping[i, j] * c[i][s].dag() * c[j][s] for i in range(band) for j in range(band) for s in range(2))
    jumps = []
    for a in range(count):
        n: list[Any] = [d[a][s].dag() * d[a][s] for s in range(2)]
        h += levels[a] * (n[0] + n[1]) + repulsions[a] * n[0] * n[1]
        for s in range(2):
            hop = hybridizations[a] * d[a][s].dag() * c[sites[a]][s]
            h += hop + hop.dag()
            jumps.append(np.sqrt(kappas[a]) * d[a][s] * n[1 - s])
    for modes in (*d, *c):
        h += sum(-2 * b * s for b, s in zip(field, electron_spin(*modes), strict=True))
    if reservoir is not None:
        jumps += reservoir_jumps(hopping, c, *reservoir)
    return h, jumps


def spin_fermion(hopping, couplings, losses, sites, field=(0, 0, 0), reservoir=None):
    """(H, jump operators): spins first, then the modes of the sites."""
    count, band = len(couplings), len(hopping)
    c = [[fermion(2 * i + s, 2 * band, count) for s in range(2)] for i in range(band)]
    h: Any = sum(hopping[i, j] * c[i][s].dag() * c[j][s] for i in range(band) for j in range(band) for s in range(2))
    jumps = []
    for a in range(count):
        big, small = spin(a, count, 2 * band), electron_spin(*c[sites[a]])
        h += sum(-2 * couplings[a] * x * y for x, y in zip(big, small, strict=True))
        h += sum(-2 * b * x for b, x in zip(field, big, strict=True))
        for s in range(2):
            lost = sum(
                (0.5 * (s == t) - sum(p[s, t] * x for p, x in zip(PAULI, big, strict=True))) * c[sites[a]][t]
                for t in range(2)
            )
            jumps.append(np.sqrt(losses[a]) * lost)
    for modes in c:
        h += sum(-2 * b * x for b, x in zip(field, electron_spin(*modes), strict=True))
    if reservoir is not None:
        jumps += reservoir_jumps(hopping, c, *reservoir)
    return h, jumps


def evolve(h, jumps, rho, times, rates=None):
    """rho at all times (hbar/meV); `rates` are functions of time that multiply some jump operators."""
    collapse = [jumps[i] if rates is None or rates[i] is None else [jumps[i], rates[i]] for i in range(len(jumps))]
    options = {"atol": 1e-12, "rtol": 1e-10, "nsteps": 10_000_000, "method": "vern9"}
    result = qutip.mesolve(h, qutip.Qobj(np.asarray(rho)), np.asarray(times), collapse, options=options)
    return np.array([state.full() for state in result.states])
