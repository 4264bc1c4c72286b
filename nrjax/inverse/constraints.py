"""What a design has to respect: limits, which it keeps or says that it does not."""

import abc
from typing import Any, Final, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .. import units
from .._numerics.validation import Number, require, require_positive
from ..magnets import LayeredMagnet, ThermalModel
from ..magnets.absorption import electron_polarization
from ..rotation.attractors import steady_state
from ..rotation.phase_noise import linewidth
from ..rotation.rigid_states import SteadyState
from ..rotation.stability_in_space import FACTORS, spatial_stability
from ..rotation.turns_before_melting import estimated_turns
from .distance_to_chase import chase_distance
from .objectives import AbstractObjective, scaled_light

# A search keeps this far inside a limit (relative), since what pulls it outwards wins a little; and how hard.
CUSHION: Final = 0.02
WEIGHT: Final = 100.0
# Of a logarithm: a quantity that is 0 or infinite.
FARTHEST: Final = 20.0


class AbstractConstraint(AbstractObjective):
    """A limit of a quantity that a magnet has in its steady state.

    A design whose limits are not all kept is not `feasible`. On the way they are losses, WEIGHT max(0, excess +
    CUSHION)^2.
    """

    @abc.abstractmethod
    def quantity(self, magnet: LayeredMagnet, state: SteadyState) -> Float[Array, ""]:
        """What is limited, in its unit."""

    @property
    @abc.abstractmethod
    def limit(self) -> Any:
        """In the unit of the quantity."""

    @property
    @abc.abstractmethod
    def words(self) -> tuple[str, str, str]:
        """Name of the quantity, "at most" or "at least", and unit ("" if dimensionless)."""

    def measured(self, magnet: LayeredMagnet, state: SteadyState) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """The quantity, and by how much the limit is broken: dimensionless, negative where it is kept.

        Here the logarithm of one over the other, for quantities that are positive.
        """
        quantity = self.quantity(magnet, state)
        above = _log_ratio(quantity, self.limit)
        return quantity, above if self.words[1] == "at most" else -above

    def excess(self, magnet: LayeredMagnet, state: SteadyState) -> Float[Array, ""]:
        """By how much the limit is broken."""
        return self.measured(magnet, state)[1]

    def __call__(self, magnet: LayeredMagnet, state: SteadyState) -> Float[Array, ""]:
        """The loss; 0 where the limit is kept."""
        return WEIGHT * jnp.maximum(self.excess(magnet, state) + CUSHION, 0.0) ** 2


