"""In which coordinates moments are integrated: their components, with the tilt of an isotropic bilayer beside them."""

import abc
import math
from typing import Any, Final, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .. import units
from .._numerics.small_matrices import safe_sqrt
from .._numerics.vectors import Vector, cross, dot
from ..magnets import LayeredMagnet, ThermalModel

# The square of a tilt above which thermal motion no longer adds to it, in units of the square that it has by chance.
BY_CHANCE: Final = 100.0
# |m_A x m_B| of moments on one line, in units of the rounding of |m_A|^2 + |m_B|^2.
COLLINEAR: Final = 16.0


class AbstractCoordinates(eqx.Module):
    """What stands for the moments while they are integrated: a tuple of scalars if `unrolled`, else an array."""

    @abc.abstractmethod
    def start(self, m0: Float[Array, "L n"]) -> Any:
        """The coordinates of moments at the start."""

    @abc.abstractmethod
    def rates(self, t: Array, y: Any) -> Any:
        """dy/dt; t in hbar/meV, result in meV."""

    @abc.abstractmethod
    def moments(self, y: Any) -> Float[Array, "*times L n"]:
        """The moments at coordinates y, which may carry leading axes."""

    @abc.abstractmethod
    def model_at(self, y: Any) -> Any:
        """The model whose velocity the moments at y have; y at one time."""

    @abc.abstractmethod
    def tilt(self, y: Any) -> Float[Array, ""]:
        """max_ab |m_a x m_b| / max_a |m_a|^2: how far the moments are from collinear; 0 to 1."""


class Components(AbstractCoordinates):
    """The components of the moments of any model: y = m.

    A tilt below the tolerance of the integration is not resolved: rounding decides it.
    """

    model: Any
    unrolled: bool = eqx.field(static=True, default=False)

    def start(self, m0: Float[Array, "L n"]) -> Any:
        """m0."""
        return tuple((m[0], m[1], m[2]) for m in m0) if self.unrolled else m0

    def rates(self, t: Array, y: Any) -> Any:
        """The model's vector field."""
        if self.unrolled:
            return tuple(self.model.at(t).layer_vector_fields(y))
        return self.model.vector_field(t, y, None)

    def moments(self, y: Any) -> Float[Array, "*times L n"]:
        """y, as one array."""
        return _stacked(y) if self.unrolled else y

    def model_at(self, y: Any) -> Any:
        """The model, whatever y."""
        del y
        return self.model

    def tilt(self, y: Any) -> Float[Array, ""]:
        """From the components."""
        m = self.moments(y)
        gram = m @ m.T
        squares = jnp.diagonal(gram)
        areas = squares[:, None] * squares[None, :] - gram**2
        largest = jnp.max(squares)
        return safe_sqrt(jnp.max(areas)) / jnp.where(largest > 0, largest, 1.0)


class _Numbers(NamedTuple):
    """What of an isotropic bilayer enters its motion, in meV."""

    exchange: Array
    rates: Array
    turning: Array
    twice_damping: Array
    loss: Array
    temperature: Array

    @classmethod
    def of(cls, magnet: LayeredMagnet) -> "_Numbers":
        """Of a magnet in constant light."""
        loss = magnet.light_torque()[1]
        turning, twice = magnet.precession_exchange(), 2.0 * magnet.damping
        return cls(magnet.exchange, magnet.exchange_rates(), turning, twice, loss, magnet.temperature)


