"""The projection engine against closed forms and against the whole system: Anderson, Mott and Hund."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm

from nrjax import HundLight, Laser, LocalMoment, OpticalTransition
from nrjax.lindblad import AndersonModel, SpinFermionModel, project, schur
from nrjax.lindblad.elimination import lindbladian
from nrjax.lindblad.fermions import Space, annihilator, density, double_occupation, fermion_spin
from tests.refusal import assert_refused

SIGMA = np.array([[[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]])


def dense(x):
    return np.asarray(x.toarray())


class Sites:
    """Orbitals with spin: annihilators, densities and spins as matrices."""

    def __init__(self, orbitals):
        self.space = Space(0, 2 * orbitals)
        self.c: Any = [[dense(annihilator(self.space, 2 * o + s)) for s in range(2)] for o in range(orbitals)]
        self.n = [dense(density(self.space, 2 * o)) for o in range(orbitals)]
        self.double = [dense(double_occupation(self.space, 2 * o)) for o in range(orbitals)]
        self.spin = [[dense(fermion_spin(self.space, 2 * o, k)) for k in range(3)] for o in range(orbitals)]

    def hop(self, a, b):
        forth = self.c[a][0].T @ self.c[b][0] + self.c[a][1].T @ self.c[b][1]
        return forth + forth.T

    def states(self, **occupied):
        """Basis states in which orbitals have given numbers of electrons."""
        keep = np.ones(self.space.dimension, bool)
        for name, number in occupied.items():
            keep &= np.isclose(np.diag(self.n[int(name[1:])]), number)
        return np.flatnonzero(keep)

    def taken(self, orbital):
        """c_s n_-s: electrons of doubly occupied states."""
        c = self.c[orbital]
        return [c[s] @ c[1 - s].T @ c[1 - s] for s in range(2)]


def on(operator, states):
    return operator[np.ix_(states, states)]


def superoperator(jumps):
    return sum(np.kron(x, np.conj(x)) for x in np.asarray(jumps))


def anderson(v=0.03, eps=-0.4, u=1.0, kappa=0.25):
    """One impurity (orbital 0) and one conduction site; the doublon loses an electron."""
    sites = Sites(2)
    hamiltonian = eps * sites.n[0] + u * sites.double[0] + v * sites.hop(0, 1)
    return sites, hamiltonian, [np.sqrt(kappa) * x for x in sites.taken(0)], sites.states(n0=1)


def test_an_anderson_impurity_is_the_closed_forms():
    sites, hamiltonian, jumps, states = anderson()
    found = project(hamiltonian, jumps, states)
    d0, d2, k, v = 0.4, 0.6, 0.25, 0.03
    g = -(v**2) * (d2 / (d2**2 + k**2) + 1 / d0)
    gamma, potential = k * v**2 / (d2**2 + k**2), 0.5 * v**2 * (1 / d0 - d2 / (d2**2 + k**2))
    np.testing.assert_allclose([g, gamma, potential], [-0.003528106509, 0.000532544379, 0.000485946746], rtol=1e-9)
    exchange = sum(sites.spin[0][i] @ sites.spin[1][i] for i in range(3))
    expected = -2.0 * g * exchange + potential * sites.n[1]
    difference = on(expected, states) - np.asarray(found.hamiltonian)
    # Up to a constant.
    np.testing.assert_allclose(difference, difference[0, 0] * np.eye(len(states)), atol=1e-14)
    lost = [
        np.sqrt(gamma)
        * sum(
            (0.5 * (s == t) * np.eye(16) - sum(sites.spin[0][i] * SIGMA[i][s, t] for i in range(3))) @ sites.c[1][t]
            for t in range(2)
        )
        for s in range(2)
    ]
    np.testing.assert_allclose(superoperator(found.jumps), superoperator([on(x, states) for x in lost]), atol=1e-16)
    # The same numbers as those of a magnet's local moment, whose light is a pump rate kappa.
    moment = LocalMoment(-400.0, 1000.0, 30.0)
    dark = project(hamiltonian, [], states)
    np.testing.assert_allclose(moment.sd_coupling() / 1000.0, -(v**2) * (1 / d2 + 1 / d0), rtol=1e-12)
    # Without light: singlet and triplet lie 2 |g| apart.
    one_electron = on(sites.n[1], states)
    among = np.flatnonzero(np.isclose(np.diag(one_electron), 1))
    levels = np.linalg.eigvalsh(on(np.asarray(dark.hamiltonian), among))
    np.testing.assert_allclose(levels[-1] - levels[0], -2.0 * moment.sd_coupling() / 1000.0, rtol=1e-10)


def errors(make, look, times, scales):
    """Largest difference between the whole system and its projection, for hops scaled down."""
    found = []
    for scale in scales:
        hamiltonian, jumps, states, start = make(scale)
        small = project(hamiltonian, jumps, states)
        whole, part = lindbladian(jnp.asarray(hamiltonian + 0j), jnp.asarray(np.array(jumps) + 0j)), small.generator
        rho = np.zeros(hamiltonian.shape, complex)
        rho[np.ix_(states, states)] = start
        worst = 0.0
        for t in times(scale):
            exact, effective = expm(np.asarray(whole) * t) @ rho.ravel(), expm(np.asarray(part) * t) @ start.ravel()
            # On through several periods of the virtual states, whose amplitude is what is seen.
            steps = [expm(np.asarray(x) * 0.53) for x in (whole, part)]
            for _ in range(60):
                here = np.trace(look @ exact.reshape(rho.shape))
                there = np.trace(on(look, states) @ effective.reshape(start.shape))
                worst = max(worst, abs(here - there))
                exact, effective = steps[0] @ exact, steps[1] @ effective
        found.append(worst)
    return np.array(found)


def test_the_error_falls_by_four():
    """For each halving of the hop, at times that grow with the effective rate."""
    sites = Sites(2)

    def make(scale):
        _, hamiltonian, jumps, states = anderson(0.03 * scale)
        start = np.zeros((len(states), len(states)), complex)
        # Impurity up, conduction electron down.
        which = [
            i
            for i, state in enumerate(states)
            if np.isclose(sites.spin[0][2][state, state], 0.5) and np.isclose(sites.spin[1][2][state, state], -0.5)
        ]
        start[which[0], which[0]] = 1.0
        return hamiltonian, jumps, states, start

    found = errors(make, sites.spin[0][2], lambda scale: np.linspace(200, 1800, 4) / scale**2, (1.0, 0.5, 0.25))
    ratios = found[:-1] / found[1:]
    np.testing.assert_allclose(ratios, 4.0, atol=0.4)


def hubbard(t=0.02, u=1.0, levels=(0.1, -0.1), kappa=0.3, lossy=1):
    sites = Sites(2)
    hamiltonian = u * (sites.double[0] + sites.double[1]) + t * sites.hop(0, 1)
    hamiltonian = hamiltonian + levels[0] * sites.n[0] + levels[1] * sites.n[1]
    return sites, hamiltonian, [np.sqrt(kappa) * x for x in sites.taken(lossy)]


def test_a_mott_pair():
    """J, gamma, the singlet alone, cos(Jt) exp(-2 gamma t), and the total spin as an operator identity."""
    sites, hamiltonian, jumps = hubbard()
    # One electron on each site, or fewer: no doublons.
    states = np.flatnonzero(np.diag(sites.double[0] + sites.double[1]) < 0.5)
    found = project(hamiltonian, jumps, states)
    d_b, d_a, k, t = 1.0 - 0.1 - 0.1, 1.0 + 0.1 + 0.1, 0.3, 0.02
    j, gamma = 2 * t**2 * (d_b / (d_b**2 + k**2) + 1 / d_a), k * t**2 / (d_b**2 + k**2)
    np.testing.assert_allclose([j, gamma], [0.001543378995, 0.0001643835616], rtol=1e-9)
    pair = np.flatnonzero(np.isclose(np.diag(sites.n[0] * 1.0), 1) & np.isclose(np.diag(sites.n[1] * 1.0), 1))
    among = [int(np.flatnonzero(states == s)[0]) for s in pair]
    spins = sum(on(sites.spin[0][i] @ sites.spin[1][i], pair) for i in range(3))
    np.testing.assert_allclose(on(np.asarray(found.hamiltonian), among), j * (spins - 0.25 * np.eye(4)), atol=1e-15)
    loss = sum(np.conj(x).T @ x for x in np.asarray(found.jumps))
    np.testing.assert_allclose(on(loss, among), 4 * gamma * (0.25 * np.eye(4) - spins), atol=1e-15)
    # The adjoint of the light on the total spin vanishes, in the whole system; with hops in it, too.
    for axis in range(3):
        total = sites.spin[0][axis] + sites.spin[1][axis]
        adjoint = sum(
            x.conj().T @ total @ x - 0.5 * (x.conj().T @ x @ total + total @ x.conj().T @ x)
            for x in (*jumps, *(2.0 * x for x in sites.taken(0)))
        )
        np.testing.assert_allclose(adjoint, 0.0, atol=1e-14)
    start = np.zeros((len(states), len(states)), complex)
    up_down = [
        i
        for i, s in enumerate(states)
        if np.isclose(sites.spin[0][2][s, s], 0.5) and np.isclose(sites.spin[1][2][s, s], -0.5)
    ]
    start[up_down[0], up_down[0]] = 1.0
    staggered = on(sites.spin[0][2] - sites.spin[1][2], states)
    for time in (300.0, 1500.0, 3000.0):
        rho = (expm(np.asarray(found.generator) * time) @ start.ravel()).reshape(start.shape)
        closed = np.cos(j * time) * np.exp(-2 * gamma * time)
        np.testing.assert_allclose(np.real(np.trace(staggered @ rho)), closed, atol=1e-12)

    def make(scale):
        _, hamiltonian, jumps = hubbard(0.02 * scale)
        return hamiltonian, jumps, states, start

    look = sites.spin[0][2] - sites.spin[1][2]
    found = errors(make, look, lambda scale: np.linspace(500, 3000, 4) / scale**2, (1.0, 0.5, 0.25))
    assert found[0] < 4e-3
    np.testing.assert_allclose(found[:-1] / found[1:], 4.0, atol=0.4)


def test_a_hund_pair():
    """A's electron (orbital 0) hops into the second orbital (2) of B: torques on m_A and m_B are the closed forms."""
    sites, t, kappa, triplet, singlet = Sites(3), 0.05, 0.2, 0.9, 1.9
    # D_T = e2 + U' - J_H and D_S = e2 + U' + J_H of electrons in orbitals 1 and 2.
    spins = sum(sites.spin[1][i] @ sites.spin[2][i] for i in range(3))
    pairs = sites.n[1] @ sites.n[2]
    mean, half = 0.25 * (3 * triplet + singlet), 0.5 * (singlet - triplet)
    # Orbitals 0 and 1 hold one electron at most, orbital 2 is empty but for the virtual one.
    hamiltonian = mean * pairs - 2 * half * spins + t * sites.hop(0, 2) + 50.0 * sum(sites.double)
    hamiltonian = hamiltonian + 50.0 * sites.n[2] @ (np.eye(64) - sites.n[1])
    jumps = [np.sqrt(kappa) * c for c in sites.c[2]]
    states = np.flatnonzero(
        (np.diag(sites.n[2]) < 0.5) & (np.diag(sites.double[0]) < 0.5) & (np.diag(sites.double[1]) < 0.5)
    )
    found = project(hamiltonian, jumps, states)
    light = HundLight.of(t, triplet, singlet, kappa)
    h, left = np.asarray(found.hamiltonian), np.asarray(found.jumps)
    one = np.eye(2)

    def product(m_a, m_b):
        """A product state of two spins, in the pair states of the subspace."""
        rho = np.kron(
            0.5 * (one + sum(m_a[i] * SIGMA[i] for i in range(3))),
            0.5 * (one + sum(m_b[i] * SIGMA[i] for i in range(3))),
        )
        order = []
        for a, b in itertools.product((0.5, -0.5), repeat=2):
            order += [
                i
                for i, s in enumerate(states)
                if np.isclose(sites.n[0][s, s], 1)
                and np.isclose(sites.spin[0][2][s, s], a)
                and np.isclose(sites.spin[1][2][s, s], b)
            ]
        whole = np.zeros((len(states), len(states)), complex)
        whole[np.ix_(order, order)] = rho
        return whole

    rng = np.random.default_rng(2)
    for _ in range(3):
        m_a, m_b = (0.8 * x / np.linalg.norm(x) * rng.uniform() for x in rng.normal(size=(2, 3)))
        rho = product(m_a, m_b)
        drift = sum(x @ rho @ x.conj().T - 0.5 * (x.conj().T @ x @ rho + rho @ x.conj().T @ x) for x in left)
        rates = [[2 * np.real(np.trace(on(sites.spin[o][i], states) @ drift)) for i in range(3)] for o in (0, 1)]
        g0, g1, g2, y = (float(x) for x in (light.g0, light.g1, light.g2, light.y))
        # Loss of A's electron takes its moment along; that of a hole refilled unpolarized adds nothing.
        np.testing.assert_allclose(rates[0], -g0 * m_a - g1 * m_b, atol=1e-9)
        np.testing.assert_allclose(rates[1], -g2 * (m_b - m_a) - y * np.cross(m_a, m_b), atol=1e-9)
        exchange = -1j * (h @ rho - rho @ h)
        turned = [2 * np.real(np.trace(on(sites.spin[0][i], states) @ exchange)) for i in range(3)]
        # H = -j m_A . m_B turns m_A by 2 j m_A x m_B.
        np.testing.assert_allclose(turned, 2 * 3.5793693572e-4 * np.cross(m_a, m_b), atol=1e-8)


