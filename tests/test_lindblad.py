"""The Lindbladian against QuTiP, its own identities, and the theory that rests on it."""

import functools
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nrjax import Gaussian, Laser, LayeredMagnet, LocalMoment, OpticalTransition, units
from nrjax.lindblad import (
    AndersonModel,
    Reservoir,
    SpinFermionModel,
    conduction_state,
    evolve,
    product_state,
    projection_error,
    quantum_trajectories,
    steady_state,
)
from nrjax.lindblad.generator import Triplets
from nrjax.lindblad.sparse import ParametricMatrix
from tests import differences
from tests.refusal import assert_refused
from tests.systems import lindblad as oracle

CHAIN = np.array([[0.0, -1.0], [-1.0, 0.0]])
TWISTED = np.array([[0.3, -1.0 + 0.4j], [-1.0 - 0.4j, 0.1]])
TRANSITION = OpticalTransition(1550.0, 1.0, 100.0)
A, B = LocalMoment(-40.0, 80.0, 6.0), LocalMoment(-35.0, 80.0, 5.0, TRANSITION)
LASER = Laser(4e10, 1560.0)
KAPPA = float(B.pump_rate(LASER))
BATH = (0.3, 0.7, 0.2)
FIELD = (0.2, -0.1, 0.4)
SPINS = np.array([[0.6, 0.0, -0.8], [0.0, 0.6, 0.5]])


def anderson_cases():
    yield "dark", dict(moments=[A, LocalMoment(-35.0, 80.0, 5.0)], hopping=CHAIN), [0.0, 0.0], 2
    yield "lit", dict(moments=[A, B], hopping=CHAIN, laser=LASER), [0.0, KAPPA], 2
    yield "bath", dict(moments=[B], hopping=TWISTED, laser=LASER, reservoir=BATH, field=FIELD), [KAPPA], None