class ComponentsAndTilt(AbstractCoordinates):
    """The components of an isotropic bilayer, and the tilt c = |m_A x m_B| by its own exact equation:

        dm_a/dt = vector_field + hold,   d ln c/dt = trace W + D/c^2.

    Where the moments are nearly collinear the components know c only to the tolerance of the integration; its own
    equation follows it through any number of decades, and m_A and m_B are held to it: a restoring rate acts on the
    difference, which is rounding alone. When and how fast a chase grows then depends on no tolerance. (The plane in
    which a tilt that was unresolved grows again is free by symmetry, and left to rounding.)

    D is the thermal source of N spins in each layer: 0 without `spins`, else c is the root mean square of their tilt,

        D = |m_A|^2 Q_B + |m_B|^2 Q_A,   Q_a = 2 r_a v_a / N,

    r_a the rate at which a spin of layer a forgets its direction, v_a the variance of its component across the field.
    In the dark this is Boltzmann's distribution of the angle between two rigid layers. It acts while c^2 is below a
    hundred times that of independent spins, so that it seeds a chase but does not touch a developed one.

    **Arguments** `model`: an isotropic bilayer. `seed`: c at the start. `resolved`: c/(|m_A|^2 + |m_B|^2) above which
    the components themselves resolve it. `spins`: N, or None.

    **Source** docs/physics.md, "What seeds the chase".
    """

    model: LayeredMagnet
    seed: Float[Array, ""]
    resolved: Float[Array, ""]
    spins: Float[Array, ""] | None
    unrolled: bool = eqx.field(static=True, default=False)
    # Made before the steps where light is constant and steps are written out: each stage of a step would make its own,
    # and XLA starts threads for a loop of more than 64 numbers, which takes longer than a short trajectory.
    numbers: _Numbers | None = None

    @staticmethod
    def applies_to(model: Any) -> bool:
        """Whether the model is an isotropic bilayer."""
        return isinstance(model, LayeredMagnet) and model.shape_closes

    @classmethod
    def of(
        cls,
        magnet: LayeredMagnet,
        m0: Float[Array, "2 3"],
        resolved: Float[Array, ""],
        spins: Float[Array, ""] | None,
        t0: Array,
        unrolled: bool,
    ) -> "ComponentsAndTilt":
        """For a motion that starts from m0 at t0 (hbar/meV); with `spins` at least as far from collinear as they are by
        chance."""
        squared = jnp.sum(jnp.cross(m0[0], m0[1]) ** 2)
        numbers = _Numbers.of(magnet) if unrolled and not magnet.changes_in_time else None
        coordinates = cls(magnet, safe_sqrt(squared), resolved, spins, unrolled, numbers)
        if spins is None:
            return coordinates
        (a, b), _, (v_a, v_b) = coordinates._spread(_Numbers.of(magnet.at(t0)), tuple(m0[0]), tuple(m0[1]))
        chance = 2.0 * (a * v_b + b * v_a) / spins
        return eqx.tree_at(lambda x: x.seed, coordinates, safe_sqrt(jnp.maximum(squared, chance)))

    def start(self, m0: Float[Array, "2 3"]) -> Any:
        """m0, tilted to `seed`, and the tilt in units of that, as a logarithm."""
        m0 = m0 if self.spins is None else _tilted_to(m0, self.seed)
        components = tuple((m[0], m[1], m[2]) for m in m0) if self.unrolled else m0
        return components, jnp.zeros((), m0.dtype)

    def _spread(self, numbers: _Numbers, a: Vector, b: Vector) -> tuple[Any, Any, Any]:
        """|m_a|^2, the rates r_a = 2 alpha_a phi(h_a) + loss_a and the variances v_a, of both layers."""
        j, twice, loss = numbers.exchange, numbers.twice_damping, numbers.loss
        fields = [tuple(j[i, 0] * x + j[i, 1] * y for x, y in zip(a, b, strict=True)) for i in range(2)]
        strengths = [dot(h, h) for h in fields]
        bath, temperatures = self.model.bath, numbers.temperature
        rates = [twice[i] * bath.relaxation_rate(strengths[i], temperatures[i]) + loss[i] for i in range(2)]
        variances = [bath.transverse_variance(strengths[i], temperatures[i]) for i in range(2)]
        return (dot(a, a), dot(b, b)), rates, variances

    def _tilt(self, log_growth: Array) -> Array:
        """c; the logarithm may grow without end only where c is 0."""
        return self.seed * jnp.exp(jnp.minimum(log_growth, 0.4 * math.log(jnp.finfo(self.seed.dtype).max)))

    def rates(self, t: Array, y: Any) -> Any:
        """d(m, ln(c/seed))/dt."""
        components, log_growth = y
        magnet = self.model.at(t) if self.model.changes_in_time else self.model
        numbers = _Numbers.of(magnet) if self.numbers is None else self.numbers
        a, b = components if self.unrolled else (tuple(components[0]), tuple(components[1]))
        (square_a, square_b), (r_a, r_b), (v_a, v_b) = self._spread(numbers, a, b)
        w = numbers.rates
        growth = w[0, 0] - r_a + w[1, 1] - r_b
        tilt, total = self._tilt(log_growth), square_a + square_b
        by_noise, noisy = jnp.zeros_like(growth), jnp.asarray(False)
        if self.spins is not None:
            chance = 2.0 * (square_a * v_b + square_b * v_a) / self.spins
            noisy = tilt**2 < BY_CHANCE * chance
            source = 2.0 * (square_a * r_b * v_b + square_b * r_a * v_a) / self.spins
            by_noise = jnp.where(noisy, source, 0.0) / jnp.where(tilt > 0, tilt**2, 1.0)

        normal = cross(a, b)
        squared = dot(normal, normal)
        seen = squared > 0
        excess = 1.0 - tilt * jax.lax.rsqrt(jnp.where(seen, squared, 1.0))
        # A tilt that the components resolve needs no help, unless noise adds to it.
        helped = seen & (total > 0) & ((tilt < self.resolved * total) | noisy)
        # Faster than any tilt can grow: trace W < w_AA + w_BB.
        fast = jnp.abs(w[0, 0]) + jnp.abs(w[1, 1]) + r_a + r_b
        # Ends in a division, which XLA keeps for all that uses it.
        hold = jnp.where(helped, excess * fast - by_noise, 0.0) / jnp.where(total > 0, total, 1.0)
        # -hold m_B x c on A and -hold c x m_A on B, with c = m_A x m_B: the steepest way to another |c|. Lengths change
        # by the square of the tilt only.
        both = hold * dot(a, b)
        h_aa, h_bb = hold * square_b, hold * square_a
        if not self.unrolled:
            held = jnp.stack([jnp.stack([-h_aa, both]), jnp.stack([both, -h_bb])]) @ components
            # Of a tilt that is rounding alone nothing is held but rounding: deviations are free.
            alone = self.seed < COLLINEAR * jnp.finfo(total.dtype).eps * total
            held = jnp.where(alone, jax.lax.stop_gradient(held), held)
            return magnet.vector_field(t, components) + held, growth + by_noise
        # gyro m_a x h_a + sum_b W_ab m_b, from what is known already; both precess about the same vector.
        turning = numbers.turning
        w_aa, w_ab, w_ba, w_bb = w[0, 0] - r_a - h_aa, w[0, 1] + both, w[1, 0] + both, w[1, 1] - r_b - h_bb
        turn_a, turn_b = turning[0, 1], -turning[1, 0]
        da = tuple(turn_a * c + w_aa * x + w_ab * z for c, x, z in zip(normal, a, b, strict=True))
        db = tuple(turn_b * c + w_ba * x + w_bb * z for c, x, z in zip(normal, a, b, strict=True))
        return (da, db), growth + by_noise

    def moments(self, y: Any) -> Float[Array, "*times L n"]:
        """The components, as one array."""
        return _stacked(y[0]) if self.unrolled else y[0]

    def model_at(self, y: Any) -> Any:
        """The model, whatever y."""
        del y
        return self.model

    def tilt(self, y: Any) -> Float[Array, ""]:
        """From its own equation."""
        largest = jnp.max(jnp.sum(self.moments(y) ** 2, axis=-1))
        return self._tilt(y[1]) / jnp.where(largest > 0, largest, 1.0)


