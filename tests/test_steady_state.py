from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy import optimize

import nrjax
from nrjax import (
    RESULTS,
    ClassicalBath,
    Constant,
    LayeredMagnet,
    Phase,
    UniaxialAnisotropy,
    classify_trajectory,
    default_start,
    exposure,
    hanai2025_bilayer,
    illuminated_bilayer,
    simulate,
    steady_state,
    units,
)
from nrjax.rotation import shape_solver
from nrjax.rotation.attractors import continued, steady_states
from tests import differences
from tests.magnets import START_OF_MODULATED, magnet_of, modulated_magnet
from tests.systems import single_layer
from tests.systems.bilayer import UNEQUAL, Bilayer

# (gamma_B, j_AB, phase, m_A, m_B, cos, omega_c, Omega) in meV: an independent high-precision solution.
TABLE = [
    (0.0, 5.0, Phase.ALIGNED, 0.878370935, 0.706723902, 1.0, 0.0, 0.0),
    (0.01, 5.0, Phase.ALIGNED, 0.713897912, 0.183363330, 1.0, 0.0, 0.0),
    (0.05, 2.0, Phase.ANTIALIGNED, 0.476748155, 0.049287318, -1.0, 0.0, 0.0),
    (0.05, 6.0, Phase.CHIRAL, 0.356527321, 0.061752343, -0.560897756, 0.172072683, 3.914884916),
    (0.03, 8.0, Phase.CHIRAL, 0.424672817, 0.042467282, -0.484991879, 0.139922985, 6.493981628),
    (0.12, 6.0, Phase.PARAMAGNETIC, 0.0, 0.0, 1.0, 0.0, 0.0),
]


@pytest.mark.parametrize("row", TABLE)
def test_reference_table(row):
    gamma, j_ab, phase, m_a, m_b, cosine, chase, rotation = row
    state = steady_state(hanai2025_bilayer(gamma, j_ab))
    assert int(state.phase) == phase and bool(state.valid)
    np.testing.assert_allclose(state.lengths, [m_a, m_b], rtol=1e-6)
    np.testing.assert_allclose(np.cos(state.angle), cosine, rtol=1e-6)
    np.testing.assert_allclose(state.chase_frequency * units.GHz, chase, rtol=1e-6)
    np.testing.assert_allclose(state.rotation_frequency * units.GHz, rotation, rtol=1e-6)
    assert float(state.residual) < 1e-12 and float(state.growth_rate) < 0
    assert phase.name in str(state)


CHIRAL = {
    "published": Bilayer().with_light(0.05, 6.0),
    "bright": Bilayer().with_light(0.08, 5.0),
    "near the onset": Bilayer().with_light(0.025, 11.0),
    "unequal": UNEQUAL,
    "relabelled": UNEQUAL.relabelled(),
}


@pytest.mark.parametrize("name", CHIRAL)
def test_chiral_closed_form(name):
    oracle = CHIRAL[name]
    state = steady_state(magnet_of(oracle))
    assert int(state.phase) == Phase.CHIRAL and bool(state.valid)
    a, b, cosine, chase, rotation = oracle.chiral((float(state.lengths[0]) * 1.05, float(np.cos(state.angle)) * 0.95))
    np.testing.assert_allclose(state.lengths, [a, b], rtol=1e-9)
    np.testing.assert_allclose(np.cos(state.angle), cosine, rtol=1e-9)
    np.testing.assert_allclose(state.chase_frequency * units.GHz, chase, rtol=1e-8)
    np.testing.assert_allclose(state.rotation_frequency * units.GHz, rotation, rtol=1e-9)
    # The whole state turns about the angular velocity, in the plain NumPy equation of motion.
    m, omega = np.asarray(state.m), np.asarray(state.angular_velocity)
    np.testing.assert_allclose(oracle.velocity(m), np.cross(omega[None, :], m), atol=1e-13)
    normal = np.cross(m[0], m[1]) / np.linalg.norm(np.cross(m[0], m[1]))
    assert abs(float(normal @ omega)) == pytest.approx(chase, rel=1e-8)


