"""Singular systems among regular ones, against NumPy's pseudoinverse."""

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

from nrjax import LayeredMagnet
from nrjax._numerics.minimum_norm import MinimumNorm, least_solution
from nrjax.rotation.corotating_states import symmetry_projector, unseen_rotations

RCOND = 1e-9


def systems(count, singular, size=7):
    """Random matrices, some of which (every one, for `singular` = count) have two directions less; and right sides."""
    rng = np.random.default_rng(count + singular)
    matrices, sides = rng.normal(size=(count, size, size)), rng.normal(size=(count, size))
    for k in rng.permutation(count)[:singular]:
        left, weights, right = np.linalg.svd(matrices[k])
        weights[-2:] = 0.0
        matrices[k] = left * weights @ right
    return matrices, sides


def expected(matrices, sides):
    return np.stack([np.linalg.pinv(a, rcond=RCOND) @ b for a, b in zip(matrices, sides, strict=True)])


@pytest.mark.parametrize(
    "count, singular", [(1, 0), (1, 1), (5, 0), (200, 0), (200, 1), (200, 3), (200, 4), (200, 200)]
)
def test_shortest_solutions(count, singular):
    """In batches with none, a few, more and only singular ones; alone, and batched twice."""
    matrices, sides = systems(count, singular)
    found = jax.jit(jax.vmap(lambda a, b: least_solution(a, b, RCOND)))(matrices, sides)
    np.testing.assert_allclose(found, expected(matrices, sides), rtol=1e-8, atol=1e-8)
    alone = jax.jit(lambda a, b: least_solution(a, b, RCOND))(matrices[0], sides[0])
    np.testing.assert_allclose(alone, expected(matrices, sides)[0], rtol=1e-8, atol=1e-8)
    if count == 200:
        twice = jax.jit(jax.vmap(jax.vmap(lambda a, b: least_solution(a, b, RCOND))))(
            matrices.reshape(4, 50, 7, 7), sides.reshape(4, 50, 7)
        )
        np.testing.assert_allclose(twice.reshape(200, 7), found, rtol=1e-9, atol=1e-9)


def test_what_is_no_number_spoils_no_other():
    matrices, sides = systems(100, 2)
    matrices[7, 3, 3] = np.nan
    found = np.asarray(jax.jit(jax.vmap(lambda a, b: least_solution(a, b, RCOND)))(matrices, sides))
    others = np.arange(100) != 7
    assert not np.isfinite(found[7]).all()
    np.testing.assert_allclose(found[others], expected(matrices[others], sides[others]), rtol=1e-8, atol=1e-8)


def test_as_a_solver_of_lineax():
    """Unknowns of any structure; one matrix for many right-hand sides."""
    (matrix,), _ = systems(1, 1)
    sides = np.random.default_rng(0).normal(size=(3, 7))

    def solved(b):
        def product(x):
            return matrix @ jnp.concatenate([x["a"].ravel(), x["b"]])

        structure = {"a": jax.ShapeDtypeStruct((2, 3), float), "b": jax.ShapeDtypeStruct((1,), float)}
        x = lx.linear_solve(lx.FunctionLinearOperator(product, structure), b, MinimumNorm(RCOND)).value
        return jnp.concatenate([x["a"].ravel(), x["b"]])

    np.testing.assert_allclose(jax.vmap(solved)(sides), sides @ np.linalg.pinv(matrix, rcond=RCOND).T, atol=1e-10)


X, Y, Z = np.eye(3)


@pytest.mark.parametrize(
    "field, moments, unseen",
    [
        (None, [0.5 * X, -0.3 * X], np.outer(X, X)),
        (None, [0.5 * (X + Z), 0.0 * X], np.outer(X + Z, X + Z) / 2.0),
        (None, [0.5 * X, 0.3 * X + 1e-4 * Y], np.zeros((3, 3))),
        (None, [0.0 * X, 0.0 * X], np.eye(3)),
        (Z, [0.5 * Z, -0.3 * Z], np.outer(Z, Z)),
        (Z, [0.5 * X, 0.3 * X], np.zeros((3, 3))),
        (Z, [0.0 * X, 0.0 * X], np.outer(Z, Z)),
        ([X, Z], [0.5 * X, 0.3 * Z], np.zeros((3, 3))),
    ],
)
def test_rotations_that_turn_nothing(field, moments, unseen):
    """Among those that a field leaves."""
    magnet = LayeredMagnet([[0.0, 6.0], [6.0, 0.0]], 0.1, -10.0, 0.0, 1.0, 9.0)
    if field is not None:
        both = np.broadcast_to(np.asarray(field), (2, 3))
        magnet = LayeredMagnet([[0.0, 6.0], [6.0, 0.0]], 0.1, -10.0, 0.0, 1.0, 9.0, field=both)
    found = unseen_rotations(symmetry_projector(magnet), jnp.asarray(np.stack(moments)))
    np.testing.assert_allclose(found, unseen, atol=1e-12)
