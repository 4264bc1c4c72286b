"""What a design should be good at besides its frequency: losses to minimise, added with weights."""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._numerics.validation import require, require_nonnegative, require_positive
from ..light.laser import Laser
from ..magnets import LayeredMagnet
from ..magnets.absorption import exposure
from ..rotation.attractors import continued, steady_state
from ..rotation.rigid_states import SteadyState


class AbstractObjective(eqx.Module):
    """A dimensionless loss of a magnet and its steady state. The target comes first: objectives choose among the
    designs that reach it. Any function of (magnet, state) with a scalar value may stand in its place."""

    @abc.abstractmethod
    def __call__(self, magnet: LayeredMagnet, state: SteadyState) -> Float[Array, ""]:
        """The loss."""


class LowIntensity(AbstractObjective):
    """weight log(I / (W/cm^2)): little light.

    **Arguments** `weight`: dimensionless, 0 or greater.
    """

    weight: float = 1.0

    def __check_init__(self) -> None:
        require_nonnegative("weight of LowIntensity", self.weight)

    def __call__(self, magnet: LayeredMagnet, state: SteadyState) -> Float[Array, ""]:
        """The loss; the magnet must have a laser."""
        del state
        return self.weight * _log(magnet.illumination.laser.intensity)


class LowPower(AbstractObjective):
    """weight log(P / nW), P the power absorbed by one site of every layer together: little heat.

    **Arguments** `weight`: dimensionless, 0 or greater.
    """

    weight: float = 1.0

    def __check_init__(self) -> None:
        require_nonnegative("weight of LowPower", self.weight)

    def __call__(self, magnet: LayeredMagnet, state: SteadyState) -> Float[Array, ""]:
        """The loss; the magnet must have a laser."""
        return self.weight * _log(jnp.sum(exposure(magnet, state.m).absorbed_power))


class Margin(AbstractObjective):
    """weight max(0, 1 + lambda/rate)^2, lambda the growth rate of the state's slowest deviation: no boundary near.

    **Arguments** `rate`: deviations shall decay at this rate or faster, meV. `weight`: dimensionless, 0 or greater.
    """

    rate: float
    weight: float = 10.0

    def __check_init__(self) -> None:
        require_positive("rate of Margin", self.rate, "It is the wanted decay rate in meV, for example 0.005.")
        require_nonnegative("weight of Margin", self.weight)

    def __call__(self, magnet: LayeredMagnet, state: SteadyState) -> Float[Array, ""]:
        """The loss; 0 where the state is stable enough."""
        del magnet
        return self.weight * jnp.maximum(1.0 + state.growth_rate / self.rate, 0.0) ** 2


class Quiet(AbstractObjective):
    """weight (d log omega_c / d log I)^2: the chase frequency ignores noise of the intensity.

    **Arguments** `weight`: dimensionless; a negative one asks for the opposite, a frequency that light tunes well.
    """

    weight: float = 1.0

    def __check_init__(self) -> None:
        require("weight of Quiet", self.weight, lambda x: x != 0, "nonzero", "Negative asks for a strong response.")

    def __call__(self, magnet: LayeredMagnet, state: SteadyState) -> Float[Array, ""]:
        """The loss; the magnet must have a laser."""
        return self.weight * intensity_response(magnet, state) ** 2


class WideRange(AbstractObjective):
    """-weight [omega_c(I (1 + depth)) - omega_c(I (1 - depth))] / omega_c(I): a large range of frequency modulation.

    A side that leaves the chiral phase counts with the frequency 0.

    **Arguments** `depth`: relative modulation of the intensity, between 0 and 1. `weight`: 0 or greater.
    """

    depth: float = 0.2
    weight: float = 1.0

    def __check_init__(self) -> None:
        require("depth of WideRange", self.depth, lambda x: (x > 0) & (x < 1), "between 0 and 1")
        require_nonnegative("weight of WideRange", self.weight)

    def __call__(self, magnet: LayeredMagnet, state: SteadyState) -> Float[Array, ""]:
        """The loss; the magnet must have a laser."""

        def chase(factor: Array) -> Array:
            found = steady_state(scaled_light(magnet, factor), cycles=False, throw=False)
            return jnp.where(found.is_rigid, found.chase_frequency, 0.0)

        # Both sides as a batch: one program.
        up, down = jax.vmap(chase)(1.0 + self.depth * jnp.asarray([1.0, -1.0], state.m.dtype))
        chasing = state.chase_frequency > 0
        middle = jnp.where(chasing, state.chase_frequency, 1.0)
        return jnp.where(chasing, -self.weight * (up - down) / middle, 0.0)


def intensity_response(magnet: LayeredMagnet, state: SteadyState) -> Float[Array, ""]:
    """d log omega_c / d log I, dimensionless: per cent of chase frequency for a per cent of intensity; 0 without chase.

    **Arguments** `magnet`: with a laser. `state`: its steady state.

    **Returns** a scalar, differentiable once more.
    """

    def chase(log_factor: Array) -> Array:
        return continued(scaled_light(magnet, jnp.exp(log_factor)), state).chase_frequency

    zero = jnp.zeros((), state.m.dtype)
    frequency, slope = jax.jvp(chase, (zero,), (jnp.ones_like(zero),))
    chasing = frequency > 0
    return jnp.where(chasing, slope / jnp.where(chasing, frequency, 1.0), 0.0)


def scaled_light(magnet: LayeredMagnet, factor: Float[Array, ""]) -> LayeredMagnet:
    """The same magnet with its laser's intensity times `factor`."""
    laser = magnet.illumination.laser
    return magnet.with_laser(Laser(laser.intensity * factor, laser.photon_energy, laser.envelope))


def _log(x: Array) -> Array:
    """log x, with a finite slope at 0."""
    positive = x > 0
    return jnp.where(positive, jnp.log(jnp.where(positive, x, 1.0)), -100.0)