@pytest.mark.long
@pytest.mark.parametrize("row", TABLE[:5])
def test_simulate_reaches_the_same_state(row):
    gamma, j_ab, phase, m_a, m_b, cosine, _, rotation = row
    magnet = hanai2025_bilayer(gamma, j_ab)
    settled = simulate(magnet, default_start(magnet), 1500.0, rtol=1e-9)
    period = 2 * np.pi / max(rotation, 1.0) / units.ps
    times = np.linspace(0, 0.2 * period, 41)
    solution = simulate(magnet, settled.ms[-1], times[-1], saveat=times, rtol=1e-10)
    assert int(classify_trajectory(solution).phase) == phase
    m = np.asarray(solution.ms)
    lengths = np.linalg.norm(m[-1], axis=1)
    np.testing.assert_allclose(lengths, [m_a, m_b], rtol=1e-5)
    np.testing.assert_allclose(m[-1, 0] @ m[-1, 1] / lengths.prod(), cosine, rtol=1e-5)
    if phase == Phase.CHIRAL:
        # Rotation read off the trajectory: the best rigid turn between two frames.
        left, _, right = np.linalg.svd(m[-1].T @ m[0])
        turn = left @ np.diag([1, 1, np.linalg.det(left @ right)]) @ right
        angle = np.arccos((np.trace(turn) - 1) / 2)
        assert angle / (times[-1] * units.ps) == pytest.approx(rotation, rel=1e-5)


def test_boundary_points_through_steady_state():
    def edge(build, inside, outside, phase):
        """The last value towards `outside` that still has the phase, by bisection on the label."""
        while abs(outside - inside) > 1e-7 * inside:
            middle = 0.5 * (inside + outside)
            found = int(steady_state(build(middle), throw=False).phase)
            assert found in (Phase.ANTIALIGNED, Phase.CHIRAL, Phase.UNRESOLVED)
            inside, outside = (middle, outside) if found == phase else (inside, middle)
        return inside

    lines = [
        (lambda j: hanai2025_bilayer(0.05, j), 3.0, 4.0, 3.352034332),
        (lambda g: hanai2025_bilayer(g, 6.0), 0.0215, 0.03, 0.0227023022),
    ]
    for build, low, high, expected in lines:
        # Antialigned up to the boundary, chiral from it on; at most a millionth between them is left undecided.
        assert edge(build, low, high, Phase.ANTIALIGNED) == pytest.approx(expected, rel=1e-6)
        assert edge(build, high, low, Phase.CHIRAL) == pytest.approx(expected, rel=1e-6)


def frequencies(model):
    state = steady_state(model)
    return jnp.stack([state.chase_frequency, state.rotation_frequency])


MAGNETS = {
    "rates": lambda: hanai2025_bilayer([0.003, 0.05], 6.0, mediated_exchange=[[9.0, 5.0], [5.5, 4.0]]),
    "classical": lambda: hanai2025_bilayer([0.002, 0.03], 6.0, temperature=3.0, bath=ClassicalBath()),
    "laser": lambda: illuminated_bilayer(2.4e10, 1560.0, fermi_energy=(3.0, -2.0), dipole=(1.1, 1.0)),
    "pulse": lambda: illuminated_bilayer(2.4e10, 1560.0, envelope=Constant()),
}


@pytest.mark.long
@pytest.mark.parametrize("name", MAGNETS)
def test_derivatives_with_respect_to_every_leaf(name):
    """The derivative by every number that a magnet holds is what a change of that number does: none is a copy."""
    arrays, static = eqx.partition(MAGNETS[name](), eqx.is_array)
    p, unravel = ravel_pytree(arrays)
    value = jax.jit(lambda p: frequencies(eqx.combine(unravel(p), static)))
    here = np.asarray(value(p))
    assert (here > 0).all()
    reverse, forward = jax.jit(jax.jacrev(value))(p), jax.jit(jax.jacfwd(value))(p)
    size = np.maximum(np.abs(np.asarray(p)), 1e-2)
    expected = differences.slopes(value, p, 1e-4 * size)
    for derivative in (reverse, forward):
        np.testing.assert_allclose(np.asarray(derivative) * size, expected * size, rtol=1e-5, atol=1e-6 * here.min())
    moving = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(arrays)[0]}
    if name in ("laser", "pulse"):
        slope = eqx.filter_grad(lambda m: steady_state(m).chase_frequency)(MAGNETS[name]())
        assert float(slope.light.laser.intensity) * 2.4e10 > 0.1 * here[0]
        assert any("laser.photon_energy" in place for place in moving)


@pytest.mark.parametrize("envelope", [None, Constant()])
def test_a_changed_leaf_changes_every_result(envelope):
    """`eqx.tree_at` on the laser of a lit magnet is the magnet under another laser, in all that is asked of it."""
    lit = illuminated_bilayer(2.65e10, 1550.0, envelope=envelope)
    changed = eqx.tree_at(lambda m: m.light.laser.intensity, lit, jnp.asarray(2.2e10))
    other = illuminated_bilayer(2.2e10, 1550.0, envelope=envelope)
    np.testing.assert_array_equal(changed.loss_rate, other.loss_rate)
    found, expected = steady_state(changed), steady_state(other)
    np.testing.assert_allclose(found.chase_frequency, expected.chase_frequency, rtol=1e-12)
    assert abs(float(expected.chase_frequency) - float(steady_state(lit).chase_frequency)) > 1.0
    for of in (lambda m: exposure(m, found.m), lambda m: simulate(m, found.m, 1.0).ms):
        jax.tree.map(np.testing.assert_array_equal, of(changed), of(other))
    m0 = default_start(changed)
    np.testing.assert_array_equal(m0, default_start(other))


