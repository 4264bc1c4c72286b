"""The mean-field dynamics of a stack of magnetic layers under light."""

import functools
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .. import units
from .._numerics.validation import (
    Number,
    Numbers,
    float_array,
    is_concrete,
    require,
    require_finite,
    require_nonnegative,
    require_positive,
    warn_if_implausible,
)
from .._numerics.vectors import Vector, short_max, short_sum
from ..light.illumination import AbstractLight, AbstractMetallicLight, GivenRates, Illumination
from ..light.laser import Laser
from ..light.local_moment import LocalMoment, stack_moments
from . import layer_by_layer
from .baths import AbstractBath, QuantumBath, settled_lengths
from .field_terms import AbstractFieldTerm, UniaxialAnisotropy, Zeeman
from .layer_torque import LayerParameters, torque, weighted_sums
from .order_parameters import AbstractOrderParameters
from .relaxation import BathRelaxation


def _components(m: Float[Array, "L 3"]) -> Vector:
    x, y, z = m.T
    return x, y, z


def _refuse_second_light(loss_rate: Numbers | None) -> None:
    if loss_rate is not None and is_concrete(jnp.asarray(loss_rate)) and np.any(np.asarray(loss_rate) != 0):
        raise ValueError(f"loss_rate = {loss_rate} and a light: a magnet has one light. Leave loss_rate out.")


def _in_precision(part: Any, dtype: Any) -> Any:
    """A part of a magnet with its floating-point numbers of one type."""
    return jax.tree.map(lambda x: x.astype(dtype) if eqx.is_inexact_array(x) else x, part)


def _fitting(term: AbstractFieldTerm, exchange: Float[Array, "L L"]) -> AbstractFieldTerm:
    """A part of the field. **Raises** `ValueError` if it is not that of so many layers."""
    layers = exchange.shape[0]
    try:
        shape = jax.eval_shape(term.field, jax.ShapeDtypeStruct((layers, 3), exchange.dtype)).shape
    except (TypeError, ValueError) as error:
        raise ValueError(f"a {type(term).__name__} does not fit {layers} layers: {error}") from error
    if shape != (layers, 3):
        raise ValueError(f"a {type(term).__name__} gives a field of shape {shape} for {layers} layers.")
    return term


def exchange_matrix(exchange: Numbers) -> Float[Array, "L L"]:
    """j in meV as an array. **Raises** `ValueError` unless it is a square matrix."""
    matrix = float_array("exchange", exchange)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(
            f"exchange has shape {matrix.shape}: it must be a square matrix with exchange[a, b] the field "
            "on layer a from layer b. For one layer pass [[j]]."
        )
    return matrix