def test_derivatives():
    """Of rates and energies with respect to hop, repulsion, loss and a field that turns the levels of the subspace,
    forward and backward, at degenerate levels."""
    sites, hamiltonian, jumps, states = anderson()
    parts = [jnp.asarray(x) for x in (sites.n[0], sites.double[0], sites.hop(0, 1))]
    taken = [jnp.asarray(x) for x in sites.taken(0)]
    along, across = jnp.asarray(sites.spin[1][2]), jnp.asarray(sites.spin[1][0])

    def looked_at(x):
        h = -0.4 * parts[0] + x[0] * parts[1] + x[1] * parts[2] + 0.05 * along + x[3] * across
        found = project(h, [jnp.sqrt(x[2]) * c for c in taken], states)
        return jnp.concatenate([jnp.real(found.hamiltonian).ravel(), jnp.abs(found.jumps).ravel() ** 2])

    point = jnp.array([1.0, 0.03, 0.25, 0.04])
    forward, backward = jax.jacfwd(looked_at)(point), jax.jacrev(looked_at)(point)
    np.testing.assert_allclose(forward, backward, atol=1e-13)
    steps = 1e-4 * jnp.eye(4)
    differences = [
        (8 * (looked_at(point + s) - looked_at(point - s)) - looked_at(point + 2 * s) + looked_at(point - 2 * s))
        / 12e-4
        for s in steps
    ]
    np.testing.assert_allclose(forward, np.stack(differences, axis=1), atol=1e-9)