def test_derivatives_are_finite_where_nothing_rotates():
    _, static = eqx.partition(hanai2025_bilayer(), eqx.is_array)

    def observables(arrays):
        state = steady_state(eqx.combine(arrays, static), throw=False)
        still = jnp.stack([state.chase_frequency, state.rotation_frequency])
        return still, (state.angle, state.growth_rate, state.lengths, state.m, state.angular_velocity)

    reverse, forward = jax.jit(jax.jacrev(observables)), jax.jit(jax.jacfwd(observables))
    for gamma, j_ab in ((0.0, 5.0), (0.05, 2.0), (0.12, 6.0), (0.05, 0.0), (0.02, 5.0)):
        arrays, _ = eqx.partition(hanai2025_bilayer(gamma, j_ab), eqx.is_array)
        for derivative in (reverse, forward):
            still, others = derivative(arrays)
            assert all((np.asarray(x) == 0).all() for x in jax.tree.leaves(still))
            assert all(np.isfinite(x).all() for x in jax.tree.leaves(others))


def test_length_of_a_collinear_state_has_the_right_derivative():
    f = lambda j: steady_state(hanai2025_bilayer(0.05, j)).lengths[1]  # noqa: E731
    assert float(jax.grad(f)(2.0)) == pytest.approx(float(f(2.0 + 1e-5) - f(2.0 - 1e-5)) / 2e-5, rel=1e-6)


@pytest.mark.parametrize(
    "gamma, j_ab, field",
    [(0.05, 6.0, None), (0.05, 2.0, None), (0.12, 6.0, None), (0.01, 5.0, None), (0.05, 6.0, [0.0, 0.0, 0.3])],
)
def test_continued_is_the_steady_state_nearby(gamma, j_ab, field):
    known = steady_state(hanai2025_bilayer(gamma, j_ab, field=field))
    near = hanai2025_bilayer(1.01 * gamma, 0.99 * j_ab, field=field)
    found, followed = continued(near, known), steady_state(near, known.m)
    assert bool(found.valid) and int(found.phase) == int(followed.phase)
    # In a field the moments turn on while they are followed.
    np.testing.assert_allclose(found.m @ found.m.T, followed.m @ followed.m.T, rtol=1e-8, atol=1e-12)
    for name in ("lengths", "angle", "chase_frequency", "rotation_frequency", "angular_velocity", "growth_rate"):
        np.testing.assert_allclose(getattr(found, name), getattr(followed, name), rtol=1e-8, atol=1e-9)


def test_continued_leaves_a_state_that_is_not_valid_alone():
    known = steady_state(hanai2025_bilayer(0.0915, 11.0), max_steps=5, throw=False)
    for x, y in zip(*(jax.tree.leaves(s) for s in (continued(hanai2025_bilayer(), known), known)), strict=True):
        np.testing.assert_array_equal(x, y)
    # Far from it no attractor is made up.
    chase = steady_state(hanai2025_bilayer(0.05, 6.0))
    assert not bool(continued(hanai2025_bilayer(0.0, 12.0), chase).valid)


@pytest.mark.long
def test_transformations_compose():
    f = lambda g, j: steady_state(hanai2025_bilayer(g, j), throw=False).chase_frequency  # noqa: E731
    gammas, exchanges = jnp.asarray([0.01, 0.05, 0.12, 0.03]), jnp.asarray([5.0, 6.0, 6.0, 8.0])
    nested = jax.jit(jax.vmap(jax.vmap(jax.value_and_grad(f), (None, 0)), (0, None)))
    together, slopes = (jnp.diag(x) for x in nested(gammas, exchanges))
    np.testing.assert_allclose(together, [f(g, j) for g, j in zip(gammas, exchanges, strict=True)], rtol=1e-12)
    np.testing.assert_allclose(slopes, jax.vmap(jax.jacfwd(f))(gammas, exchanges), rtol=1e-10)
    assert float(slopes[0]) == float(slopes[2]) == 0.0 and float(slopes[1]) > 0


@pytest.mark.long
def test_without_light_aligned_is_the_only_attractor():
    rng = np.random.default_rng(0)
    starts = rng.normal(size=(200, 2, 3)) * 0.5
    magnet = hanai2025_bilayer(0.0, 5.0)
    phases = jax.vmap(lambda m: steady_state(magnet, m, throw=False).phase)(jnp.asarray(starts))
    assert (np.asarray(phases) == Phase.ALIGNED).all()


