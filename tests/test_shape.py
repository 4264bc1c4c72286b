from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.linalg import expm

from nrjax import ClassicalBath, LayeredMagnet, ShapeDynamics, hanai2025_bilayer
from nrjax._numerics import refilled_loops
from nrjax._numerics.matrix_exponentials import REACH, phi_coefficients
from nrjax._numerics.refilled_loops import iterate
from nrjax._numerics.small_matrices import (
    Adjugate,
    adjugate,
    characteristic,
    complex_pair,
    is_stable,
    largest_real_part_3,
)
from nrjax._numerics.stored_values import stored, unseen_one
from nrjax.magnets import Gram
from nrjax.rotation import shape_solver
from nrjax.rotation.bilayer_relaxation import Motion, attempt_step, exponential_step

M = jnp.asarray([[0.3, -0.2, 0.6], [-0.1, 0.45, 0.2]])


def magnets():
    rng = np.random.default_rng(0)
    yield hanai2025_bilayer(0.05, 6.0)
    yield hanai2025_bilayer(0.05, 6.0, gyro=0.0)
    for bath in (ClassicalBath(), None):
        options: dict[str, Any] = {} if bath is None else {"bath": bath}
        yield LayeredMagnet(
            rng.normal(size=(2, 2)) * 5, [0.1, 0.03], [-10.0, 6.0], [0.04, 0.07], [1.0, 0.8], [9.0, 5.0],
            mediated_exchange=rng.normal(size=(2, 2)) * 4, **options,
        )  # fmt: skip


