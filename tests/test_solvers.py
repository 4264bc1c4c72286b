"""What every solver of steady states obeys. A new one joins by being added to ALL_SOLVERS."""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy.integrate import solve_ivp
from scipy.optimize import brentq
from scipy.spatial.transform import Rotation

from nrjax import (
    RESULTS,
    CorotatingSolver,
    CoupledCondensates,
    LayeredMagnet,
    Phase,
    ShapeSolver,
    UniaxialAnisotropy,
    continued,
    default_start,
    illuminated_bilayer,
    simulate_many,
    steady_state,
)
from nrjax.rotation import following
from nrjax.rotation.attractors import solver_for, steady_states
from nrjax.rotation.corotating_solver import deviated
from nrjax.rotation.corotating_states import growth_rate
from tests.differences import slope
from tests.magnets import magnet_of
from tests.refusal import assert_refused
from tests.systems.bilayer import UNEQUAL, Bilayer
from tests.test_seams import ALL_BATHS

ALL_SOLVERS = {"shape": ShapeSolver(), "corotating": CorotatingSolver()}
SYSTEMS = {
    "chiral": (UNEQUAL, Phase.CHIRAL),
    "relabelled": (UNEQUAL.relabelled(), Phase.CHIRAL),
    "aligned": (Bilayer(), Phase.ALIGNED),
    "antialigned": (Bilayer().with_light(0.05, 2.0), Phase.ANTIALIGNED),
    "paramagnetic": (Bilayer().with_light(0.12, 6.0), Phase.PARAMAGNETIC),
}
TURN = Rotation.from_rotvec([0.4, -1.1, 0.7]).as_matrix()
CONDENSATES = CoupledCondensates([1.0, 0.1], -1.0, 1.0, 0.3, [[0.0, -0.1], [-0.1, 0.0]], 0.1)
# Two with two components: one that chases, and one in darkness.
PAIR = (CONDENSATES, eqx.tree_at(lambda c: (c.light, c.loss), CONDENSATES, replace_fn=jnp.zeros_like))
FIELDS = ("lengths", "angle", "chase_frequency", "rotation_frequency", "growth_rate")


def batch(models):
    return jax.tree.map(lambda *x: jnp.stack(x), *models)


@functools.cache
def lanes():
    """All systems and where they start from, and at the end the first one from a start that is turned."""
    models = [magnet_of(system) for system, _ in SYSTEMS.values()]
    starts = [default_start(model) for model in models]
    return batch([*models, models[0]]), jnp.stack([*starts, starts[0] @ TURN.T])


@functools.cache
def states(solver):
    """Those of all `lanes`, in one program."""
    models, starts = lanes()
    solve = jax.vmap(lambda model, m0: steady_state(model, m0, solver=ALL_SOLVERS[solver], throw=False))
    return jax.tree.map(np.asarray, solve(models, starts))


@pytest.mark.parametrize("solver", ALL_SOLVERS)
@pytest.mark.long
def test_a_batch_of_known_numbers_is_the_program_of_all(solver):
    """`find_many`, which may leave out what no lane needs, gives the states of `find`."""
    many, one = ALL_SOLVERS[solver].find_many(*lanes(), 1500), states(solver)
    np.testing.assert_array_equal(many.phase, one.phase)
    np.testing.assert_array_equal(many.valid, one.valid)
    for name in ("m", *FIELDS):
        np.testing.assert_allclose(getattr(many, name), getattr(one, name), rtol=1e-8, atol=1e-10)


@functools.cache
def condensates(solver):
    solve = jax.vmap(lambda model: steady_state(model, solver=ALL_SOLVERS[solver], throw=False))
    return jax.tree.map(np.asarray, solve(batch(PAIR)))