@pytest.mark.long
def test_one_layer_follows_the_tanh_law():
    for temperature in (3.0, 9.0):
        state = steady_state(LayeredMagnet([[10.0]], 0.1, -10.0, 0.0, 1.0, temperature))
        assert int(state.phase) == Phase.ALIGNED
        np.testing.assert_allclose(state.lengths, [single_layer.ordered_length(10.0, temperature)], rtol=1e-9)
        rate = single_layer.relaxation_rate(10.0, temperature, 0.1)
        np.testing.assert_allclose(state.growth_rate, rate, rtol=1e-7)
    assert int(steady_state(LayeredMagnet([[10.0]], 0.1, -10.0, 0.0, 1.0, 11.0)).phase) == Phase.PARAMAGNETIC


@pytest.mark.long
def test_classical_curie_point():
    hot = steady_state(LayeredMagnet([[9.0]], 0.1, -10.0, 0.0, 1.0, 3.1, bath=ClassicalBath()))
    cold = steady_state(LayeredMagnet([[9.0]], 0.1, -10.0, 0.0, 1.0, 2.5, bath=ClassicalBath()))
    assert int(hot.phase) == Phase.PARAMAGNETIC and int(cold.phase) == Phase.ALIGNED
    np.testing.assert_allclose(cold.lengths, [single_layer.classical_length(9.0, 2.5)], rtol=1e-9)


@pytest.mark.parametrize(
    "field", [[[0.0, 0.0, 0.6], [0.6, 0.0, 0.0]], pytest.param([0.5, 0.0, 0.3], marks=pytest.mark.long)]
)
def test_fields_that_leave_no_symmetry(field):
    """Fields along different directions, or one that is tilted against the easy axis: no rotation is a symmetry, so
    nothing turns, and every mode of the equation of motion counts for the growth rate."""
    system = Bilayer(exchange=np.array([[10.0, 3.0], [5.0, 5.0]]))
    magnet = magnet_of(system, field=jnp.asarray(field), anisotropy=UniaxialAnisotropy([0.4, 0.1]))
    state = steady_state(magnet)
    assert bool(state.valid) and float(state.rotation_frequency) == 0.0
    rates = jax.jacfwd(lambda flat: magnet.vector_field(0.0, flat.reshape(2, 3)).ravel())(state.m.ravel())
    assert float(state.growth_rate) == pytest.approx(np.linalg.eigvals(np.asarray(rates)).real.max(), rel=1e-7)


def test_a_field_turns_the_moments_and_its_derivative_is_right():
    def length(b):
        return steady_state(hanai2025_bilayer(0.0, 5.0, field=jnp.stack([0.0 * b, 0.0 * b, b]))).lengths[0]

    # In a field along the moments m_A = tanh((j_AA m_A + j_AB m_B + B)/T), and the same for B.
    b = 0.7
    m = np.array([0.8, 0.7])
    for _ in range(2000):
        m = np.tanh((np.array([[10.0, 5.0], [5.0, 5.0]]) @ m + b) / 9.0)
    assert float(length(jnp.asarray(b))) == pytest.approx(m[0], rel=1e-9)
    difference = (length(jnp.asarray(b + 1e-4)) - length(jnp.asarray(b - 1e-4))) / 2e-4
    assert float(jax.grad(length)(jnp.asarray(b))) == pytest.approx(float(difference), rel=1e-5)


def test_easy_axis_chooses_a_direction():
    axis = np.array([1.0, 2.0, 2.0]) / 3.0
    state = steady_state(hanai2025_bilayer(0.0, 5.0, anisotropy=UniaxialAnisotropy(0.5, axis)))
    assert int(state.phase) == Phase.ALIGNED
    np.testing.assert_allclose(np.abs(state.m @ axis), state.lengths, rtol=1e-9)


@pytest.mark.long
def test_three_layers_without_light():
    # Reciprocal and ferromagnetic: m_a = tanh(h_a/T) along one axis.
    j = np.array([[8.0, 3.0, 0.0], [3.0, 6.0, 2.0], [0.0, 2.0, 7.0]])
    m = np.ones(3)
    for _ in range(3000):
        m = np.tanh(j @ m / 7.0)
    state = steady_state(LayeredMagnet(j, 0.1, -10.0, 0.0, 1.0, 7.0))
    assert int(state.phase) == Phase.ALIGNED
    np.testing.assert_allclose(state.lengths, m, rtol=1e-9)


def test_three_layers_with_a_spectator():
    # A third layer that is hot and coupled to nothing leaves the chase of the other two as it is.
    j = np.zeros((3, 3))
    j[:2, :2] = [[10.0, 6.0], [6.0, 5.0]]
    j[2, 2] = 1.0
    state = steady_state(LayeredMagnet(j, [0.1, 2e-3, 0.1], -10.0, [0.0, 0.05, 0.0], 1.0, 9.0))
    assert int(state.phase) == Phase.CHIRAL
    np.testing.assert_allclose(state.chase_frequency * units.GHz, 0.172072683, rtol=1e-6)
    np.testing.assert_allclose(state.rotation_frequency * units.GHz, 3.914884916, rtol=1e-6)


