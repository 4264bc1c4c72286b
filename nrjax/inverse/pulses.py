"""Pulse design: ask for a rotation frequency against time, or for a quick start, get the envelope of the light."""

from collections.abc import Callable
from typing import Any, Final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from jaxtyping import Array, Float

from .. import units
from .._numerics.validation import Numbers, float_array, moments_array, require, require_positive
from ..light.laser import Laser
from ..magnets import LayeredMagnet
from ..rotation.attractors import default_start, steady_state, steady_states
from ..rotation.observables import require_frequency
from .pulse_response import PulseResponse

# Looks at the frequency for each coefficient of the envelope.
SAMPLES_PER_COEFFICIENT: Final = 4
# Intensities whose steady states give the first guess: as many as the tile of a small sweep, whose program they share.
GUESSES: Final = 2048
# Levels and lengths of the opening pulses among which a start-up begins.
LEVELS: Final = 12
LENGTHS: Final = 12


class PulseResult(eqx.Module):
    """A designed pulse.

    - `laser`: with a `Spline` envelope. `magnet`: under it. `m0`: its moments at time 0, shape (L, 3).
    - `times`: ps, shape (times,). `target`, `achieved`: GHz, shape (times,); `achieved` is that of a simulation of the
      full equation of motion under the designed light.
    - `rms_error`, `largest_error`: relative to the target.
    - `feasible`: whether `rms_error` is within the tolerance.
    - `growth_rate`: meV, of the steady state with the slowest response on the way; NaN without one.
    - `limits`: "peak", "dark", "slew" -> share of the pulse spent at that limit.
    - `settling_time`: ps after which the frequency stays within the tolerance of the target; infinite if it does not.
    - `settling_time_of_step`: the same for light that is simply switched on; NaN where that is not the question.
    - `message`: what was found, and what to do if it is not good enough.
    """

    laser: Laser
    magnet: LayeredMagnet
    m0: Float[np.ndarray, "L 3"]
    times: Float[np.ndarray, " times"]
    target: Float[np.ndarray, " times"]
    achieved: Float[np.ndarray, " times"]
    rms_error: float
    largest_error: float
    feasible: bool
    growth_rate: float
    limits: dict[str, float]
    settling_time: float
    settling_time_of_step: float
    message: str

    @property
    def intensity(self) -> Float[np.ndarray, " times"]:
        """W/cm^2 at `times`."""
        return np.asarray(jax.vmap(lambda t: self.laser.at(t).intensity)(jnp.asarray(self.times)))

    def __str__(self) -> str:
        return self.message


