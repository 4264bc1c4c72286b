"""Collinear states of infinitely many single spins, stable or not, and how fast a tilt grows on them."""

from typing import Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._numerics.root_scan import bisected
from ..magnets import FokkerPlanckMagnet
from .corotating_states import growth_beside

# Fields between which states are looked for, as shares of the largest that there can be.
WEAKEST: Final = 1e-3
SCAN: Final = 512


class CollinearDistributions(NamedTuple):
    """Layers along z. `m`: moments, shape (2,). `means`: of all harmonics, shape (2, K). NaN: no such state."""

    m: Array
    means: Array


def collinear_distributions(model: FokkerPlanckMagnet, cosine: float) -> CollinearDistributions:
    """The state m_B/m_A of sign `cosine` along one axis, of several that with the largest field on layer 0.

    Along an axis the distributions are exp(kappa_a z), with kappa = k m and k_ab = u_a/(m_b D_a) whatever the
    precession. So kappa_A tells m_A, that m_B = (kappa_A - k_AA m_A)/k_AB, and layer B's equation is left to solve.
    """
    drive = model.llg_factor * model.magnet.exchange_rates() / model.diffusion()[:, None]
    coupled = drive[0, 1] != 0
    coupling = jnp.where(coupled, drive[0, 1], 1.0)

    def miss(kappa: Array) -> tuple[Array, Array]:
        first = _polynomials(kappa, model.lmax)[1]
        second = (kappa - drive[0, 0] * first) / coupling
        field = drive[1, 0] * first + drive[1, 1] * second
        return _polynomials(field, model.lmax)[1] - second, second

    def value(kappa: Array) -> Array:
        miss_here, second = miss(kappa)
        return jnp.where(second * cosine > 0, miss_here, jnp.nan)

    largest = jnp.abs(drive[0, 0]) + jnp.abs(drive[0, 1])
    grid = jax.lax.stop_gradient(largest) * jnp.geomspace(WEAKEST, 1.0, SCAN, dtype=drive.dtype)
    signs = jnp.sign(jax.vmap(value)(grid))
    crossed = signs[:-1] * signs[1:] <= 0
    place = SCAN - 2 - jnp.argmax(crossed[::-1])
    root = jax.lax.stop_gradient(bisected(value, grid[place], grid[place + 1], signs[place]))
    # One step of Newton's method carries the derivatives by the implicit function theorem.
    slope = jax.lax.stop_gradient(jax.grad(lambda kappa: miss(kappa)[0])(root))
    kappa = root - miss(root)[0] / slope
    first = _polynomials(kappa, model.lmax)[1]
    m = jnp.stack([first, miss(kappa)[1]])
    polynomials = jax.vmap(lambda field: _polynomials(field, model.lmax))(drive @ m)
    degrees = np.arange(model.lmax + 1)
    means = jnp.zeros((2, (model.lmax + 1) ** 2), m.dtype)
    means = means.at[:, degrees * (degrees + 1)].set(
        jnp.asarray(np.sqrt(2 * degrees + 1), m.dtype)[None, :] * polynomials
    )
    exists = coupled & jnp.any(crossed)
    return CollinearDistributions(jnp.where(exists, m, jnp.nan), jnp.where(exists, means, jnp.nan))


def _polynomials(kappa: Float[Array, ""], lmax: int) -> Float[Array, " degrees"]:
    """<P_l(z)> of the density exp(kappa z) for l = 0 to lmax, harmonics beyond left out:
    <P_l>/<P_l-1> = kappa/(2l + 1 + kappa <P_l+1>/<P_l>)."""
    ratios, beyond = [], jnp.zeros_like(kappa)
    for degree in range(lmax, 0, -1):
        beyond = kappa / (2 * degree + 1 + kappa * beyond)
        ratios.append(beyond)
    return jnp.cumprod(jnp.stack([jnp.ones_like(kappa), *reversed(ratios)]))


def tilt_growth(model: FokkerPlanckMagnet, cosine: float) -> Float[Array, ""]:
    """The growth rate in meV of the slowest tilt of that state that is no common rotation; NaN where there is none."""
    means = collinear_distributions(model, cosine).means
    degrees = np.arange(1, model.lmax + 1)
    # A tilt reaches the harmonics of order +-1, and those alone.
    tilts = np.concatenate([degrees * (degrees + 1) - 1, degrees * (degrees + 1) + 1])
    upright = np.arange(model.lmax + 1) * np.arange(1, model.lmax + 2)
    jacobian, turned = model.linearized(means, jnp.zeros(3, means.dtype), tilts, upright)
    return growth_beside(jacobian, turned, jnp.asarray(1e-9, means.dtype))
