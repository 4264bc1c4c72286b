"""From the conduction band to the exchange that it carries (Ruderman, Kittel, Kasuya, Yosida)."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from jaxtyping import Array, Float

from .._numerics.hermitian_matrices import from_spectrum, hermitian
from .._numerics.validation import Number, Numbers, float_array, require, require_positive
from .lattices import Lattice

# The imaginary-time integral in panels that double in length: exact to rounding up to a band width of 10^7 T.
PANELS: Final = 22
NODES: Final = 12


def chemical_potential(energies: Float[Array, "..."], temperature: Number, filling: Number) -> Float[Array, ""]:
    """mu with mean of f((eps - mu)/T) = n/2.

    **Arguments** `energies`: of all states of one spin, meV. `temperature`: k_B T in meV. `filling`: n, electrons per
    site, between 0 and 2.

    **Returns** mu in meV; differentiable by the implicit function theorem. NaN in lanes of a batch with numbers out of
    range.

    **Raises** `ValueError` for a filling outside 0 to 2 or a temperature that is not positive.
    """
    eps = float_array("energies", energies)
    t = float_array("temperature", temperature, ()).astype(eps.dtype)
    n = float_array("filling", filling, ()).astype(eps.dtype)
    require_positive("temperature", t, "It is k_B T in meV.")
    require("filling", n, lambda x: (x > 0) & (x < 2), "between 0 and 2 electrons per site, both excluded")
    # The filling lies between those of a band shrunk to its bottom and to its top.
    odds = t * jnp.log(n / (2.0 - n))
    frozen = jax.lax.stop_gradient((jnp.min(eps) + odds, jnp.max(eps) + odds))
    margin = 1e-6 * (frozen[1] - frozen[0]) + 1e-3 * jax.lax.stop_gradient(t)

    def excess(mu: Array, values: Any) -> Array:
        eps, t, n = values
        return jnp.mean(jax.nn.sigmoid((mu - eps) / t)) - 0.5 * n

    tolerance = 4.0 * float(jnp.finfo(eps.dtype).eps)
    solution = optx.root_find(
        excess,
        # The filling grows with mu. A look at the ends, left out so, would stop a whole batch for one bad lane.
        optx.Bisection(rtol=tolerance, atol=tolerance, flip=False),
        0.5 * (frozen[0] + frozen[1]),
        args=(eps, t, n),
        options={"lower": frozen[0] - margin, "upper": frozen[1] + margin},
        max_steps=200,
        throw=False,
    )
    return jnp.where((t > 0) & (n > 0) & (n < 2), solution.value, jnp.nan)


def susceptibility(
    conduction: Lattice | Numbers,
    temperature: Number,
    *,
    filling: Number = 1.0,
    fermi_energy: Number | None = None,
) -> Float[Array, "..."]:
    """The static spin susceptibility of a conduction band: <s_z(i)> = chi_ij B_j for the energy -B_j s_z(j),

        chi_ij = 1/2 sum_mn phi_m(i) phi_n(i)* phi_m(j)* phi_n(j) (f_m - f_n)/(eps_n - eps_m)
               = int_0^(beta/2) dtau Re[ G_ij(tau) G_ji(-tau) ].

    The second form, an integral over imaginary time, has no vanishing denominators; on a lattice it costs one Fourier
    transform for each of a fixed number of times.

    **Arguments**

    - `conduction`: a `Lattice`, or a Hermitian hopping matrix in meV, shape (n, n).
    - `temperature`: k_B T in meV.
    - `filling`: electrons per site, between 0 and 2 (1 is half filling).
    - `fermi_energy`: the chemical potential in meV; replaces `filling`.

    **Returns** chi in 1/meV: for a matrix chi_ij of shape (n, n); for a lattice chi(R) between the site at the origin
    and the site at R, of the lattice's shape. Differentiable with respect to temperature, filling, Fermi energy and a
    lattice's hopping; with respect to a hopping matrix only if its spectrum is not degenerate.

    **Raises** `ValueError` for a matrix that is not Hermitian, a filling or temperature out of range.

    **Source** docs/physics.md, "Exchange carried by the conduction electrons".
    """
    if isinstance(conduction, Lattice):
        energies, axes = conduction.energies(), tuple(range(len(conduction.shape)))

        def product(occupied: Array, empty: Array) -> Array:
            return jnp.real(jnp.fft.ifftn(occupied, axes=axes) * jnp.conj(jnp.fft.ifftn(empty, axes=axes)))
    else:
        energies, states = jnp.linalg.eigh(hermitian(conduction))

        def product(occupied: Array, empty: Array) -> Array:
            first, second = (from_spectrum(weights, states) for weights in (occupied, empty))
            return jnp.real(first * jnp.conj(second))

    return _static(energies, product, temperature, filling, fermi_energy)


def _static(
    energies: Array,
    product: Callable[[Array, Array], Array],
    temperature: Number,
    filling: Number,
    fermi_energy: Number | None,
) -> Array:
    """A susceptibility in 1/meV from what a `product` makes of occupied and of empty states."""
    t = float_array("temperature", temperature, ()).astype(energies.dtype)
    require_positive("temperature", t, "It is k_B T in meV.")
    t = jnp.where(t > 0, t, jnp.nan)
    if fermi_energy is None:
        mu = chemical_potential(energies, t, filling)
    else:
        mu = float_array("fermi_energy", fermi_energy, ()).astype(energies.dtype)
    return _over_imaginary_time((energies - mu) / t, product) / t


def layer_susceptibility(
    lattice: Lattice, temperature: Number, *, filling: Number = 1.0, fermi_energy: Number | None = None
) -> Float[Array, " layers"]:
    """chi between whole layers: the susceptibility summed over the sites of a layer, all axes but the last.

        chi(z) = sum_(x, y) chi(x, y, z),   without the site itself at z = 0.

    **Arguments** as in `susceptibility`, for a `Lattice`.

    **Returns** chi(z) in 1/meV for distances of z = 0, 1, ... layers, shape (layers,); periodic, so that half of them
    are distinct.

    **Raises** `ValueError` as `susceptibility`.
    """
    within = tuple(range(len(lattice.shape) - 1))

    def product(occupied: Array, empty: Array) -> Array:
        # Parseval: summed over sites of a layer is averaged over waves within it, each with a chain of its own.
        first, second = jnp.fft.ifft(occupied, axis=-1), jnp.fft.ifft(empty, axis=-1)
        itself = jnp.real(jnp.mean(first[..., 0]) * jnp.conj(jnp.mean(second[..., 0])))
        return jnp.mean(jnp.real(first * jnp.conj(second)), axis=within).at[0].add(-itself)

    return _static(lattice.energies(), product, temperature, filling, fermi_energy)


def pair_exchange(
    sd_coupling: Numbers, susceptibility: Float[Array, "sites sites"], sites: Numbers | None = None
) -> Float[Array, "n n"]:
    """j_ab = g_a g_b chi_ab between moments, and 0 on the diagonal: no moment acts on itself.

    **Arguments** `sd_coupling`: g in meV, shape (n,). `susceptibility`: chi in 1/meV between all sites.
    `sites`: which site each moment sits on, shape (n,); default the first n.

    **Returns** the exchange in meV, shape (n, n), symmetric; for `LayeredMagnet(exchange=...)` in `mediated_exchange`.
    """
    g = float_array("sd_coupling", sd_coupling)
    places = np.arange(g.shape[0]) if sites is None else np.asarray(sites, int)
    chi = susceptibility[places[:, None], places[None, :]]
    return g[:, None] * g[None, :] * chi * (1.0 - jnp.eye(g.shape[0], dtype=chi.dtype))


def layer_exchange(
    sd_coupling: Numbers, susceptibility: Float[Array, " layers"], spacers: Sequence[int]
) -> Float[Array, "L L"]:
    """j_ab = g_a g_b chi(|z_a - z_b|) between whole magnetic layers, with spacers between them.

    **Arguments** `sd_coupling`: g of each magnetic layer in meV, shape (L,). `susceptibility`: from
    `layer_susceptibility`. `spacers`: nonmagnetic layers between neighbouring magnetic ones, L - 1 numbers; 0 if
    they touch.

    **Returns** the exchange in meV, shape (L, L); on the diagonal that of a layer with its own other sites.

    **Raises** `ValueError` if the stack does not fit half of the periodic lattice.
    """
    g = float_array("sd_coupling", sd_coupling)
    if len(spacers) != g.shape[0] - 1 or min(spacers, default=0) < 0:
        raise ValueError(
            f"spacers = {spacers} for {g.shape[0]} layers: give {g.shape[0] - 1} whole numbers, 0 or greater."
        )
    heights = np.concatenate([[0], np.cumsum(np.asarray(spacers, int) + 1)])
    if heights[-1] > susceptibility.shape[0] // 2:
        raise ValueError(
            f"the stack is {heights[-1] + 1} layers high, but the lattice repeats after {susceptibility.shape[0]}: "
            f"take {2 * heights[-1]} layers or more."
        )
    distance = np.abs(heights[:, None] - heights[None, :])
    return g[:, None] * g[None, :] * susceptibility[distance]


def _over_imaginary_time(x: Float[Array, "..."], product: Any) -> Array:
    """int_0^(1/2) ds product(e^(-s x)/(1 + e^-x), e^(s x)/(1 + e^x)) for x = (eps - mu)/T.

    Gauss-Legendre quadrature on panels that double in length: decays on every scale up to 2^22 are resolved.
    """
    edges = np.concatenate([[0.0], 0.5 ** np.arange(PANELS, 0, -1)])
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    half = 0.5 * np.diff(edges)[:, None]
    times = (edges[:-1, None] + half * (1.0 + nodes)).ravel()
    weights = (half * weights).ravel()

    def add(total: Array, node: tuple[Array, Array]) -> tuple[Array, None]:
        s, weight = node
        empty = jnp.exp(-s * x - jax.nn.softplus(-x))
        occupied = jnp.exp(s * x - jax.nn.softplus(x))
        return total + weight * product(occupied, empty), None

    shape = jax.eval_shape(product, x, x)
    start = jnp.zeros(shape.shape, shape.dtype)
    total, _ = jax.lax.scan(add, start, (jnp.asarray(times, x.dtype), jnp.asarray(weights, x.dtype)))
    return total
