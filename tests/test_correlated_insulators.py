"""Hubbard clusters and the pair with Hund's rule, against closed forms and exact matrices."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm

from nrjax import HundLight, Lattice, LocalMoment, MottLight, units
from nrjax.lindblad import (
    AndersonModel,
    HubbardModel,
    HundModel,
    evolve,
    product_state,
    quantum_trajectories,
    steady_state,
)
from nrjax.lindblad.elimination import lindbladian
from nrjax.lindblad.fermions import double_occupation, fermion_spin
from tests.refusal import assert_refused

UP, DOWN = [0.0, 0.0, 1.0], [0.0, 0.0, -1.0]
LEVELS, U, KAPPA, T = (0.1, -0.1), 1.0, 0.3, 0.02


def pair(t=T, refill="none", scale=1.0, **options):
    """The Mott pair of the tables: light on the second site."""
    hopping = scale * np.array([[LEVELS[0], t], [t, LEVELS[1]]])
    return HubbardModel(hopping, scale * U, [0.0, scale * KAPPA], refill=refill, **options)


def expected(t=T):
    """J and gamma of the singlet."""
    d_b, d_a = U + LEVELS[1] - LEVELS[0], U + LEVELS[0] - LEVELS[1]
    return 2 * t**2 * (d_b / (d_b**2 + KAPPA**2) + 1 / d_a), KAPPA * t**2 / (d_b**2 + KAPPA**2)


@pytest.mark.parametrize("refill", ["none", "unpolarized", "return"])
def test_the_refill_does_not_change_the_torques(refill):
    """<S_A - S_B>_z = cos(Jt) exp(-2 gamma t) from up and down, to 3.2e-3; the total stays 0."""
    model = pair(refill=refill, refill_rate=0.5 if refill == "unpolarized" else 0.0)
    j, gamma = expected()
    times = np.linspace(0.0, 1.0 / (2 * gamma), 41)
    found = evolve(model, product_state(model, [UP, DOWN]), times / units.ps, ["impurity_spin", "trace", "doublon"])
    spins = np.asarray(found.observables["impurity_spin"])
    np.testing.assert_allclose(found.observables["trace"], 1.0, atol=1e-7)
    np.testing.assert_allclose(spins[:, 0, 2] + spins[:, 1, 2], 0.0, atol=1e-6)
    closed = np.cos(j * times) * np.exp(-2 * gamma * times)
    difference = np.abs(spins[:, 0, 2] - spins[:, 1, 2] - closed).max()
    assert difference < 5e-3 if refill != "unpolarized" else difference < 2e-2
    assert 0.0 < float(np.max(np.asarray(found.observables["doublon"]))) < 2e-3


def test_a_pair_is_its_matrices():
    """`evolve` on the sparse operators against the matrix exponential of the same Lindbladian, built by hand."""
    model = pair(t=0.3, field=[0.0, 0.1, 0.2])
    start = product_state(model, [[0.6, 0.0, 0.5], [0.0, -0.7, 0.2]])
    whole = np.asarray(lindbladian(model.hamiltonian(), model.jump_operators()))
    times = np.array([0.0, 1.0, 3.0])
    found = evolve(model, start, times / units.ps, ["impurity_spin", "doublon", "light_torque", "light_current"])
    operators = [np.asarray(fermion_spin(model.space, m, k).toarray()) for m in (0, 2) for k in range(3)]
    doubles = [np.asarray(double_occupation(model.space, m).toarray()) for m in (0, 2)]
    jumps = np.asarray(model.jump_operators())
    for i, time in enumerate(times):
        rho = (expm(whole * time) @ np.asarray(start).ravel()).reshape(16, 16)
        spins = [np.real(np.trace(x @ rho)) for x in operators]
        np.testing.assert_allclose(np.ravel(found.observables["impurity_spin"][i]), spins, atol=1e-7)
        twice = [np.real(np.trace(x @ rho)) for x in doubles]
        np.testing.assert_allclose(found.observables["doublon"][i], twice, atol=1e-7)
        lost = sum(x @ rho @ x.conj().T - 0.5 * (x.conj().T @ x @ rho + rho @ x.conj().T @ x) for x in jumps)
        torque = [np.real(np.trace(x @ lost)) for x in operators]
        np.testing.assert_allclose(np.ravel(found.observables["light_torque"][i]), torque, atol=1e-7)
        np.testing.assert_allclose(found.observables["light_current"][i], [0.0, 2 * KAPPA * twice[1]], atol=1e-7)


def test_projection_and_layers_are_the_closed_forms():
    model = pair()
    j, gamma = expected()
    effective = model.project()
    levels = np.linalg.eigvalsh(np.asarray(effective.hamiltonian)[np.ix_(*[_one_each(model)] * 2)])
    np.testing.assert_allclose(levels, [-j, 0.0, 0.0, 0.0], atol=1e-12)
    light = model.light()
    assert isinstance(light, MottLight)
    np.testing.assert_allclose(light.hop_rate, [[0.0, gamma], [gamma, 0.0]], rtol=1e-12)
    model = pair(refill="return")
    returned, among = model.project(), np.ix_(*[_one_each(model)] * 2)
    # Random exchange of neighbours: D(rho) = gamma (S rho S - rho), S = 2 s_A.s_B + 1/2.
    spins = [fermion_spin(model.space, 0, k).toarray() @ fermion_spin(model.space, 2, k).toarray() for k in range(3)]
    states = np.flatnonzero(model.spin_states())
    swap = (2 * sum(spins) + 0.5 * np.eye(16))[np.ix_(states, states)][among]
    jumps = [np.asarray(x)[among] for x in np.asarray(returned.jumps)]
    loss = np.sum([x.conj().T @ x for x in jumps], axis=0)
    h = np.asarray(returned.hamiltonian)[among]
    one = np.eye(4)
    whole = sum(np.kron(x, x.conj()) for x in jumps) - 0.5 * (np.kron(loss, one) + np.kron(one, loss.T))
    np.testing.assert_allclose(whole, gamma * (np.kron(swap, swap.conj()) - np.eye(16)), atol=1e-15)
    np.testing.assert_allclose(np.linalg.eigvalsh(h), [-j, 0.0, 0.0, 0.0], atol=1e-12)


def _one_each(model):
    """Where states with one electron on each site stand in the subspace."""
    states = np.flatnonzero(model.spin_states())
    return np.flatnonzero(model.space.particles[states] == 2)


def test_three_sites_add_their_bonds():
    """A-B-A', light on B: early torques are those of `MottLight`, before anything turns."""
    t, e = 0.01, 0.1
    hopping = [[e, t, 0.0], [t, -e, t], [0.0, t, e]]
    model = HubbardModel(hopping, U, [0.0, KAPPA, 0.0])
    rates = np.asarray(model.light().hop_rate)
    _, gamma = expected(t)
    np.testing.assert_allclose(rates, gamma * np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]]), rtol=1e-12)
    m = np.array([[0.3, 0.0, 0.5], [0.0, 0.4, 0.1], [-0.2, 0.1, 0.3]])
    effective = model.project()
    states = np.flatnonzero(model.spin_states())
    rho = np.asarray(product_state(model, m))[np.ix_(states, states)]
    jumps = np.asarray(effective.jumps)
    lost = sum(x @ rho @ x.conj().T - 0.5 * (x.conj().T @ x @ rho + rho @ x.conj().T @ x) for x in jumps)
    for a in range(3):
        for k in range(3):
            spin = fermion_spin(model.space, 2 * a, k).toarray()[np.ix_(states, states)]
            torque = 2 * np.real(np.trace(spin @ lost))
            assert torque == pytest.approx(sum(rates[a, b] * (m[b, k] - m[a, k]) for b in range(3)), abs=2e-3 * gamma)


