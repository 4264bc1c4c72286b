"""Inverse design, against hidden lasers, dense scans and trajectories."""

import functools
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import nrjax
from nrjax import (
    LowIntensity,
    LowPower,
    Margin,
    Phase,
    Quiet,
    WideRange,
    chase_distance,
    default_start,
    design,
    design_sheet,
    exposure,
    gaussian_ensemble,
    illuminated_bilayer,
    instantaneous_frequency,
    simulate,
    steady_state,
    turning_about,
    units,
)
from nrjax._numerics.validation import is_concrete
from nrjax.inverse import Box, laser_design
from nrjax.inverse.problem import Problem
from nrjax.rotation.attractors import steady_states
from nrjax.rotation.observables import OBSERVABLES
from tests.magnets import START_OF_MODULATED, magnet_of, modulated_magnet
from tests.refusal import assert_refused
from tests.systems.bilayer import UNEQUAL, Bilayer


def known(result: nrjax.DesignResult) -> nrjax.SteadyState:
    """The state of a design that is of one material."""
    assert result.state is not None
    return result.state


BOUNDS = {"intensity": (0.0, 6e10), "photon_energy": (1300.0, 2100.0)}
DARK = {"intensity": 0.0, "photon_energy": 1700.0}


TRACES = []


def build(intensity, photon_energy):
    if not is_concrete(intensity):
        TRACES.append(1)
    return illuminated_bilayer(intensity, photon_energy)


def hand_made(intensity, photon_energy):
    """The published bilayer under light, from the formulas in SI units, without nrjax."""
    field = np.sqrt(2.0 * 376.730313668 * intensity * 1e4)  # V/m
    rabi = field * 1e-10 * 1e3  # meV, for 1 e*angstrom
    kappa = 0.25 * rabi**2 * 100.0 / ((photon_energy - np.array([1850.0, 1550.0])) ** 2 + 2500.0)
    # Either electron of the doublon shifts it by kappa delta/Gamma.
    cost = 2000.0 + 2.0 * kappa * (photon_energy - np.array([1850.0, 1550.0])) / 100.0
    gamma = kappa * 1e4 / (cost**2 + kappa**2)
    g = -1e4 * (cost / (cost**2 + kappa**2) + 1.0 / 2000.0)
    return replace(Bilayer().with_light(0.0, 6.0), sd_coupling=g, loss_rate=gamma)


@jax.jit
@jax.vmap
def _magnets(intensity, photon_energy, interlayer_exchange):
    magnet = illuminated_bilayer(intensity, photon_energy, interlayer_exchange)
    return magnet, magnet.plateau()


@jax.jit
@jax.vmap
def _power(magnet, state):
    return jnp.sum(exposure(magnet, state.m).absorbed_power)


def observe(intensity, photon_energy, interlayer_exchange: Any = 6.0, width=256):
    """Chase frequency, validity, growth rate, absorbed power and phase of many steady states; compiled once."""
    lanes = np.broadcast_arrays(intensity, photon_energy, interlayer_exchange)
    shape, lanes = lanes[0].shape, [np.asarray(x, float).ravel() for x in lanes]
    parts = []
    for begin in range(0, lanes[0].size, width):
        rows = np.minimum(np.arange(begin, begin + width), lanes[0].size - 1)
        lit, plateaus = _magnets(*(x[rows] for x in lanes))
        states = steady_states(plateaus)
        seen = (states.chase_frequency, states.valid, states.growth_rate, _power(lit, states), states.phase)
        parts.append([np.asarray(x) for x in seen])
    return [np.concatenate(x)[: lanes[0].size].reshape(shape) for x in zip(*parts, strict=True)]


# -- the box --------------------------------------------------------------------------------------------------------