@pytest.mark.parametrize("j_ab", [5.0, -1.0])
def test_the_default_start_is_the_state_without_light(j_ab):
    """Along z, antialigned where the exchange asks for it (also where layers that order by themselves could stay the
    other way round), up to the small deviation that every start carries."""
    j = np.array([[11.0, j_ab], [j_ab, 12.0]])
    start = np.asarray(default_start(hanai2025_bilayer(0.05, exchange=j)))
    a, b = Bilayer(exchange=j).collinear((0.7, np.sign(j_ab) * 0.7))
    assert np.sign(a * b) == np.sign(j_ab)
    np.testing.assert_allclose(start, [[0.0, 0.0, a], [0.0, 0.0, b]], atol=1.1e-2)
    assert np.linalg.norm(np.cross(*start)) > 1e-3


def test_a_layer_that_nothing_orders_has_no_length():
    """Without exchange between them A orders and B, above its own Curie point, dies out: its length is 0, not small."""
    alone = Bilayer(exchange=np.array([[10.0, 0.0], [0.0, 5.0]]))
    for system, other in ((alone, 1), (alone.relabelled(), 0)):
        state = steady_state(magnet_of(system))
        assert bool(state.valid) and float(state.lengths[other]) == 0.0
        expected = single_layer.ordered_length(10.0, 9.0)
        np.testing.assert_allclose(state.lengths[1 - other], expected, rtol=1e-9)


def test_a_layer_that_is_cut_in_two_rotates_as_before():
    """A and its copy A' share the exchange of A: the three layers A, A', B rotate like A and B. The first two stay
    parallel, so that only the third makes the state chiral."""
    j = np.array([[5.0, 5.0, 6.0], [5.0, 5.0, 6.0], [3.0, 3.0, 5.0]])
    state = steady_state(LayeredMagnet(j, [0.1, 0.1, 2e-3], -10.0, [0.0, 0.0, 0.05], 1.0, 9.0))
    assert int(state.phase) == Phase.CHIRAL and bool(state.valid) and float(state.angle) < 1e-5
    np.testing.assert_allclose(state.rotation_frequency * units.GHz, 3.914884916, rtol=1e-6)


def test_from_a_saddle_the_motion_goes_on():
    """Moments that are exactly collinear would stay so, on a saddle or passing through each other: what any tilt
    leads to is the attractor."""
    collinear = np.array([[0.0, 0.0, 0.8], [0.0, 0.0, 0.5]])
    for options in ({}, {"field": jnp.zeros(3)}):
        state = steady_state(magnet_of(UNEQUAL, **options), collinear)
        assert int(state.phase) == Phase.CHIRAL and bool(state.valid)
        expected = UNEQUAL.chiral((float(state.lengths[0]), float(np.cos(state.angle))))
        np.testing.assert_allclose(state.chase_frequency * units.GHz, expected[3], rtol=1e-7)


@pytest.mark.parametrize("beside", [0.0, 1e-6])
def test_a_saddle_is_left_behind(beside):
    """In the dark, in fields along different directions: on a saddle, and so near that it looks like rest."""
    magnet = hanai2025_bilayer(0.0, 6.0, field=[[0.0, 0.0, 0.3], [0.3, 0.0, 0.0]])
    field = jax.jit(lambda m: magnet.vector_field(0.0, m.reshape(2, 3)).ravel())
    saddle = optimize.root(field, [-0.045, 0.0, -0.03, 0.007, 0.0, -0.045], tol=1e-14).x
    assert np.linalg.eigvals(jax.jacfwd(field)(saddle)).real.max() > 0.5
    start = saddle.reshape(2, 3) + beside * np.array([[1.0, 0.3, 0.2], [-0.2, 0.5, 0.1]])
    end, attractor = steady_state(magnet, start), steady_state(magnet)
    assert bool(end.valid) and float(end.growth_rate) < 0
    np.testing.assert_allclose(end.m, attractor.m, atol=1e-9)


