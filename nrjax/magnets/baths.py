"""Thermal baths: how fast a layer forgets its direction, and how long its moment is in equilibrium.

A bath enters the dynamics of a layer only through one function of the exchange field h,

    phi(h) = |h| / B(|h| / T),          m_equilibrium = B(h / T),

where B is the response of one free moment: tanh for a quantum spin 1/2, Langevin for a classical vector. Both
follow from q(s) = (x coth x - 1) / x^2 with x^2 = s, which is smooth at zero field; all derivatives are finite.
"""

import abc
from collections.abc import Sequence
from typing import Any, Final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# Taylor coefficients 2^(2n) B_2n / (2n)! of (x coth x - 1) / x^2 in powers of x^2.
_SERIES: Final = (
    1 / 3,
    -1 / 45,
    2 / 945,
    -1 / 4725,
    2 / 93555,
    -1382 / 638512875,
    4 / 18243225,
    -3617 / 162820783125,
)
# Below this x^2 the series is exact to rounding; above it the closed form does not cancel.
_SERIES_LIMIT: Final = 0.09
# Fixed-point iterations for the lengths of the state without light, which is only a place to start from.
DARK_ITERATIONS: Final = 60


def _polynomial(coefficients: Sequence[float], t: Array) -> Array:
    """sum_n coefficients[n] t^n."""
    total = jnp.full_like(t, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        total = total * t + coefficient
    return total


# With e = exp(-2 x): q = (x (1 + e) - (1 - e)) / ((1 - e) x^2), dq/ds = (coth x/2x - 2 e/(1 - e)^2 - q) / x^2.
# The value and the slope each end in a division: XLA keeps the result of a division, but computes sums and products
# anew for everything that uses them (see `small_matrices.solve`).
@jax.custom_jvp
def reduced_coth(s: Float[Array, "..."]) -> Float[Array, "..."]:
    """q(s) = (x coth x - 1) / x^2 at x = sqrt(s)."""
    small = s < _SERIES_LIMIT
    safe = jnp.where(small, 1.0, s)
    x = jnp.sqrt(safe)
    e = jnp.exp(-2.0 * x)
    series = _polynomial(_SERIES, jnp.where(small, s, 0.0))
    return jnp.where(small, series, x * (1.0 + e) - (1.0 - e)) / jnp.where(small, 1.0, (1.0 - e) * safe)


@reduced_coth.defjvp
def reduced_coth_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (s,), (change,) = primals, tangents
    small = s < _SERIES_LIMIT
    safe = jnp.where(small, 1.0, s)
    x = jnp.sqrt(safe)
    e = jnp.exp(-2.0 * x)
    inverse = 1.0 / ((1.0 - e) * safe)
    series = _polynomial([n * c for n, c in enumerate(_SERIES)][1:], jnp.where(small, s, 0.0))
    value = reduced_coth(s)
    steep = 0.5 * x * (1.0 + e) * inverse - 2.0 * e * (inverse * safe) ** 2 - value
    return value, jnp.where(small, series, steep) / safe * change


class AbstractBath(eqx.Module):
    """phi(h) = |h| / B(|h|/T) = T f(|h|^2/T^2): what a layer's environment does to the length of its moment.

    A bath is its f (`reduced_rate`) and nothing else: temperature is the only scale of energy. That the shape of a
    bilayer may be solved in units of the temperature rests on it, so `relaxation_rate` cannot be replaced.
    """

    @abc.abstractmethod
    def reduced_rate(self, s: Float[Array, "..."]) -> Float[Array, "..."]:
        """f(s) = phi/T as a function of s = |h|^2/T^2, smooth at s = 0 and concave; dimensionless."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "relaxation_rate" in vars(cls):
            raise TypeError(
                f"{cls.__name__} replaces relaxation_rate. Write reduced_rate(s) instead: phi = T f(s), s = |h|^2/T^2."
            )

    def relaxation_rate(
        self, field_squared: Float[Array, "..."], temperature: Float[Array, "..."]
    ) -> Float[Array, "..."]:
        """phi(h) as a function of |h|^2, so that it stays smooth at h = 0.

        **Arguments**

        - `field_squared`: |h|^2 in meV^2, any shape.
        - `temperature`: k_B T in meV, broadcastable.

        **Returns** phi in meV, the shape of `field_squared`; a layer relaxes at 2 alpha phi.

        **Source** docs/physics.md, "Baths".
        """
        return temperature * self.reduced_rate(field_squared / temperature**2)

    def free_rate(self, temperature: Float[Array, "..."]) -> Float[Array, "..."]:
        """phi(0) in meV: T for a quantum spin, 3 T for a classical vector."""
        return self.relaxation_rate(jnp.zeros_like(temperature), temperature)

    def transverse_variance(
        self, field_squared: Float[Array, "..."], temperature: Float[Array, "..."]
    ) -> Float[Array, "..."]:
        """<S_x^2> = T/phi(h) of one moment of length 1, across a field h: what noise at the temperature makes of it.

        **Arguments** and **Returns** as in `relaxation_rate`, but dimensionless. A layer of N moments fluctuates by 1/N
        of it. The classical fluctuation-dissipation theorem, 2 alpha phi <S_x^2> = 2 alpha T.
        """
        return temperature / self.relaxation_rate(field_squared, temperature)

    def equilibrium_length(self, field: Float[Array, "..."], temperature: Float[Array, "..."]) -> Float[Array, "..."]:
        """B(|h|/T) = |h| / phi(h): the moment's length in equilibrium with a field of |h| meV (0 to 1)."""
        return field / self.relaxation_rate(field**2, temperature)

    def field_squared_at_rate(self, rate: Float[Array, "..."], temperature: Float[Array, "..."]) -> Float[Array, "..."]:
        """Solve phi(h) = rate for |h|^2.

        phi is concave in |h|^2, so Newton's iteration from h = 0 rises to the root without overshooting. Where
        `rate` is below phi(0) there is no such field; the answer is then the tangent at zero and negative.

        **Arguments** `rate` and `temperature` in meV. **Returns** |h|^2 in meV^2.
        """
        target = rate / temperature

        def newton(_: Any, s: Array) -> Array:
            value, slope = jax.jvp(self.reduced_rate, (jnp.maximum(s, 0.0),), (jnp.ones_like(target),))
            return jnp.maximum(s, 0.0) + (target - value) / slope

        return jax.lax.fori_loop(0, 24, newton, jnp.zeros_like(target)) * temperature**2


class QuantumBath(AbstractBath):
    """phi(h) = |h| coth(|h|/T): spin 1/2 moments, m = tanh(h/T), Curie point T_c = j."""

    def reduced_rate(self, s: Float[Array, "..."]) -> Float[Array, "..."]:
        """x coth x with x^2 = s."""
        return 1.0 + s * reduced_coth(s)

    def transverse_variance(
        self, field_squared: Float[Array, "..."], temperature: Float[Array, "..."]
    ) -> Float[Array, "..."]:
        """1: the square of a Pauli matrix, which is that of a single spin, with its zero-point motion. Noise of this
        strength drives slow motions of many spins more than heat does, by phi/T = (h/T) coth(h/T)."""
        del temperature
        return jnp.ones_like(field_squared)


class ClassicalBath(AbstractBath):
    """phi(h) = |h| / (coth x - 1/x) with x = |h|/T: classical vectors, Langevin law, Curie point T_c = j/3.

    **Source** the equilibrium law of the Landau-Lifshitz-Bloch equation (Garanin 1997).
    """

    def reduced_rate(self, s: Float[Array, "..."]) -> Float[Array, "..."]:
        """x^2 / (x coth x - 1) with x^2 = s."""
        return 1.0 / reduced_coth(s)


def settled_lengths(
    exchange: Float[Array, "L L"], temperature: Float[Array, " L"], bath: AbstractBath
) -> Float[Array, " L"]:
    """m_a = B(h_a/T_a) of the exchange alone, negative where a layer is opposite to the first."""
    sign = jnp.where(exchange[0] < 0, -1.0, 1.0).at[0].set(1.0)

    def settle(_: Any, lengths: Array) -> Array:
        h = jnp.sum(exchange * lengths[None, :], axis=1)
        return jnp.sign(h) * bath.equilibrium_length(jnp.abs(h), temperature)

    return jax.lax.fori_loop(0, DARK_ITERATIONS, settle, sign)
