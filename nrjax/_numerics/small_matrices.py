"""Closed forms for 3 x 3 matrices kept as scalars: no factorization call, one loop over the batch under vmap."""

from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, PyTree

Matrix = tuple[tuple[Array, ...], ...]


def characteristic(matrix: Matrix) -> tuple[Array, Array, Array]:
    """(trace, sum of principal 2 x 2 minors, determinant) of a 3 x 3 matrix."""
    (a, b, c), (d, e, f), (g, h, i) = matrix
    minors = (a * e - b * d) + (a * i - c * g) + (e * i - f * h)
    return a + e + i, minors, a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)


def is_stable(trace: Array, minors: Array, determinant: Array) -> Array:
    """Routh-Hurwitz: all three eigenvalues have a negative real part."""
    return (trace < 0) & (determinant < 0) & (trace * minors < determinant)


def adjugate(matrix: Matrix) -> tuple[Matrix, Array]:
    """The adjugate of a 3 x 3 matrix and its determinant: inverse = adjugate / determinant."""
    rows = tuple(
        tuple(
            matrix[(j + 1) % 3][(i + 1) % 3] * matrix[(j + 2) % 3][(i + 2) % 3]
            - matrix[(j + 1) % 3][(i + 2) % 3] * matrix[(j + 2) % 3][(i + 1) % 3]
            for j in range(3)
        )
        for i in range(3)
    )
    return rows, matrix[0][0] * rows[0][0] + matrix[0][1] * rows[1][0] + matrix[0][2] * rows[2][0]


def solve(inverse: tuple[Matrix, Array], vector: Any) -> tuple[Array, Array, Array]:
    """The solution of a 3 x 3 system, from the `adjugate` and determinant of its matrix.

    XLA keeps the result of a division, but computes products anew for everything that uses them: dividing last makes
    what follows several times smaller, and faster to compile and to run.
    """
    rows, determinant = inverse
    x, y, z = ((row[0] * vector[0] + row[1] * vector[1] + row[2] * vector[2]) / determinant for row in rows)
    return x, y, z


def safe_sqrt(x: Array) -> Array:
    """sqrt(x) with value and derivative 0 at x <= 0."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0)


def largest_real_part_2(a: Array, b: Array, c: Array, d: Array) -> Array:
    """The largest real part of the eigenvalues of [[a, b], [c, d]]."""
    return 0.5 * (a + d) + safe_sqrt(0.25 * (a - d) ** 2 + b * c)


def largest_real_part_3(matrix: Matrix) -> Array:
    """The largest real part of the eigenvalues of a 3 x 3 matrix: a root of its characteristic cubic.

    Differentiable wherever that eigenvalue is simple; exact multiple roots give derivative 0, never NaN.
    """
    trace, minors, determinant = characteristic(matrix)
    three, shift, trigonometric, single = _cubic_roots(trace, minors, determinant)
    cardano = jnp.where(single > 0, single, -0.5 * single)
    return shift + jnp.where(three, trigonometric, cardano)


def complex_pair(matrix: Matrix) -> tuple[Array, Array]:
    """(real part, positive imaginary part) of the complex pair of eigenvalues of a 3 x 3 matrix; (0, 0) if all are
    real."""
    trace, minors, determinant = characteristic(matrix)
    three, shift, _, single = _cubic_roots(trace, minors, determinant)
    real = shift - 0.5 * single
    # The sum of the products of two roots is |pair|^2 + 2 real (the real root).
    imaginary = safe_sqrt(minors - real * (2.0 * (shift + single) + real))
    return jnp.where(three, 0.0, real), jnp.where(three, 0.0, imaginary)


def _cubic_roots(trace: Array, minors: Array, determinant: Array) -> tuple[Array, Array, Array, Array]:
    """Roots of the characteristic cubic: whether all three are real, their mean, and the distance from it of the
    largest if they are, of the single real one if they are not."""
    shift = trace / 3.0
    p = minors - trace * shift
    q = -2.0 * shift**3 + shift * minors - determinant
    discriminant = (q / 2.0) ** 2 + (p / 3.0) ** 3
    three = discriminant < 0
    # Three real roots: the trigonometric form; the largest is the one with the smallest angle.
    radius = jnp.sqrt(jnp.where(three, -p / 3.0, 1.0))
    argument = jnp.where(three, -q / (2.0 * radius**3), 0.0)
    inside = jnp.abs(argument) < 1.0
    angle = jnp.where(inside, jnp.arccos(jnp.where(inside, argument, 0.0)), jnp.where(argument > 0, 0.0, jnp.pi))
    trigonometric = 2.0 * radius * jnp.cos(angle / 3.0)
    # One real root u + v and a complex pair of real part -(u + v)/2.
    root = safe_sqrt(jnp.where(three, 0.0, discriminant))
    large = -q / 2.0 - jnp.where(q > 0, root, -root)
    nonzero = large != 0
    u = jnp.where(nonzero, jnp.cbrt(jnp.where(nonzero, large, 1.0)), 0.0)
    single = u - jnp.where(nonzero, p / (3.0 * jnp.where(nonzero, u, 1.0)), 0.0)
    return three, shift, trigonometric, single


class Adjugate(lx.AbstractLinearSolver):
    """A Lineax solver for 3 x 3 systems by x = adj(A) b / det(A). Singular matrices give non-finite results."""

    def init(self, operator: lx.AbstractLinearOperator, options: dict[str, Any]) -> Any:
        """The entries of the matrix, and the structure of the unknown."""
        del options
        matrix = operator.as_matrix()
        if matrix.shape != (3, 3):
            raise ValueError(f"Adjugate solves 3 x 3 systems, got {matrix.shape}. Use lineax.LU().")
        return matrix, operator.in_structure(), operator.out_structure()

    def compute(self, state: Any, vector: PyTree[Array], options: dict[str, Any]) -> Any:
        """Solve for one right-hand side."""
        del options
        matrix, structure, _ = state
        b, unravel = jax.flatten_util.ravel_pytree(vector)
        del unravel
        entries = tuple(tuple(matrix[i, j] for j in range(3)) for i in range(3))
        x = jnp.stack(solve(adjugate(entries), (b[0], b[1], b[2])))
        leaves, tree = jax.tree.flatten(structure)
        pieces, offset = [], 0
        for leaf in leaves:
            pieces.append(x[offset : offset + leaf.size].reshape(leaf.shape))
            offset += leaf.size
        return jax.tree.unflatten(tree, pieces), lx.RESULTS.successful, {}

    def transpose(self, state: Any, options: dict[str, Any]) -> Any:
        """The transposed system."""
        matrix, structure, out_structure = state
        return (matrix.T, out_structure, structure), options

    def conj(self, state: Any, options: dict[str, Any]) -> Any:
        """The conjugate system; entries are real."""
        return state, options

    def assume_full_rank(self) -> bool:
        """The matrix is taken to be invertible."""
        return True