@pytest.mark.long
@pytest.mark.parametrize("solver", ALL_SOLVERS)
def test_a_state_turns_rigidly(solver):
    """dm/dt = Omega x m in an equation of motion that is not the model's own, and the phases are the known ones."""
    found = states(solver)
    for i, (system, phase) in enumerate([*SYSTEMS.values(), SYSTEMS["chiral"]]):
        velocity = system.velocity(found.m[i])
        np.testing.assert_allclose(velocity, np.cross(found.angular_velocity[i], found.m[i]), atol=1e-9)
        assert found.valid[i] and found.phase[i] == phase and found.growth_rate[i] < 0
        assert found.residual[i] < 1e-9
    two = condensates(solver)
    for i, model in enumerate(PAIR):
        turned = two.angular_velocity[i][2] * two.m[i] @ np.array([[0.0, 1.0], [-1.0, 0.0]])
        np.testing.assert_allclose(model.vector_field(0.0, jnp.asarray(two.m[i])), turned, atol=1e-9)
    assert two.valid.all() and two.phase.tolist() == [Phase.CHIRAL, Phase.ALIGNED]


@pytest.mark.long
def test_solvers_agree():
    for found in (states, condensates):
        for name in FIELDS:
            shape, corotating = (getattr(found(solver), name) for solver in ALL_SOLVERS)
            np.testing.assert_allclose(corotating, shape, rtol=1e-7, atol=1e-7, err_msg=name)


@pytest.mark.long
@pytest.mark.parametrize("bath", ALL_BATHS)
def test_solvers_agree_with_every_bath(bath):
    """At temperatures at the same share of the Curie point; lit as strongly as the published bilayer."""
    bath, curie = ALL_BATHS[bath]
    magnet = magnet_of(UNEQUAL, bath=bath, temperature=jnp.asarray(UNEQUAL.temperature * curie))
    by_shape, in_space = (steady_state(magnet, solver=solver) for solver in ALL_SOLVERS.values())
    assert bool(by_shape.valid) and bool(in_space.valid) and by_shape.phase == in_space.phase
    for name in FIELDS:
        np.testing.assert_allclose(getattr(in_space, name), getattr(by_shape, name), rtol=1e-7, atol=1e-7, err_msg=name)


@pytest.mark.parametrize("solver", ALL_SOLVERS)
def test_a_turned_start_gives_the_turned_state(solver):
    found = states(solver)
    np.testing.assert_allclose(found.lengths[-1], found.lengths[0], rtol=1e-9)
    np.testing.assert_allclose(found.chase_frequency[-1], found.chase_frequency[0], rtol=1e-9)
    # Integration in time leaves the plane in which they turn to its own steps.
    if solver == "shape":
        np.testing.assert_allclose(found.m[-1], found.m[0] @ TURN.T, atol=1e-12)
        np.testing.assert_allclose(found.angular_velocity[-1], TURN @ found.angular_velocity[0], atol=1e-11)


@pytest.mark.parametrize("solver", ALL_SOLVERS)
def test_relabelled_layers_give_the_relabelled_state(solver):
    found = states(solver)
    np.testing.assert_allclose(found.lengths[1], found.lengths[0][::-1], rtol=1e-8)
    for name in FIELDS[1:]:
        np.testing.assert_allclose(getattr(found, name)[1], getattr(found, name)[0], rtol=1e-8, err_msg=name)


def test_derivatives_by_either_solver():
    """By every number of a model, at a state that is known: the implicit function theorem in shape and in space."""
    state = jax.tree.map(lambda x: jnp.asarray(x[0]), condensates("shape"))
    arrays, rest = eqx.partition(PAIR[0], eqx.is_inexact_array)
    p, unravel = ravel_pytree(arrays)

    def seen(p, solver):
        near = continued(eqx.combine(unravel(p), rest), state, solver)
        return jnp.stack([*near.lengths, near.angle, near.chase_frequency, near.rotation_frequency, near.growth_rate])

    by_shape, in_space = (jax.jit(jax.jacfwd(functools.partial(seen, solver=s)))(p) for s in ALL_SOLVERS.values())
    assert np.abs(by_shape).max() > 1.0
    np.testing.assert_allclose(in_space, by_shape, rtol=1e-6, atol=1e-6 * float(jnp.max(jnp.abs(by_shape))))


@pytest.mark.parametrize("along", [pytest.param((0.0, 0.0, 0.1), marks=pytest.mark.long), (0.0, 0.02, 0.1)])
def test_derivatives_of_a_growth_rate_in_a_field(along):
    """Of a chase about the field, whose phase is free, and of the state in a slanting one."""
    model = magnet_of(UNEQUAL, field=along)
    state = jax.tree.map(jax.lax.stop_gradient, steady_state(model, throw=False))

    loss = model.loss_rate[1]

    @jax.jit
    def growth(loss):
        lit = eqx.tree_at(lambda m: m.light.loss_rate, model, model.loss_rate.at[1].set(loss))
        return continued(lit, state).growth_rate

    np.testing.assert_allclose(jax.grad(growth)(loss), slope(growth, loss, 1e-6), rtol=1e-6)