def test_box_against_its_formulas():
    box = Box({"a": (2.0, 6.0), "intensity": (1e8, 1e11), "b": (0.0, 5e10)}, ("intensity", "b"))
    y = jnp.asarray([0.3, 0.6, 0.9])
    u = np.sin(0.5 * np.pi * np.asarray(y)) ** 2
    expected = [2.0 + 4.0 * u[0], 1e8 * 1e3 ** u[1], 5e10 * (1e4 ** u[2] - 1.0) / (1e4 - 1.0)]
    np.testing.assert_allclose(list(box.values(y).values()), expected, rtol=1e-12)
    np.testing.assert_allclose(box.shares_of(box.values(y)), u, rtol=1e-9)
    for corner, values in ((0.0, (2.0, 1e8, 0.0)), (1.0, (6.0, 1e11, 5e10))):
        np.testing.assert_allclose(list(box.values(jnp.full(3, corner)).values()), values, rtol=1e-12)
    # A start on a bound keeps a slope to leave it.
    slope = jax.jacfwd(box.vector)(box.coordinates(jnp.asarray([0.0, 1.0, 0.0])))
    assert (np.diag(slope) > 0).all()
    assert box.active(np.array([0.0, 1.0, 0.5])) == {"a": "lower", "intensity": "upper"}


# -- the way to the chase -------------------------------------------------------------------------------------------


@pytest.mark.long
def test_guidance_has_a_slope_wherever_nothing_chases():
    points = jnp.asarray(
        [[1e7, 1700.0], [5e9, 1560.0], [1.15e10, 1550.0], [5.5e10, 1550.0], [5e10, 1850.0], [2.65e10, 1550.0]]
    )

    @jax.jit
    @jax.vmap
    def distance(p):
        def value(p):
            magnet = build(p[0], p[1])
            state = steady_state(magnet, throw=False)
            return chase_distance(magnet, state), state.phase

        slope, _ = jax.jacfwd(value, has_aux=True)(p)
        return *value(p), slope

    found, phase, slope = distance(points)
    chiral = np.asarray(phase) == Phase.CHIRAL
    assert {Phase.ALIGNED, Phase.ANTIALIGNED, Phase.PARAMAGNETIC, Phase.CHIRAL} == {Phase(int(p)) for p in phase}
    np.testing.assert_array_equal(np.asarray(found) > 0, ~chiral)
    assert (np.abs(slope[~chiral]) > 0).all() and (np.asarray(slope[chiral]) == 0).all()
    steps = jnp.asarray([[[1e-5, 0.0], [0.0, 1e-5]]]) * points[:5, None]
    for i in range(2):
        step = steps[:, i]
        ends = [distance(points.at[:5].add(sign * step))[0][:5] for sign in (1.0, -1.0)]
        difference = (ends[0] - ends[1]) / (2.0 * step[:, i])
        np.testing.assert_allclose(slope[:5, i], difference, rtol=1e-4, atol=1e-15)
    # In darkness both torques follow the exchange, D = 2 + |tr W| / sum r, with W from the oracle.
    a, b = hand_made(0.0, 1700.0).collinear((0.9, 0.8))
    w = hand_made(0.0, 1700.0).rates(a, b, 1.0)
    dark = distance(points.at[0].set(jnp.asarray([0.0, 1700.0])))[0][0]
    np.testing.assert_allclose(dark, 2.0 - np.trace(w) / (2.0 * 0.102 * 9.0), rtol=1e-8)


@pytest.mark.parametrize("relabel", [False, True], ids=["A, B", "B, A"])
def test_distance_of_layers_that_have_nothing_in_common(relabel):
    """D = 1 + s_AB s_BA + max(0, -tr W)/r with every layer's own numbers, and the mediated exchange in the light."""
    for losses, phase in (((0.01, 0.01), Phase.ALIGNED), ((0.03, 0.15), Phase.PARAMAGNETIC)):
        oracle = replace(UNEQUAL, loss_rate=np.array(losses))
        oracle = oracle.relabelled() if relabel else oracle
        state = steady_state(magnet_of(oracle))
        assert int(state.phase) == phase
        a, b = (float(x) for x in state.lengths)
        w, light = oracle.torques, (2.0 * oracle.loss_rate / np.abs(oracle.sd_coupling))[:, None]
        share = w / (2.0 * oracle.damping[:, None] * oracle.exchange + light * oracle.light_exchange)
        alike = share[0, 1] * share[1, 0]
        relaxation = np.sum(2.0 * oracle.damping * oracle.temperature + oracle.loss_rate * oracle.filling)
        expected = 1.0 + alike if phase == Phase.ALIGNED else max(alike, 0.0)
        expected += max(-np.trace(oracle.rates(a, b, 1.0)), 0.0) / relaxation
        np.testing.assert_allclose(chase_distance(magnet_of(oracle), state), expected, rtol=1e-8)