def test_modulated_shape():
    """Period and averages of the closed orbit, against a trajectory over twenty of them."""
    state = steady_state(modulated_magnet(), START_OF_MODULATED)
    assert int(state.phase) == Phase.MODULATED and bool(state.valid) and not bool(state.is_rigid)
    assert float(state.residual) < 1e-12 and float(state.growth_rate) < 0
    settled = simulate(modulated_magnet(), START_OF_MODULATED, 1500.0)
    span = 20 * float(state.period)
    times = np.linspace(0.0, span, 20001)
    trajectory = simulate(modulated_magnet(), settled.ms[-1], span, saveat=times)
    assert int(classify_trajectory(trajectory).phase) == Phase.MODULATED
    ms, velocities = np.asarray(trajectory.ms), np.asarray(trajectory.velocities) / units.ps
    # The scalar products come back after every period, and not after half of it.
    gram = np.einsum("tan,tbn->tab", ms, ms)
    np.testing.assert_allclose(gram[::1000], np.broadcast_to(gram[0], (21, 2, 2)), rtol=1e-5)
    assert np.abs(gram[500::1000] - gram[0]).max() > 1e-2
    total, of_state = np.sum(ms**2, axis=(1, 2)), float(np.sum(np.asarray(state.m) ** 2))
    np.testing.assert_allclose(of_state, total.max(), rtol=1e-4)
    ms, velocities = ms[:-1], velocities[:-1]
    rms = np.sqrt(np.mean(np.sum(ms**2, axis=-1), axis=0))
    np.testing.assert_allclose(state.lengths, rms, rtol=1e-5)
    # m_A turns at the chase rate in the plane of the moments, and with that plane about gyro (j_BA m_A + j_AB m_B).
    normal = np.cross(ms[:, 0], ms[:, 1])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    chase = np.sum(normal * np.cross(ms[:, 0], velocities[:, 0]), axis=1) / np.sum(ms[:, 0] ** 2, axis=1)
    j = np.asarray(modulated_magnet().exchange)
    about = 2.0 * (j[1, 0] * ms[:, 0] + j[0, 1] * ms[:, 1])
    np.testing.assert_allclose(state.chase_frequency * units.GHz, np.abs(chase).mean(), rtol=1e-5)
    rotation = np.sqrt(chase**2 + np.sum(about**2, axis=1)).mean()
    np.testing.assert_allclose(state.rotation_frequency * units.GHz, rotation, rtol=1e-5)


def test_derivatives_of_a_closed_orbit():
    """Forward and backward, against differences; a rigid state has an infinite period."""

    def seen(change):
        magnet = modulated_magnet()
        exchange = jnp.asarray(magnet.exchange).at[0, 1].add(change)
        state = steady_state(eqx.tree_at(lambda m: m.exchange, magnet, exchange), START_OF_MODULATED, throw=False)
        return jnp.stack([state.period, state.chase_frequency, state.rotation_frequency, *state.lengths])

    slopes = jax.jacfwd(seen)(0.0)
    np.testing.assert_allclose(slopes, differences.slope(seen, 0.0, 1e-3), rtol=1e-5)
    np.testing.assert_allclose(jax.grad(lambda x: seen(x)[0])(0.0), slopes[0], rtol=1e-10)
    rigid = steady_state(hanai2025_bilayer(0.066, 6.0))
    assert np.isinf(rigid.period) and bool(rigid.is_rigid)


def test_moments_that_swing_along_a_line_turn_nowhere():
    """Reciprocal in nothing and deeply damped: lengths swing through zero, and the tilt decays."""
    magnet = LayeredMagnet(
        [[2.65602317, 6.63884246], [-13.14418697, 8.67021047]], [0.14367529, 0.05267778], 10.380474599096722,
        [0.02882848, 0.01330542], 0.5734424054676261, 3.104714462523916,
    )  # fmt: skip
    state = steady_state(magnet)
    assert int(state.phase) == Phase.MODULATED and bool(state.valid)
    assert float(state.chase_frequency) == 0.0 == float(state.rotation_frequency)
    settled = simulate(magnet, state.m, 20 * float(state.period), saveat=np.arange(21) * float(state.period))
    lengths = np.linalg.norm(settled.ms, axis=2)
    np.testing.assert_allclose(lengths, np.broadcast_to(lengths[0], lengths.shape), rtol=1e-5)


@pytest.mark.long
def test_closed_orbits_need_not_be_solved_for():
    state = steady_state(modulated_magnet(), START_OF_MODULATED, cycles=False)
    assert int(state.phase) == Phase.MODULATED and not bool(state.valid) and np.isnan(state.period)


def test_without_watching_it_is_only_known_that_nothing_settled():
    """One by one, and among others."""
    solver = nrjax.ShapeSolver(watches=False)
    magnet = jax.tree.map(lambda x: jnp.asarray(x, float), modulated_magnet())
    alone = steady_state(magnet, START_OF_MODULATED, solver=solver, throw=False)
    both = steady_states(jax.tree.map(lambda x: jnp.stack([x, x]), magnet), jnp.asarray(START_OF_MODULATED), solver)
    for state in (alone, both):
        assert (np.asarray(state.phase) == Phase.UNRESOLVED).all() and not np.asarray(state.valid).any()
        assert np.asarray(state.result == RESULTS.not_settled).all()


