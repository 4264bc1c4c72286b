"""Layers of infinitely many single spins with thermal noise: the whole distribution of their directions."""

import functools
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._numerics.validation import Number, float_array, require_positive
from .baths import ClassicalBath
from .layers import LayeredMagnet
from .order_parameters import AbstractOrderParameters


class DistributionModes(NamedTuple):
    """Linearization about a stationary distribution in the turning frame, without the constant harmonic.

    - `means`: of all harmonics, shape (L, K). `jacobian`: in meV, shape (L (K - 1), L (K - 1)). `turned`: how the means
      change when the distribution is turned about each axis, shape (L (K - 1), 3).
    """

    means: Array
    jacobian: Array
    turned: Array


class FokkerPlanckMagnet(AbstractOrderParameters):
    """Classical spins S with thermal noise, infinitely many in each layer, each in the mean field of all:

        dS = S x [(gyro h_a + u_a x S) dt + sqrt(2 D_a) o dW],
        u_a = c (2 alpha_a h_a + the light's push),   D_a = c 2 alpha_a T_a + loss_a/2.

    `steady_state` finds the rotating distribution of directions. A `LayeredMagnet` follows the mean of that
    distribution alone, by a closure; this is the equation that it closes, so that the two tell how good the closure is.

    **Arguments**

    - `magnet`: an isotropic `LayeredMagnet` with a `ClassicalBath`; light counts with its full intensity.
    - `lmax`: spherical harmonics up to this degree, 2 or more. Default 8; `steady_state` tells in `residual` what those
      beyond would change.
    - `llg_factor`: c. 3/2, the default, gives small moments the rates of the closure; 1 is the usual convention, in
      which 2 alpha is the Landau-Lifshitz damping of a single spin. The equilibrium is the same for every c.

    **Raises** `ValueError` for other magnets, and numbers out of range.

    **Source** docs/physics.md, "Single spins".
    """

    magnet: LayeredMagnet
    llg_factor: Float[Array, ""]
    lmax: int = eqx.field(static=True)

    def __init__(self, magnet: LayeredMagnet, lmax: int = 8, llg_factor: Number = 1.5):
        if magnet.field_terms:
            kinds = ", ".join(type(term).__name__ for term in magnet.field_terms)
            raise ValueError(f"a FokkerPlanckMagnet is isotropic, and this magnet has {kinds}. Leave it out.")
        if not isinstance(magnet.bath, ClassicalBath):
            raise ValueError(
                f"the bath is a {type(magnet.bath).__name__}: directions of single spins are classical. Take "
                "bath=ClassicalBath()."
            )
        if lmax < 2:
            raise ValueError(f"lmax = {lmax} is out of range: it must be 2 or greater (degree of the harmonics).")
        factor = float_array("llg_factor", llg_factor, shape=(), dtype=magnet.dtype)
        self.magnet, self.llg_factor, self.lmax = magnet.plateau(), factor, int(lmax)

    def __check_init__(self) -> None:
        require_positive("llg_factor", self.llg_factor, "3/2 agrees with the closure.")

    @property
    def layers(self) -> int:
        """L."""
        return self.magnet.layers

    def vector_field(self, t: Number, m: Float[Array, "L 3"], args: Any = None) -> Float[Array, "L 3"]:
        """There is none: **raises** `NotImplementedError`. The mean of a distribution does not tell its velocity."""
        raise NotImplementedError(
            "a FokkerPlanckMagnet has no velocity of the moments alone. Take steady_state(model), or simulate "
            "model.magnet, its closure."
        )

    def term_size(self, m: Float[Array, "L 3"]) -> Float[Array, ""]:
        """That of the closure, in meV."""
        return self.magnet.term_size(m)

    def free_relaxation(self) -> Float[Array, " L"]:
        """2 D_a in meV: how fast the mean of free spins decays."""
        return 2.0 * self.diffusion()

    def nonlinearity(self, m: Float[Array, "L 3"]) -> Float[Array, ""]:
        """That of the closure."""
        return self.magnet.nonlinearity(m)

    def dark_lengths(self) -> Float[Array, " L"]:
        """Those of the closure, which in darkness is exact."""
        return self.magnet.dark_lengths()

    def diffusion(self) -> Float[Array, " L"]:
        """D_a = c 2 alpha_a T_a + loss_a/2 in meV."""
        _, loss = self.magnet.light_torque()
        return 2.0 * self.llg_factor * self.magnet.damping * self.magnet.temperature + 0.5 * loss

    def drives(self, m: Float[Array, "L 3"], omega: Float[Array, "3"]) -> tuple[Array, Array]:
        """(gyro h_a + Omega, u_a) of moments m in the turning frame, in meV, each of shape (L, 3)."""
        precession = self.magnet.precession_vector(m) + omega[None, :]
        return precession, self.llg_factor * (self.magnet.exchange_rates() @ m)

    def generators(
        self,
        m: Float[Array, "L 3"],
        omega: Float[Array, "3"],
        more: int = 0,
        part: tuple[np.ndarray, ...] | None = None,
    ) -> Float[Array, "L J K"]:
        """M_a of d<Y>_a/dt = M_a <Y>_a for the means of all harmonics, in the frame that turns with Omega.

        **Arguments** `m`, `omega`: moments (L, 3) and angular velocity in meV. `more`: degrees beyond `lmax`. `part`:
        the numbers of the rows and columns that are wanted, from `np.ix_`.
        """
        basis = harmonics(self.lmax + more)
        chosen = part or np.ix_(*[np.arange(basis.spread.size)] * 2)
        # Transposed: rows are what changes.
        turn, pull = (jnp.asarray(np.swapaxes(x, 1, 2)[:, *chosen], m.dtype) for x in (basis.turn, basis.pull))
        spread = jnp.asarray(np.diag(basis.spread)[chosen], m.dtype)
        precession, drive = self.drives(m, omega)

        def one(precession: Array, drive: Array, diffusion: Array) -> Array:
            return jnp.einsum("i,ijk->jk", drive, pull) - jnp.einsum("i,ijk->jk", precession, turn) + diffusion * spread

        return jax.vmap(one)(precession, drive, self.diffusion())

    def distributions(self, m: Float[Array, "L 3"], omega: Float[Array, "3"], more: int = 0) -> Float[Array, "L K"]:
        """Means of all harmonics, relative to the constant one, that are stationary in the fields of given moments."""
        generators = self.generators(m, omega, more)
        first = jnp.zeros(generators.shape[-1], m.dtype).at[0].set(1.0)
        # The first harmonic is constant: its equation 0 = 0 makes room for the normalization. Layer by layer: batches
        # of factorizations side by side can lock up in XLA's thread pool on a CPU.
        return jax.lax.map(lambda generator: _first_solution(generator.at[0].set(first)), generators)

    def modes(self, m: Float[Array, "L 3"], omega: Float[Array, "3"]) -> DistributionModes:
        """The linearization about the distribution of moments m that turn with Omega (meV)."""
        means = self.distributions(m, omega)
        others = np.arange(1, means.shape[1])
        return DistributionModes(means, *self.linearized(means, omega, others))

    def linearized(
        self,
        means: Float[Array, "L K"],
        omega: Float[Array, "3"],
        among: np.ndarray,
        present: np.ndarray | None = None,
    ) -> tuple[Float[Array, "M M"], Float[Array, "M 3"]]:
        """How fast deviations of some harmonics from a stationary distribution change, in meV, M = L (their number),
        and what a turn about each axis adds to them.

        **Arguments** `means`: of all harmonics. `among`: the numbers of harmonics that change each other alone.
        `present`: of those whose means may not be zero; default all.
        """
        present = np.arange(means.shape[1]) if present is None else present
        m, there = self.moments(means), means[:, present]

        def rates(m: Array) -> Array:
            return jnp.einsum("aij,aj->ai", self.generators(m, omega, part=np.ix_(among, present)), there)

        # A deviation changes in its own fields, and in those that the moments of all of them make.
        of_each = self.generators(m, omega, part=np.ix_(among, among))
        own = jnp.einsum("aij,ab->aibj", of_each, jnp.eye(self.layers, dtype=m.dtype))
        direction = jnp.asarray(harmonics(self.lmax).direction[:, among], m.dtype)
        size = self.layers * len(among)
        jacobian = (own + jnp.einsum("aibk,kj->aibj", jax.jacfwd(rates)(m), direction)).reshape(size, size)
        return jacobian, self.turned(means)[:, :, among].reshape(3, -1).T

    def turned(self, means: Float[Array, "L K"]) -> Float[Array, "3 L K"]:
        """How the means of all harmonics change when the distributions are turned about each axis, per radian."""
        return jnp.einsum("kij,ai->kaj", jnp.asarray(harmonics(self.lmax).turn, means.dtype), means)

    def rates_at_rest(self) -> Float[Array, "L L"]:
        """W of dm/dt = W m for small moments, in meV: (2c/3) (rates of exchange and light) - 2 D_a."""
        return 2.0 / 3.0 * self.llg_factor * self.magnet.exchange_rates() - jnp.diag(self.free_relaxation())

    def moments(self, distributions: Float[Array, "L K"], more: int = 0) -> Float[Array, "L 3"]:
        """<S>_a, shape (L, 3)."""
        return distributions @ jnp.asarray(harmonics(self.lmax + more).direction.T, distributions.dtype)


