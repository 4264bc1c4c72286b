"""Moments of any spin S, between the quantum spin 1/2 and the classical vector."""

from jaxtyping import Array, Float

from .._numerics.validation import Number, float_array, require, require_finite
from .baths import AbstractBath, reduced_coth


class BrillouinBath(AbstractBath):
    """phi(h) = |h| / B_S(|h|/T),   B_S(x) = a coth(a x) - b coth(b x),   a = (2S+1)/2S,   b = 1/2S:

    spins S in a field of |h| per unit of their saturated moment; Curie point T_c = j (S+1)/3S. S = 1/2 is
    `QuantumBath`, S -> infinity `ClassicalBath`.

    **Arguments** `spin`: S, 1/2 or greater (4f and 3d moments: up to 7/2).

    **Raises** `ValueError` for a spin below 1/2.

    **Source** Brillouin 1927; docs/physics.md, "Baths".
    """

    spin: Float[Array, ""]

    def __init__(self, spin: Number):
        self.spin = float_array("spin", spin, ())
        require_finite("spin", self.spin)
        require("spin", self.spin, lambda s: s >= 0.5, "1/2 or greater", "It is S, for example 5/2.")

    def reduced_rate(self, s: Float[Array, "..."]) -> Float[Array, "..."]:
        """x/B_S(x) with x^2 = s, by way of (x coth x - 1)/x^2: a^2 q(a^2 s) - b^2 q(b^2 s) = B_S/x."""
        b = 0.5 / self.spin
        a = 1.0 + b
        return 1.0 / (a**2 * reduced_coth(a**2 * s) - b**2 * reduced_coth(b**2 * s))

    def transverse_variance(
        self, field_squared: Float[Array, "..."], temperature: Float[Array, "..."]
    ) -> Float[Array, "..."]:
        """<S_x^2>/S^2 = b coth(b x) B_S(x): the quantum theorem, with zero-point motion."""
        s = field_squared / temperature**2
        b = 0.5 / self.spin
        return (1.0 + b**2 * s * reduced_coth(b**2 * s)) / self.reduced_rate(s)