def test_trajectories_and_dark_states():
    model = pair(t=0.3, refill="unpolarized", refill_rate=0.4, field=[0.0, 0.0, 0.3])
    times = np.linspace(0.0, 4.0, 5) / units.ps
    up_down = np.zeros(16, complex)
    up_down[int("1001", 2)] = 1.0
    exact = evolve(model, product_state(model, [UP, DOWN]), times, ["impurity_spin", "particles"])
    drawn = quantum_trajectories(
        model, up_down, times, ["impurity_spin", "particles"], trajectories=1000, key=jax.random.key(1)
    )
    for name in ("impurity_spin", "particles"):
        spread = np.asarray(drawn.errors[name]) + 1e-3
        assert np.all(np.abs(np.asarray(drawn.observables[name]) - np.asarray(exact.observables[name])) < 5 * spread)
    # Parallel spins are dark: no state is the only stationary one.
    parallel = evolve(model, product_state(model, [UP, UP]), times, ["particles"])
    np.testing.assert_allclose(parallel.observables["particles"], 2.0, atol=1e-9)
    assert_refused(lambda: steady_state(model, ["particles"]), ["more than one state is stationary", "evolve"])


def test_hund_pair_gives_the_torques_of_its_light():
    """Early slopes of the whole model, on both moments, are those of `HundLight`, the reference numbers to 1e-10."""
    model = HundModel(0.05, 0.9, 1.9, 0.2)
    light = model.light()
    assert isinstance(light, HundLight)
    found = [float(x) for x in (light.g0, light.g1, light.g2, light.y)]
    np.testing.assert_allclose(found, [4.9184745991e-4, 1.1790863765e-4, 4.2110227732e-5, 8.4220455464e-6], rtol=1e-9)
    weak = HundModel(0.0125, 0.9, 1.9, 0.2)
    m = np.array([[0.3, 0.1, 0.5], [0.0, 0.6, -0.2]])
    effective, states = weak.project(), np.flatnonzero(weak.spin_states())
    rho = np.asarray(product_state(weak, m))[np.ix_(states, states)]
    rates = weak.light()
    push, loss = (np.asarray(x) for x in rates.torque(jnp.zeros((2, 2)), jnp.ones(2)))
    turn = float(rates.y)
    lost = sum(
        x @ rho @ x.conj().T - 0.5 * (x.conj().T @ x @ rho + rho @ x.conj().T @ x) for x in np.asarray(effective.jumps)
    )
    expected = push @ m - loss[:, None] * m
    expected[1] -= turn * np.cross(m[0], m[1])
    for o in range(2):
        spins = [fermion_spin(weak.space, 2 * o, k).toarray()[np.ix_(states, states)] for k in range(3)]
        torque = [2 * np.real(np.trace(x @ lost)) for x in spins]
        np.testing.assert_allclose(torque, expected[o], atol=2e-3 * float(rates.g0))
    # The whole model, through many periods of the virtual states: A's electron is lost at 4 G0-like rates.
    times = np.linspace(0.0, 2000.0, 9)
    seen = evolve(weak, product_state(weak, m), times / units.ps, ["impurity_spin", "light_current"])
    small = np.asarray(effective.generator)
    for i in (4, 8):
        later = (expm(small * times[i]) @ rho.ravel()).reshape(rho.shape)
        for o in range(2):
            spins = [fermion_spin(weak.space, 2 * o, k).toarray()[np.ix_(states, states)] for k in range(3)]
            exact = [np.real(np.trace(x @ later)) for x in spins]
            np.testing.assert_allclose(seen.observables["impurity_spin"][i, o], exact, atol=1e-3)
    assert seen.observables["light_current"].shape == (9, 1)


