"""Pulse design: the envelope's bounds, and the frequency that a trajectory shows."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.interpolate import BSpline

from nrjax import (
    Chirped,
    Constant,
    Laser,
    PulseResult,
    Spline,
    default_start,
    design_pulse,
    design_startup,
    illuminated_bilayer,
    instantaneous_frequency,
    simulate,
    steady_state,
)
from nrjax.inverse.pulse_response import PulseResponse
from tests import differences
from tests.refusal import assert_refused


def coefficients_of(result: PulseResult) -> np.ndarray:
    """Relative intensities of the spline that was found."""
    assert isinstance(result.laser.envelope, Spline)
    return np.asarray(result.laser.envelope.coefficients)


def magnet(intensity=2.65e10):
    return illuminated_bilayer(intensity, 1550.0)


def sine(period, depth=0.2, middle=35.0):
    return lambda t: middle * (1.0 + depth * jnp.sin(2.0 * jnp.pi * t / period))


def test_spline_against_scipy():
    c = np.array([0.2, 0.9, 0.1, 0.4, 1.0, 0.3, 0.0])
    spline, h = Spline(5.0, 45.0, c), 10.0
    reference = BSpline(5.0 + h * np.arange(-3, 8), c, 3)
    t = np.linspace(5.0, 45.0, 201)
    np.testing.assert_allclose(spline(jnp.asarray(t)), reference(t), rtol=1e-12)
    np.testing.assert_allclose(spline(jnp.asarray([-9.0, 99.0])), reference([5.0, 45.0]), rtol=1e-12)
    np.testing.assert_allclose(spline.knots(), [5.0, 15.0, 25.0, 35.0, 45.0])
    slope = jax.vmap(jax.grad(lambda t: spline(t)))(jnp.asarray(t[1:-1]))
    np.testing.assert_allclose(slope, reference.derivative()(t[1:-1]), atol=1e-12)
    assert np.abs(slope).max() <= np.abs(np.diff(c)).max() / h
    for make, words in [
        (lambda: Spline(0.0, 1.0, [1.0, 2.0]), ["coefficients", "4 or more"]),
        (lambda: Spline(1.0, 1.0, c), ["stop - start"]),
        (lambda: Spline(0.0, 1.0, -c), ["coefficients", "0 or greater"]),
    ]:
        assert_refused(make, words)


def test_an_envelope_without_knots_can_be_simulated():
    """Constant and chirped light have no time that a step must land on."""
    m0, bare = default_start(magnet()), magnet()
    moments = bare.illumination.moments
    expected = simulate(bare, m0, 3.0, rtol=1e-10).ms
    for envelope in (Constant(), Chirped(0.0)):
        lit = bare.with_light(moments, Laser(2.65e10, 1550.0, envelope))
        np.testing.assert_allclose(simulate(lit, m0, 3.0, rtol=1e-10).ms, expected, atol=1e-8)


@pytest.mark.parametrize("first, last", [(None, None), (0.0, 0.7), (None, 0.3)])
def test_bounds_of_peak_and_slew_hold_for_any_coordinates(first, last):
    low, high = (jnp.asarray(jnp.nan if x is None else x) for x in (first, last))
    times, slew = jnp.linspace(0.0, 100.0, 11), jnp.asarray(0.12)
    response = PulseResponse(magnet(), jnp.zeros((2, 3)), times, times + 1.0, low, high, slew, "chase_frequency")
    coefficients, coordinates = eqx.filter_jit(response.coefficients), eqx.filter_jit(response.coordinates)
    for key in jax.random.split(jax.random.key(0), 20):
        y = 3.0 * jax.random.normal(key, (20,))
        c = np.asarray(coefficients(y))
        assert c.min() >= 0.0 and c.max() <= 1.0 and np.abs(np.diff(c)).max() <= 0.12 + 1e-12
        if first is not None:
            assert c[0] == first
        if last is not None:
            np.testing.assert_allclose(c[-3:], last, atol=1e-12)
        # There and back, for coefficients that lie inside the bounds.
        inside = np.asarray(coefficients(coordinates(jnp.asarray(c))))
        np.testing.assert_allclose(inside, c, atol=0.02)


@pytest.mark.long
def test_frequency_modulator():
    """A sine of 20 %, slow against the growth rate, is followed within 2 % rms; the trajectory is a new one."""
    lit = magnet(5e10)
    result = design_pulse(lit, sine(300.0), 600.0)
    assert result.feasible and result.rms_error < 0.02 and "follows" in str(result)
    period_in_growth_times = 300.0 * abs(result.growth_rate) / 0.6582
    assert period_in_growth_times > 10.0
    solution = simulate(result.magnet, result.m0, 600.0, saveat=jnp.linspace(0.0, 600.0, 1001), rtol=1e-10)
    wanted = sine(300.0)(solution.ts)
    relative = instantaneous_frequency(solution).chase / wanted - 1.0
    assert float(jnp.sqrt(jnp.mean(relative**2))) < 0.02
    np.testing.assert_allclose(jnp.sqrt(jnp.mean(relative**2)), result.rms_error, rtol=0.2)
    assert result.intensity.max() <= 5e10 and result.intensity.min() >= 0.0
    # Slower still, the light is that of the steady states.
    slow = design_pulse(lit, sine(3000.0), 6000.0)
    assert slow.rms_error < 0.02
    for k in (20, 50, 77):
        chase = steady_state(magnet(float(slow.intensity[k]))).chase_frequency
        np.testing.assert_allclose(chase, slow.target[k], rtol=0.02)


def test_what_the_light_cannot_do_is_said():
    """A modulation faster than the growth rate, under a bounded slew rate."""
    result = design_pulse(magnet(), sine(4.0, 0.3), 24.0, slew_rate=4e9, steps=10, peak_intensity=4e10)
    assert float(result.laser.intensity) == 4e10
    assert not result.feasible and result.rms_error > 0.02
    assert "wanted 2 %" in result.message and "answers at" in result.message
    slope = np.diff(result.intensity) / np.diff(result.times)
    assert np.abs(slope).max() <= 4e9 * (1.0 + 1e-9)
    c = coefficients_of(result)
    steepest = np.abs(np.diff(c)) > 0.998 * np.abs(np.diff(c)).max()
    expected = {"peak": np.mean(c > 0.998), "dark": np.mean(c < 0.002), "slew": np.mean(steepest)}
    assert result.limits == pytest.approx(expected) and expected["slew"] > 0.1
    # What is reported is what a trajectory does.
    solution = simulate(result.magnet, result.m0, 24.0, saveat=jnp.asarray(result.times), rtol=1e-10)
    np.testing.assert_allclose(instantaneous_frequency(solution).chase, result.achieved, rtol=1e-4)


@pytest.mark.parametrize("observable", [pytest.param("chase_frequency", marks=pytest.mark.long), "rotation_frequency"])
def test_precession_may_rest_while_a_pulse_is_found(observable):
    """The frequencies under a pulse without precession are those of the full equation, whatever j_AB and j_BA."""
    lit = illuminated_bilayer(5e10, 1550.0, exchange=[[10.0, 7.0], [5.0, 5.0]])
    start = steady_state(lit.with_laser(Laser(2.65e10, 1550.0))).m
    times, free = jnp.linspace(0.0, 6.0, 7), jnp.asarray(jnp.nan)
    response = PulseResponse(lit, start, times, jnp.full_like(times, 40.0), free, free, jnp.ones(()), observable)
    pulsed = response.under(jnp.linspace(0.2, 0.9, 8))
    found, full = (np.asarray(response.frequency(pulsed, quick=quick)) for quick in (True, False))
    np.testing.assert_allclose(found, full, rtol=1e-4)
    assert np.ptp(full) > 0.1 * full.max()


@pytest.mark.long
def test_derivatives_through_the_integration():
    times = jnp.linspace(0.0, 40.0, 9)
    start = steady_state(magnet()).m
    slew, free = jnp.ones(()), jnp.asarray(jnp.nan)
    for observable in ("chase_frequency", "rotation_frequency"):
        response = PulseResponse(magnet(5e10), start, times, jnp.full_like(times, 40.0), free, free, slew, observable)
        y = jnp.full(8, 0.5)
        toward = jnp.cos(jnp.arange(8.0))

        @eqx.filter_jit
        def along(s, response=response, y=y, toward=toward):
            return response.errors(y + s * toward)

        value, slope = jax.jvp(along, (jnp.zeros(()),), (jnp.ones(()),))
        expected = differences.slope(along, 0.0, 1e-3)
        np.testing.assert_allclose(slope, expected, rtol=1e-3, atol=1e-3 * float(jnp.abs(slope).max()))
        # Without precession, at the search's tolerance, the frequencies are those of the full equation.
        lit = response.under(response.coefficients(y))
        full = response.frequency(lit, quick=False)
        np.testing.assert_allclose(response.frequency(lit, quick=True), full, rtol=1e-4)
        np.testing.assert_allclose(value, full / 40.0 - 1.0, rtol=1e-3, atol=1e-4)


def test_startup():
    lit = magnet()
    result = design_startup(lit, 400.0, steps=12)
    goal = float(steady_state(lit).chase_frequency)
    assert result.feasible and result.settling_time < 0.9 * result.settling_time_of_step
    assert "light simply switched on" in result.message
    assert result.intensity.max() <= 1.5 * 2.65e10 * (1.0 + 1e-12)
    np.testing.assert_allclose(result.intensity[-1], 2.65e10, rtol=1e-9)
    # How long the opening stays at its peak, and in the dark.
    c = coefficients_of(result)
    expected = {"peak": np.mean(c > 0.998), "dark": np.mean(c < 0.002), "slew": 0.0}
    assert result.limits == pytest.approx(expected) and expected["peak"] != expected["dark"]
    # Settled from this time on, and not at the one before.
    within = np.abs(result.achieved / goal - 1.0) <= 0.05
    first = int(np.searchsorted(result.times, result.settling_time))
    assert result.times[first] == result.settling_time and within[first:].all() and not within[first - 1]
    times = jnp.asarray(result.times)
    for driven, settling in [(result.magnet, result.settling_time), (lit, result.settling_time_of_step)]:
        solution = simulate(driven, result.m0, times[-1], saveat=times, rtol=1e-10)
        away = np.abs(np.asarray(instantaneous_frequency(solution).chase) / goal - 1.0) > 0.05
        assert abs(float(times[np.flatnonzero(away)[-1] + 1]) - settling) <= 2.0 * float(times[1])


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: design_pulse(magnet().plateau(), 40.0, 10.0), ["no laser", "with_light"]),
        (lambda: design_pulse(magnet(), -40.0, 10.0), ["target", "-40"]),
        (lambda: design_pulse(magnet(), [[40.0]], 10.0), ["target", "equal distances"]),
        (lambda: design_pulse(magnet(), 40.0, 0.0), ["duration"]),
        (lambda: design_pulse(magnet(), 40.0, 10.0, coefficients=4), ["coefficients", "8 or greater"]),
        (lambda: design_pulse(magnet(), 40.0, 10.0, slew_rate=-1.0), ["slew_rate", "-1"]),
        (lambda: design_pulse(magnet(), 40.0, 10.0, peak_intensity=0.0), ["peak_intensity"]),
        (lambda: design_pulse(magnet(), 40.0, 10.0, observable="speed"), ["'speed'"]),
        (lambda: design_startup(magnet(1e9), 100.0), ["does not rotate", "design()"]),
        (lambda: design_startup(magnet(), 100.0, peak_intensity=1e9), ["peak_intensity", "below"]),
    ],
)
def test_what_pulses_refuse(make, words):
    assert_refused(make, words)