class LayeredMagnet(AbstractOrderParameters):
    """Mean-field moments of a stack of layers under light:

        dm_a/dt = gyro m_a x h_a + 2 alpha_a [h_a - phi(h_a) m_a] + sum_b Lambda_ab m_b - loss_a m_a,
        h_a     = sum_b j_ab m_b + B_a + K_a (m_a . e) e + ...

    In a metal whose doublons lose an electron at the rate gamma, Lambda_ab = (2 gamma_a/g_a) jm_ab and
    loss_a = gamma_a n_a: since g < 0, light pushes a layer *against* the exchange field that the conduction electrons
    carry, and with gamma_a > alpha_a |g_a| layer a wants to point away from its neighbour.

    **Arguments** (L layers; energies and rates in meV with hbar = 1; scalars are shared by all layers)

    - `exchange`: j, shape (L, L); `exchange[a, b]` is the field on layer a from the moment of layer b.
    - `damping`: alpha, shape (L,), dimensionless, 0 or greater.
    - `sd_coupling`: g, shape (L,), meV; negative for the antiferromagnetic coupling of a local moment.
    - `loss_rate`: gamma, shape (L,), meV; the light. 0 or greater.
    - `filling`: n, shape (L,), conduction electrons per site, 0 to 2. Default: 1.
    - `temperature`: k_B T, shape (L,), meV, greater than 0.
    - `gyro`: precession factor, scalar; 2 for spin 1/2, 0 switches precession off.
    - `mediated_exchange`: jm, shape (L, L), meV: the part of j that conduction electrons carry. Default: all.
    - `field`: energy of the moments in a magnetic field, shape (3,) or (L, 3), meV. Enters precession and damping,
      not the light term.
    - `anisotropy`: a `UniaxialAnisotropy`, or strengths K (scalar or (L,), meV) along z.
    - `bath`: `QuantumBath()` (m = tanh) or `ClassicalBath()` (m = Langevin).
    - `terms`: further parts of the field, each an `AbstractFieldTerm`.
    - `light`: any `AbstractLight`, in place of `sd_coupling` and `loss_rate`.

    A magnet has one `light`: the rates given here, local moments under a laser (`with_light`), or torques of another
    kind. They follow from it wherever they are used. Under a laser with an envelope they follow it in `vector_field`
    (and so in `simulate`); the properties `sd_coupling` and `loss_rate`, and with them `steady_state`, are those of the
    plateau, where the envelope is 1.

    **Raises** `ValueError` naming the argument, its value and the remedy.

    **Source** docs/physics.md, "Mean field of a layer"; a closure derived here that reproduces the published
    phases (Hanai, Ootsuki, Tazai 2025, Fig. 1c).
    """

    exchange: Float[Array, "L L"]
    damping: Float[Array, " L"]
    filling: Float[Array, " L"]
    temperature: Float[Array, " L"]
    gyro: Float[Array, ""]
    mediated_exchange: Float[Array, "L L"] | None
    field: Float[Array, "L 3"] | None
    anisotropy: UniaxialAnisotropy | None
    bath: AbstractBath
    light: AbstractLight
    terms: tuple[AbstractFieldTerm, ...]

    def __init__(
        self,
        exchange: Numbers,
        damping: Numbers,
        sd_coupling: Numbers | None = None,
        loss_rate: Numbers | None = None,
        filling: Numbers = 1.0,
        temperature: Numbers | None = None,
        *,
        gyro: Number = 2.0,
        mediated_exchange: Numbers | None = None,
        field: Numbers | None = None,
        anisotropy: UniaxialAnisotropy | Numbers | None = None,
        bath: AbstractBath = QuantumBath(),
        terms: Sequence[AbstractFieldTerm] = (),
        light: AbstractLight | None = None,
    ):
        if temperature is None:
            raise ValueError("temperature is missing: give k_B T in meV; 1 K is 0.0862 meV.")
        self.exchange = exchange_matrix(exchange)
        layers = self.exchange.shape[0]
        like_exchange = functools.partial(float_array, dtype=self.exchange.dtype)

        def per_layer(name: str, value: Numbers) -> Array:
            return like_exchange(name, value, (layers,))

        self.damping = per_layer("damping", damping)
        self.filling = per_layer("filling", filling)
        self.temperature = per_layer("temperature", temperature)
        self.gyro = like_exchange("gyro", gyro, ())
        self.mediated_exchange = (
            None
            if mediated_exchange is None
            else like_exchange("mediated_exchange", mediated_exchange, (layers, layers))
        )
        if field is not None and (shape := float_array("field", field).shape)[-1:] != (3,):
            raise ValueError(f"field has shape {shape}: it must be (3,) or ({layers}, 3), x y z in meV.")
        self.field = None if field is None else like_exchange("field", field, (layers, 3))
        if anisotropy is None or isinstance(anisotropy, UniaxialAnisotropy):
            self.anisotropy = anisotropy
        else:
            self.anisotropy = UniaxialAnisotropy(anisotropy)
        if self.anisotropy is not None:
            strength = like_exchange("anisotropy strength", self.anisotropy.strength, (layers,))
            self.anisotropy = UniaxialAnisotropy(strength, self.anisotropy.axis)
        self.bath = _in_precision(bath, self.exchange.dtype)
        self.terms = tuple(_fitting(_in_precision(term, self.exchange.dtype), self.exchange) for term in terms)
        if light is not None:
            _refuse_second_light(loss_rate)
            self.light = _in_precision(light, self.exchange.dtype)
            return
        if sd_coupling is None or loss_rate is None:
            raise ValueError(
                f"sd_coupling = {sd_coupling}, loss_rate = {loss_rate}: give both, in meV (loss_rate = 0 is darkness), "
                "or a light."
            )
        self.light = GivenRates(per_layer("sd_coupling", sd_coupling), per_layer("loss_rate", loss_rate))

    def __check_init__(self) -> None:
        require_finite("exchange", self.exchange)
        require_nonnegative("damping", self.damping)
        require("filling", self.filling, lambda n: (n >= 0) & (n <= 2), "0 to 2", "Conduction electrons per site.")
        require_positive("temperature", self.temperature, "It is k_B T in meV; 1 K is 0.0862 meV.")
        warn_if_implausible("temperature", self.temperature)
        require_finite("gyro", self.gyro)
        for name in ("mediated_exchange", "field"):
            if getattr(self, name) is not None:
                require_finite(name, getattr(self, name))

    @property
    def layers(self) -> int:
        """L, the number of layers."""
        return self.damping.shape[-1]

    @property
    def is_isotropic(self) -> bool:
        """Whether nothing but the exchange acts on the moments, which singles out no direction in space."""
        return not self.field_terms

    @property
    def saturation(self) -> float:
        """1: the length of a saturated moment."""
        return 1.0

    @property
    def field_terms(self) -> tuple[AbstractFieldTerm, ...]:
        """Everything that adds to the field besides the exchange."""
        zeeman = () if self.field is None else (Zeeman(self.field),)
        uniaxial = () if self.anisotropy is None else (self.anisotropy,)
        return (*zeeman, *uniaxial, *self.terms)

    @property
    def sd_coupling(self) -> Float[Array, "*batch L"]:
        """g in meV, shape (L,), at full intensity.

        **Raises** `ValueError` for a light that acts through no such coupling.
        """
        return self._metallic("sd_coupling").couplings()[0]

    @property
    def loss_rate(self) -> Float[Array, "*batch L"]:
        """gamma in meV, shape (L,), at full intensity.

        **Raises** `ValueError` for a light that acts through no such rate.
        """
        return self._metallic("loss_rate").couplings()[1]

    def _metallic(self, asked: str) -> AbstractMetallicLight:
        if not isinstance(self.light, AbstractMetallicLight):
            raise ValueError(
                f"{asked}: {type(self.light).__name__} has none; its torque is magnet.light_torque(), (Lambda, loss)."
            )
        return self.light

    def with_light(self, moments: LocalMoment | Sequence[LocalMoment], laser: Laser) -> "LayeredMagnet":
        """The same magnet with g and gamma of `moments` under `laser`; exchange and damping stay as they are.

        **Arguments**

        - `moments`: one `LocalMoment` for each layer, or one for all.
        - `laser`: a `Laser`; under an envelope g and gamma change in time.

        **Returns** a new `LayeredMagnet`. `exposure(magnet, m)` tells field, absorbed power and validity.

        **Raises** `ValueError` if the number of moments is not the number of layers.
        """
        if laser.intensity.ndim or laser.photon_energy.ndim:
            raise ValueError(
                f"intensity has shape {laser.intensity.shape}, photon_energy {laser.photon_energy.shape}: a magnet "
                "takes one laser. Use jax.vmap or sweep() over the values."
            )
        each = moments if isinstance(moments, LocalMoment) else tuple(moments)
        return self._under(Illumination(stack_moments(each, self.layers), laser))

    @property
    def has_laser(self) -> bool:
        """Whether the light comes from a laser, and not from rates set by hand."""
        return isinstance(self.light, Illumination)

    @property
    def illumination(self) -> Illumination:
        """Moments and laser, for what cannot do without them.

        **Raises** `ValueError` for a magnet that has only rates.
        """
        if not isinstance(self.light, Illumination):
            raise ValueError(
                "this needs a laser, and the magnet has no laser, only rates. Make it with "
                "magnet.with_light(moments, laser)."
            )
        return self.light

    def with_laser(self, laser: Laser) -> "LayeredMagnet":
        """The same magnet, on the same moments, under another laser.

        **Raises** `ValueError` for a magnet that has only rates.
        """
        return self.with_light(self.illumination.moments, laser)

    def without_light(self) -> "LayeredMagnet":
        """The same magnet in darkness, with loss_rate = 0 in every layer and the g of darkness where it is known."""
        return self._under(self.light.dark())

    def plateau(self) -> "LayeredMagnet":
        """The magnet under its light at full intensity, held constant: a laser becomes the rates that it makes."""
        return self._under(self.light.plateau())

    def at(self, t: Number) -> "LayeredMagnet":
        """The magnet under the light of time `t` (hbar/meV), held constant."""
        return self._under(self.light.at(jnp.asarray(t) / units.ps))

    def _under(self, light: AbstractLight) -> "LayeredMagnet":
        """The same magnet under another light, in the magnet's own precision."""
        light = _in_precision(light, self.exchange.dtype)
        return eqx.tree_at(lambda magnet: magnet.light, self, light, is_leaf=lambda x: isinstance(x, AbstractLight))

    @property
    def changes_in_time(self) -> bool:
        """Whether the light has an envelope."""
        return not self.light.is_constant

    def light_exchange(self) -> Float[Array, "L L"]:
        """The exchange that conduction electrons carry: `mediated_exchange`, or all of `exchange`."""
        return self.exchange if self.mediated_exchange is None else self.mediated_exchange

    def effective_field(self, m: Float[Array, "L 3"]) -> Float[Array, "L 3"]:
        """h_a = sum_b j_ab m_b + B_a + K_a (m_a . e) e + ..., in meV: the exchange and all `field_terms`.

        **Arguments** `m`: moments in units of the saturated moment, shape (L, 3). **Returns** shape (L, 3).
        """
        return self._with_terms(weighted_sums(self.exchange, m), m)

    def _with_terms(self, exchange_field: Float[Array, "L 3"], m: Float[Array, "L 3"]) -> Float[Array, "L 3"]:
        """The exchange's field, and those of all `field_terms`."""
        return sum((term.field(m) for term in self.field_terms), exchange_field)

    def linear_rates(self, m: Float[Array, "L 3"]) -> Float[Array, "L L"]:
        """W_ab = 2 alpha_a j_ab + Lambda_ab - delta_ab r_a,  r_a = 2 alpha_a phi(h_a) + loss_a.

        For an isotropic magnet dm_a/dt = gyro m_a x h_a + sum_b W_ab m_b.

        **Arguments** `m`: shape (L, 3). **Returns** W in meV, shape (L, L).
        """
        return self.exchange_rates() - jnp.diag(self.relaxation_in(self.effective_field(m)))

    def rates_at_rest(self) -> Float[Array, "L L"]:
        """`linear_rates` of vanishing moments."""
        return self.linear_rates(jnp.zeros((self.layers, 3), self.dtype))

    def relaxation_in(self, field: Float[Array, "L 3"]) -> Float[Array, " L"]:
        """r_a = 2 alpha_a phi(h_a) + loss_a in meV, shape (L,), in a field h of shape (L, 3)."""
        phi = self.bath.relaxation_rate(short_sum(field**2), self.temperature)
        return 2.0 * self.damping * phi + self.light_torque()[1]

    def free_relaxation(self) -> Float[Array, " L"]:
        """2 alpha_a phi(0) + loss_a in meV, shape (L,): how fast a layer forgets its moment where no field holds it."""
        return 2.0 * self.damping * self.bath.free_rate(self.temperature) + self.light_torque()[1]

    def light_torque(self) -> tuple[Float[Array, "L L"], Float[Array, " L"]]:
        """dm_a/dt|light = sum_b Lambda_ab m_b - loss_a m_a.

        **Returns** Lambda of shape (L, L) and loss of shape (L,), both in meV, at full intensity.
        """
        return self.light.torque(self.light_exchange(), self.filling)

    def light_push(self) -> tuple[Float[Array, "L L"], Float[Array, " L"], Float[Array, " L"] | None]:
        """`light_torque`, and the factor between Lambda and the exchange of the magnet where there is one."""
        push, loss = self.light_torque()
        return push, loss, self.light.exchange_factor() if self.mediated_exchange is None else None

    def exchange_rates(self) -> Float[Array, "L L"]:
        """w_ab = 2 alpha_a j_ab + Lambda_ab in meV: W without its relaxation; independent of m."""
        push, _ = self.light_torque()
        return 2.0 * self.damping[:, None] * self.exchange + push

    def precession_exchange(self) -> Float[Array, "L L"]:
        """gyro j in meV, and what light adds to it."""
        more = self.light.precession(self.exchange)
        return self.gyro * self.exchange + (0.0 if more is None else more)

    def precession_vector(self, m: Float[Array, "L 3"]) -> Float[Array, "L 3"]:
        """gyro h_a, and what light adds to it, in meV: dm_a/dt has m_a x this."""
        more = self.light.precession(self.exchange)
        turned = self.gyro * self.effective_field(m)
        return turned if more is None else turned + weighted_sums(more, m)

    def relaxation(self) -> BathRelaxation:
        """r_a = 2 alpha_a phi(h_a) + loss_a of an isotropic bilayer, as a function of the scalar products."""
        _, loss = self.light_torque()
        return BathRelaxation.of(self.exchange, self.damping, self.temperature, loss, self.bath)

    def symmetry_axes(self) -> Float[Array, "axes 3"]:
        """Those of all `field_terms`."""
        axes = [term.axes(self.layers) for term in self.field_terms]
        return jnp.concatenate(axes) if axes else jnp.zeros((0, 3), self.dtype)

    def term_size(self, m: Float[Array, "L 3"]) -> Float[Array, ""]:
        """The largest |gyro| m h + 2 alpha h + sum_b |W_ab| m_b of a layer, in meV."""
        h = jnp.sqrt(short_sum(self.effective_field(m) ** 2))
        length = jnp.sqrt(short_sum(m**2))
        rates = jnp.abs(self.linear_rates(m))
        dissipative = 2.0 * self.damping * h + short_sum(rates * length[None, :])
        return short_max(jnp.abs(self.gyro) * length * h + dissipative)

    def nonlinearity(self, m: Float[Array, "L 3"]) -> Float[Array, ""]:
        """The largest |h_a|^2/T_a^2: phi(h) grows with the field, so that a larger moment is damped more."""
        return short_max(short_sum(self.effective_field(m) ** 2) / self.temperature**2)

    def dark_lengths(self) -> Float[Array, " L"]:
        """m_a = B(h_a/T_a) of the exchange alone, negative where a layer is opposite to the first."""
        return settled_lengths(self.exchange, self.temperature, self.bath)

    def vector_field(self, t: Number, m: Float[Array, "L 3"], args: Any = None) -> Float[Array, "L 3"]:
        """dm/dt of the class docstring.

        **Arguments**

        - `t`: time in hbar/meV; only light with an envelope depends on it.
        - `m`: moments, shape (L, 3).
        - `args`: unused; there for Diffrax.

        **Returns** dm/dt in meV (hbar = 1), shape (L, 3).
        """
        return (self.at(t) if self.changes_in_time else self).rates_among(m, m)

    def rates_among(self, m: Float[Array, "L 3"], around: Float[Array, "L 3"]) -> Float[Array, "L 3"]:
        """dm/dt of moments whose exchange, and what light makes of it, comes from moments `around` them.

        `vector_field` is that of moments among others like them. All `field_terms` are those of m itself.

        **Arguments** `m`, `around`: shape (L, 3). **Returns** dm/dt in meV, shape (L, 3), at full intensity.
        """
        pushes, loss, factor = self.light_push()
        along = weighted_sums(self.exchange, around)
        h = self._with_terms(along, m)
        push = weighted_sums(pushes, around) if factor is None else factor[:, None] * along
        p = LayerParameters(self.damping, loss, self.temperature, self.gyro)
        rates = jnp.stack(torque(_components(m), _components(h), _components(push), p, self.bath), axis=-1)
        more = self.light.precession(self.exchange)
        return rates if more is None else rates + jnp.cross(m, weighted_sums(more, around))

    def layer_vector_fields(self, moments: Sequence[Vector]) -> list[Vector]:
        """`vector_field` of constant light on scalars, layer by layer: under vmap every operation is one loop over
        the batch. For light with an envelope: `magnet.at(t).layer_vector_fields(moments)`.

        **Arguments** `moments`: for each layer its (x, y, z) as scalars. **Returns** the same for dm/dt in meV.
        """
        return layer_by_layer.vector_fields(self, moments)

    def layer_sizes(self, moments: Sequence[Vector]) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """`term_size` (meV) and `nonlinearity`, likewise."""
        return layer_by_layer.sizes(self, moments)