# -- targets ----------------------------------------------------------------------------------------------------------


def hidden_targets(number, seed=11):
    """Chase frequencies of random lasers: all of them can be reached."""
    rng = np.random.default_rng(seed)
    light = rng.uniform([0.0, 1300.0], [6e10, 2100.0], (10 * number, 2))
    chase, valid, *_ = observe(*light.T)
    return chase[valid & (chase > 0)][:number]


def test_round_trip():
    targets = hidden_targets(200)
    assert len(targets) == 200 and targets.min() < 10.0 and targets.max() > 55.0
    results = design(build, DARK, targets, bounds=BOUNDS, restarts=4)
    reached = np.array([r.feasible for r in results])
    assert reached.mean() >= 0.98
    from_the_dark = np.array([bool(r.history.reached[0]) for r in results])
    assert from_the_dark.mean() >= 0.98
    for target, result in zip(targets, results, strict=True):
        assert all(BOUNDS[name][0] <= value <= BOUNDS[name][1] for name, value in result.parameters.items())
        assert result.target == target and result.feasible == (result.error <= 1e-8)
        if not result.feasible:
            assert "not reached" in result.message or "out of reach" in result.message
    # The claim, checked by an independent solution of the chiral state from the formulas in SI units.
    for result in results[::10]:
        state = known(result)
        guess = (float(state.lengths[0]), float(np.cos(state.angle)))
        chase = hand_made(**result.parameters).chiral(guess)[3] / units.GHz
        np.testing.assert_allclose(chase, result.target, rtol=1e-6)


def test_the_trajectory_turns_as_designed(monkeypatch):
    result = design(build, DARK, 40.0, bounds=BOUNDS)
    assert result.feasible and known(result).valid and "reached" in str(result)
    magnet = build(**result.parameters)
    solution = simulate(magnet, default_start(magnet), 600.0)
    np.testing.assert_allclose(instantaneous_frequency(solution).chase[-1], 40.0, rtol=1e-4)

    assert result.converged
    # The gradient on the sheet is that of the steady state.
    slope = jax.grad(lambda x: steady_state(build(x, result.parameters["photon_energy"])).chase_frequency)
    np.testing.assert_allclose(result.gradient["intensity"], slope(result.parameters["intensity"]), rtol=1e-6)
    sheet = design_sheet(result, build, BOUNDS)
    for words in (
        "W/cm^2",
        "MV/cm",
        "absorbed",
        "deviations of all cells together decay",
        "in space: deviations",
        "edges of the chiral phase",
        "GHz per meV",
    ):
        assert words in sheet

    # Of several edges on a side, the sheet names the nearest.
    edges = np.array([0.2, 0.5, 1.4, 1.6]) * result.parameters["intensity"]
    monkeypatch.setattr("nrjax.inverse.sheet.boundaries_along", lambda build, kinds, name, *a, **k: [edges])
    (line,) = (
        x for x in design_sheet(result, build, BOUNDS).splitlines() if x.strip().startswith("intensity") and " to " in x
    )
    assert f"{edges[1]:.6g}" in line and f"{edges[2]:.6g}" in line

    # Handedness: about the axis that was asked for, whatever it is.
    for axis in ([0.0, 0.0, 1.0], [0.0, 0.0, -1.0], [1.0, -2.0, 0.5]):
        turning = simulate(magnet, turning_about(known(result), axis), 20.0)
        omega = instantaneous_frequency(turning).angular_velocity[-1]
        rate = float(known(result).rotation_frequency) * units.GHz
        np.testing.assert_allclose(omega, rate * np.array(axis) / np.linalg.norm(axis), rtol=1e-5, atol=1e-6 * rate)
    # The other way round as well.
    turned = turning_about(known(result), -known(result).angular_velocity)
    expected = jnp.cross(-known(result).angular_velocity[None, :], turned)
    np.testing.assert_allclose(magnet.vector_field(0.0, turned), expected, atol=1e-10)
    assert_refused(lambda: turning_about(steady_state(build(0.0, 1550.0)), [0.0, 0.0, 1.0]), ["rotation rate"])


