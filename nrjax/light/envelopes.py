"""How the light changes in time: the envelope of a laser's intensity, and the chirp of its colour."""

import abc

import equinox as eqx
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


class AbstractEnvelope(eqx.Module):
    """f(t): the intensity at time t (ps) relative to the laser's. Any callable of t in ps may stand in its place;
    these also say where they change (`knots`), so that no integrator steps over a pulse, and may shift the colour."""

    @abc.abstractmethod
    def __call__(self, t: Number) -> Float[Array, "..."]:
        """f(t), dimensionless, 0 or greater; t in ps."""

    @abc.abstractmethod
    def knots(self) -> Float[Array, " knots"]:
        """Times in ps that an integrator must step on."""

    def photon_energy_shift(self, t: Number) -> Float[Array, "..."]:
        """What is added to the photon energy at time t (ps), in meV."""
        return jnp.zeros_like(jnp.asarray(t, jnp.result_type(float)))


class Constant(AbstractEnvelope):
    """f(t) = 1."""

    def __call__(self, t: Number) -> Float[Array, "..."]:
        """1 at every time."""
        return jnp.ones_like(jnp.asarray(t, jnp.result_type(float)))

    def knots(self) -> Float[Array, " knots"]:
        """None."""
        return jnp.zeros((0,), jnp.result_type(float))


class Gaussian(AbstractEnvelope):
    """f(t) = exp[-4 ln 2 (t - t_c)^2 / w^2], with full width w at half the intensity.

    **Arguments** `centre`: t_c in ps. `width`: w in ps, greater than 0.

    **Raises** `ValueError` for a width that is not positive.
    """

    centre: Float[Array, ""]
    width: Float[Array, ""]

    def __init__(self, centre: Number, width: Number):
        self.centre = float_array("centre", centre, ())
        self.width = float_array("width", width, ())

    def __check_init__(self) -> None:
        require_finite("centre of the pulse", self.centre)
        require_positive("width of the pulse", self.width, "It is the full width at half the intensity, in ps.")

    def __call__(self, t: Number) -> Float[Array, "..."]:
        """f(t); t in ps."""
        return jnp.exp(-4.0 * jnp.log(2.0) * ((t - self.centre) / self.width) ** 2)

    def knots(self) -> Float[Array, " knots"]:
        """Half-widths, out to where f is 1e-11."""
        return self.centre + self.width * 0.5 * jnp.arange(-6.0, 7.0)


class Square(AbstractEnvelope):
    """f rises from 0 to 1 over `rise` ps from `start` on, and falls over `rise` ps from `stop` on; 3x^2 - 2x^3 between.

    **Arguments** `start`, `stop`: ps, with stop >= start + rise. `rise`: ps, greater than 0.

    **Raises** `ValueError` if the times are not in that order.
    """

    start: Float[Array, ""]
    stop: Float[Array, ""]
    rise: Float[Array, ""]

    def __init__(self, start: Number, stop: Number, rise: Number = 0.1):
        self.start = float_array("start", start, ())
        self.stop = float_array("stop", stop, ())
        self.rise = float_array("rise", rise, ())

    def __check_init__(self) -> None:
        require_finite("start of the pulse", self.start)
        require_positive("rise", self.rise, "It is in ps; 0.01 ps is as good as sudden for magnetic moments.")
        risen = self.stop - self.start - self.rise
        require_nonnegative("stop - start - rise", risen, "A pulse must have risen before it falls.")

    def __call__(self, t: Number) -> Float[Array, "..."]:
        """f(t); t in ps."""

        def step(begin: Array) -> Array:
            x = jnp.clip((t - begin) / self.rise, 0.0, 1.0)
            return x * x * (3.0 - 2.0 * x)

        return step(self.start) - step(self.stop)

    def knots(self) -> Float[Array, " knots"]:
        """Both ends of both ramps."""
        return jnp.stack([self.start, self.start + self.rise, self.stop, self.stop + self.rise])