@jax.custom_jvp
def _first_solution(matrix: Float[Array, "K K"]) -> Float[Array, " K"]:
    """matrix^-1 (1, 0, 0, ...). Its derivatives are products of matrices: no batch of triangular systems, see above."""
    return jnp.linalg.inv(matrix)[:, 0]


@_first_solution.defjvp
def _first_solution_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (matrix,), (change,) = primals, tangents
    inverse = jnp.linalg.inv(matrix)
    solution = inverse[:, 0]
    return solution, -(inverse @ (change @ solution))


class Harmonics(NamedTuple):
    """What acts on real spherical harmonics Y_j up to a degree, as matrices A: Y_j -> sum_i A_ij Y_i.

    - `turn`: (e_k x n) . grad; `pull`: e_k . grad along the sphere; both of shape (3, K, K). `spread`: the Laplacian's
      diagonal, -l (l + 1). `direction`: n_k as a combination of the harmonics, over the constant one, shape (3, K).
    - `values`: of the harmonics over the constant one, shape (K, points), and `slopes`: e_k . grad of them, shape
      (3, K, points), at points whose `weights` integrate over the sphere, to 1.
    """

    turn: np.ndarray
    pull: np.ndarray
    spread: np.ndarray
    direction: np.ndarray
    values: np.ndarray
    slopes: np.ndarray
    weights: np.ndarray