def design_pulse(
    magnet: LayeredMagnet,
    target: Callable[[Array], Any] | Numbers,
    duration: float,
    *,
    observable: str = "chase_frequency",
    coefficients: int = 32,
    peak_intensity: float | None = None,
    slew_rate: float | None = None,
    m0: Numbers | None = None,
    steps: int = 30,
    tolerance: float = 0.02,
) -> PulseResult:
    """The intensity I(t) under which the rotation frequency follows a wanted course: a step, a ramp, a sine,

        min over c of sum_k [f(t_k; c) / f*(t_k) - 1]^2,    I(t) = I_peak sum_i c_i B_i(t),

    by Levenberg and Marquardt's method, with derivatives through the integration (Diffrax, forward mode). The start is
    the intensity whose steady state has the wanted frequency at each instant. An isotropic bilayer is integrated
    without its precession, which turns the whole magnet and leaves the frequencies alone.

    **Arguments**

    - `magnet`: from `with_light`; its laser's photon energy is kept, its envelope replaced.
    - `target`: f* in GHz, greater than 0: a function of the time in ps, or values at equal distances from 0 to
      `duration`.
    - `duration`: ps.
    - `observable`: "chase_frequency" or "rotation_frequency".
    - `coefficients`: of the envelope, 8 or more.
    - `peak_intensity`: the intensity never exceeds it, W/cm^2. Default: that of the magnet's laser.
    - `slew_rate`: |dI/dt| never exceeds it, W/cm^2 per ps. Default: no bound.
    - `m0`: moments at time 0, shape (L, 3). Default: the steady state nearest to the first wanted frequency.
    - `steps`: the most steps of the method.
    - `tolerance`: root mean square of the relative error that counts as reached.

    **Returns** a `PulseResult`; the bounds hold exactly.

    **Raises** `ValueError` for a magnet without laser, or values out of range.

    **Source** docs/physics.md, "Inverse design".
    """
    lit = _at_peak(magnet, peak_intensity)
    times, step = _checked(duration, coefficients, slew_rate, lit, observable, tolerance)
    wanted = _wanted(target, times)
    shares = jnp.linspace(0.0, 1.0, GUESSES)
    states = steady_states(_dimmed(lit, shares))
    levels = np.nan_to_num(np.asarray(getattr(states, observable)), nan=-np.inf)
    guess = _nearest_levels(np.asarray(wanted), levels, np.asarray(shares))
    start = states.m[int(round(float(guess[0]) * (GUESSES - 1)))] if m0 is None else moments_array(m0, lit.layers)
    growth = np.asarray(states.growth_rate)[np.round(guess * (GUESSES - 1)).astype(int)]
    free = jnp.asarray(jnp.nan)
    response = PulseResponse(lit, start, times, wanted, free, free, step, observable)
    nodes = (np.arange(coefficients) - 1.0) * duration / (coefficients - 3)
    y = response.coordinates(jnp.interp(jnp.asarray(nodes), times, jnp.asarray(guess)))
    found = _least_squares(response, y, steps)
    slowest = float(np.nanmax(growth)) if np.isfinite(growth).any() else float("nan")
    return _finish(response, found, tolerance, slowest, None)


def design_startup(
    magnet: LayeredMagnet,
    duration: float,
    *,
    observable: str = "chase_frequency",
    coefficients: int = 32,
    peak_intensity: float | None = None,
    slew_rate: float | None = None,
    m0: Numbers | None = None,
    steps: int = 30,
    tolerance: float = 0.05,
) -> PulseResult:
    """The opening pulse that brings a magnet from rest into its chiral phase fastest, and then stays at its laser's
    intensity:

        min over c of sum_k [f(t_k; c) / f* - 1]^2,    f* the frequency of the steady state under the laser.

    A scan over square opening pulses gives the start, Levenberg and Marquardt's method the rest.

    **Arguments**

    - `magnet`: from `with_light`, chiral under its laser.
    - `duration`: ps in which the magnet has to start; light is at the laser's intensity at its end.
    - `peak_intensity`: what the opening may use, W/cm^2. Default: one and a half times the laser's intensity.
    - `slew_rate`: as in `design_pulse`; with it the light starts from darkness.
    - `m0`: moments at time 0. Default: the state without light, with a small deviation.
    - `tolerance`: how close, relatively, the frequency has to stay to count as settled.
    - `observable`, `coefficients`, `steps`: as in `design_pulse`.

    **Returns** a `PulseResult`; `settling_time` and `settling_time_of_step` say what was gained.

    **Raises** `ValueError` for a magnet that does not chase under its laser, or values out of range.

    **Source** docs/physics.md, "Inverse design".
    """
    laser = magnet.illumination.laser
    lit = _at_peak(magnet, 1.5 * float(laser.intensity) if peak_intensity is None else peak_intensity)
    times, step = _checked(duration, coefficients, slew_rate, lit, observable, tolerance)
    state = steady_state(magnet, throw=False)
    goal = float(getattr(state, observable))
    if not (bool(state.is_rigid) and goal > 0):
        raise ValueError(f"the magnet does not rotate under its laser: {state}. Start with a design() that does.")
    level = jnp.asarray(float(laser.intensity) / float(lit.illumination.laser.intensity))
    if not float(level) <= 1.0:
        raise ValueError(f"peak_intensity = {peak_intensity:g} is below the laser's {float(laser.intensity):g} W/cm^2.")
    dark = default_start(magnet.without_light())
    start = dark if m0 is None else moments_array(m0, lit.layers)
    first = jnp.asarray(jnp.nan if slew_rate is None else 0.0)
    response = PulseResponse(lit, start, times, jnp.full_like(times, goal), first, level, step, observable)

    def opening(height: Array, length: Array) -> Array:
        index = jnp.arange(coefficients, dtype=times.dtype)
        c = jnp.where(index < length, height, level)
        return response.coordinates(c)

    heights = jnp.linspace(0.0, 1.0, LEVELS)
    lengths = jnp.linspace(0.0, coefficients - 3.0, LENGTHS)
    starts = jax.vmap(lambda h: jax.vmap(lambda x: opening(h, x))(lengths))(heights).reshape(-1, coefficients)
    losses = _losses(response, starts)
    found = _least_squares(response, starts[int(jnp.argmin(losses))], steps)
    by_step = response.frequency(response.under(jnp.full(coefficients, level)), quick=True)
    settled = _settling_time(np.asarray(times), np.asarray(by_step), goal, tolerance)
    return _finish(response, found, tolerance, float(state.growth_rate), settled)