class Tabulated(AbstractEnvelope):
    """f(t) by linear interpolation of measured values; the first and the last value hold outside.

    **Arguments** `times`: ps, increasing, shape (n,). `values`: relative intensity, 0 or greater, shape (n,).

    **Raises** `ValueError` for times that do not increase or negative values.
    """

    times: Float[Array, " n"]
    values: Float[Array, " n"]

    def __init__(self, times: Numbers, values: Numbers):
        self.times = float_array("times", times)
        if self.times.ndim != 1 or self.times.size < 2:
            raise ValueError(f"times has shape {self.times.shape}: it must be one-dimensional with 2 values or more.")
        self.values = float_array("values", values, self.times.shape)

    def __check_init__(self) -> None:
        require_finite("times", self.times)
        require("steps of times", jnp.diff(self.times), lambda x: x > 0, "greater than 0", "Sort the times.")
        require_nonnegative("values", self.values, "They are intensities relative to the laser's.")

    def __call__(self, t: Number) -> Float[Array, "..."]:
        """f(t); t in ps."""
        return jnp.interp(jnp.asarray(t, self.times.dtype), self.times, self.values)

    def knots(self) -> Float[Array, " knots"]:
        """Every tabulated time."""
        return self.times


class Spline(AbstractEnvelope):
    """f(t) = sum_i c_i B_i(t), a cubic B-spline on n - 3 equal stretches from `start` to `stop`; constant outside.

    Between the least and the largest coefficient everywhere, and never steeper than (largest |c_i+1 - c_i|) / stretch.

    **Arguments** `start`, `stop`: ps. `coefficients`: c, relative intensities, 0 or greater, shape (n,), n >= 4.

    **Raises** `ValueError` for stop <= start, fewer than 4 coefficients or negative ones.
    """

    start: Float[Array, ""]
    stop: Float[Array, ""]
    coefficients: Float[Array, " n"]

    def __init__(self, start: Number, stop: Number, coefficients: Numbers):
        self.start = float_array("start", start, ())
        self.stop = float_array("stop", stop, ())
        self.coefficients = float_array("coefficients", coefficients)
        if self.coefficients.ndim != 1 or self.coefficients.size < 4:
            raise ValueError(f"coefficients has shape {self.coefficients.shape}: give 4 or more in one list.")

    def __check_init__(self) -> None:
        require_finite("start of the pulse", self.start)
        require_positive("stop - start", self.stop - self.start, "Give stop after start, in ps.")
        require_nonnegative("coefficients", self.coefficients, "They are intensities relative to the laser's.")

    @property
    def stretch(self) -> Float[Array, ""]:
        """Time between two knots, ps."""
        return (self.stop - self.start) / (self.coefficients.shape[0] - 3)

    def __call__(self, t: Number) -> Float[Array, "..."]:
        """f(t); t in ps."""
        stretches = self.coefficients.shape[0] - 3
        x = jnp.clip((t - self.start) / self.stretch, 0.0, float(stretches))
        first = jnp.clip(jnp.floor(x).astype(int), 0, stretches - 1)
        u = x - first.astype(x.dtype)
        weights = (
            (1.0 - u) ** 3 / 6.0,
            (3.0 * u**3 - 6.0 * u**2 + 4.0) / 6.0,
            (-3.0 * u**3 + 3.0 * u**2 + 3.0 * u + 1.0) / 6.0,
            u**3 / 6.0,
        )
        return sum((w * self.coefficients[first + i] for i, w in enumerate(weights)), jnp.zeros_like(u))

    def knots(self) -> Float[Array, " knots"]:
        """The ends of all stretches."""
        return self.start + self.stretch * jnp.arange(self.coefficients.shape[0] - 2, dtype=self.start.dtype)


class Chirped(AbstractEnvelope):
    """Another envelope, with a photon energy that drifts: hnu(t) = hnu + c (t - t_c).

    **Arguments** `rate`: c in meV/ps. `centre`: t_c in ps. `envelope`: of the intensity; default constant.
    """

    rate: Float[Array, ""]
    centre: Float[Array, ""]
    envelope: AbstractEnvelope

    def __init__(self, rate: Number, centre: Number = 0.0, envelope: AbstractEnvelope = Constant()):
        self.rate = float_array("rate", rate, ())
        self.centre = float_array("centre", centre, ())
        self.envelope = envelope

    def __check_init__(self) -> None:
        require_finite("rate of the chirp", self.rate)
        require_finite("centre of the chirp", self.centre)

    def __call__(self, t: Number) -> Float[Array, "..."]:
        """f(t) of the other envelope; t in ps."""
        return self.envelope(t)

    def knots(self) -> Float[Array, " knots"]:
        """Those of the other envelope."""
        return self.envelope.knots()

    def photon_energy_shift(self, t: Number) -> Float[Array, "..."]:
        """c (t - t_c) in meV; t in ps."""
        return self.rate * (t - self.centre) + self.envelope.photon_energy_shift(t)
