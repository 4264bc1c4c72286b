import re

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from nrjax import LayeredMagnet, hanai2025_bilayer, simulate, simulate_many, units
from nrjax._numerics.unrolled_runge_kutta import UnrolledTsit5
from tests.magnets import magnet_of
from tests.refusal import assert_refused
from tests.systems import single_layer
from tests.systems.bilayer import UNEQUAL, Bilayer

M0 = np.array([[0.1, 0.0, 0.87], [0.0, 0.05, 0.7]])


def test_against_scipy():
    system = UNEQUAL
    times = np.linspace(0.0, 20.0, 9)
    reference = solve_ivp(
        lambda t, y: system.velocity(y.reshape(2, 3)).ravel(), (0, times[-1] * units.ps), M0.ravel(),
        method="DOP853", rtol=1e-12, atol=1e-13, t_eval=times * units.ps,
    )  # fmt: skip
    solution = simulate(magnet_of(system), M0, 20.0, saveat=times, rtol=1e-10)
    np.testing.assert_allclose(solution.ts, times, rtol=1e-14)
    np.testing.assert_allclose(solution.ms, reference.y.T.reshape(-1, 2, 3), atol=1e-7)
    velocities = [system.velocity(m) * units.ps for m in np.asarray(solution.ms)]
    assert solution.velocities is not None
    np.testing.assert_allclose(solution.velocities, velocities, rtol=1e-10, atol=1e-12)
    assert bool(solution.valid) and "9 times" in str(solution)


@pytest.mark.parametrize("options", [{}, {"solver": diffrax.Tsit5()}, {"solver": diffrax.Dopri8()}])
def test_solvers_agree_and_time_shift_is_free(options):
    magnet = hanai2025_bilayer(0.03, 8.0)
    one = simulate(magnet, M0, 10.0, rtol=1e-11)
    other = simulate(magnet, M0, 15.0, t0=5.0, rtol=1e-11, **options)
    np.testing.assert_allclose(other.ms, one.ms, atol=1e-8)
    np.testing.assert_allclose(other.ts, [15.0])


def test_unrolled_solver_takes_the_steps_of_diffrax():
    magnet = magnet_of(UNEQUAL)
    times = np.linspace(0, 10, 7)
    ours = simulate(magnet, M0, 10.0, saveat=times, solver=UnrolledTsit5())
    theirs = simulate(magnet, M0, 10.0, saveat=diffrax.SaveAt(ts=jnp.asarray(times)), solver=diffrax.Tsit5())
    assert abs(int(ours.stats["num_steps"]) - int(theirs.stats["num_steps"])) <= 2
    np.testing.assert_allclose(ours.ms, theirs.ms, atol=1e-9)


def test_one_layer_relaxes_at_its_rate():
    exchange, temperature, damping = 10.0, 9.0, 0.1
    magnet = LayeredMagnet([[exchange]], damping, -10.0, 0.0, 1.0, temperature)
    length = single_layer.ordered_length(exchange, temperature)
    rate = single_layer.relaxation_rate(exchange, temperature, damping)
    start = np.array([[0.0, 0.6, 0.8]]) * (length + 1e-4)
    times = np.array([0.0, 5.0])
    solution = simulate(magnet, start, 5.0, saveat=times, rtol=1e-11, atol=1e-14)
    deviation = np.linalg.norm(solution.ms[:, 0], axis=-1) - length
    assert np.log(deviation[1] / deviation[0]) / (5.0 * units.ps) == pytest.approx(rate, rel=1e-3)


def test_precession_alone_keeps_lengths_and_energy():
    magnet = hanai2025_bilayer(0.0, 6.0, damping=0.0)
    start = np.array([[0.5, 0.0, 0.6], [0.0, 0.7, -0.1]])
    solution = simulate(magnet, start, 30.0, saveat=np.linspace(0, 30, 50), rtol=1e-11, atol=1e-12)
    lengths = np.linalg.norm(solution.ms, axis=-1)
    np.testing.assert_allclose(lengths, np.broadcast_to(lengths[0], lengths.shape), rtol=1e-8)
    energy = -0.5 * np.einsum("ab,tai,tbi->t", magnet.exchange, solution.ms, solution.ms)
    np.testing.assert_allclose(energy, energy[0], rtol=1e-8)
    assert np.linalg.norm(solution.ms[7] - solution.ms[0]) > 0.1


@pytest.mark.parametrize("seed", range(4))
def test_free_energy_falls_without_light(seed):
    rng = np.random.default_rng(seed)
    system = Bilayer().with_light(0.0, rng.uniform(0, 12))
    magnet = hanai2025_bilayer(0.0, system.exchange[0, 1])
    start = rng.normal(size=(2, 3)) * 0.3
    solution = simulate(magnet, start, 40.0, saveat=np.linspace(0, 40, 200), rtol=1e-10)
    energy = np.array([system.free_energy(m) for m in np.asarray(solution.ms)])
    assert (np.diff(energy) < 1e-12).all() and energy[-1] < energy[0] - 1e-3