def test_the_solver_is_the_first_that_applies():
    bilayer, anisotropic = magnet_of(Bilayer()), magnet_of(Bilayer(), anisotropy=0.1)
    assert isinstance(solver_for(bilayer), ShapeSolver) and isinstance(solver_for(anisotropic), CorotatingSolver)
    assert solver_for(bilayer, ALL_SOLVERS["corotating"]) is ALL_SOLVERS["corotating"]
    assert_refused(lambda: steady_state(anisotropic, solver=ShapeSolver()), ["LayeredMagnet", "ShapeSolver", "solver="])
    assert_refused(lambda: solver_for("a magnet"), ["str", "AbstractOrderParameters"])


def test_moments_along_an_easy_axis_have_no_zero_mode():
    """However little rounding has left across it: the growth rate is that of the matrix itself."""
    easy = UniaxialAnisotropy([0.5, -0.3])
    magnet = LayeredMagnet([[10.0, 4.0], [3.0, 9.0]], [0.1, 0.04], -10.0, [0.0, 0.002], 1.0, 6.0, anisotropy=easy)
    projector, still = jnp.diag(jnp.asarray([0.0, 0.0, 1.0])), jnp.zeros(3)
    m = jnp.asarray([[0.0, 0.0, 0.83], [0.0, 0.0, 0.78]])
    rates = jax.jacfwd(lambda m: magnet.vector_field(0.0, m.reshape(2, 3)).ravel())(m.ravel())
    expected = np.linalg.eigvals(np.asarray(rates)).real.max()
    for across in (0.0, 3e-14, 1e-9):
        found = growth_rate(magnet, projector, m.at[:, 0].set(across), still)
        assert float(found) == pytest.approx(expected, rel=1e-6)


def test_a_motion_is_followed_as_by_scipy():
    """Three layers in a field for 4 hbar/meV, alone and in a batch in which another one is to rest."""
    chain = LayeredMagnet(
        [[9.0, 3.0, 0.0], [3.0, 8.0, -2.0], [0.0, -2.0, 7.0]],
        0.05,
        -10.0,
        [0.0, 0.04, 0.0],
        1.0,
        4.0,
        field=[0.3, 0.0, 0.5],
    )
    start, duration = deviated(jnp.asarray([[0.1, 0.0, 0.7], [0.5, 0.1, 0.2], [0.0, 0.6, 0.1]])), 4.0
    field = jax.jit(lambda t, y: chain.vector_field(t, y.reshape(3, 3)).ravel())
    told = solve_ivp(field, (0.0, duration), np.asarray(start).ravel(), "DOP853", rtol=1e-12, atol=1e-12).y[:, -1]
    free, no = jnp.eye(3), jnp.asarray(False)

    @jax.jit
    def end(times):
        begin = following.set_out(chain, free, no, start)
        return jax.vmap(lambda t: following.follow(chain, free, no, begin, t, jnp.asarray(-1.0), 1e-9, 10_000))(times)

    motions = end(jnp.asarray([duration, 0.0]))
    np.testing.assert_allclose(motions.m[0].ravel(), told, atol=1e-7)
    np.testing.assert_allclose(motions.time, [duration, 0.0], rtol=1e-14)
    np.testing.assert_array_equal(motions.m[1], start)