def test_the_same_seed_gives_the_same_and_restarts_stand_alone():
    options: Any = dict(bounds=BOUNDS, seed=5, restarts=40)
    one, two = (design(build, DARK, 30.0, **options) for _ in range(2))
    assert one.parameters == two.parameters and (one.history.final_error == two.history.final_error).all()
    other = design(build, DARK, 30.0, bounds=BOUNDS, seed=6)
    assert float(other.history.intensity[0, 3]) != float(one.history.intensity[0, 3])
    # Of all that reach the target the one nearest to the start is taken.
    box = Box(BOUNDS, ("intensity",))
    ends = [{name: float(one.history[name][int(one.history.steps[k]) - 1, k]) for name in BOUNDS} for k in range(40)]
    shares = np.array([box.shares_of(end) for end in ends])
    distances = np.linalg.norm(shares - np.asarray(box.shares_of(DARK)), axis=1)
    assert np.argmin(np.where(one.history.reached, distances, np.inf)) == one.history.attrs["chosen"]
    # The last took the place of one that was done.
    for k in (0, 2, 6, 37):
        start = {name: float(one.history[name][0, k]) for name in BOUNDS}
        alone = design(build, start, 30.0, bounds=BOUNDS, restarts=1)
        assert int(alone.history.steps[0]) == int(one.history.steps[k])
        last = int(one.history.steps[k]) - 1
        for name in BOUNDS:
            np.testing.assert_allclose(alone.history[name][last, 0], one.history[name][last, k], rtol=1e-7)


def test_shapes_that_keep_moving_are_watched_for_designs_that_meet_them(monkeypatch):
    """Below an exchange of 1 meV or so this magnet's shape never rests. A design that looks there goes on as one that
    has watched from the start, to the bit; one that does not look there leaves the watching out."""
    steps, watched = laser_design.take_steps, []

    def take_steps(problem, *others):
        watched.append(problem.watches)
        return steps(problem, *others)

    def magnet(exchange):
        return eqx.tree_at(lambda m: m.exchange, modulated_magnet(), modulated_magnet().exchange.at[0, 1].set(exchange))

    def found(low, initial):
        watched.clear()
        bounds, start = {"exchange": (low, 3.0)}, START_OF_MODULATED
        first = {"exchange": initial}
        result = design(magnet, first, 60.0, bounds=bounds, m0=start, restarts=3, steps=20, progress=False)
        return result, list(watched)

    monkeypatch.setattr(laser_design, "take_steps", take_steps)
    away, of_rest = found(1.2, 2.0)
    assert away.feasible and not any(of_rest)
    met, of_motion = found(0.3, 0.5)
    assert of_motion[:2] == [False, True] and all(of_motion[1:])
    monkeypatch.setattr(laser_design, "replace", lambda problem, watches: problem)
    again, of_all = found(0.3, 0.5)
    assert all(of_all) and len(of_all) == len(of_motion) - 1
    assert met.history.identical(again.history) and met.parameters == again.parameters
    assert str(known(met)) == str(known(again))


def test_only_shapes_can_do_without_watching():
    """A magnet that needs time integration is looked at by one program, whether its motion settles or not."""
    one = jnp.ones(())
    problems = [
        Problem(
            functools.partial(nrjax.hanai2025_bilayer, interlayer_exchange=6.0, field=field),
            Box({"loss_rate": (0.03, 0.07)}), None, OBSERVABLES["chase_frequency"], (), {}, one > 2.0, one,
        )
        for field in (None, jnp.zeros((2, 3)))
    ]  # fmt: skip
    shape, general = problems
    assert shape.watches and not laser_design._checked(shape, jnp.zeros(1)).watches
    assert laser_design._checked(general, jnp.zeros(1)) is general


def test_a_second_design_traces_nothing():
    """Neither another target, nor other bounds, starts or numbers of restarts."""
    design(build, DARK, 30.0, bounds=BOUNDS, restarts=2)
    before = len(TRACES)
    narrow = {"intensity": (1e7, 4e10), "photon_energy": (1400.0, 1700.0)}
    design(build, {"intensity": 1e10}, 50.0, bounds=narrow, restarts=5, seed=3)
    assert before > 0 and len(TRACES) == before