def test_derivatives_of_a_cluster():
    """Of what is seen with respect to hop, repulsion and light, against differences."""

    def spin(x):
        model = HubbardModel(jnp.array([[0.1, 0.0], [0.0, -0.1]]) + x[0] * jnp.array([[0.0, 1], [1, 0]]), x[1], x[2:])
        found = evolve(model, product_state(model, [UP, DOWN]), [0.0, 2.0], ["impurity_spin"])
        return found.observables["impurity_spin"][-1, 0, 2]

    point = jnp.array([0.3, 1.0, 0.1, 0.3])
    slopes = jax.jacfwd(spin)(point)
    for k, step in enumerate(1e-4 * jnp.eye(4)):
        assert float(slopes[k]) == pytest.approx(float(spin(point + step) - spin(point - step)) / 2e-4, abs=2e-6)


def test_sites_that_are_not_joined():
    """A ring without the operators of what it has not, against one of which nothing is known when it is built: the same
    numbers, and the derivative with respect to a hop across it."""
    ring = Lattice.chain(4, 0.2)
    light, start = [0.0, 0.3, 0.0, 0.2], [UP, DOWN, UP, DOWN]

    def spins(model):
        found = evolve(model, product_state(model, start), [0.0, 1.0], ["impurity_spin"])
        return found.observables["impurity_spin"][-1, :, 2]

    def across(x):
        hop = jnp.zeros((4, 4)).at[0, 2].set(x).at[2, 0].set(x)
        return spins(HubbardModel(ring.hopping_matrix() + hop, 1.0, light))

    few = HubbardModel(ring, 1.0, light)
    assert len(few.generator.hamiltonian) == 4 + 4 + 4
    whole = jax.jit(lambda t: spins(HubbardModel(t * ring.hopping_matrix(), 1.0, light)))(1.0)
    np.testing.assert_allclose(spins(few), whole, atol=1e-13)
    _, slope = jax.jvp(across, (0.0,), (1.0,))
    differences = (across(1e-3) - across(-1e-3)) / 2e-3
    assert np.abs(slope).max() > 1e-3
    np.testing.assert_allclose(slope, differences, atol=1e-6)
    # What was left out cannot come back unseen.
    moved = eqx.tree_at(lambda model: model.hopping, few, few.hopping.at[0, 2].set(0.1).at[2, 0].set(0.1))
    assert_refused(lambda: spins(moved), ["(0, 2)", "Build it anew"])