@pytest.mark.parametrize(("kind", "lanes"), [("WATCHED", 40), ("FEW_WATCHED", 128)])
def test_the_few_that_keep_moving_are_told_among_many(monkeypatch, kind, lanes):
    """Lanes that are watched, more than go together or all at once, are told as one by one, the others left alone."""
    start = jnp.asarray(START_OF_MODULATED)
    magnets = [modulated_magnet(), hanai2025_bilayer([0.0, 0.05], 6.0, filling=[1.0, 1.0])]
    magnets = [jax.tree.map(lambda x: jnp.asarray(x, float), magnet) for magnet in magnets]
    alone = [steady_state(magnet, start, throw=False) for magnet in magnets]
    monkeypatch.setattr(shape_solver, kind, lanes)
    which = np.arange(700) % 7 == 0
    mixed = jax.tree.map(lambda a, b: jnp.where(which.reshape(-1, *[1] * a.ndim), a, b), *magnets)
    told = steady_states(mixed, start)
    assert int(alone[0].phase) == Phase.MODULATED and int(alone[1].phase) == Phase.CHIRAL
    for lane, state in ((which, alone[0]), (~which, alone[1])):
        assert (np.asarray(told.phase)[lane] == int(state.phase)).all()
        for name in ("lengths", "angle", "chase_frequency", "rotation_frequency"):
            expected = np.broadcast_to(getattr(state, name), np.asarray(getattr(told, name))[lane].shape)
            np.testing.assert_allclose(np.asarray(getattr(told, name))[lane], expected, rtol=1e-8)


def test_bad_lanes_spoil_no_other_and_cost_nothing():
    gammas = jnp.asarray(np.linspace(0.0, 0.12, 256))
    magnets = jax.vmap(lambda g: hanai2025_bilayer(g, 6.0))(gammas)
    good = steady_states(magnets)
    loss, damping = np.array(magnets.loss_rate), np.array(magnets.damping)
    temperature = np.array(magnets.temperature)
    temperature[3, 0] = np.nan
    damping[100, 1], loss[100, 1] = -0.5, -0.5  # grows without bound
    damping[200, 0] = 1e9  # stiff
    bad = eqx.tree_at(
        lambda m: (m.light.loss_rate, m.damping, m.temperature),
        magnets,
        tuple(map(jnp.asarray, (loss, damping, temperature))),
    )
    mixed = steady_states(bad)
    untouched = ~np.isin(np.arange(256), [3, 100, 200])
    for name in ("phase", "lengths", "chase_frequency", "growth_rate", "valid", "steps"):
        np.testing.assert_array_equal(
            np.asarray(getattr(mixed, name))[untouched], np.asarray(getattr(good, name))[untouched]
        )
    assert not bool(mixed.valid[3]) and not bool(mixed.valid[100])
    assert int(mixed.phase[3]) == int(mixed.phase[100]) == Phase.UNRESOLVED
    # The work, in lane steps, stays within three times that of the healthy batch.
    assert int(mixed.steps.sum()) < 3 * int(good.steps.sum())
    # No lane is waited for: the longest one, fine steps included, stays within three times the longest healthy one.
    assert int(mixed.steps.max()) < 3 * int(good.steps.max())


@pytest.mark.long
def test_single_precision_gives_the_same_labels():
    rng = np.random.default_rng(5)
    gammas, exchanges = rng.uniform(0, 0.12, 256), rng.uniform(0.1, 12, 256)

    def solve(g, j):
        return steady_states(jax.vmap(hanai2025_bilayer)(g, j))

    double = solve(jnp.asarray(gammas), jnp.asarray(exchanges))
    away = np.ones(256, dtype=bool)
    for factor in (0.98, 1.02):
        for g, j in ((gammas * factor, exchanges), (gammas, exchanges * factor)):
            away &= np.asarray(solve(jnp.asarray(g), jnp.asarray(j)).phase) == np.asarray(double.phase)
    assert away.mean() > 0.8
    with jax.enable_x64(False):
        single = solve(jnp.asarray(gammas, jnp.float32), jnp.asarray(exchanges, jnp.float32))
        assert single.lengths.dtype == jnp.float32
        phases, lengths = np.asarray(single.phase), np.asarray(single.lengths)
    np.testing.assert_array_equal(phases[away], np.asarray(double.phase)[away])
    np.testing.assert_allclose(lengths[away], np.asarray(double.lengths)[away], atol=2e-3)


def test_bad_input():
    with pytest.raises(ValueError, match=r"\(3, 3\).*\(2, 3\)"):
        steady_state(hanai2025_bilayer(), np.zeros((3, 3)))
    with pytest.raises(ValueError, match="m0 = nan"):
        steady_state(hanai2025_bilayer(), np.full((2, 3), np.nan))