@pytest.mark.parametrize("magnet", list(magnets()))
def test_shape_is_the_exact_projection_of_the_moments(magnet):
    _, rate = jax.jvp(lambda m: m @ m.T, (M,), (magnet.vector_field(0.0, M),))
    gram = M @ M.T
    shape = ShapeDynamics(magnet)
    g = jnp.stack([gram[0, 0], gram[1, 1], gram[0, 1]])
    np.testing.assert_allclose(shape.vector_field(0.0, g), [rate[0, 0], rate[1, 1], rate[0, 1]], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("magnet", list(magnets()))
def test_jacobian_and_trace(magnet):
    shape = ShapeDynamics(magnet)
    g = jnp.asarray([0.4, 0.3, -0.1])
    rates, jacobian, trace = shape.linearize(Gram(g[0], g[1], g[2]))
    np.testing.assert_allclose(jnp.stack(rates), shape.vector_field(0.0, g), rtol=1e-14)
    np.testing.assert_allclose(
        jnp.asarray(jacobian), jax.jacfwd(lambda x: shape.vector_field(0.0, x))(g), rtol=1e-11, atol=1e-13
    )
    # d(det G)/dt = 2 (trace W) det G
    determinant = lambda x: x[0] * x[1] - x[2] ** 2  # noqa: E731
    _, rate = jax.jvp(determinant, (g,), (shape.vector_field(0.0, g),))
    assert float(rate) == pytest.approx(float(2 * trace * determinant(g)), rel=1e-12)


def test_only_for_isotropic_bilayers():
    with pytest.raises(ValueError, match="simulate"):
        ShapeDynamics(hanai2025_bilayer(field=[0.0, 0.0, 1.0]))
    with pytest.raises(ValueError, match="1 layer"):
        ShapeDynamics(LayeredMagnet([[1.0]], 0.1, -1.0, 0.0, 1.0, 1.0))


def exponential_steps(shape, start, duration, steps):
    """G after so many equal steps."""

    @jax.jit
    def integrate(steps):
        def body(_, g):
            rates, jacobian, _ = shape.linearize(g)
            return exponential_step(shape, g, rates, jacobian, characteristic(jacobian), duration / steps)[0]

        return jnp.stack(jax.lax.fori_loop(0, steps, body, start))

    return integrate(steps)


def test_exponential_step_has_order_three():
    shape = ShapeDynamics(hanai2025_bilayer(0.05, 6.0))
    start = Gram(*(jnp.asarray(x) for x in (0.5, 0.2, -0.1)))
    exact = solve_ivp(
        lambda t, g: shape.vector_field(t, jnp.asarray(g)),
        (0, 2),
        np.stack(start),
        rtol=1e-12,
        atol=1e-12,
        method="DOP853",
    )
    errors = [np.abs(exponential_steps(shape, start, 2.0, n) - exact.y[:, -1]).max() for n in (16, 32, 64)]
    orders = np.log2(np.asarray(errors[:-1]) / np.asarray(errors[1:]))
    assert (orders > 2.8).all() and (orders < 3.4).all()


def test_exponential_step_is_exact_where_the_motion_is_linear():
    """So little of a shape that no field bends it, in one step through more than four radians."""
    shape = ShapeDynamics(hanai2025_bilayer(0.11, 10.0))
    start = Gram(*(1e-9 * jnp.asarray(x) for x in (0.5, 0.2, -0.1)))
    rates, jacobian, trace_w = shape.linearize(start)
    duration = jnp.asarray(20.0 / np.linalg.norm(np.asarray(jacobian)))
    assert float(duration) * np.abs(np.linalg.eigvals(np.asarray(jacobian)).imag).max() > 4.0
    new, error, trace_end = exponential_step(shape, start, rates, jacobian, characteristic(jacobian), duration)
    exact = expm(float(duration) * np.asarray(jacobian)) @ np.asarray(start)
    np.testing.assert_allclose(new, exact, rtol=0, atol=1e-4 * np.abs(np.asarray(start)).max())
    assert np.abs(np.asarray(error)).max() < 1e-6 * np.abs(exact).max()
    np.testing.assert_allclose(trace_end, trace_w, rtol=1e-6)


def test_a_tilt_below_rounding_follows_its_own_equation():
    """d ln det G/dt = 2 trace W along moments that G cannot tell from collinear ones."""
    shape = ShapeDynamics(hanai2025_bilayer(0.0, 6.0))
    zero, tilt = jnp.asarray(0.0), jnp.asarray(1e-12)
    start = Gram(*(jnp.asarray(x) for x in (0.5, 0.3, np.sqrt(0.15))))
    motion = Motion(start, tilt, zero, jnp.asarray(1e-3), zero > 0, zero > 0)
    step = jax.jit(lambda motion: attempt_step(shape, zero > 0, motion, 1e-6))
    while motion.time < 1.0:
        motion = step(motion)

    def velocity(t, y):
        rates, trace = shape.rates_and_trace(Gram(*map(jnp.asarray, y[:3])))
        return [*rates, 2.0 * trace]

    exact = solve_ivp(velocity, (0, float(motion.time)), [*map(float, start), 0.0], rtol=1e-10, atol=1e-12)
    grown = jnp.log(motion.tilt * motion.gram.aa * motion.gram.bb / (tilt * start.aa * start.bb))
    assert abs(exact.y[3, -1]) > 1.0
    np.testing.assert_allclose(grown, exact.y[3, -1], rtol=1e-3)


def phi_by_scipy(matrix):
    """The upper right block of the exponential of [[A, 1], [0, 0]]."""
    block = np.zeros((6, 6))
    block[:3, :3], block[:3, 3:] = matrix, np.eye(3)
    return expm(block)[:3, 3:]


def phi_by_polynomial(matrix, dtype):
    entries = tuple(tuple(jnp.asarray(x, dtype) for x in row) for row in matrix)
    norm = jnp.asarray(np.linalg.norm(matrix), dtype)
    c0, c1, c2 = (np.float64(x) for x in phi_coefficients(*characteristic(entries), norm))
    return c0 * np.eye(3) + c1 * matrix + c2 * matrix @ matrix


@pytest.mark.parametrize(
    ("norm", "double", "single"),
    [
        (1e-8, 1e-12, 1e-6),
        pytest.param(0.3, 1e-12, 1e-5, marks=pytest.mark.long),
        pytest.param(20.0, 1e-6, 1e-4, marks=pytest.mark.long),
        (0.99 * REACH, 3e-3, 3e-3),
    ],
)
def test_phi_of_a_matrix(norm, double, single):
    """Of matrices of which nothing grows, some with eigenvalues far apart."""
    rng = np.random.default_rng(7)
    for scales in ([1.0, 1.0, 1.0], [1.0, 1e-3, 0.1]):
        for _ in range(30):
            matrix = rng.normal(size=(3, 3)) * np.asarray(scales)
            matrix -= max(0.0, np.linalg.eigvals(matrix).real.max()) * np.eye(3)
            matrix *= norm / np.linalg.norm(matrix)
            exact = phi_by_scipy(matrix)
            scale = max(1.0, np.abs(exact).max())
            np.testing.assert_allclose(phi_by_polynomial(matrix, jnp.float64), exact, rtol=0, atol=double * scale)
            np.testing.assert_allclose(phi_by_polynomial(matrix, jnp.float32), exact, rtol=0, atol=single * scale)


def test_phi_beyond_its_reach():
    """What is slow is exact, what is fast is gone as 1/z, and what turns fast does not grow."""
    fast, slow = phi_by_polynomial(np.diag([-1e5, -0.03, -0.02]), jnp.float64)[[0, 1], [0, 1]]
    assert fast == pytest.approx(1e-5, rel=1e-2) and slow == pytest.approx(np.expm1(-0.03) / -0.03, rel=1e-5)
    turning = np.array([[-0.1, -500.0, 0.0], [500.0, -0.1, 0.0], [0.0, 0.0, -1.0]])
    after = np.eye(3) + turning @ phi_by_polynomial(turning, jnp.float64)
    assert np.abs(np.linalg.eigvals(after)).max() < 1.0


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_stored_values_are_the_same_to_the_bit(dtype):
    """Whatever stands beside them, alone and in a program; so are derivatives."""
    limits = jnp.finfo(dtype)
    x = jnp.asarray([0.1, -0.0, limits.tiny, limits.max, -jnp.inf, jnp.nan, 1.0 / 3.0], dtype)
    beside = jnp.asarray([-3.0, 0.0, jnp.nan, -jnp.inf, jnp.inf, limits.tiny, -1e30], dtype)

    def bits(found):
        return np.asarray(found).view(np.int32 if dtype == jnp.float32 else np.int64)

    for run in (lambda x, t: stored(x, unseen_one(t)), jax.jit(lambda x, t: stored(x, unseen_one(t)))):
        np.testing.assert_array_equal(bits(run(x, beside)), bits(x))
    slope = jax.vmap(jax.grad(lambda x, t: stored(x, unseen_one(t)), argnums=(0, 1)))(x[:3], beside[:3])
    np.testing.assert_array_equal(slope, [[1.0] * 3, [0.0] * 3])


def test_small_matrices():
    rng = np.random.default_rng(1)
    for scale in ([1.0, 1.0, 1.0], [1.0, 1e-3, 1e2]):
        for _ in range(100):
            matrix = rng.normal(size=(3, 3)) * np.asarray(scale)
            entries = tuple(tuple(jnp.asarray(x) for x in row) for row in matrix)
            eigenvalues = np.linalg.eigvals(matrix)
            largest = eigenvalues.real.max()
            np.testing.assert_allclose(
                largest_real_part_3(entries), largest, rtol=1e-6, atol=1e-7 * np.abs(eigenvalues).max()
            )
            pair = eigenvalues[eigenvalues.imag > 0]
            expected = (pair[0].real, pair[0].imag) if pair.size else (0.0, 0.0)
            np.testing.assert_allclose(
                complex_pair(entries), expected, rtol=1e-6, atol=1e-7 * np.abs(eigenvalues).max()
            )
            assert bool(is_stable(*characteristic(entries))) == (largest < 0)
            rows, determinant = adjugate(entries)
            np.testing.assert_allclose(jnp.asarray(rows) / determinant, np.linalg.inv(matrix), rtol=1e-8)


def test_adjugate_solver_and_its_transpose():
    import lineax as lx

    matrix = jnp.asarray([[2.0, 1.0, 0.3], [0.1, -1.0, 4.0], [0.5, 0.2, 1.0]])
    b = jnp.asarray([1.0, -2.0, 0.7])
    solve = lambda matrix, b: lx.linear_solve(lx.MatrixLinearOperator(matrix), b, Adjugate()).value  # noqa: E731
    np.testing.assert_allclose(solve(matrix, b), np.linalg.solve(matrix, b), rtol=1e-13)
    forward, reverse = jax.jacfwd(solve)(matrix, b), jax.jacrev(solve)(matrix, b)
    np.testing.assert_allclose(forward, reverse, rtol=1e-12)
    with pytest.raises(ValueError, match="3 x 3"):
        lx.linear_solve(lx.MatrixLinearOperator(jnp.eye(2)), jnp.ones(2), Adjugate())


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_some_lanes_are_taken_out_and_put_back(backend, monkeypatch):
    """Two rows are beyond the end: they fill up with the last lane, and nothing of them comes back."""
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    lanes, rows = (jnp.arange(5), jnp.arange(10.0).reshape(5, 2)), np.array([3, 0, 5, 6])
    some = shape_solver._lanes_of(lanes, rows)
    np.testing.assert_array_equal(some[0], [3, 0, 4, 4])
    np.testing.assert_array_equal(some[1], [[6.0, 7.0], [0.0, 1.0], [8.0, 9.0], [8.0, 9.0]])
    back = shape_solver._with_lanes(lanes, rows, (np.array([30, 10, -1, -2]), -some[1]))
    np.testing.assert_array_equal(back[0], [10, 1, 2, 30, 4])
    np.testing.assert_array_equal(back[1], [[-0.0, -1.0], [2.0, 3.0], [4.0, 5.0], [-6.0, -7.0], [8.0, 9.0]])
    assert all(isinstance(x, jax.Array) for x in back)


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_lanes_do_together_what_each_does_alone(backend, monkeypatch):
    """Also with the widths of an accelerator, here narrow enough that the queue is longer."""
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    monkeypatch.setattr(refilled_loops, "ACCELERATOR_WIDTH", 128)
    monkeypatch.setattr(refilled_loops, "ACCELERATOR_WIDTH_FEW", 32)

    # Collatz: every start takes another number of steps.
    def step(parameters, state):
        value, steps = state
        return jnp.where(value % 2 == 0, value // 2, parameters * value + 1), steps + 1

    def done(state):
        return (state[0] == 1) | (state[1] >= 200)

    starts = jnp.arange(1, 1200)
    together = jax.jit(jax.vmap(lambda n: iterate(step, done, jnp.asarray(3), (n, jnp.asarray(0)))))(starts)

    def alone(n):
        steps = 0
        while n != 1 and steps < 200:
            n, steps = (n // 2 if n % 2 == 0 else 3 * n + 1), steps + 1
        return steps

    np.testing.assert_array_equal(together[1], [alone(int(n)) for n in starts])
    few = jax.vmap(lambda n: iterate(step, done, jnp.asarray(3), (n, jnp.asarray(0)), few=True))(starts[:100])
    np.testing.assert_array_equal(few[1], together[1][:100])