def test_models_are_arguments_of_programs():
    """Numbers are arrays and everything else is fixed: under jit, and in batches."""
    models = jax.vmap(lambda u: HubbardModel([[0.1, 0.02], [0.02, -0.1]], u, [0.0, 0.3], refill="return"))(
        jnp.array([1.0, 2.0])
    )
    found = jax.jit(jax.vmap(lambda model: model.fixed_parameters()))(models)
    np.testing.assert_allclose(found[:, 3:5], [[1.0, 1.0], [2.0, 2.0]])
    hund = jax.jit(lambda model: model.light().g0)(HundModel(0.05, 0.9, 1.9, 0.2))
    assert float(hund) == pytest.approx(4.9184745991e-4, rel=1e-9)


def test_bad_clusters_are_refused():
    assert_refused(lambda: HubbardModel(np.eye(2), 1.0, [-0.1, 0.0]), ["pump_rate", "0 or greater"])
    assert_refused(lambda: pair(refill="polarized"), ["polarized", "unpolarized", "return"])
    assert_refused(lambda: HubbardModel([[0, 1], [2, 0]], 1.0, 0.1), ["Hermitian"])
    anderson = AndersonModel(LocalMoment(-400.0, 1000.0, 30.0), [[0.0]])
    assert_refused(lambda: product_state(anderson, [UP]), ["conduction is missing", "conduction_state"])
    assert_refused(lambda: HundModel(0.1, -0.9, 1.9, 0.2), ["triplet", "greater than 0"])
    model = pair()
    start = product_state(model, [UP, DOWN])
    assert_refused(lambda: evolve(model, start, [0.0, 1.0], ["singlet"]), ["singlet", "matrix"])