def test_throw_tells_why():
    with pytest.raises(eqx.EquinoxRuntimeError, match="Raise max_steps"):
        steady_state(hanai2025_bilayer(0.0915, 11.0), max_steps=5)
    state = steady_state(hanai2025_bilayer(0.0915, 11.0), max_steps=5, throw=False)
    assert int(state.phase) == Phase.UNRESOLVED and state.result == RESULTS.not_settled and "max_steps" in str(state)


@pytest.mark.parametrize("field", [None, 0.0])
@pytest.mark.parametrize("mediated", [9.0, 18.0])
def test_no_moment_is_longer_than_saturation(mediated, field):
    """B is moved by light alone, m_B = (2/g) jm_BA m_A with g = -20 meV: 0.9 or 1.8 times m_A in size, which obeys
    m_A = tanh(20 m_A/9). By both solvers."""
    magnet = LayeredMagnet(
        exchange=[[20.0, 0.0], [0.0, 0.0]],
        damping=[0.1, 0.0],
        sd_coupling=-20.0,
        loss_rate=[0.0, 0.5],
        filling=1.0,
        temperature=9.0,
        mediated_exchange=[[20.0, 0.0], [mediated, 0.0]],
        field=None if field is None else np.zeros((2, 3)),
    )
    lit = 2.0 * mediated / 20.0
    m_a: Any = optimize.brentq(lambda m: m - np.tanh(20.0 * m / 9.0), 0.5, 1.0)
    state = steady_state(magnet, throw=False)
    np.testing.assert_allclose(state.lengths, [m_a, lit * m_a], rtol=1e-7)
    fits = lit * m_a < 1.0
    assert bool(state.valid) == fits
    assert int(state.phase) == (Phase.ANTIALIGNED if fits else Phase.UNRESOLVED)
    assert state.result == (RESULTS.successful if fits else RESULTS.beyond_saturation)


@pytest.mark.parametrize("point", [(0.09224, 3.72), (0.0923, 3.715)])
def test_a_slow_way_to_a_rigid_state_is_no_modulated_one(point):
    """Spirals that hardly shrink look as if they repeated themselves: without a closed orbit nothing is claimed."""
    g = point[0] * (1.0 + 1e-8 * np.arange(-3, 4))
    found = steady_states(jax.vmap(lambda x: hanai2025_bilayer(x, point[1]))(jnp.asarray(g)))
    phases = np.asarray(found.phase)
    assert set(phases.tolist()) <= {Phase.ANTIALIGNED, Phase.UNRESOLVED}
    assert np.array_equal(np.asarray(found.valid), phases == Phase.ANTIALIGNED)
    reasons = np.asarray(found.result == RESULTS.no_orbit), np.asarray(found.result == RESULTS.not_settled)
    assert np.array_equal(reasons[0] | reasons[1], phases == Phase.UNRESOLVED)
    assert reasons[0].any() == (phases == Phase.UNRESOLVED).any()
    start = 0.9 * steady_state(hanai2025_bilayer(point[0] * 1.001, point[1])).m
    # The moments end at a hundredth of saturation: their directions are known to a hundred times the tolerance.
    settled = simulate(hanai2025_bilayer(*point), start, 2e4, rtol=1e-10)
    cosine = settled.ms[-1, 0] @ settled.ms[-1, 1]
    assert cosine < 0 and np.linalg.norm(np.cross(settled.ms[-1, 0], settled.ms[-1, 1])) < 1e-6 * abs(cosine)


def test_modulated_shape_through_time_integration():
    magnet = modulated_magnet()
    general = eqx.tree_at(lambda m: m.field, magnet, jnp.zeros((2, 3)), is_leaf=lambda x: x is None)
    state = steady_state(general, START_OF_MODULATED)
    assert int(state.phase) == Phase.MODULATED and not bool(state.valid) and np.isnan(state.chase_frequency)
    assert state.result == RESULTS.modulated and np.isnan(state.period)


@pytest.mark.long
@pytest.mark.computes
def test_time_integration_next_to_a_melting_point():
    """The reference bilayer melts at gamma_B = 0.092 meV, where trace W(0) = 0. By time integration (a field of 0
    keeps it from being solved by its shape) small moments are known to die out beyond; before, a slow transient on a
    line whose tilt still grows is no MODULATED state."""

    def found(gamma):
        return steady_state(hanai2025_bilayer(gamma, 6.0, field=jnp.zeros((2, 3))), throw=False)

    for share in (1e-4, 1e-2):
        melted = found(0.092 * (1.0 + share))
        assert int(melted.phase) == Phase.PARAMAGNETIC and bool(melted.valid)
    assert int(found(0.092 * (1.0 - 1e-2)).phase) in (Phase.CHIRAL, Phase.UNRESOLVED)
