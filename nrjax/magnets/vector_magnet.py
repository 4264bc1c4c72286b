"""Layers whose moments have one, two or three components, and do not precess."""

from typing import Any, Final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._numerics.validation import (
    Number,
    Numbers,
    float_array,
    require_finite,
    require_nonnegative,
    require_positive,
)
from .baths import AbstractBath, ClassicalBath, QuantumBath, settled_lengths
from .layer_torque import weighted_sums
from .layers import LayeredMagnet, exchange_matrix
from .order_parameters import AbstractOrderParameters
from .planar_bath import PlanarBath
from .relaxation import BathRelaxation

# Of classical moments by their number of components; one component is that of spin 1/2 along an axis.
BATHS: Final[dict[int, AbstractBath]] = {1: QuantumBath(), 2: PlanarBath(), 3: ClassicalBath()}


class VectorMagnet(AbstractOrderParameters):
    """Mean-field moments of n components under light, without precession:

        dm_a/dt = 2 alpha_a [h_a - phi(h_a) m_a] + sum_b Lambda_ab m_b - loss_a m_a,   h_a = sum_b j_ab m_b.

    n = 1: along an axis, n = 2: in an easy plane, n = 3: in space. The scalar products of two layers have one equation
    for n = 2 and 3; with n = 1 nothing can chase, and what would chase swings through zero instead (MODULATED).

    **Arguments** (L layers; scalars are shared by all)

    - `exchange`: j, shape (L, L), meV; `exchange[a, b]` is the field on layer a from the moment of layer b.
    - `damping`: alpha, shape (L,), dimensionless. `temperature`: k_B T, shape (L,), meV.
    - `light`: Lambda, shape (L, L), meV. `loss`: shape (L,), meV, 0 or greater.
    - `components`: n, 1, 2 or 3.
    - `bath`: default that of classical moments of n components, T_c = j/n.

    **Raises** `ValueError` naming the argument, its value and the remedy.

    **Source** docs/physics.md, "Shape dynamics".
    """

    exchange: Float[Array, "L L"]
    damping: Float[Array, " L"]
    temperature: Float[Array, " L"]
    light: Float[Array, "L L"]
    loss: Float[Array, " L"]
    bath: AbstractBath
    n: int = eqx.field(static=True)

    def __init__(
        self,
        exchange: Numbers,
        damping: Numbers,
        temperature: Numbers,
        light: Numbers = 0.0,
        loss: Numbers = 0.0,
        *,
        components: int = 3,
        bath: AbstractBath | None = None,
    ):
        if components not in BATHS:
            raise ValueError(f"components = {components!r}: moments have 1, 2 or 3 of them.")
        self.exchange = exchange_matrix(exchange)
        layers = self.exchange.shape[0]
        self.damping = float_array("damping", damping, (layers,))
        self.temperature = float_array("temperature", temperature, (layers,))
        self.light = float_array("light", light, (layers, layers))
        self.loss = float_array("loss", loss, (layers,))
        self.n = components
        self.bath = BATHS[components] if bath is None else bath

    def __check_init__(self) -> None:
        require_finite("exchange", self.exchange)
        require_nonnegative("damping", self.damping)
        require_positive("temperature", self.temperature, "It is k_B T in meV; 1 K is 0.0862 meV.")
        require_finite("light", self.light)
        require_nonnegative("loss", self.loss)

    @classmethod
    def like(cls, magnet: LayeredMagnet, components: int, bath: AbstractBath | None = None) -> "VectorMagnet":
        """The layers of a magnet, with its light at full intensity, but of n components and without precession.

        **Arguments** `bath`: default that of the magnet. Fields and anisotropies are left out.
        """
        light, loss = magnet.light_torque()
        kept = magnet.bath if bath is None else bath
        return cls(magnet.exchange, magnet.damping, magnet.temperature, light, loss, components=components, bath=kept)

    @property
    def layers(self) -> int:
        """L, the number of layers."""
        return self.damping.shape[-1]

    @property
    def components(self) -> int:
        """n."""
        return self.n

    @property
    def saturation(self) -> float:
        """1: the length of a saturated moment."""
        return 1.0

    @property
    def is_isotropic(self) -> bool:
        """True: all directions of the n components are alike."""
        return True

    def exchange_rates(self) -> Float[Array, "L L"]:
        """w_ab = 2 alpha_a j_ab + Lambda_ab in meV."""
        return 2.0 * self.damping[:, None] * self.exchange + self.light

    def relaxation(self) -> BathRelaxation:
        """r_a = 2 alpha_a phi(h_a) + loss_a of two layers."""
        return BathRelaxation.of(self.exchange, self.damping, self.temperature, self.loss, self.bath)

    def _squared_fields(self, m: Float[Array, "L n"]) -> Float[Array, " L"]:
        return jnp.sum(weighted_sums(self.exchange, m) ** 2, axis=1)

    def _rates(self, m: Float[Array, "L n"]) -> Float[Array, " L"]:
        return 2.0 * self.damping * self.bath.relaxation_rate(self._squared_fields(m), self.temperature) + self.loss

    def vector_field(self, t: Number, m: Float[Array, "L n"], args: Any = None) -> Float[Array, "L n"]:
        """dm/dt in meV; nothing depends on `t`."""
        del t, args
        return weighted_sums(self.exchange_rates(), m) - self._rates(m)[:, None] * m

    def term_size(self, m: Float[Array, "L n"]) -> Float[Array, ""]:
        """The largest sum of the sizes of the terms, in meV."""
        length = jnp.sqrt(jnp.sum(m**2, axis=1))
        pull = jnp.sum(jnp.abs(self.exchange_rates()) * length[None, :], axis=1)
        return jnp.max(self._rates(m) * length + pull)

    def free_relaxation(self) -> Float[Array, " L"]:
        """2 alpha_a phi(0) + loss_a in meV."""
        return 2.0 * self.damping * self.bath.free_rate(self.temperature) + self.loss

    def nonlinearity(self, m: Float[Array, "L n"]) -> Float[Array, ""]:
        """The largest |h_a|^2/T_a^2."""
        return jnp.max(self._squared_fields(m) / self.temperature**2)

    def dark_lengths(self) -> Float[Array, " L"]:
        """m_a = B(h_a/T_a) of the exchange alone, negative where a layer is opposite to the first."""
        return settled_lengths(self.exchange, self.temperature, self.bath)
