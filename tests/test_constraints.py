"""Limits of a design: kept by what is found, or said not to be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import constants

from nrjax import (
    AboveOnset,
    EnoughElectrons,
    LayeredMagnet,
    LowIntensity,
    MaxTemperature,
    MinTurns,
    NarrowLine,
    Phase,
    StableInSpace,
    ThermalModel,
    design,
    exposure,
    hanai2025_bilayer,
    illuminated_bilayer,
    linewidth,
    steady_state,
    steady_states,
    turns,
)
from nrjax.magnets.absorption import electron_polarization
from nrjax.rotation.turns_before_melting import estimated_turns
from tests.cells import growth_apart, halves
from tests.refusal import assert_refused


def slow(loss_rate, gyro):
    """The reference bilayer with another speed of precession."""
    return hanai2025_bilayer(loss_rate, 6.0, gyro=gyro)


def test_a_design_is_stable_in_space_or_says_so():
    bounds = {"loss_rate": (0.03, 0.09), "gyro": (0.0, 2.0)}
    found = design(slow, {"gyro": 2.0}, 40.0, bounds=bounds, stable_in_space=True, restarts=4, progress=False)
    assert found.feasible and all(check.met for check in found.limits.values())
    magnet = slow(**found.parameters)
    rates = [growth_apart(magnet, halves(f)) for f in np.linspace(0.1, 0.98, 23)]
    assert max(rates) < 0.0
    (check,) = found.limits.values()
    assert max(rates) == pytest.approx(check.value, abs=2e-3)
    # Of restarts that are cut short the one that breaks it least is told.
    bounds = {"loss_rate": (0.03, 0.09), "gyro": (1.0, 2.0)}
    short = design(slow, {}, 40.0, bounds=bounds, stable_in_space=True, restarts=8, steps=2, progress=False)
    ends = [(float(a), float(b)) for a, b in zip(*(short.history[n][-1] for n in ("loss_rate", "gyro")), strict=True)]
    left = [float(StableInSpace().quantity(slow(*end), steady_state(slow(*end)))) for end in ends]
    left = [x for x, reached in zip(left, short.history["reached"].values, strict=True) if reached]
    (check,) = short.limits.values()
    assert len(left) > 3 and max(left) > min(left) + 0.02 and check.value == pytest.approx(min(left), abs=1e-3)
    # Where precession cannot be slowed there is no such design, and the nearest to it is told.
    fast = design(
        slow, {}, 40.0, bounds={"loss_rate": (0.03, 0.09), "gyro": (1.8, 2.0)}, stable_in_space=True, restarts=2,
        progress=False,
    )  # fmt: skip
    assert not fast.feasible and fast.error < 1e-8 and "not within its limits" in fast.message
    (check,) = fast.limits.values()
    assert check.value > 0.05 and "NOT KEPT" in str(check) and "NOT KEPT" in str(fast)


def test_the_coolest_design_is_found():
    """Power along the line of one frequency, from a fine grid: a limit above its minimum is kept, one below is not."""
    thermal = ThermalModel.insulator(0.1, 9.0, photon_energy=1550.0)
    losses, exchanges = np.linspace(0.03, 0.09, 121), np.linspace(4.0, 8.0, 41)
    points = [(a, b) for b in exchanges for a in losses]
    magnets = jax.vmap(lambda p: hanai2025_bilayer(p[0], p[1]))(jnp.asarray(points))
    grid = jax.jit(steady_states)(magnets)
    frequency = np.where(grid.phase == Phase.CHIRAL, grid.chase_frequency, 0.0).reshape(41, 121)
    power = np.asarray(jax.vmap(thermal.power)(magnets, grid.m)).reshape(41, 121)
    target, least = 40.0, np.inf
    for row, p in zip(frequency, power, strict=True):
        for k in np.flatnonzero((row[:-1] > 0) & (row[1:] > 0) & ((row[:-1] - target) * (row[1:] - target) <= 0)):
            share = (target - row[k]) / (row[k + 1] - row[k])
            least = min(least, p[k] + share * (p[k + 1] - p[k]))
    coolest = float(thermal.base) + least * 0.1 / float(thermal.lattice)

    def asked(kelvin):
        return design(
            hanai2025_bilayer, None, target, bounds={"loss_rate": (0.03, 0.09), "interlayer_exchange": (4.0, 8.0)},
            objectives=[MaxTemperature(thermal, kelvin)], restarts=4, progress=False,
        )  # fmt: skip

    warming = coolest - float(thermal.base)
    kept, broken = asked(coolest + 0.06 * warming), asked(coolest - 0.06 * warming)
    assert kept.feasible and not broken.feasible and broken.error < 1e-8
    assert kept.limits["temperature of the sample"].value <= coolest + 0.06 * warming
    assert broken.limits["temperature of the sample"].value == pytest.approx(coolest, abs=0.01 * warming)


def test_a_design_keeps_away_from_the_onset():
    def build(intensity, interlayer_exchange):
        return illuminated_bilayer(intensity, 1550.0, interlayer_exchange=interlayer_exchange)

    bounds = {"intensity": (1e9, 6e10), "interlayer_exchange": (4.0, 8.0)}
    found = design(
        build, None, 25.0, bounds=bounds, objectives=[LowIntensity(0.1), AboveOnset(1.3)], restarts=4, progress=False
    )
    assert found.feasible
    intensity, exchange = found.parameters["intensity"], found.parameters["interlayer_exchange"]
    low, high = 0.0, intensity
    for _ in range(30):
        middle = 0.5 * (low + high)
        state = steady_state(build(middle, exchange), throw=False)
        low, high = (low, middle) if float(state.chase_frequency) > 0 else (middle, high)
    assert 1.3 <= intensity / high < 1.4
    check = found.limits["chase frequency at 1/1.3 of the intensity"]
    below = steady_state(build(intensity / 1.3, exchange))
    assert check.value == pytest.approx(float(below.chase_frequency), rel=1e-6)


def test_estimated_turns_are_those_of_the_simulation():
    """Strong light (electrons alone), weak light (the lattice, electrons ahead of it), and cooling that delays."""
    magnet = hanai2025_bilayer(0.05, 6.0)
    state = steady_state(magnet)
    for numbers in [(4.65e-5, 0.26, 0.04, np.inf), (0.05, 500.0, 40.0, np.inf), (0.0, 500.0, 1.0, 60.0)]:
        thermal = ThermalModel(*numbers, 9.0, photon_energy=1550.0)
        counted = turns(magnet, thermal, 100.0)
        assert bool(counted.ended) and bool(counted.valid)
        assert float(estimated_turns(magnet, thermal, state)) == pytest.approx(float(counted.chase), rel=0.1)
    cooled = ThermalModel(0.0, 500.0, 40.0, 20.0, 9.0, photon_energy=1550.0)
    assert np.isinf(estimated_turns(magnet, cooled, state))
    assert not bool(turns(magnet, cooled, 100.0).ended)


def test_excess_is_in_the_units_that_are_told():
    magnet = hanai2025_bilayer(0.05, 6.0)
    state, thermal = steady_state(magnet), ThermalModel.insulator(np.inf, 9.0, photon_energy=1550.0)
    estimate = float(estimated_turns(magnet, thermal, state))
    for number in (0.5 * estimate, 2.0 * estimate):
        excess = float(MinTurns(thermal, number).excess(magnet, state))
        assert excess == pytest.approx(np.log(number / estimate), rel=1e-9)
    width = linewidth(magnet, 1e6, state)
    excess = float(NarrowLine(1e6, 0.01).excess(magnet, state))
    assert excess == pytest.approx(np.log(float(width.relative_width) / 0.01), rel=1e-9)
    # The angle of the chase turns by one radian in 1/omega: omega in meV, from h = 4.1357 ueV/GHz.
    growth = float(StableInSpace().quantity(magnet, state))
    angular = float(state.chase_frequency) * constants.h / constants.e * 1e12
    assert float(StableInSpace(0.1).excess(magnet, state)) == pytest.approx((growth + 0.1) / angular, rel=1e-9)


def test_limits_that_mean_nothing_are_refused():
    thermal = ThermalModel.gadolinium(1.0, 9.0)
    assert_refused(lambda: MaxTemperature(thermal, 50.0), ["kelvin", "above bath_temperature"])
    assert_refused(lambda: MaxTemperature(ThermalModel.gadolinium(np.inf, 9.0), 300.0), ["cooling_time", "finite"])
    assert_refused(lambda: MinTurns(thermal, 0.0), ["number", "greater than 0"])
    assert_refused(lambda: AboveOnset(1.0), ["factor", "greater than 1"])
    assert_refused(lambda: NarrowLine(share=-1.0), ["share", "greater than 0"])


def test_exchange_asks_for_no_more_electrons_than_there_are():
    """s_a = (1/g_a) sum_b jm_ab m_b by hand; at most min(n, 2 - n)/2."""
    m = jnp.asarray([[0.3, 0.0, 0.4], [0.0, 0.2, 0.1]])
    j, g = np.array([[10.0, 6.0], [6.0, 5.0]]), np.array([-10.0, -5.0])
    filling = np.array([0.8, 1.4])
    magnet = LayeredMagnet(j, 0.1, g, 0.01, filling, 9.0)
    expected = 2.0 * np.linalg.norm(j @ np.asarray(m), axis=1) / np.abs(g) / np.array([0.8, 0.6])
    np.testing.assert_allclose(electron_polarization(magnet, m), expected, rtol=1e-12)
    # Where only a part of the exchange is carried by the band, that part counts.
    part = LayeredMagnet(j, 0.1, g, 0.01, filling, 9.0, mediated_exchange=0.1 * j)
    np.testing.assert_allclose(electron_polarization(part, m), 0.1 * expected, rtol=1e-12)
    cold = illuminated_bilayer(2.65e10, 1550.0, temperature=3.0)
    state = steady_state(cold)
    assert float(EnoughElectrons().excess(cold, state)) == pytest.approx(
        np.log(float(jnp.max(electron_polarization(cold, state.m)))), rel=1e-9
    )
    assert any("no band carries it" in text for text in exposure(cold, state.m).warnings)
    assert not exposure(illuminated_bilayer(), steady_state(illuminated_bilayer()).m).warnings
    assert_refused(lambda: EnoughElectrons(1.5), ["share", "at most 1"])