# -- out of reach -----------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_nearest_where_the_target_is_out_of_reach():
    # Below the resonance the frequency rises with both: the corner is the highest.
    bounds = {"intensity": (1e9, 3e10), "photon_energy": (1300.0, 1500.0)}
    result = design(build, None, 80.0, bounds=bounds)
    highest = observe(3e10, [1500.0])[0]
    assert not result.feasible and result.converged and known(result).valid
    np.testing.assert_allclose(result.achieved, highest[0], rtol=1e-6)
    assert result.active_bounds == {"intensity": "upper", "photon_energy": "upper"}
    assert "out of reach" in result.message and "upper bound of intensity" in result.message
    assert result.error == pytest.approx(1.0 - result.achieved / 80.0)

    # Everything in this box chases faster than 10 GHz; the slowest lies in a corner, found by a dense scan.
    bounds = {"intensity": (2e10, 3e10), "photon_energy": (1540.0, 1570.0)}
    result = design(build, None, 10.0, bounds=bounds)
    mesh = np.meshgrid(np.linspace(2e10, 3e10, 41), np.linspace(1540.0, 1570.0, 41))
    chase, valid, *_ = observe(*mesh)
    assert valid.all()
    np.testing.assert_allclose(result.achieved, np.min(chase), rtol=1e-6)
    assert not result.feasible and result.active_bounds == {"intensity": "lower", "photon_energy": "upper"}

    # Nothing chases here at all.
    result = design(build, None, 10.0, bounds={"intensity": (1e8, 1e10), "photon_energy": (1540.0, 1570.0)})
    assert not result.feasible and result.achieved == 0.0 and "no chiral state" in result.message

    # The chase melts before it gets this fast: the edge of the phase limits it.
    result = design(build, DARK, 90.0, bounds=BOUNDS)
    chase, valid, *_ = observe(*np.meshgrid(np.linspace(4.5e10, 6e10, 61), np.linspace(1500.0, 1600.0, 61)))
    assert not result.feasible and "edge of the phase" in result.message and not result.active_bounds
    assert chase[valid].max() < result.achieved < 1.01 * chase[valid].max()


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(target=-40.0), ["target = -40", "greater than 0", "m0"]),
        (dict(target=0.0), ["target = 0", "greater than 0"]),
        (dict(target=np.nan), ["target = nan"]),
        (dict(target="fast"), ["target", "'fast'"]),
        (dict(target=[[30.0, 40.0]]), ["target", "(1, 2)"]),
        (dict(bounds={"intensity": (6e10, 0.0)}), ["intensity", "reversed"]),
        (dict(bounds={"intensity": (1e10, 1e10)}), ["intensity", "empty"]),
        (dict(bounds={"intensity": (np.nan, 1e10)}), ["intensity", "nan", "finite"]),
        (dict(bounds={"intensity": 1e10}), ["intensity", "(low, high)"]),
        (dict(bounds={"intensity": (-1e10, 1e10)}), ["intensity", "logarithmic"]),
        (dict(bounds={}), ["bounds is empty"]),
        (
            dict(bounds={"intensity": (1e9, 6e10), "photon_energy": (1300.0, 2100.0)}),
            ["initial intensity = 0", "outside"],
        ),
        (dict(initial={"intensity": 0.0, "colour": 3.0}), ["'colour'", "no bounds"]),
        (dict(initial={"intensity": np.nan}), ["initial intensity", "nan"]),
        (dict(bounds=BOUNDS | {"colour": (1.0, 2.0)}), ["'colour'", "build"]),
        (dict(observable="speed"), ["'speed'", "rotation_frequency"]),
        (dict(observable=lambda state: state.lengths), ["one number"]),
        (dict(observable=3), ["observable = 3"]),
        (dict(restarts=0), ["restarts = 0"]),
        (dict(steps=0), ["steps = 0"]),
        (dict(ensemble={"intensity": [1.0, 2.0]}), ["'intensity'", "ensemble"]),
        (dict(ensemble={"temperature": [[9.0]]}), ["ensemble", "one value for each member"]),
        (dict(ensemble={"temperature": [9.0, np.nan]}), ["ensemble temperature", "nan"]),
    ],
)
def test_what_a_design_refuses(change, words):
    arguments = dict(initial=DARK, target=40.0, bounds=BOUNDS) | change
    assert_refused(lambda: design(build, arguments.pop("initial"), arguments.pop("target"), **arguments), words)


