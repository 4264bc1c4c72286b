"""Superconducting order parameters of several bands under light: two components each, and a cubic nonlinearity."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from .._numerics.validation import (
    Number,
    Numbers,
    float_array,
    require,
    require_finite,
    require_nonnegative,
    require_positive,
)
from .layer_torque import weighted_sums
from .order_parameters import AbstractOrderParameters
from .relaxation import AbstractRelaxation, Gram


class CubicRelaxation(AbstractRelaxation):
    """r_a = Gamma_a (a_a + b_a G_aa) + loss_a, in meV: `linear` is Gamma a + loss, `cubic` is Gamma b."""

    linear: tuple[Float[Array, ""], Float[Array, ""]]
    cubic: tuple[Float[Array, ""], Float[Array, ""]]

    @property
    def nonlinearity_scale(self) -> Array:
        """The larger share of cubic in linear."""
        shares = [b / jnp.maximum(jnp.abs(a), b) for a, b in zip(self.linear, self.cubic, strict=True)]
        return jnp.maximum(*shares)

    def rates(self, g: Gram) -> tuple[Array, Array]:
        """(r_A, r_B) in meV."""
        (a, b), (c, d) = self.linear, self.cubic
        return a + c * g.aa, b + d * g.bb

    def sizes(self, g: Gram) -> tuple[Array, Array]:
        """The same with |Gamma a + loss|."""
        (a, b), (c, d) = self.linear, self.cubic
        return jnp.abs(a) + c * g.aa, jnp.abs(b) + d * g.bb


class CoupledCondensates(AbstractOrderParameters):
    """Time-dependent Ginzburg-Landau equation of L condensates, each psi_a a vector of two components (Re, Im):

        dpsi_a/dt = -Gamma_a [(a_a + b_a |psi_a|^2) psi_a - sum_b eta_ab psi_b] + sum_b Lambda_ab psi_b - loss_a psi_a.

    Without light this goes down the free energy sum a|psi|^2 + (b/2)|psi|^4 - sum eta_ab psi_a* psi_b; light's Lambda
    is no gradient of one. Where W_12 W_21 < 0 the phases of two condensates can chase each other for ever.

    A common phase may turn at any rate by gauge: only the rotation against twice the electrochemical potential of the
    normal electrons is physical. It is that which the frequencies are; it shows as a voltage hbar omega/2e between a
    superconducting and a normal probe.

    **Arguments** (L condensates; scalars are shared by all)

    - `rate`: Gamma, shape (L,), dimensionless (hbar = 1), greater than 0.
    - `linear`: a, shape (L,), meV; negative below the condensate's own critical temperature.
    - `quartic`: b, shape (L,), meV, greater than 0: |psi|^2 is in units of its own choice.
    - `josephson`: eta, shape (L, L), meV, with zero diagonal; of one number all pairs.
    - `light`: Lambda, shape (L, L), meV. `loss`: shape (L,), meV, 0 or greater.

    **Raises** `ValueError` naming the argument, its value and the remedy.

    **Source** docs/physics.md, "Two condensates".
    """

    rate: Float[Array, " L"]
    linear: Float[Array, " L"]
    quartic: Float[Array, " L"]
    josephson: Float[Array, "L L"]
    light: Float[Array, "L L"]
    loss: Float[Array, " L"]

    def __init__(
        self,
        rate: Numbers,
        linear: Numbers,
        quartic: Numbers,
        josephson: Numbers,
        light: Numbers = 0.0,
        loss: Numbers = 0.0,
    ):
        given = {"rate": rate, "linear": linear, "quartic": quartic, "josephson": josephson, "light": light}
        shapes = [float_array(name, value).shape for name, value in given.items()]
        layers = next((shape[0] for shape in shapes if shape), 2)
        self.rate = float_array("rate", rate, (layers,))
        self.linear = float_array("linear", linear, (layers,))
        self.quartic = float_array("quartic", quartic, (layers,))
        coupling = float_array("josephson", josephson)
        if coupling.ndim == 0:
            coupling = coupling * (1.0 - jnp.eye(layers, dtype=coupling.dtype))
        self.josephson = float_array("josephson", coupling, (layers, layers))
        self.light = float_array("light", light, (layers, layers))
        self.loss = float_array("loss", loss, (layers,))

    def __check_init__(self) -> None:
        require_positive("rate", self.rate, "It is Gamma, how fast the condensate follows its free energy.")
        require_finite("linear", self.linear)
        require_positive("quartic", self.quartic, "Else nothing limits the condensate.")
        require_finite("josephson", self.josephson)
        require_finite("light", self.light)
        require_nonnegative("loss", self.loss)
        diagonal = jnp.diagonal(self.josephson, axis1=-2, axis2=-1)
        require("diagonal of josephson", diagonal, lambda x: x == 0, "0", "A condensate's own energy is `linear`.")

    @property
    def layers(self) -> int:
        """L, the number of condensates."""
        return self.rate.shape[-1]

    @property
    def components(self) -> int:
        """Re psi and Im psi."""
        return 2

    @property
    def is_isotropic(self) -> bool:
        """True: only relative phases count."""
        return True

    def exchange_rates(self) -> Float[Array, "L L"]:
        """Gamma_a eta_ab + Lambda_ab in meV."""
        return self.rate[:, None] * self.josephson + self.light

    def relaxation(self) -> CubicRelaxation:
        """r_a = Gamma_a (a_a + b_a |psi_a|^2) + loss_a of two condensates."""
        linear, cubic = self.rate * self.linear + self.loss, self.rate * self.quartic
        return CubicRelaxation((linear[0], linear[1]), (cubic[0], cubic[1]))

    def _rates(self, m: Float[Array, "L 2"]) -> Float[Array, " L"]:
        return self.rate * (self.linear + self.quartic * jnp.sum(m**2, axis=1)) + self.loss

    def vector_field(self, t: Number, m: Float[Array, "L 2"], args: Any = None) -> Float[Array, "L 2"]:
        """dpsi/dt in meV; nothing depends on `t`."""
        del t, args
        return weighted_sums(self.exchange_rates(), m) - self._rates(m)[:, None] * m

    def term_size(self, m: Float[Array, "L 2"]) -> Float[Array, ""]:
        """The largest sum of the sizes of the terms, in meV."""
        length = jnp.sqrt(jnp.sum(m**2, axis=1))
        own = self.rate * (jnp.abs(self.linear) + self.quartic * length**2) + self.loss
        return jnp.max(own * length + jnp.abs(self.exchange_rates()) @ length)

    def free_relaxation(self) -> Float[Array, " L"]:
        """Gamma |a| + loss in meV."""
        return self.rate * jnp.abs(self.linear) + self.loss

    def nonlinearity(self, m: Float[Array, "L 2"]) -> Float[Array, ""]:
        """The largest b |psi|^2 over what is linear; in no unit of psi."""
        cubic = self.quartic * jnp.sum(m**2, axis=1)
        coupled = jnp.sum(jnp.abs(self.josephson), axis=1)
        linear = jnp.abs(self.linear) + coupled + (jnp.sum(jnp.abs(self.light), axis=1) + self.loss) / self.rate
        return jnp.max(cubic / jnp.where(linear > 0, linear, jnp.where(cubic > 0, cubic, 1.0)))

    def dark_lengths(self) -> Float[Array, " L"]:
        """sqrt(-a/b) of a condensate alone, at least a tenth of sqrt(|eta|/b); negative for a coupling pi."""
        coupling = jnp.max(jnp.abs(self.josephson), axis=1)
        alone = jnp.maximum(-self.linear, 0.01 * coupling) / self.quartic
        return jnp.sqrt(alone) * jnp.where(self.josephson[0] < 0, -1.0, 1.0)