@eqx.filter_jit
def _least_squares(response: PulseResponse, y: Float[Array, " n"], steps: int) -> Float[Array, " n"]:
    solution = optx.least_squares(
        lambda y, response: response.errors(y) / jnp.sqrt(float(response.times.shape[0])),
        optx.LevenbergMarquardt(rtol=1e-6, atol=1e-8),
        y,
        args=response,
        options={"jac": "fwd"},
        max_steps=steps,
        throw=False,
    )
    return solution.value


@eqx.filter_jit
def _losses(response: PulseResponse, starts: Float[Array, "starts n"]) -> Float[Array, " starts"]:
    return jax.vmap(lambda y: jnp.sum(jnp.minimum(response.errors(y) ** 2, 1.0)))(starts)


@eqx.filter_jit
def _dimmed(magnet: LayeredMagnet, shares: Float[Array, " shares"]) -> LayeredMagnet:
    """The magnet at shares of its laser's intensity, as a batch."""
    peak = magnet.illumination.laser
    return jax.vmap(lambda share: magnet.with_laser(Laser(share * peak.intensity, peak.photon_energy)).plateau())(
        shares
    )


def _nearest_levels(wanted: np.ndarray, levels: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """The share whose steady state comes closest to each wanted frequency, next to the share before it where several
    do."""
    fine = np.linspace(0.0, 1.0, 16 * len(shares))
    finite = np.where(np.isfinite(levels), levels, -1e9)
    values = np.interp(fine, shares, finite)
    chosen = [float(fine[np.argmin(np.abs(values - wanted[0]))])]
    for value in wanted:
        chosen.append(float(fine[np.argmin(np.abs(values / value - 1.0) + 0.05 * np.abs(fine - chosen[-1]))]))
    return np.asarray(chosen[1:])


def _finish(
    response: PulseResponse, y: Array, tolerance: float, growth_rate: float, settling_of_step: float | None
) -> PulseResult:
    """Simulate the full equation under the designed light, and say what was found."""
    c = np.asarray(response.coefficients(y))
    magnet = response.under(jnp.asarray(c))
    achieved = np.asarray(eqx.filter_jit(PulseResponse.frequency)(response, magnet, False))
    times, target = np.asarray(response.times), np.asarray(response.target)
    relative = achieved / target - 1.0
    rms, largest = float(np.sqrt(np.mean(relative**2))), float(np.max(np.abs(relative)))
    slew = float(response.slew)
    limits = {
        "peak": float(np.mean(c > 1.0 - 2e-3)),
        "dark": float(np.mean(c < 2e-3)),
        "slew": float(np.mean(np.abs(np.diff(c)) > (1.0 - 2e-3) * slew)) if slew < 1.0 else 0.0,
    }
    settling = _settling_time(times, achieved, target, tolerance)
    if settling_of_step is None:
        feasible = rms <= tolerance
        message = f"follows the target with {100 * rms:.3g} % rms, {100 * largest:.3g} % at most"
    else:
        feasible = bool(np.isfinite(settling))
        message = (
            f"settled within {100 * tolerance:.3g} % of {target[-1]:.5g} GHz after {settling:.4g} ps; light simply "
            f"switched on takes {settling_of_step:.4g} ps"
        )
    if not feasible:
        message += _shortfall(tolerance, growth_rate, limits)
    return PulseResult(
        laser=magnet.illumination.laser,
        magnet=magnet,
        m0=np.asarray(response.start),
        times=times,
        target=target,
        achieved=achieved,
        rms_error=rms,
        largest_error=largest,
        feasible=feasible,
        growth_rate=growth_rate,
        limits=limits,
        settling_time=settling,
        settling_time_of_step=float("nan") if settling_of_step is None else settling_of_step,
        message=message,
    )


def _shortfall(tolerance: float, growth_rate: float, limits: dict[str, float]) -> str:
    """What stood in the way, and what to do."""
    at = [f"{100 * share:.0f} % of the time at the {name} limit" for name, share in limits.items() if share > 0]
    response = 1e3 * abs(growth_rate) / (2.0 * np.pi * units.HBAR_MEV_PS)
    return (
        f" (wanted {100 * tolerance:.3g} %). The magnet answers at about {response:.3g} GHz"
        + (", and the light is " + ", ".join(at) if at else "")
        + ". Ask for a slower course, a frequency farther from the edges of the chiral phase, or wider bounds."
    )


def _settling_time(times: np.ndarray, frequency: np.ndarray, goal: Any, tolerance: float) -> float:
    """The time from which on the frequency stays within the tolerance; infinity if it does not at the end."""
    outside = np.flatnonzero(~(np.abs(frequency / goal - 1.0) <= tolerance))
    if outside.size == 0:
        return float(times[0])
    return float(times[outside[-1] + 1]) if outside[-1] + 1 < len(times) else float("inf")


def _at_peak(magnet: LayeredMagnet, peak_intensity: float | None) -> LayeredMagnet:
    """The magnet under constant light of the peak intensity."""
    laser = magnet.illumination.laser
    peak = laser.intensity if peak_intensity is None else float_array("peak_intensity", peak_intensity, ())
    require_positive("peak_intensity", peak, "It is in W/cm^2.")
    return magnet.with_laser(Laser(peak, laser.photon_energy))


def _checked(
    duration: float, coefficients: int, slew_rate: float | None, lit: LayeredMagnet, observable: str, tolerance: float
) -> tuple[Array, Array]:
    """The times to look at, in ps, and the largest change from one coefficient to the next."""
    require_positive("duration", duration, "It is in ps.")
    require_positive("tolerance", tolerance)
    require("coefficients", coefficients, lambda n: n >= 8, "8 or greater")
    require_frequency(observable)
    share = 1.0
    if slew_rate is not None:
        require_positive("slew_rate", slew_rate, "It is in W/cm^2 per ps.")
        share = slew_rate * duration / (coefficients - 3) / float(lit.illumination.laser.intensity)
    times = jnp.linspace(0.0, float(duration), SAMPLES_PER_COEFFICIENT * coefficients + 1)
    return times, jnp.asarray(min(share, 1.0), times.dtype)


def _wanted(target: Any, times: Array) -> Array:
    """The wanted frequencies at `times`."""
    if callable(target):
        wanted = jnp.stack([jnp.asarray(target(t), times.dtype) for t in times])
    else:
        values = float_array("target", target)
        if values.ndim > 1:
            raise ValueError(f"target has shape {values.shape}: give values at equal distances, or a function of ps.")
        values = jnp.broadcast_to(values, (2,)) if values.ndim == 0 else values
        wanted = jnp.interp(times, jnp.linspace(0.0, times[-1], values.shape[0]), values)
    require_positive("target", wanted, "It is a frequency in GHz.")
    return wanted