class Heated(AbstractCoordinates):
    """Other coordinates, and the heat of a sample in its light: y = (y of the moments, heat).

    The balance of energies is linear in them, so that every Runge-Kutta method keeps it to rounding.
    """

    inner: Components | ComponentsAndTilt
    thermal: ThermalModel

    def start(self, m0: Float[Array, "L n"]) -> Any:
        """m0, at the temperature of the substrate."""
        return self.inner.start(m0), self.thermal.at_rest(m0.shape[0], m0.dtype)

    def rates(self, t: Array, y: Any) -> Any:
        """Those of the moments at their temperature, and of the heat that the light leaves."""
        inner, heat = y
        warm = self.model_at(y)
        power = self.thermal.power(warm, self.inner.moments(inner), t / units.ps)
        warming = jax.tree.map(lambda x: x / units.ps, self.thermal.rates(power, heat))
        return eqx.tree_at(lambda inner: inner.model, self.inner, warm).rates(t, inner), warming

    def moments(self, y: Any) -> Float[Array, "*times L n"]:
        """Those of the other coordinates."""
        return self.inner.moments(y[0])

    def model_at(self, y: Any) -> Any:
        """The magnet at the temperature that its moments feel."""
        return self.thermal.warmed(self.inner.model, y[1])

    def tilt(self, y: Any) -> Float[Array, ""]:
        """That of the other coordinates."""
        return self.inner.tilt(y[0])


def _tilted_to(m0: Float[Array, "2 3"], area: Array) -> Float[Array, "2 3"]:
    """The same moments with |m_A x m_B| = `area`, by what the shorter one has across the longer one."""
    swapped = jnp.sum(m0[0] ** 2) < jnp.sum(m0[1] ** 2)
    longer, shorter = jnp.where(swapped, m0[1], m0[0]), jnp.where(swapped, m0[0], m0[1])
    squared = jnp.sum(longer**2)
    along = jnp.dot(shorter, longer) / jnp.where(squared > 0, squared, 1.0) * longer
    own = shorter - along
    helper = jnp.cross(longer, jnp.eye(3, dtype=m0.dtype)[jnp.argmin(jnp.abs(longer))])
    across = jnp.where(jnp.sum(own**2) > 0, own, helper)
    size = jnp.sqrt(jnp.sum(across**2) * squared)
    tilted = along + across * (area / jnp.where(size > 0, size, 1.0))
    return jnp.where(swapped, jnp.stack([tilted, longer]), jnp.stack([longer, tilted]))


def _stacked(moments: Any) -> Array:
    return jnp.stack([jnp.stack(m, axis=-1) for m in moments], axis=-2)