def test_what_objectives_and_ensembles_refuse():
    dark = nrjax.hanai2025_bilayer(0.05, 6.0)
    for objective in (LowIntensity(), LowPower(), Quiet(), WideRange()):
        assert_refused(lambda f=objective: f(dark, steady_state(dark)), ["needs a laser", "with_light"])
    for make, words in [
        (lambda: Margin(0.0), ["rate of Margin"]),
        (lambda: WideRange(1.5), ["depth", "1.5"]),
        (lambda: Quiet(0.0), ["weight of Quiet"]),
        (lambda: LowPower(-1.0), ["weight of LowPower"]),
        (lambda: gaussian_ensemble({"temperature": 9.0}, {"damping": 1.0}), ["temperature", "damping"]),
        (lambda: gaussian_ensemble({"temperature": 9.0}, {"temperature": -1.0}), ["deviation", "-1"]),
    ]:
        assert_refused(make, words)


def rates(loss_rate, temperature=9.0):
    return nrjax.hanai2025_bilayer(loss_rate, 6.0, temperature=temperature)


@pytest.mark.parametrize("worst_case", [False, True], ids=["mean", "worst case"])
def test_what_an_ensemble_looks_like_and_its_gradients(worst_case):
    """Aim (mean, or middle of the extremes) and spread (deviation, or half the range) of three members, and their
    derivatives against differences. The spread counts, also where nothing else does."""
    box = Box({"loss_rate": (0.03, 0.07)})
    ensemble = {"temperature": jnp.asarray([8.8, 9.0, 9.3])}
    one = jnp.ones(())
    problem = Problem(
        rates, box, None, OBSERVABLES["chase_frequency"], (), ensemble, jnp.asarray(worst_case), 0.7 * one
    )
    assert problem.has_objectives
    target = 30.0 * one

    @jax.jit
    def look(y):
        seen = problem.look(y, target)
        return seen.achieved, seen.loss, seen.miss, seen.uphill, seen.slope, seen.gradient, seen.each

    y = jnp.asarray([0.45])
    achieved, loss, miss, uphill, slope, gradient, each = (np.asarray(x) for x in look(y))
    loss_rate = float(box.vector(y)[0])
    expected = [float(steady_state(rates(loss_rate, t)).chase_frequency) for t in (8.8, 9.0, 9.3)]
    np.testing.assert_allclose(each, expected, rtol=1e-9)
    low, high = min(expected), max(expected)
    np.testing.assert_allclose(achieved, 0.5 * (low + high) if worst_case else np.mean(expected), rtol=1e-9)
    np.testing.assert_allclose(loss, 0.7 * (0.5 * (high - low) if worst_case else np.std(expected)) / 30.0, rtol=1e-8)
    h = 1e-4
    ends = [[float(x) for x in look(y + k * h)[:3]] for k in (1.0, -1.0)]
    d_achieved, d_loss, d_miss = (np.subtract(ends[0], ends[1])) / (2.0 * h)
    np.testing.assert_allclose([slope[0], uphill[0]], [d_loss, d_miss], rtol=1e-5)
    stretch = float(jax.grad(lambda y: box.vector(y)[0])(y)[0])
    np.testing.assert_allclose(gradient[0] * stretch, d_achieved, rtol=1e-5)


# -- objectives -------------------------------------------------------------------------------------------------------


def along_the_target(target):
    """Lasers that give the target, one for each photon energy where there is one: by bisection."""
    energies = np.linspace(1452.0, 1648.0, 197)
    low, high = np.full_like(energies, 1e9), np.full_like(energies, 6e10)
    for _ in range(36):
        middle = 0.5 * (low + high)
        chase, _, _, _, phase = observe(middle, energies)
        too_high = (chase > target) | (phase == Phase.PARAMAGNETIC)
        low, high = np.where(too_high, low, middle), np.where(too_high, middle, high)
    chase, valid, *_ = observe(low, energies)
    good = valid & (np.abs(chase / target - 1.0) < 1e-6)
    return low[good], energies[good]


