"""Small systems of equations that may be singular, solved by the shortest of their solutions."""

from typing import Any, Final

import jax
import jax.flatten_util
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Bool, Float, PyTree

# Of a batch: up to so many singular systems are solved apart from the regular ones, more of them together with these.
SHARE: Final = 64


class MinimumNorm(lx.AbstractLinearSolver):
    """A Lineax solver for square systems by x = A^+ b, the pseudoinverse of A applied to b.

    Regular systems are solved by elimination. Singular values, which take fifty times as long on a GPU, are computed
    where a pivot vanishes.

    **Arguments** `rcond`: the singular value, relative to the largest, below which a direction is left alone; also the
    relative pivot below which a matrix counts as singular.
    """

    rcond: float

    def init(self, operator: lx.AbstractLinearOperator, options: dict[str, Any]) -> Any:
        """The matrix, and the structures of the unknown and of the right-hand side."""
        del options
        return operator.as_matrix(), operator.in_structure(), operator.out_structure()

    def compute(self, state: Any, vector: PyTree[Array], options: dict[str, Any]) -> Any:
        """Solve for one right-hand side."""
        del options
        matrix, structure, _ = state
        b, _ = jax.flatten_util.ravel_pytree(vector)
        _, unravel = jax.flatten_util.ravel_pytree(jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), structure))
        return unravel(least_solution(matrix, b, self.rcond)), lx.RESULTS.successful, {}

    def transpose(self, state: Any, options: dict[str, Any]) -> Any:
        """The transposed system."""
        matrix, structure, out_structure = state
        return (matrix.T, out_structure, structure), options

    def conj(self, state: Any, options: dict[str, Any]) -> Any:
        """The conjugate system; entries are real."""
        return state, options

    def assume_full_rank(self) -> bool:
        """A singular matrix is welcome."""
        return False


def least_solution(matrix: Float[Array, "n n"], b: Float[Array, " n"], rcond: float) -> Float[Array, " n"]:
    """The shortest x that makes |A x - b| least. **Arguments** `rcond`: as in `MinimumNorm`."""

    @jax.custom_batching.custom_vmap
    def solved(matrix: Array, b: Array) -> Array:
        x, regular = _eliminated(matrix, b, rcond)
        return jax.lax.cond(regular, lambda: x, lambda: _by_singular_values(matrix, b, rcond))

    @solved.def_vmap
    def solved_together(size: int, batched: Any, matrix: Array, b: Array) -> Any:
        matrices, bs = (
            x if is_batched else jnp.broadcast_to(x, (size, *x.shape))
            for x, is_batched in zip((matrix, b), batched, strict=True)
        )
        x, regular = jax.vmap(lambda a, b: _eliminated(a, b, rcond))(matrices, bs)
        count, few = jnp.sum(~regular), max(size // SHARE, 1)

        def others(rows: Any) -> Array:
            return jax.vmap(lambda a, b: _by_singular_values(a, b, rcond))(matrices[rows], bs[rows])

        def some_singular() -> Array:
            rows = jnp.nonzero(~regular, size=few, fill_value=size)[0]
            return x.at[rows].set(others(jnp.minimum(rows, size - 1)), mode="drop", unique_indices=True)

        def many_singular() -> Array:
            return jnp.where(regular[:, None], x, others(slice(None)))

        which = (count > 0).astype(int) + (count > few).astype(int)
        return jax.lax.switch(which, [lambda: x, some_singular, many_singular]), True

    return solved(matrix, b)


def _eliminated(matrix: Array, b: Array, rcond: float) -> tuple[Array, Bool[Array, ""]]:
    """A^-1 b, and whether A is regular; what is not a number has no other remedy, and counts as regular."""
    factors, pivots = jax.scipy.linalg.lu_factor(matrix)
    sizes = jnp.abs(jnp.diagonal(factors))
    singular = jnp.min(sizes) <= rcond * jnp.max(sizes)
    return jax.scipy.linalg.lu_solve((factors, pivots), b), ~singular


def _by_singular_values(matrix: Array, b: Array, rcond: float) -> Array:
    """A^+ b."""
    left, weights, right = jnp.linalg.svd(matrix)
    counts = weights > rcond * weights[0]
    return right.T @ (jnp.where(counts, left.T @ b, 0.0) / jnp.where(counts, weights, 1.0))