def test_anderson_models_are_projected_by_the_engine():
    """On a band without width `SpinFermionModel.project` is what the engine finds, in darkness and in light."""
    moment = LocalMoment(-200.0, 400.0, 2.0, OpticalTransition(1550.0, 1.0, 40.0))
    laser = Laser(0.2 * 40.0**2 / float(Laser(1.0, 1550.0).field_squared), 1550.0)
    # The engine's states have the impurity's spin down first.
    order = np.arange(8).reshape(2, 4)[::-1].ravel()
    scale = 1.0
    for light in (None, laser):
        model = AndersonModel([moment], np.zeros((1, 1)), light)
        found, closed = model.project(), SpinFermionModel.project(model)
        hamiltonian = np.asarray(found.hamiltonian)[np.ix_(order, order)]
        apart = hamiltonian - np.asarray(closed.hamiltonian())
        scale = abs(float(closed.sd_coupling[0]))
        np.testing.assert_allclose(apart, apart[0, 0] * np.eye(8), atol=1e-11 * scale)
        jumps = [np.asarray(x)[np.ix_(order, order)] for x in found.jumps]
        np.testing.assert_allclose(superoperator(jumps), superoperator(closed.jump_operators()), atol=1e-13 * scale)
    # With a band the engine has its energies in the denominators: the same to the order of its width.
    band = np.array([[0.0, 1.0], [1.0, 0.0]])
    wide, narrow = (AndersonModel([moment], x * band, laser) for x in (1.0, 0.5))
    errors = []
    for model in (wide, narrow):
        states = np.arange(32).reshape(2, 16)[::-1].ravel()
        found = np.asarray(model.project().hamiltonian)[np.ix_(states, states)]
        apart = found - np.asarray(SpinFermionModel.project(model).hamiltonian())
        errors.append(np.abs(apart - apart[0, 0] * np.eye(32)).max())
    assert errors[0] < 0.02 * scale and errors[1] / errors[0] == pytest.approx(0.5, abs=0.1)