def losses(intensities, energies):
    """The objectives of the next test by their definitions, without those objectives."""
    chase, _, growth, power, _ = observe(intensities, energies)
    up, down, more, less = (observe(intensities * f, energies)[0] for f in (1.1, 0.9, np.exp(1e-4), np.exp(-1e-4)))
    quiet = (np.log(more / less) / 2e-4) ** 2
    margin = np.maximum(1.0 + growth / 0.06, 0.0) ** 2
    return 0.5 * np.log(intensities) + np.log(power) + 2.0 * quiet + 2.0 * margin - 0.3 * (up - down) / chase


def test_a_margin_asks_for_no_more_than_its_rate():
    """weight max(0, 1 + lambda/rate)^2."""
    magnet = nrjax.hanai2025_bilayer(0.05, 6.0)
    state = steady_state(magnet)
    decay = -float(state.growth_rate)
    for rate, expected in ((2.0 * decay, 0.25), (decay, 0.0), (0.5 * decay, 0.0)):
        assert float(Margin(rate, 3.0)(magnet, state)) == pytest.approx(3.0 * expected, abs=1e-12)


def test_low_power_is_that_of_all_layers():
    """weight log P."""
    intensity, energy = np.array([2.4e10]), np.array([1560.0])
    lit, _ = jax.tree.map(lambda x: x[0], _magnets(intensity, energy, np.array([6.0])))
    power = observe(intensity, energy)[3][0]
    assert float(LowPower(2.0)(lit, steady_state(lit))) == pytest.approx(2.0 * np.log(power), rel=1e-12)


@pytest.mark.long
def test_objectives_choose_among_the_solutions():
    """The losses by their definitions, and the design against a scan along the curve of all solutions."""
    target = 40.0
    intensities, energies = along_the_target(target)
    assert len(intensities) > 80
    scan = losses(intensities, energies)

    def own(magnet, state):
        return 0.3 * WideRange(0.1)(magnet, state)

    objectives = [LowIntensity(0.5), LowPower(), Quiet(2.0), Margin(0.06, 2.0), own]
    result = design(build, DARK, target, bounds=BOUNDS, objectives=objectives, restarts=4)
    assert result.feasible
    p = result.parameters
    np.testing.assert_allclose(result.loss, losses(np.array([p["intensity"]]), p["photon_energy"])[0], rtol=1e-6)
    # The minimum is inside the curve, and between the scan's points it lies a little lower.
    assert 0 < np.argmin(scan) < len(scan) - 1
    assert scan.min() - 2e-3 < result.loss < scan.min() + 1e-4, (result.loss, scan.min())


@pytest.mark.long
def test_ensembles():
    """The mean, or the middle, of the members meets the target; no laser along the scan has a smaller spread."""
    ensemble = gaussian_ensemble({"interlayer_exchange": 6.0}, {"interlayer_exchange": 0.3}, 8, seed=3)
    values = np.asarray(ensemble["interlayer_exchange"])
    assert abs(values.mean() - 6.0) < 0.1 and 0.15 < values.std() < 0.45

    def member(intensity, photon_energy, interlayer_exchange):
        return illuminated_bilayer(intensity, photon_energy, interlayer_exchange)

    def members(intensity, energy):
        return observe(np.asarray(intensity)[:, None], np.asarray(energy)[:, None], values[None, :])[0]

    mesh = [x.ravel() for x in np.meshgrid(np.linspace(1.5e10, 6e10, 61), np.linspace(1500.0, 1600.0, 41))]
    scan = members(*mesh)
    for worst_case in (False, True):
        result = design(member, DARK, 40.0, bounds=BOUNDS, ensemble=ensemble, worst_case=worst_case, restarts=4)
        each = members(*([result.parameters[name]] for name in BOUNDS))[0]
        np.testing.assert_allclose(result.each, each, rtol=1e-9)
        assert result.feasible and result.state is None
        aim = 0.5 * (each.min() + each.max()) if worst_case else each.mean()
        np.testing.assert_allclose(aim, 40.0, rtol=1e-7)
        centre = 0.5 * (scan.min(axis=1) + scan.max(axis=1)) if worst_case else scan.mean(axis=1)
        spreads = np.ptp(scan, axis=1) / 2.0 if worst_case else scan.std(axis=1)
        spread = np.ptp(each) / 2.0 if worst_case else each.std()
        close = (np.abs(centre / 40.0 - 1.0) < 0.01) & (scan > 0).all(axis=1)
        assert close.sum() > 20 and spread < 1.01 * (spreads[close] * 40.0 / centre[close]).min()
        assert "ensemble of 8" in design_sheet(result, member, BOUNDS)