class Check(NamedTuple):
    """A limit and what a design made of it: `value` and `limit` in `unit`, `rule` "at most" or "at least"."""

    value: float
    limit: float
    rule: str
    unit: str
    met: bool

    def __str__(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        return f"{self.value:.4g}{unit}, {self.rule} {self.limit:.4g}{unit}: {'kept' if self.met else 'NOT KEPT'}"


def check_of(constraint: AbstractConstraint, value: Any, excess: Any) -> tuple[str, Check]:
    """Its name, and the check of a number that was found."""
    name, rule, unit = constraint.words
    return name, Check(float(value), float(np.asarray(constraint.limit)), rule, unit, bool(excess <= 0.0))


class StableInSpace(AbstractConstraint):
    """Deviations of all wavelengths decay: the chase of one layer survives in a sample (`spatial_stability`).

    **Arguments** `rate`: they decay at this rate or faster, meV. `factors`: f = j(q)/j(0) of the waves that fit into
    the sample; the uniform mode, f = 1, does not count.
    """

    rate: float = 0.0
    factors: tuple[float, ...] = eqx.field(default=FACTORS, static=True)

    @property
    def limit(self) -> float:
        """-rate."""
        return 0.0 - self.rate

    @property
    def words(self) -> tuple[str, str, str]:
        """Growth in space."""
        return "growth of deviations in space", "at most", "meV"

    def quantity(self, magnet: LayeredMagnet, state: SteadyState) -> Float[Array, ""]:
        """The growth rate of the fastest deviation."""
        return spatial_stability(magnet, self.factors, state).fastest_growth_rate

    def measured(self, magnet: LayeredMagnet, state: SteadyState) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """The excess in units of the chase's angular velocity: e-folds too many in a radian."""
        growth, speed = self.quantity(magnet, state), state.chase_frequency * units.GHz
        return growth, (growth + self.rate) / jnp.where(speed > 0, speed, 1.0)


class MaxTemperature(AbstractConstraint):
    """T_0 + P (tau/C_l + 1/G) <= limit: what the light makes of a steady sample whose moments are those of the state
    (of layers that conduct, T_0 + sum_b K_ab P_b).

    **Arguments** `thermal`: a `ThermalModel` with a finite cooling time. `kelvin`: the highest temperature that the
    moments may feel, K.

    The state is that of the magnet's own temperature; `steady_state(..., thermal=)` solves both together.
    """

    thermal: ThermalModel
    kelvin: float

    def __check_init__(self) -> None:
        require_positive("kelvin", self.kelvin, "The highest temperature, K.")
        require("cooling_time", self.thermal.cooling_time, np.isfinite, "finite", "Without it nothing is steady.")
        require("kelvin", self.kelvin - self.thermal.base, lambda x: x > 0, "above bath_temperature")

    @property
    def limit(self) -> float:
        """K."""
        return self.kelvin

    @property
    def words(self) -> tuple[str, str, str]:
        """Temperature."""
        return "temperature of the sample", "at most", "K"

    def quantity(self, magnet: LayeredMagnet, state: SteadyState) -> Float[Array, ""]:
        """The hottest layer's temperature, K."""
        return self.thermal.base + jnp.max(self.thermal.steady_warming(self.thermal.power(magnet, state.m)))

    def measured(self, magnet: LayeredMagnet, state: SteadyState) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """The excess is the logarithm of the warming over the one that is allowed."""
        kelvin, base = self.quantity(magnet, state), self.thermal.base
        return kelvin, _log_ratio(kelvin - base, self.kelvin - base)


class MinTurns(AbstractConstraint):
    """At least so many turns of the chase before its light melts the sample.

    **Arguments** `thermal`: a `ThermalModel`. `number`: of turns. `kelvin`: the temperature at which to stop counting;
    default where the order is lost.

    By the closed estimate (`estimated_turns`), since it is asked at every step of a search; `turns` counts by
    simulation. Layers that conduct are taken as if the hottest kept its heat: stricter than the count.
    """

    thermal: ThermalModel
    number: float
    kelvin: float | None = None

    def __check_init__(self) -> None:
        require_positive("number", self.number, "Of turns, for example 1.")

    @property
    def limit(self) -> float:
        """Turns."""
        return self.number

    @property
    def words(self) -> tuple[str, str, str]:
        """Turns."""
        return "turns before the sample melts", "at least", ""

    def quantity(self, magnet: LayeredMagnet, state: SteadyState) -> Float[Array, ""]:
        """Turns; infinite where cooling keeps up with the light."""
        return estimated_turns(magnet, self.thermal, state, self.kelvin)


class AboveOnset(AbstractConstraint):
    """The chase goes on with the intensity divided by `factor`: so far above the onset, from the default start there.

    **Arguments** `factor`: greater than 1, for example 1.1 for ten per cent.
    """

    factor: float = 1.1

    def __check_init__(self) -> None:
        require("factor", self.factor, lambda x: x > 1, "greater than 1", "1.1 is ten per cent above the onset.")

    @property
    def limit(self) -> float:
        """GHz: any chase at all."""
        return 0.0

    @property
    def words(self) -> tuple[str, str, str]:
        """What is left of the chase."""
        return f"chase frequency at 1/{self.factor:g} of the intensity", "at least", "GHz"

    def quantity(self, magnet: LayeredMagnet, state: SteadyState) -> Float[Array, ""]:
        """The chase frequency there; 0 where there is none."""
        return self.measured(magnet, state)[0]

    def measured(self, magnet: LayeredMagnet, state: SteadyState) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """The excess is -(what is left of the frequency)^2, or the distance to the chase."""
        weaker = scaled_light(magnet, jnp.asarray(1.0 / self.factor, magnet.dtype))
        found = steady_state(weaker, cycles=False, throw=False)
        share = found.chase_frequency / jnp.where(state.chase_frequency > 0, state.chase_frequency, 1.0)
        chases = found.is_rigid & (found.chase_frequency > 0)
        distance = chase_distance(weaker, found)
        # A magnet at the very onset is no chase.
        missing = jnp.where(jnp.isfinite(distance), distance, 1.0) + 1e-12
        return found.chase_frequency, jnp.where(chases, -(share**2), missing)


class NarrowLine(AbstractConstraint):
    """The line that a probe sees is narrow: its width over its frequency is at most `share` (`linewidth`).

    **Arguments** `spins`: in each layer. `share`: full width at half maximum over the rotation frequency.
    """

    spins: float = 1e6
    share: float = 0.01

    def __check_init__(self) -> None:
        require_positive("spins", self.spins, "In each layer.")
        require_positive("share", self.share, "Width over frequency, for example 0.01.")

    @property
    def limit(self) -> float:
        """Width over frequency."""
        return self.share

    @property
    def words(self) -> tuple[str, str, str]:
        """Relative width."""
        return f"relative width of the line of {self.spins:.3g} spins", "at most", ""

    def quantity(self, magnet: LayeredMagnet, state: SteadyState) -> Float[Array, ""]:
        """The relative width."""
        return linewidth(magnet, self.spins, state).relative_width


class EnoughElectrons(AbstractConstraint):
    """The conduction electrons can carry the exchange: 2 |s_a| <= share min(n_a, 2 - n_a) (`electron_polarization`).

    **Arguments** `share`: of the electrons' spin that the exchange may take, at most 1.
    """

    share: float = 1.0

    def __check_init__(self) -> None:
        require("share", self.share, lambda x: (x > 0) & (x <= 1), "above 0 and at most 1")

    @property
    def limit(self) -> float:
        """The share."""
        return self.share

    @property
    def words(self) -> tuple[str, str, str]:
        """Polarization."""
        return "polarization of the conduction electrons", "at most", ""

    def quantity(self, magnet: LayeredMagnet, state: SteadyState) -> Float[Array, ""]:
        """Of the layer that takes most."""
        return jnp.max(electron_polarization(magnet, state.m))


def _log_ratio(x: Array, limit: Number) -> Array:
    """log(x/limit) within +-FARTHEST; NaN stays NaN."""
    ratio = x / limit
    inside = (ratio > jnp.exp(-FARTHEST)) & (ratio < jnp.exp(FARTHEST))
    far = jnp.where(ratio > 1.0, FARTHEST, jnp.where(ratio <= 1.0, -FARTHEST, jnp.nan))
    return jnp.where(inside, jnp.log(jnp.where(inside, ratio, 1.0)), far)