@pytest.mark.parametrize("double", [False, True])
def test_a_canted_magnet_stands_still_along_every_axis(double):
    """The spin flop of an antiferromagnet in the dark: h_a = 16 m_a, so that m = tanh(16 m/9) with B/12 of it along the
    field, whatever its direction; nothing turns. In single precision as well."""
    axes = np.array([[0.0, 0.0, 1.0], [0.36, 0.48, 0.8], [0.3456726, 0.93401024, 0.09019604]])
    with jax.enable_x64(double):
        magnets = jax.vmap(
            lambda field: LayeredMagnet([[10.0, -6.0], [-6.0, 10.0]], 0.1, -10.0, 0.0, 1.0, 9.0, field=field)
        )(jnp.asarray(axes))
        found = jax.tree.map(np.asarray, steady_states(magnets, jnp.asarray([[0.3, 0.1, 0.2], [-0.3, 0.04, 0.3]])))
    assert found.valid.all() and (found.phase == Phase.ANTIALIGNED).all()
    assert not found.rotation_frequency.any() and not found.chase_frequency.any()
    length: Any = brentq(lambda m: m - np.tanh(16.0 * m / 9.0), 0.5, 1.0)
    np.testing.assert_allclose(found.lengths, length, rtol=1e-9 if double else 1e-5)
    along = np.einsum("nai,ni->na", found.m, axes)
    np.testing.assert_allclose(along, 1.0 / 12.0, rtol=1e-9 if double else 1e-4)
    np.testing.assert_allclose(found.growth_rate, found.growth_rate[0], rtol=1e-8 if double else 1e-3)


@pytest.mark.parametrize("double", [False, True])
def test_a_paramagnet_follows_the_weakest_field(double):
    """m = (T - j)^-1 B in the dark, aligned with the field, however weak it is."""
    exchange, temperature, fields = np.array([[10.0, 1.0], [1.0, 5.0]]), 20.0, np.array([1e-6, 1e-5, 1e-4, 1e-3])
    with jax.enable_x64(double):
        magnets = jax.vmap(
            lambda field: LayeredMagnet(exchange, [0.1, 2e-3], -10.0, 0.0, 1.0, temperature, field=field)
        )(jnp.asarray(fields[:, None] * np.array([0.36, 0.48, 0.8])))
        found = jax.tree.map(np.asarray, steady_states(magnets))
    assert found.valid.all() and (found.phase == Phase.ALIGNED).all() and not found.angle.any()
    response = np.linalg.solve(temperature * np.eye(2) - exchange, np.ones(2))
    np.testing.assert_allclose(found.lengths / fields[:, None], response[None].repeat(4, 0), rtol=1e-4)


def test_numbers_out_of_range_make_a_lane_not_valid():
    """Known numbers are refused; in a batch, where none can be raised of, they are told by `valid`."""
    good = dict(gamma=0.05, filling=1.0, g=-10.0, damping=2e-3, temperature=9.0)
    bad = [dict(gamma=-0.05), dict(filling=-1.0), dict(filling=5.0), dict(g=0.0), dict(damping=-0.01)]
    bad += [dict(temperature=-9.0)]
    lanes = {name: jnp.asarray([(good | change)[name] for change in ({}, *bad)]) for name in good}

    def build(gamma, filling, g, damping, temperature, field=None):
        rates = jnp.stack([0.0 * gamma, gamma])
        couplings, dampings = jnp.stack([0.0 * g - 10.0, g]), jnp.stack([0.0 * damping + 0.1, damping])
        return LayeredMagnet([[10.0, 6.0], [6.0, 5.0]], dampings, couplings, rates, filling, temperature, field=field)

    expected = [True] + [False] * len(bad)
    magnets = jax.vmap(lambda lane: build(**lane))(lanes)
    found = steady_states(magnets)
    np.testing.assert_array_equal(found.valid, expected)
    assert (np.asarray(found.phase)[1:] == Phase.UNRESOLVED).all() and np.asarray(found.result == RESULTS.nonfinite)[
        1:
    ].all()
    np.testing.assert_array_equal(simulate_many(magnets, [[0.1, 0.2, 0.7], [0.2, -0.1, 0.4]], 0.5).valid, expected)
    in_field = steady_states(jax.vmap(lambda lane: build(**lane, field=[0.0, 0.0, 0.3]))(lanes))
    np.testing.assert_array_equal(in_field.valid, expected)
    # What is put into a magnet later is looked at, too, as is a laser behind rates of its own.
    later = eqx.tree_at(lambda m: m.temperature, jax.tree.map(lambda x: x[0], magnets), jnp.asarray([9.0, -9.0]))
    assert not bool(steady_state(later, throw=False).valid)
    lit = jax.vmap(lambda width: illuminated_bilayer(linewidth=width).plateau().loss_rate[1])(
        jnp.asarray([100.0, -100.0])
    )
    assert np.isfinite(lit[0]) and np.isnan(lit[1])