def final_cosine(gamma, adjoint=None):
    solution = simulate(hanai2025_bilayer(gamma, 6.0), M0, 15.0, rtol=1e-11, adjoint=adjoint, max_steps=4096)
    return jnp.sum(solution.ms[-1, 0] * solution.ms[-1, 1])


@pytest.mark.long
def test_derivatives_through_time_agree():
    reverse = jax.grad(final_cosine)(0.05)
    forward = jax.jacfwd(lambda g: final_cosine(g, diffrax.ForwardMode()))(0.05)
    h = 1e-5
    difference = (final_cosine(0.05 + h) - final_cosine(0.05 - h)) / (2 * h)
    assert float(reverse) == pytest.approx(float(forward), rel=1e-8)
    assert float(reverse) == pytest.approx(float(difference), rel=1e-5)


@pytest.mark.long
def test_derivatives_with_respect_to_every_parameter():
    magnet = hanai2025_bilayer(0.05, 6.0)
    arrays, static = eqx.partition(magnet, eqx.is_array)

    def observable(arrays, adjoint):
        model = eqx.combine(arrays, static)
        return jnp.sum(simulate(model, M0, 5.0, rtol=1e-11, adjoint=adjoint, max_steps=4096).ms[-1] ** 2)

    reverse = jax.grad(lambda a: observable(a, None))(arrays)
    forward = jax.jacfwd(lambda a: observable(a, diffrax.ForwardMode()))(arrays)
    for one, other in zip(jax.tree.leaves(reverse), jax.tree.leaves(forward), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_derivatives_with_respect_to_a_start_on_one_line(mode):
    """Opposite, parallel and nearly parallel moments along a slanting axis: deviations across it precess, which a
    motion on the axis does not show. Against differences of SciPy's trajectories."""
    axis, across = np.array([0.36, 0.48, 0.8]), np.array([0.8, -0.6, 0.0])
    starts = np.stack([
        [0.7 * axis, -0.3 * axis], [0.7 * axis, 0.4 * axis], [0.7 * axis, 0.4 * axis + 1e-6 * across],
    ])  # fmt: skip
    system, magnet = UNEQUAL, magnet_of(UNEQUAL)

    def exact(m0):
        end = solve_ivp(
            lambda t, y: system.velocity(y.reshape(2, 3)).ravel(), (0, 2.0 * units.ps), m0.ravel(),
            method="DOP853", rtol=1e-12, atol=1e-14,
        )  # fmt: skip
        return end.y[:, -1]

    adjoint = diffrax.ForwardMode() if mode == "forward" else None
    derive = jax.jacfwd if mode == "forward" else jax.jacrev
    slopes = jax.jit(jax.vmap(derive(lambda m0: simulate(magnet, m0, 2.0, adjoint=adjoint, throw=False).ms[-1])))
    found = np.asarray(slopes(jnp.asarray(starts))).reshape(3, 6, 6)
    for start, slope in zip(starts, found, strict=True):
        steps = 1e-5 * np.eye(6).reshape(6, 2, 3)
        expected = np.stack([(exact(start + step) - exact(start - step)) / 2e-5 for step in steps], axis=1)
        np.testing.assert_allclose(slope, expected, atol=2e-4 * np.abs(expected).max())


def test_a_batch_made_of_numpy_arrays():
    """vmap hands on what it need not touch: such leaves stay NumPy's."""
    exchange = np.array([[10.0, 6.0], [6.0, 5.0]]) * np.linspace(0.8, 1.2, 3)[:, None, None]
    made = jax.vmap(lambda j: LayeredMagnet(j, [0.1, 2e-3], -10.0, [0.0, 0.05], 1.0, 9.0))
    assert isinstance(made(exchange).exchange, np.ndarray)
    found, expected = (simulate_many(made(x), M0, 2.0, progress=False) for x in (exchange, jnp.asarray(exchange)))
    np.testing.assert_array_equal(found.ms, expected.ms)


@pytest.mark.computes
def test_batch_is_what_each_lane_does_alone():
    # Lanes of unlike cost, in no order.
    gammas = jnp.asarray(np.linspace(0.0, 0.12, 37))

    def build(g):
        return hanai2025_bilayer(g, 5.0 + 2.0 * jnp.sin(1e3 * g))

    batch = jax.vmap(build)(gammas)
    together = simulate_many(batch, M0, 10.0, tile=16)
    one_by_one = simulate_many(batch, M0, 10.0, tile=5)
    for lane in (0, 17, 36):
        alone = simulate(build(gammas[lane]), M0, 10.0)
        for told in (together, one_by_one):
            np.testing.assert_allclose(told.ms[lane], alone.ms, atol=1e-10)
            assert told.stats["num_steps"][lane] == alone.stats["num_steps"]
    np.testing.assert_array_equal(together.ms, simulate_many(batch, M0, 10.0, tile=37).ms)
    starts = np.broadcast_to(M0, (37, 2, 3))
    stops = np.full(37, 10.0)
    np.testing.assert_array_equal(together.ms, simulate_many(batch, starts, stops, tile=16).ms)


@pytest.mark.parametrize("tile", [2, 1])
def test_the_trajectories_of_a_batch_are_ones_own(tile):
    """In one tile or two: NumPy arrays that may be written to."""
    batch = jax.vmap(lambda g: hanai2025_bilayer(g, 6.0))(jnp.asarray([0.0, 0.05]))
    told = simulate_many(batch, M0, 0.1, tile=tile)
    assert all(isinstance(x, np.ndarray) and x.flags.writeable for x in jax.tree.leaves(told))


def test_one_trajectory_is_computed_in_one_thread():
    """Starting others takes XLA as long as a short trajectory. It starts none where no buffer has more than 512 bytes;
    the table of what a loop works with, 8 bytes for each entry, is one."""

    def moments(magnet, start, stop, tolerance):
        return simulate(
            magnet, start, stop, rtol=tolerance, solver=UnrolledTsit5(), max_steps=None, throw=False, watch_tilt=False
        )

    batch = jax.vmap(hanai2025_bilayer)(jnp.full(1, 0.05), jnp.full(1, 6.0))
    lanes = jax.jit(jax.vmap(moments, in_axes=(0, 0, 0, None)))
    program = lanes.lower(batch, M0[None], np.ones(1), np.asarray(1e-8)).compile().as_text() or ""
    tables = re.findall(r"%while\S* = \((.*)\) while\(", program)
    entries = [len(re.findall(r"\w+\[[\d,]*\]", table)) for table in tables]
    assert entries and 20 < max(entries) <= 512 // 8, entries


@pytest.mark.long
def test_bad_lanes_spoil_no_other():
    gammas = np.linspace(0.0, 0.12, 64)
    good = jax.vmap(lambda g: hanai2025_bilayer(g, 6.0))(jnp.asarray(gammas))
    damping = np.array(good.damping)
    damping[7] = np.nan
    damping[21] = -50.0  # grows without bound
    damping[40] = 1e9  # stiffer than any explicit step
    bad = eqx.tree_at(lambda m: m.damping, good, jnp.asarray(damping))
    healthy = simulate_many(good, M0, 5.0, tile=16)
    mixed = simulate_many(bad, M0, 5.0, tile=16, max_steps=20_000)
    broken = np.isin(np.arange(64), [7, 21, 40])
    np.testing.assert_array_equal(mixed.valid, ~broken)
    np.testing.assert_array_equal(mixed.ms[~broken], healthy.ms[~broken])


@pytest.mark.long
def test_single_precision():
    with jax.enable_x64(False):
        magnet = hanai2025_bilayer(0.05, 6.0)
        assert magnet.exchange.dtype == jnp.float32
        solution = simulate(magnet, M0.astype(np.float32), 10.0)
        assert solution.ms.dtype == jnp.float32
        with pytest.raises(ValueError, match="jax_enable_x64") as caught:
            simulate(magnet, M0.astype(np.float32), 10.0, rtol=1e-9)
        assert "1e-09" in str(caught.value) and "float32" in str(caught.value)
        single = np.asarray(solution.ms)
    np.testing.assert_allclose(single, simulate(hanai2025_bilayer(0.05, 6.0), M0, 10.0).ms, atol=2e-3)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (dict(m0=np.zeros((3, 3))), ["(3, 3)", "(2, 3)"]),
        (dict(m0=np.zeros(6)), ["(6,)", "(2, 3)"]),
        (dict(m0=np.full((2, 3), np.nan)), ["m0", "nan"]),
        (dict(t1=-1.0), ["t1", "-1", "forward"]),
        (dict(t1=np.inf), ["t1", "inf"]),
        (dict(saveat=[]), ["saveat", "(0,)"]),
        (dict(saveat=[0.0, np.nan]), ["saveat", "nan"]),
        (dict(saveat=[0.0, 2.0, 1.0]), ["saveat", "sort"]),
        (dict(saveat=[0.0, 1e3]), ["saveat", "1000 ps", "t1"]),
        (dict(saveat=diffrax.SaveAt(ts=[-1.0, 1.0])), ["saveat", "-1 ps", "t0 = 0"]),
        (dict(rtol=1e-17), ["rtol", "1e-17", "float64"]),
        (dict(rtol=1e-6, stepsize_controller=diffrax.ConstantStepSize()), ["stepsize_controller"]),
    ],
)
def test_bad_input(arguments, words):
    arguments = dict(model=hanai2025_bilayer(), m0=M0, t1=1.0) | arguments
    assert_refused(lambda: simulate(**arguments), words)


def test_bad_batches():
    batch = jax.vmap(lambda g: hanai2025_bilayer(g, 6.0))(jnp.linspace(0.0, 0.1, 4))
    with pytest.raises(ValueError, match="vmap"):
        simulate_many(hanai2025_bilayer(), M0, 1.0)
    with pytest.raises(ValueError, match=r"\(3, 2, 3\)"):
        simulate_many(batch, np.zeros((3, 2, 3)), 1.0)
    with pytest.raises(ValueError, match="tile"):
        simulate_many(batch, M0, 1.0, tile=0)
    with pytest.raises(ValueError, match="saveat holds 2 ps.* t1 = 1 ps"):
        simulate_many(batch, M0, [1.0, 3.0, 3.0, 3.0], saveat=[0.0, 2.0])
