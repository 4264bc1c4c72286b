"""A bath of electrons that keeps the conduction band in equilibrium."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._numerics.hermitian_matrices import from_spectrum
from .._numerics.validation import Number, float_array, require_finite, require_nonnegative, require_positive


class Reservoir(eqx.Module):
    """A bath that keeps the conduction band in equilibrium by exchanging electrons with each of its levels k:

        jump operators sqrt(G (1 - f_k)) c_k and sqrt(G f_k) c_k^+,   f_k = 1/(exp((eps_k - mu)/T) + 1).

    **Arguments** `rate`: G in meV, 0 or greater. `temperature`: T in meV. `fermi_energy`: mu in meV.

    **Raises** `ValueError` for a negative rate or a temperature that is not positive.
    """

    rate: Float[Array, ""]
    temperature: Float[Array, ""]
    fermi_energy: Float[Array, ""]

    def __init__(self, rate: Number, temperature: Number, fermi_energy: Number = 0.0):
        self.rate = float_array("reservoir rate", rate, ())
        self.temperature = float_array("reservoir temperature", temperature, ())
        self.fermi_energy = float_array("reservoir fermi_energy", fermi_energy, ())

    def __check_init__(self) -> None:
        require_nonnegative("reservoir rate", self.rate, "It is how fast electrons are exchanged, in meV.")
        require_positive("reservoir temperature", self.temperature, "It is k_B T in meV.")
        require_finite("reservoir fermi_energy", self.fermi_energy)

    def rates(self, hopping: Array) -> tuple[Array, Array]:
        """(G f(h), G (1 - f(h))) in meV, the matrices of electrons coming in and going out; shape (n, n)."""
        one = jnp.eye(hopping.shape[0], dtype=hopping.dtype)
        mu, t, rate = (x.astype(hopping.dtype) for x in (self.fermi_energy, self.temperature, self.rate))
        occupied = fermi_function((hopping - mu * one) / t)
        return rate * occupied, rate * (one - occupied)


@jax.custom_jvp
def fermi_function(x: Array) -> Array:
    """1/(exp(x) + 1) of a Hermitian matrix; its derivative is finite at degenerate levels as well."""
    levels, states = jnp.linalg.eigh(x)
    return from_spectrum(jax.nn.sigmoid(-levels), states)


@fermi_function.defjvp
def _fermi_function_jvp(primals: Any, tangents: Any) -> Any:
    (x,), (dx,) = primals, tangents
    levels, states = jnp.linalg.eigh(x)
    f = jax.nn.sigmoid(-levels)
    gap = levels[:, None] - levels[None, :]
    close = jnp.abs(gap) < 1e-4
    middle = 0.5 * (levels[:, None] + levels[None, :])
    slope = -jax.nn.sigmoid(middle) * jax.nn.sigmoid(-middle)
    divided = jnp.where(close, slope, (f[:, None] - f[None, :]) / jnp.where(close, 1.0, gap))
    adjoint = jnp.conj(states.T)
    inner = divided.astype(states.dtype) * (adjoint @ dx @ states)
    return from_spectrum(f, states), states @ inner @ adjoint