# -- other parameters and observables ---------------------------------------------------------------------------------


def test_other_observables_and_parameters():
    """The spacer sets the exchange; damping and temperature take part; the angle is to be 2.3 rad, as a negative."""
    thickness, exchange = jnp.linspace(1.0, 3.0, 9), 12.0 * jnp.exp(-0.35 * jnp.linspace(1.0, 3.0, 9))

    def stack(intensity, spacer, damping_b, temperature):
        j = jnp.interp(spacer, thickness, exchange)
        damping = jnp.stack([jnp.full_like(damping_b, 0.1), damping_b])
        return illuminated_bilayer(intensity, 1550.0, j, damping=damping, temperature=temperature)

    wide = {"intensity": (0.0, 6e10), "spacer": (1.0, 3.0), "damping_b": (1e-3, 4e-3), "temperature": (8.0, 9.5)}
    result = design(stack, {"intensity": 0.0}, -2.3, bounds=wide, observable=lambda state: -state.angle)
    assert result.feasible and result.history.reached.mean() > 0.7 and result.error >= 0.0
    p = result.parameters
    j = float(np.interp(p["spacer"], thickness, exchange))
    oracle = replace(
        hand_made(p["intensity"], 1550.0),
        exchange=np.array([[10.0, j], [j, 5.0]]),
        damping=np.array([0.1, p["damping_b"]]),
        temperature=p["temperature"],
    )
    _, _, cosine, chase, _ = oracle.chiral((float(known(result).lengths[0]), float(np.cos(known(result).angle))))
    np.testing.assert_allclose(np.arccos(cosine), 2.3, rtol=1e-6)
    np.testing.assert_allclose(known(result).chase_frequency, chase / units.GHz, rtol=1e-6)


@pytest.mark.long
def test_three_layers():
    """A magnet whose steady states take time integration, led out of the aligned phase."""

    def build(loss_rate, coupling):
        j = jnp.diag(jnp.asarray([10.0, 5.0, 4.0])) + coupling * jnp.asarray(
            [[0, 1.0, 0.2], [1.0, 0, 1.0], [0.2, 1.0, 0]]
        )
        rates = jnp.stack([jnp.zeros_like(loss_rate), loss_rate, jnp.zeros_like(loss_rate)])
        return nrjax.LayeredMagnet(j, (0.1, 2e-3, 2e-3), -10.0, rates, 1.0, 9.0)

    result = design(
        build,
        {"loss_rate": 0.02, "coupling": 6.0},
        1400.0,
        observable="rotation_frequency",
        bounds={"loss_rate": (0.018, 0.08), "coupling": (5.0, 7.0)},
        restarts=1,
        steps=60,
    )
    assert result.feasible
    magnet = build(**{name: jnp.asarray(value) for name, value in result.parameters.items()})
    solution = simulate(magnet, default_start(magnet), 1500.0, max_steps=None)
    np.testing.assert_allclose(instantaneous_frequency(solution).rotation[-1], 1400.0, rtol=1e-4)


def test_a_restart_ends_at_the_best_that_it_has_seen():
    """An optimizer that throws the search about loses nothing of a good start."""
    bounds = {"intensity": (1e9, 6e10), "photon_energy": (1300.0, 2100.0)}
    options: Any = dict(bounds=bounds, objectives=[LowIntensity()], progress=False)
    found = design(illuminated_bilayer, None, 40.0, restarts=4, **options)
    wild = optax.adam(0.5)
    again = design(illuminated_bilayer, found.parameters, 40.0, restarts=1, steps=20, optimizer=wild, **options)
    assert found.feasible and again.feasible
    assert again.loss <= found.loss + 1e-5