def test_a_projection_on_spins_says_how_good_it_is():
    """As the engine does, of every impurity, at full intensity and whatever the band."""
    band = -(np.eye(2, k=1) + np.eye(2, k=-1))
    weak, strong = LocalMoment(-40.0, 80.0, 4.9), LocalMoment(-40.0, 80.0, 15.0)
    SpinFermionModel.project(AndersonModel([weak, weak], band))
    with pytest.warns(UserWarning, match="virtual states are mixed in with an amplitude of 0.75"):
        SpinFermionModel.project(AndersonModel([weak, strong], band))


def test_what_cannot_be_projected():
    sites, hamiltonian, jumps, states = anderson()
    dephasing = [0.5 * sites.double[0]]
    assert_refused(lambda: project(hamiltonian, dephasing, states), ["virtual states to virtual states", "schur"])
    # Doublons that never leave.
    assert_refused(lambda: schur(hamiltonian, dephasing, states), ["never decays"])
    filled = [sites.c[0][0].T @ sites.c[0][1].T @ sites.c[0][1]]
    assert_refused(lambda: project(hamiltonian, filled, states), ["out of the subspace"])
    level = np.diag(np.arange(3.0) // 2)
    assert_refused(lambda: project(level, [], [0]), ["energy of one inside", "does not decay"])
    with pytest.warns(UserWarning, match="amplitude of 0.*second order"):
        project(*anderson(0.2)[1:])
    assert_refused(lambda: project(hamiltonian + 0.1j * sites.n[0], jumps, states), ["not Hermitian"])
    assert_refused(lambda: project(hamiltonian, [np.eye(3)], states), ["jump 0", "(3, 3)"])
    assert_refused(lambda: project(hamiltonian, jumps, np.arange(16)), ["16 of 16"])
    assert_refused(lambda: project(hamiltonian, jumps, np.ones(4, bool)), ["(4,)", "16"])
    assert_refused(lambda: project(hamiltonian, jumps, np.ones((16, 2))), ["orthonormal"])


def test_schur_agrees_and_columns_are_a_subspace():
    """At levels of one energy both are the same beyond second order; a mask, numbers and columns are one subspace."""

    def both(t):
        sites, hamiltonian, jumps = hubbard(t, levels=(0.0, 0.0))
        jumps = [*jumps, *(0.6 * x for x in sites.taken(0))]
        # Two doublons, or a doublon beside a hole, are all that is left out.
        states = np.flatnonzero(np.diag(sites.double[0] + sites.double[1]) < 0.5)
        return hamiltonian, jumps, states, sites

    hamiltonian, jumps, states, sites = both(0.02)
    one = project(hamiltonian, jumps, states)
    other = project(hamiltonian, jumps, np.isin(np.arange(16), states))
    columns = project(hamiltonian, jumps, np.eye(16)[:, states])
    np.testing.assert_allclose(one.generator, other.generator, atol=0)
    np.testing.assert_allclose(columns.generator, one.generator, atol=1e-15)
    # Doublons of two kinds in turn: what leaves one may reach another, so that only the complement is exact.
    complement = np.asarray(schur(hamiltonian, jumps, states))
    trace = np.eye(len(states)).ravel()
    np.testing.assert_allclose(trace @ complement, 0.0, atol=1e-15)
    difference = np.abs(complement - np.asarray(one.generator)).max()
    half = np.abs(np.asarray(schur(*both(0.01)[:3])) - np.asarray(project(*both(0.01)[:3]).generator)).max()
    assert difference < 2e-5 and 7 < difference / half < 20, (difference, half)
    # A doublon that is dephased before it decays.
    assert_refused(
        lambda: project(hamiltonian, [*jumps, 0.4 * sites.double[1]], states), ["virtual states to virtual states"]
    )
    dephased = np.asarray(schur(hamiltonian, [*jumps, 0.4 * sites.double[1]], states))
    np.testing.assert_allclose(trace @ dephased, 0.0, atol=1e-15)