@functools.lru_cache(maxsize=8)
def harmonics(lmax: int) -> Harmonics:
    """Of degrees 0 to lmax; the products of two of them with n are integrated exactly."""
    from scipy.special import sph_harm_y  # takes a tenth of a second, which those who want no harmonics need not wait

    top = lmax + 1
    # Enough points for the product of three harmonics.
    z, weight = np.polynomial.legendre.leggauss(2 * top + 2)
    turns = 2 * np.pi * np.arange(3 * top + 3) / (3 * top + 3)
    theta, phi = (x.ravel() for x in np.meshgrid(np.arccos(z), turns, indexing="ij"))
    weights = np.repeat(weight, turns.size) * 2 * np.pi / turns.size
    degrees = np.array([degree for degree in range(top + 1) for _ in range(2 * degree + 1)])
    orders = np.concatenate([np.arange(-degree, degree + 1) for degree in range(top + 1)])
    complex_ones = np.stack([sph_harm_y(degree, abs(m), theta, phi) for degree, m in zip(degrees, orders, strict=True)])
    part = np.where(orders[:, None] < 0, np.imag(complex_ones), np.real(complex_ones))
    values = part * np.where(orders == 0, 1.0, np.sqrt(2.0))[:, None]
    n = np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)])
    product = np.einsum("ap,kp,bp,p->kab", values, n, values, weights)
    spread = -degrees * (degrees + 1.0)
    # grad n_k . grad f = e_k . grad f, and the Laplacian of n_k f has it twice.
    pull = 0.5 * (spread[None, :, None] - spread[None, None, :] + 2.0) * product
    crossing = np.zeros((3, 3, 3))
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        crossing[i, j, k], crossing[j, i, k] = 1.0, -1.0
    # (e_k x n)_j = sum_l crossing_jkl n_l.
    turn = np.einsum("jkl,lab,jbc->kac", crossing, product, pull)
    count = (lmax + 1) ** 2
    relative = values * np.sqrt(4.0 * np.pi)
    return Harmonics(
        turn[:, :count, :count],
        pull[:, :count, :count],
        spread[:count],
        product[:, :count, 0],
        relative[:count],
        np.einsum("kba,bp->kap", pull[:, :, :count], relative),
        weights / (4.0 * np.pi),
    )