@pytest.mark.parametrize("case", list(anderson_cases()), ids=lambda case: case[0])
def test_anderson_against_qutip(case):
    _, arguments, kappas, electrons = case
    arguments = dict(arguments)
    moments, hopping = arguments.pop("moments"), arguments.pop("hopping")
    bath, field = arguments.get("reservoir"), arguments.get("field", (0.0, 0.0, 0.0))
    if bath is not None:
        arguments["reservoir"] = Reservoir(*bath)
    model = AndersonModel(moments, hopping, **arguments)
    count = len(moments)
    step = 1e-4
    rho = product_state(model, SPINS[:count], conduction_state(model, 0.5, electrons=electrons, field=(0.1, 0.0, 0.2)))
    times = np.array([0.0, 0.13, 0.4])
    names = (
        "impurity_spin site_spin site_density impurity_density doublon singlet light_current particles purity".split()
    )
    solution = evolve(model, rho, times, (*names, "coherent_torque", "light_torque"))
    assert bool(solution.valid) and float(solution.stats["trace_drift"]) < 1e-12
    np.testing.assert_allclose(2.0 * solution["impurity_spin"][0], SPINS[:count], atol=1e-12)

    h, jumps = oracle.anderson(
        hopping,
        [float(m.level) for m in moments],
        # Light shifts both electrons of a doublon by kappa delta/Gamma.
        [float(m.repulsion) + 2.0 * kappa * 10.0 / 100.0 for m, kappa in zip(moments, kappas, strict=True)],
        [float(m.hybridization) for m in moments],
        range(count),
        kappas,
        field,
        bath,
    )
    np.testing.assert_allclose(model.hamiltonian(), h.full(), atol=1e-12)
    ours, theirs = np.asarray(model.jump_operators()), [x.full() for x in jumps]
    for act in (lambda x: x @ np.asarray(rho) @ x.conj().T, lambda x: x.conj().T @ x):
        np.testing.assert_allclose(sum(map(act, ours)), sum(map(act, theirs)), atol=1e-12)
    around = np.concatenate([[t - step, t, t + step] for t in times[1:] * units.ps])
    states = oracle.evolve(h, jumps, rho, np.concatenate([[0.0], around]))
    exact = states[[0, 2, 5]]
    np.testing.assert_allclose(solution.rho, exact[-1], atol=1e-7)
    assert np.linalg.eigvalsh(np.asarray(solution.rho))[0] > -1e-10

    # Observables from QuTiP's operators.
    modes = 2 * (count + len(hopping))
    c: Any = [[oracle.fermion(2 * x + s, modes) for s in range(2)] for x in range(modes // 2)]
    n: Any = [[x.dag() * x for x in pair] for pair in c]
    spins = [oracle.electron_spin(*pair) for pair in c]

    def mean(operator: Any):
        return np.einsum("ij,tji->t", operator.full(), exact).real

    for a in range(count):
        site = count + a
        for axis in range(3):
            np.testing.assert_allclose(solution["impurity_spin"][:, a, axis], mean(spins[a][axis]), atol=1e-7)
            np.testing.assert_allclose(solution["site_spin"][:, a, axis], mean(spins[site][axis]), atol=1e-7)
        np.testing.assert_allclose(solution["doublon"][:, a], mean(n[a][0] * n[a][1]), atol=1e-7)
        pair = (c[a][0].dag() * c[site][1].dag() - c[a][1].dag() * c[site][0].dag()) / np.sqrt(2)
        empty = (1 - n[a][0]) * (1 - n[a][1]) * (1 - n[site][0]) * (1 - n[site][1])
        np.testing.assert_allclose(solution["singlet"][:, a], mean(pair * empty * pair.dag()), atol=1e-7)
        lost = mean(sum(x.dag() * x for x in jumps[2 * a : 2 * a + 2]))
        np.testing.assert_allclose(solution["light_current"][:, a], lost, atol=1e-6)
        torque = solution["coherent_torque"] + solution["light_torque"]
        for axis in range(3):
            s = np.einsum("ij,tji->t", spins[a][axis].full(), states).real
            rate = np.array([s[3] - s[1], s[6] - s[4]]) / (2 * step)
            np.testing.assert_allclose(torque[1:, a, axis], rate, atol=1e-4)
    np.testing.assert_allclose(solution["site_density"][:, 0], mean(n[count][0] + n[count][1]), atol=1e-7)
    np.testing.assert_allclose(solution["purity"], np.einsum("tij,tji->t", exact, exact).real, atol=1e-7)


@pytest.mark.parametrize("bath, field, hopping", [(None, None, CHAIN), (BATH, FIELD, TWISTED)])
def test_spin_fermion_against_qutip(bath, field, hopping):
    reservoir = None if bath is None else Reservoir(*bath)
    model = SpinFermionModel([-1.0, -2.0], [0.3, 0.5], hopping, reservoir, field=field, sites=(1, 0))
    rho = product_state(model, SPINS, conduction_state(model, 0.5, electrons=2))
    solution = evolve(model, rho, [0.0, 2.0])
    h, jumps = oracle.spin_fermion(hopping, [-1.0, -2.0], [0.3, 0.5], (1, 0), field or (0, 0, 0), bath)
    exact = oracle.evolve(h, jumps, rho, np.array([0.0, 2.0]) * units.ps)
    np.testing.assert_allclose(solution.rho, exact[-1], atol=1e-7)


def test_light_in_time_against_qutip():
    model = AndersonModel([B], CHAIN, Laser(4e10, 1560.0, Gaussian(0.5, 0.6)))
    rho = product_state(model, [[0.6, 0.0, 0.8]], conduction_state(model, 0.5, electrons=2))
    times = np.array([0.0, 0.4, 1.0])
    solution = evolve(model, rho, times, ("light_current",), rtol=1e-10, atol=1e-12)
    h, jumps = oracle.anderson(CHAIN, [-35.0], [80.0], [5.0], (0,), [1.0])
    widths = 0.6 * units.ps

    def pump(t):
        return KAPPA * np.exp(-4 * np.log(2) * ((t - 0.5 * units.ps) / widths) ** 2)

    def amplitude(t):
        return np.sqrt(pump(t))

    doublon = oracle.anderson(CHAIN, [-35.0], [81.0], [5.0], (0,), [1.0])[0] - h
    h = [h, [doublon, lambda t: 2.0 * pump(t) * 10.0 / 100.0]]
    exact = oracle.evolve(h, jumps, rho, times * units.ps, [amplitude, amplitude])
    np.testing.assert_allclose(solution.rho, exact[-1], atol=1e-7)
    # What is lost at a time is lost to the light of that time.
    doublons = np.einsum("ij,tji->t", sum((x.dag() * x).full() for x in jumps), exact).real
    expected = np.array([pump(t) for t in times * units.ps]) * doublons
    np.testing.assert_allclose(solution["light_current"][:, 0], expected, atol=1e-6)
    assert expected[1] > 10.0 * expected[0] and expected[1] > 1e-3


@pytest.mark.filterwarnings("ignore:virtual states are mixed in")
def test_the_projection_follows_the_light():
    """At every time of a pulse g, K and gamma are those of the laser of that time."""
    pulse = Laser(4e10, 1560.0, Gaussian(0.5, 0.6))
    driven = SpinFermionModel.project(AndersonModel([B], CHAIN, pulse))
    for t in (0.1, 0.5, 0.8):
        frozen = SpinFermionModel.project(AndersonModel([B], CHAIN, pulse.at(t)))
        np.testing.assert_allclose(driven.hamiltonian(t), frozen.hamiltonian(), atol=1e-12)
        np.testing.assert_allclose(driven.jump_operators(t), frozen.jump_operators(), atol=1e-12)
    # Two electrons on the site have the energy 2 K, which a doublon's loss moves.
    site = [np.real(driven.hamiltonian(t)[0b01100, 0b01100]) for t in (0.1, 0.5)]
    assert abs(site[1] - site[0]) > 0.02


def test_identities_of_the_projection():
    model = SpinFermionModel([-1.0], [0.5], CHAIN)
    generator = model.generator
    spins = [x.full() for x in oracle.spin(0, 1, 4)]
    c = [oracle.fermion(s, 4, 1).full() for s in range(2)]
    electron = [x.full() for x in oracle.electron_spin(*(oracle.fermion(s, 4, 1) for s in range(2)))]
    n = sum(x.conj().T @ x for x in c)
    singlets = n - 4 * sum(x @ y for x, y in zip(spins, electron, strict=True))
    light = generator.parameters - 1
    np.testing.assert_allclose(generator.decay(light).toarray(), singlets, atol=1e-12)
    for axis in range(3):
        changed = generator.adjoint(light, model.impurity_spin(0, axis)).toarray()
        np.testing.assert_allclose(changed, electron[axis] - n @ spins[axis], atol=1e-12)
    # (1/2 - S.sigma)^2 = 2 (1/2 - S.sigma) on spin times electron spin.
    matrix = 0.5 * np.eye(4) - sum(0.5 * np.kron(p, p) for p in oracle.PAULI)
    np.testing.assert_allclose(matrix @ matrix, 2 * matrix, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_states_stay_states(seed):
    rng = np.random.default_rng(seed)
    hopping = rng.normal(size=(2, 2)) + 1j * rng.normal(size=(2, 2))
    model = SpinFermionModel(
        rng.normal(size=2),
        rng.uniform(0, 2, 2),
        hopping + hopping.conj().T,
        Reservoir(0.5, 1.0),
        field=rng.normal(size=3),
    )
    spins = rng.normal(size=(2, 3))
    spins /= np.linalg.norm(spins, axis=1)[:, None]
    rho = product_state(model, spins, conduction_state(model, 1.0))
    for time in (0.1, 1.0, 30.0):
        final = np.asarray(evolve(model, rho, [0.0, time], ()).rho)
        np.testing.assert_allclose(final, final.conj().T, atol=1e-14)
        assert np.trace(final).real == pytest.approx(1.0, abs=1e-12)
        assert np.linalg.eigvalsh(final)[0] > -1e-12


def scaled_model(repulsion, moments=2):
    """v^2/U and gamma stay as they are while U grows."""
    v = np.sqrt(0.5 * repulsion)
    kappa = 0.3 * (0.55 * repulsion) ** 2 / v**2
    transition = OpticalTransition(1550.0, 1.0, 50.0 * kappa)
    intensity = kappa * 50.0 * kappa / float(Laser(1.0, 1550.0).field_squared)
    lit = LocalMoment(-0.45 * repulsion, repulsion, v, transition)
    dark = LocalMoment(-0.45 * repulsion, repulsion, v)
    return AndersonModel([dark, lit][-moments:], CHAIN, Laser(intensity, 1550.0))


@pytest.mark.filterwarnings("ignore:.* is unusual")
def test_the_projection_converges():
    """The error falls as (v/U)^2 over a decade of v/U, with g and gamma as `LocalMoment` gives them."""
    names = ("impurity_spin", "site_spin")
    differences = []
    for repulsion, moments in ((200.0, 1), (20000.0, 1), (2000.0, 2)):
        model = scaled_model(repulsion, moments)
        conduction = conduction_state(model, 0.5, electrons=2, field=(0.0, 0.0, 0.4))
        found = projection_error(model, SPINS[:moments], conduction, np.linspace(0.0, 2.0, 21), names)
        differences.append([float(found.differences[name]) for name in names])
        assert "impurity_spin" in str(found)
        for name in names:
            apart = np.asarray(found.exact[name] - found.projected[name])
            assert float(found.differences[name]) == np.abs(apart).max()
            assert apart.max() > 0 > apart.min()
    coarse, fine, two = np.array(differences)
    assert (fine < 0.013 * coarse).all() and (fine > 0.007 * coarse).all()
    assert (two < 5e-3).all()


def test_the_torque_of_light_is_reversed():
    """One impurity, one polarized electron: exchange favours -s (g < 0), light pumps S along +s."""
    model = SpinFermionModel([-1.0], [0.4], np.zeros((1, 1)))
    polarized = conduction_state(model, 0.05, electrons=1, field=(0.0, 0.0, 1.0))
    rho = product_state(model, [[1.0, 0.0, 0.0]], polarized)
    state = evolve(model, rho, [0.0], ("site_spin", "light_torque"))
    s = float(state["site_spin"][0, 0, 2])
    favoured = float(model.sd_coupling[0]) * s
    assert s > 0.49 and favoured < 0
    assert float(state["light_torque"][0, 0, 2]) == pytest.approx(0.4 * s, rel=1e-9)
    # The ground state with one electron is the singlet, S.s = -3/4: what the light torque works against.
    single = np.flatnonzero(model.space.particles == 1)
    within = np.ix_(single, single)
    _, states = np.linalg.eigh(np.asarray(model.hamiltonian())[within])
    electron = oracle.electron_spin(*(oracle.fermion(mode, 2, 1) for mode in range(2)))
    product = np.sum([x.full() @ y.full() for x, y in zip(oracle.spin(0, 1, 2), electron, strict=True)], axis=0)[within]
    assert np.vdot(states[:, 0], product @ states[:, 0]).real == pytest.approx(-0.75, abs=1e-12)
    # The same from the Anderson model: light turns S towards s, faster than darkness does.
    lit, dark = (
        AndersonModel([LocalMoment(-400.0, 800.0, 20.0, TRANSITION)], np.zeros((1, 1)), laser)
        for laser in (Laser(4e10, 1550.0), None)
    )
    ends = [
        evolve(m, product_state(m, [[1.0, 0.0, 0.0]], polarized), [0.0, 0.03], ("impurity_spin",))["impurity_spin"][
            -1, 0
        ]
        for m in (lit, dark)
    ]
    assert float(ends[0][2]) > float(ends[1][2])


def test_light_on_one_impurity_is_not_reciprocal():
    """Exchanging A and B is a symmetry without light and with light on both; with light on B alone the exchange torque
    on A keeps its sign and only B feels the light."""

    def torques(lit, spins):
        """Impurities answer to 1550 meV where lit, to 2550 meV where not; the light has 1550 meV."""
        moments = [
            LocalMoment(-400.0, 800.0, 17.0, OpticalTransition(1550.0 if here else 2550.0, 1.0, 100.0)) for here in lit
        ]
        laser = Laser(2e11, 1550.0) if any(lit) else None
        model = SpinFermionModel.project(AndersonModel(moments, CHAIN, laser))
        rho = product_state(model, spins, conduction_state(model, 0.3, electrons=2))
        end = evolve(model, rho, [0.0, 0.4], ("coherent_torque", "light_torque", "site_spin"))
        return [np.asarray(end[name][-1]) for name in ("coherent_torque", "light_torque", "site_spin")]

    spins = np.array([[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    for lit in ((False, False), (True, True)):
        for x, y in zip(torques(lit, spins), torques(lit, spins[::-1]), strict=True):
            np.testing.assert_allclose(x, y[::-1], atol=1e-12)
    # A polarized, B not: what B feels comes from A. Light pumps B along the electrons, exchange favours the opposite.
    exchange, light, electrons = torques((False, True), spins)
    assert abs(electrons[1, 2]) > 1e-3
    assert np.sign(light[1, 2]) == np.sign(electrons[1, 2])
    # B polarized, A not: A's light torque vanishes, its electrons are polarized as in darkness.
    exchange, light, electrons = torques((False, True), spins[::-1])
    _, _, dark = torques((False, False), spins[::-1])
    # Its resonance is 1000 meV away: a four hundredth of the loss rate is left.
    assert abs(light[0, 2]) < 0.01 * abs(torques((False, True), spins)[1][1, 2])
    assert np.sign(electrons[0, 2]) == np.sign(dark[0, 2]) and abs(dark[0, 2]) > 1e-3
    assert not np.allclose(torques((False, True), spins)[1][1], torques((False, True), spins[::-1])[1][0], atol=1e-3)


def test_mean_field_light_term():
    """On a product state d(2S)/dt by light is gamma [2 h/g - n m] with h = g <s>: the term of `LayeredMagnet`."""
    g, gamma = -1.3, 0.4
    model = SpinFermionModel([g], [gamma], CHAIN)
    conduction = conduction_state(model, 0.5, electrons=1, field=(0.3, -0.2, 0.5))
    m = np.array([[0.3, 0.1, -0.6]])
    state = evolve(model, product_state(model, m, conduction), [0.0], ("light_torque", "site_spin", "site_density"))
    n, s = float(state["site_density"][0, 0]), np.asarray(state["site_spin"][0, :1])
    # A layer whose mediated field is h = g s: a second, inert layer of moment s carries it.
    magnet = LayeredMagnet([[0.0, g], [0.0, 0.0]], 0.0, [g, g], [gamma, 0.0], n, 1.0, gyro=0.0)
    rate = magnet.vector_field(0.0, jnp.concatenate([jnp.asarray(m), jnp.asarray(s)]))[0]
    np.testing.assert_allclose(2.0 * state["light_torque"][0, 0], rate, atol=1e-12)


def test_upper_level():
    """A doublon that is there is lost at 2 kappa if the upper level is too broad to tell it from a virtual one."""
    transition = OpticalTransition(1550.0, 1.0, 4000.0)
    moment = LocalMoment(-40.0, 80.0, 0.0, transition)
    laser = Laser(4e11, 1550.0)
    kappa = float(moment.pump_rate(laser))
    kept = AndersonModel([moment], np.zeros((1, 1)), laser, keep_upper_level=True)
    doublon = np.zeros(kept.space.dimension)
    doublon[0b110000] = 1.0
    time = 0.5 / kappa / units.ps
    left = evolve(kept, np.diag(doublon), [0.0, time], ("doublon",))["doublon"][-1, 0]
    assert float(left) == pytest.approx(np.exp(-1.0), rel=5 * kappa / 4000.0)
    # Electrons in the upper level are counted, and feel a field.
    excited = np.zeros(kept.space.dimension)
    excited[0b001100] = 1.0
    assert float(evolve(kept, np.diag(excited), [0.0], ("particles",))["particles"][0]) == 2.0
    kept = AndersonModel([moment], np.zeros((1, 1)), laser, keep_upper_level=True, field=(0.0, 0.0, 0.3))
    up, down = 0b001000, 0b000100
    energies = np.real(np.diag(np.asarray(kept.hamiltonian())))
    assert energies[down] - energies[up] == pytest.approx(0.6, abs=1e-9)


@pytest.mark.parametrize("rabi, linewidth", [(np.sqrt(0.2) * 40.0, 40.0), (20.0, 5.0)], ids=["0.2", "16"])
def test_upper_level_kept_is_the_closed_form(rabi, linewidth):
    """The singlet decays at 4 gamma with the upper level kept, at kappa/Gamma = 0.2 and 16; the error falls as v^2."""
    laser = Laser(rabi**2 / float(Laser(1.0, 1550.0).field_squared), 1550.0)
    errors = []
    for v in (2.0, 1.0):
        moment = LocalMoment(-200.0, 400.0, v, OpticalTransition(1550.0, 1.0, linewidth))
        model = AndersonModel([moment], np.zeros((1, 1)), laser, keep_upper_level=True)
        psi = np.zeros(model.space.dimension)
        psi[0b100001], psi[0b010010] = np.sqrt(0.5), -np.sqrt(0.5)
        gamma = float(moment.loss_rate(laser))
        # Late enough for the real doublons of the sudden start to be gone.
        times = np.array([0.0, 0.1, 0.4]) / (4.0 * gamma * units.ps) + np.array([0.0, 12.0, 12.0]) / units.ps
        left = np.asarray(evolve(model, np.outer(psi, psi), times, ("particles",))["particles"]) - 1.0
        rate = np.log(left[1] / left[2]) / ((times[2] - times[1]) * units.ps)
        errors.append(abs(rate / (4.0 * gamma) - 1.0))
    assert errors[1] < 6e-3
    assert errors[0] / errors[1] == pytest.approx(4.0, rel=0.05)


def final_spin(x, adjoint=None, envelope=None):
    model = AndersonModel([B], CHAIN, Laser(4e10 * x[0], 1560.0 * x[1], envelope))
    rho = product_state(model, [[0.6, 0.0, 0.8]], conduction_state(model, 0.5, electrons=2))
    options: dict[str, Any] = {} if envelope is None else dict(rtol=1e-11, atol=1e-13)
    return evolve(model, rho, [0.0, 1.0], ("impurity_spin",), adjoint=adjoint, **options)["impurity_spin"][-1, 0, 2]


@pytest.mark.parametrize(
    "envelope", [None, pytest.param(Gaussian(0.5, 0.6), marks=pytest.mark.long)], ids=["constant", "pulse"]
)
def test_derivatives(envelope):
    one = jnp.ones(2)
    forward = jax.jit(jax.jacfwd(lambda x: final_spin(x, None, envelope)))(one)
    reverse = jax.jit(jax.grad(lambda x: final_spin(x, diffrax.RecursiveCheckpointAdjoint(), envelope)))(one)
    expected = differences.slopes(lambda x: final_spin(x, None, envelope), one, [1e-2, 3e-4])
    np.testing.assert_allclose(forward, expected, rtol=1e-6)
    np.testing.assert_allclose(reverse, forward, rtol=1e-8)


@pytest.mark.parametrize("envelope", [None, Gaussian(0.5, 0.6)], ids=["constant", "pulse"])
def test_reverse_mode_unasked_names_the_remedy(envelope):
    with pytest.raises((ValueError, RuntimeError), match="adjoint=diffrax.RecursiveCheckpointAdjoint"):
        jax.grad(lambda x: final_spin(x, None, envelope))(jnp.ones(2))


def test_a_state_that_is_not_known_keeps_its_coherence():
    """Under jit the entries of a state are not known: spins that lie across z turn all the same."""
    model = SpinFermionModel([-1.0], [0.3], TWISTED)
    conduction = conduction_state(model, 0.5, electrons=1)

    def spins(tilt):
        direction = jnp.stack([jnp.sin(tilt), 0.0 * tilt, jnp.cos(tilt)])[None]
        return evolve(model, product_state(model, direction, conduction), [0.0, 1.0], ("impurity_spin",))

    known, unknown = spins(jnp.asarray(0.7)), jax.jit(lambda x: spins(x)["impurity_spin"])(jnp.asarray(0.7))
    np.testing.assert_allclose(unknown, known["impurity_spin"], atol=1e-12)
    assert abs(float(unknown[0, 0, 0])) > 0.3


def test_reservoir_at_degenerate_levels():
    """df/de = -f (1 - f)/T where all levels are the same, whatever the direction in which they part."""
    rate, temperature, mu = BATH
    bath, one = Reservoir(*BATH), jnp.eye(3)
    apart = jnp.asarray([[0.0, 1.0, 0.5], [1.0, 2.0, 0.0], [0.5, 0.0, -1.0]])
    f = 1.0 / (1.0 + np.exp((0.5 - mu) / temperature))
    coming, going = bath.rates(0.5 * one)
    np.testing.assert_allclose(coming, rate * f * np.eye(3), rtol=1e-12)
    np.testing.assert_allclose(going, rate * (1.0 - f) * np.eye(3), rtol=1e-12)
    for direction in (one, apart):
        slope = jax.jacfwd(lambda s, d=direction: bath.rates(0.5 * one + s * d)[0])(0.0)
        np.testing.assert_allclose(slope, -rate * f * (1.0 - f) / temperature * direction, rtol=1e-9, atol=1e-15)


@pytest.mark.long
def test_batches():
    intensities = jnp.asarray([0.0, 1e10, 4e10])

    def spin(intensity):
        return final_spin(jnp.stack([intensity / 4e10, jnp.ones_like(intensity)]))

    together = jax.vmap(spin)(intensities)
    np.testing.assert_allclose(together, [spin(i) for i in intensities], atol=1e-13)
    slopes = jax.vmap(jax.jacfwd(spin))(intensities)
    np.testing.assert_allclose(slopes[1], jax.jacfwd(spin)(intensities[1]), rtol=1e-10)


def test_steady_state():
    # Free electrons: the density matrix of the band is the Fermi function of its hopping.
    free = SpinFermionModel([0.0], [0.0], TWISTED, Reservoir(*BATH))
    levels, states = np.linalg.eigh(TWISTED)
    occupation = (np.abs(states) ** 2) @ (1 / (np.exp((levels - BATH[2]) / BATH[1]) + 1))
    late = evolve(free, product_state(free, [[0, 0, 1]], conduction_state(free, 1.0)), [0, 80.0], ("site_density",))
    np.testing.assert_allclose(late["site_density"][-1], 2 * occupation, rtol=1e-8)
    # The impurity's spin is free: the steady state is not unique, and not claimed to be.
    assert not bool(steady_state(free, ("site_density",)).valid)
    model = SpinFermionModel([-1.0, -2.0], [0.3, 0.5], TWISTED, Reservoir(*BATH), field=FIELD)
    state = steady_state(model, ("impurity_spin", "site_density", "purity"))
    assert bool(state.valid) and float(state.residual) < 1e-12
    rho = product_state(model, SPINS, conduction_state(model, 0.5))
    late = evolve(model, rho, [0.0, 400.0], ("impurity_spin", "site_density", "purity"))
    for name, value in state.observables.items():
        np.testing.assert_allclose(value, late[name][-1], atol=1e-8)
    np.testing.assert_allclose(state.rho, late.rho, atol=1e-8)


def test_electrons_in_equilibrium():
    """Gibbs' state of one site, with the energy -2 B.s: one electron is polarized by tanh(B/T)/2 along B; with the
    number free, n = 2 sum_s f(-mu -+ B)."""
    model = SpinFermionModel([0.0], [0.0], np.zeros((1, 1)))
    field, temperature, mu = np.array([0.3, -0.2, 0.5]), 0.7, 0.2
    size = np.linalg.norm(field)
    c: Any = [oracle.fermion(s, 2) for s in range(2)]
    along = sum(x.full() * b for x, b in zip(oracle.electron_spin(*c), field, strict=True)) / size
    number = sum((x.dag() * x).full() for x in c)
    one = np.asarray(conduction_state(model, temperature, electrons=1, field=field))
    assert np.trace(one @ along).real == pytest.approx(0.5 * np.tanh(size / temperature), rel=1e-9)
    free = np.asarray(conduction_state(model, temperature, fermi_energy=mu, field=field))
    expected = sum(1.0 / (np.exp((-mu + s * size) / temperature) + 1.0) for s in (1, -1))
    assert np.trace(free @ number).real == pytest.approx(expected, rel=1e-9)


def test_decay_faster_than_any_energy():
    """A site that a reservoir fills: n(t) = n_oo + (n_0 - n_oo) exp(-G t), with nothing else in the world."""
    model = SpinFermionModel([0.0], [0.0], np.zeros((1, 1)), Reservoir(6.0, 0.7, 0.2))
    rho = product_state(model, [[0.0, 0.0, 1.0]], conduction_state(model, 0.7, electrons=2))
    times = np.array([0.0, 0.05, 0.3, 40.0])
    density = evolve(model, rho, times, ("site_density",))["site_density"][:, 0]
    late = 2.0 / (np.exp(-0.2 / 0.7) + 1.0)
    np.testing.assert_allclose(density, late + (2.0 - late) * np.exp(-6.0 * times * units.ps), atol=1e-12)


def test_the_phase_of_a_bond_is_no_physics():
    """An imaginary hopping is a real one in another gauge: the same densities, whose beats are those of 2 t."""
    times = np.array([0.0, 0.3, 11.0])
    start = np.zeros((32, 32))
    start[0b01000, 0b01000] = 1.0
    densities = []
    for hop in (3.0, 3.0j):
        model = SpinFermionModel([0.0], [0.0], np.array([[0.0, hop], [np.conj(hop), 0.0]]))
        densities.append(evolve(model, start, times, ("site_density",))["site_density"])
    np.testing.assert_allclose(densities[0][:, 0], np.cos(3.0 * times * units.ps) ** 2, atol=1e-10)
    np.testing.assert_allclose(densities[1], densities[0], atol=1e-10)


def test_products_of_long_vectors():
    """A matrix of 70 000 rows: more than fit in two bytes."""
    size = 70_000
    rows = np.arange(size)
    triplets = Triplets(rows, rows[::-1].copy(), np.zeros(size, int), 1.0 + rows)
    matrix = ParametricMatrix.pack(size, triplets)
    x = jnp.cos(jnp.arange(float(size)))
    np.testing.assert_array_equal(matrix.product(matrix.values(jnp.ones(1)), x), (1.0 + rows) * np.asarray(x)[::-1])


def test_derivatives_of_the_steady_state():
    """By the coupling, the light, the hopping and the reservoir, against differences."""

    def observed(x):
        bath = Reservoir(0.3 * x[3], 0.7 * x[4], 0.2 * x[5])
        model = SpinFermionModel(-x[:1], 0.3 * x[1:2], -x[2] * jnp.asarray([[0.1, 1.0], [1.0, 0.0]]), bath, field=FIELD)
        seen = steady_state(model, ("impurity_spin", "site_density", "light_current")).observables
        return jnp.concatenate([seen["impurity_spin"][0, 2:], seen["site_density"], seen["light_current"]])

    one = jnp.ones(6)
    forward, reverse = jax.jit(jax.jacfwd(observed))(one), jax.jit(jax.jacrev(observed))(one)
    expected = differences.slopes(observed, one, 1e-3)
    assert (np.abs(expected).max(axis=0) > 1e-3).all()
    np.testing.assert_allclose(forward, expected, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(reverse, forward, rtol=1e-8, atol=1e-12)


@pytest.mark.computes
def test_trajectories():
    model = SpinFermionModel([-1.0, -2.0], [0.4, 0.8], TWISTED, Reservoir(0.2, 0.7), field=FIELD)
    psi = np.zeros(64, complex)
    psi[[0b010110, 0b100110]] = 0.6, 0.8j
    times = [0.0, 1.0, 3.0]
    names = ("impurity_spin", "site_density", "light_current")
    exact = evolve(model, np.outer(psi, psi.conj()), times, names)
    key = jax.random.key(1)
    many = quantum_trajectories(model, psi, times, names, trajectories=1500, key=key, batch=500)
    assert many.valid.all() and many.jumps.mean() > 1.0 and "1500 trajectories" in str(many)
    for name in names:
        deviation = np.abs(many.observables[name][1:] - np.asarray(exact[name][1:]))
        assert (deviation < 4.5 * many.errors[name][1:] + 1e-12).all()
        assert (many.errors[name][-1] > 0).all() and (many.errors[name] < 0.03).all()
    few = [quantum_trajectories(model, psi, times, names, trajectories=60, key=key, batch=b) for b in (60, 25)]
    for name in names:
        np.testing.assert_allclose(few[0].observables[name], few[1].observables[name], atol=1e-10)
    np.testing.assert_array_equal(few[0].jumps, few[1].jumps)


@pytest.mark.long
@pytest.mark.computes
def test_trajectories_under_a_pulse():
    model = AndersonModel([B], CHAIN, Laser(2e11, 1560.0, Gaussian(0.3, 0.3)))
    psi = np.zeros(64)
    psi[0b100110] = 1.0
    names = ("impurity_spin", "particles")
    exact = evolve(model, np.outer(psi, psi), [0.0, 0.6], names)
    many = quantum_trajectories(model, psi, [0.0, 0.6], names, trajectories=600, key=jax.random.key(3), batch=300)
    assert float(exact["particles"][-1]) < 2.95
    for name in names:
        deviation = np.abs(many.observables[name][1] - np.asarray(exact[name][1]))
        assert (deviation < 4.5 * many.errors[name][1] + 1e-8).all()


@functools.cache
def spin():
    return SpinFermionModel([-1.0], [0.3], CHAIN)


@functools.cache
def spin_up():
    return product_state(spin(), [[0.0, 0.0, 1.0]], conduction_state(spin(), 0.5, electrons=2))


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: AndersonModel([A], [[0.0, 1.0], [2.0, 0.0]]), ["not Hermitian"]),
        (lambda: AndersonModel([A, B], np.zeros((1, 1))), ["sites = (0, 1)", "1 conduction sites"]),
        (lambda: AndersonModel([A], CHAIN, keep_upper_level=True), ["keep_upper_level", "laser"]),
        (
            lambda: AndersonModel([B], np.zeros((1, 1)), Laser(1e10, 1550.0), keep_upper_level=True).project(),
            ["keep_upper_level", "Leave it out"],
        ),
        (lambda: SpinFermionModel([-1.0], [-0.3], CHAIN), ["loss_rate", "-0.3"]),
        (lambda: Reservoir(-1.0, 1.0), ["rate", "-1"]),
        (lambda: Reservoir(1.0, 0.0), ["temperature", "greater than 0"]),
        (lambda: conduction_state(spin(), 0.5, electrons=5), ["electrons = 5", "4"]),
        (
            lambda: product_state(spin(), [[1.0, 1.0, 0.0]], conduction_state(spin(), 0.5)),
            ["length of a spin", "1.41"],
        ),
        (lambda: evolve(spin(), 2.0 * spin_up(), [0.0, 1.0]), ["trace 2"]),
        (lambda: evolve(spin(), np.diag([1.2, -0.2, *[0.0] * 30]), [0.0, 1.0]), ["-0.2", "0 or greater"]),
        (lambda: evolve(spin(), np.eye(3) / 3, [0.0, 1.0]), ["(3, 3)", "(32, 32)"]),
        (lambda: evolve(spin(), spin_up() + 1j * np.triu(np.ones((32, 32)), 1), [0.0, 1.0]), ["not Hermitian"]),
        (lambda: evolve(spin(), spin_up(), [0.0, 1.0], ("colour",)), ["colour", "impurity_spin"]),
        (lambda: evolve(spin(), spin_up(), [0.0, 1.0], {"x": np.eye(3)}), ["'x'", "(3, 3)"]),
        (
            lambda: evolve(spin(), spin_up(), [0.0, 1.0], {"x": np.triu(np.ones((32, 32)))}),
            ["'x'", "not Hermitian"],
        ),
        (lambda: evolve(spin(), spin_up(), [0.0, 1.0], ("doublon",)), ["doublon", "AndersonModel"]),
        (lambda: evolve(spin(), spin_up(), [1.0, 0.0]), ["ts must increase"]),
        (lambda: evolve(spin(), spin_up(), [0.0, 1.0], largest=10), ["GiB", "largest", "quantum_trajectories"]),
        (
            lambda: product_state(SpinFermionModel([-1.0], [0.0], np.zeros((7, 7))), [[0, 0, 1]], spin_up()),
            ["16", "GiB"],
        ),
        (lambda: steady_state(spin()), ["reservoir", "Reservoir"]),
        (
            lambda: quantum_trajectories(spin(), np.ones(32), [0.0, 1.0], trajectories=4, key=jax.random.key(0)),
            ["norm 5.65685"],
        ),
        (
            lambda: quantum_trajectories(spin(), np.eye(32)[0], [0.0, 1.0], trajectories=1, key=jax.random.key(0)),
            ["trajectories = 1", "2"],
        ),
    ],
)
def test_bad_input(make, words):
    assert_refused(make, words)


def test_another_laser_compiles_nothing(caplog):
    model = AndersonModel([B], CHAIN, Laser(1e10, 1560.0))
    rho = product_state(model, [[0.6, 0.0, 0.8]], conduction_state(model, 0.5, electrons=2))

    def compilations():
        return [record for record in caplog.records if "_solve" in record.getMessage()]

    with jax.log_compiles(True):
        evolve(model, rho, [0.0, 0.7, 1.0])
        first = len(compilations())
        evolve(AndersonModel([B], 1.1 * CHAIN, Laser(2e10, 1550.0)), rho, [0.0, 0.9, 1.3])
    assert first > 0 and len(compilations()) == first


def test_given_matrices_and_texts():
    number = oracle.fermion(0, 4, 1).full()
    solution = evolve(spin(), spin_up(), [0.0, 1.0], {"first": number.conj().T @ number, "site_density": None})
    assert solution["first"].shape == (2,) and "32 states" in str(solution)
    upper = 0.5 * float(solution["site_density"][0, 0])
    assert float(solution["first"][0]) == pytest.approx(upper, abs=1e-12)
    # Another matrix of the same name is another observable.
    double = evolve(spin(), spin_up(), [0.0, 1.0], {"first": 2.0 * number.conj().T @ number, "site_density": None})
    np.testing.assert_allclose(double["first"], 2.0 * solution["first"], rtol=1e-12)
