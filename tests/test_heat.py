"""Heat: the balance of energies, closed forms of two temperatures, and how long a chase lasts before it melts."""

import re
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm
from scipy.optimize import brentq

from nrjax import (
    DzyaloshinskiiMoriya,
    Laser,
    LayeredMagnet,
    MaxTemperature,
    Phase,
    Square,
    ThermalModel,
    exposure,
    hanai2025_bilayer,
    illuminated_bilayer,
    ordering_temperature,
    simulate,
    steady_state,
    sweep,
    turns,
    units,
)
from nrjax.rotation.turns_before_melting import estimated_turns, price_of_light
from tests.differences import slope
from tests.refusal import assert_refused

MAGNET = hanai2025_bilayer(0.05, 6.0)
GADOLINIUM = {"electronic": 4.65e-5, "lattice": 0.2585, "coupling": 0.0434, "bath_temperature": 8.5}
PHOTON = 1550.0


def thermal(cooling_time=jnp.inf, **options):
    arguments: dict[str, Any] = GADOLINIUM | {"cooling_time": cooling_time, "photon_energy": PHOTON} | options
    return ThermalModel(**arguments)


@pytest.mark.parametrize("conduction", [None, 0.01])
@pytest.mark.parametrize("electronic", [4.65e-5, 0.0])
def test_energy_is_kept(conduction, electronic):
    """absorbed = stored + carried away, under a pulse, through melting; and what is absorbed is what exposure says."""
    laser = Laser(2e10, PHOTON, Square(0.02, 0.3, 0.02))
    magnet = illuminated_bilayer(laser.intensity, laser.photon_energy, envelope=laser.envelope)
    model = thermal(0.7, conduction=conduction, electronic=electronic)
    times = np.linspace(0.0, 2.0, 41)
    course = simulate(magnet, steady_state(MAGNET).m, 2.0, saveat=times, thermal=model).heat
    assert course is not None
    balance = np.asarray(course.absorbed - course.stored - course.carried_away)
    if conduction is not None:
        # What one layer loses to the other is no loss of both.
        assert np.abs(balance).max() > 1e-3
        balance = balance.mean(axis=1)
    assert np.abs(balance).max() < 1e-12 * float(course.absorbed.max())
    # 0.3 ps of full light and two ramps of 0.02 ps around it.
    assert float(course.absorbed[-1].mean()) > 0.2 and np.ptp(np.asarray(course.absorbed[-4:].mean(axis=1))) < 1e-12
    short = simulate(
        magnet.with_laser(laser.plateau()), steady_state(MAGNET).m, 1e-4, saveat=[1e-4], thermal=model, rtol=1e-10
    )
    assert short.heat is not None
    state = steady_state(MAGNET)
    power = np.mean(exposure(magnet, state.m).absorbed_power) * units.nW * units.ps
    np.testing.assert_allclose(short.heat.absorbed.mean() / 1e-4, power, rtol=2e-3)


def test_two_temperatures_against_a_matrix_exponential():
    """Of constant capacities, C_e = electronic T_0: the limit of small power. Without moments the power is constant."""
    model = ThermalModel(1e-3, 0.3, 0.02, 3.0, 8.617)
    base, capacity = float(model.base), 1e-3 * float(model.base)
    t, steps = 5.0, 2000
    dt = t / steps

    @jax.jit
    def warming(power):
        def step(_, heat):
            slope = heat
            total = heat
            for share, weight in ((0.0, 1 / 6), (0.5, 1 / 3), (0.5, 1 / 3), (1.0, 1 / 6)):
                at = jax.tree.map(lambda x, v: x + share * dt * v, heat, slope) if share else heat  # noqa: B023
                slope = model.rates(power[None], at)
                total = jax.tree.map(lambda x, v: x + weight * dt * v, total, slope)  # noqa: B023
            return total

        heat = jax.lax.fori_loop(0, steps, step, model.at_rest(1, jnp.float64))
        return jnp.stack([x[0] - base for x in model.temperatures(heat)])

    # Per power, a series in the power: what is left of it falls with the fourth order of 3e-3.
    table = [np.asarray(warming(jnp.asarray(power))) / power for power in 8e-3 / 2.0 ** np.arange(4)]
    for order in (1, 2, 3):
        table = [(2**order * fine - coarse) / (2**order - 1) for coarse, fine in zip(table, table[1:], strict=False)]
    matrix = np.array([[-0.02 / capacity, 0.02 / capacity], [0.02 / 0.3, -0.02 / 0.3 - 1 / 3.0]])
    expected = np.linalg.solve(matrix, (expm(matrix * t) - np.eye(2)) @ [1.0 / capacity, 0.0])
    np.testing.assert_allclose(table[0], expected, rtol=1e-10)


def test_a_steady_sample_is_warmer_by_power_over_coupling():
    """P/G between electrons and lattice, P tau/C_l between lattice and substrate; the state is that of its warmth."""
    magnet = hanai2025_bilayer(0.05, 6.0)
    model = thermal(2e-3, coupling=5.0)
    warm = steady_state(magnet, thermal=model)
    power = float(warm.power)
    np.testing.assert_allclose(warm.lattice_temperature - model.base, power * 2e-3 / 0.2585, rtol=1e-9)
    np.testing.assert_allclose(warm.electron_temperature - warm.lattice_temperature, power / 5.0, rtol=1e-9)
    assert bool(warm.balanced) and int(warm.balances) == 1
    itself = steady_state(
        hanai2025_bilayer(0.05, 6.0, temperature=float(warm.electron_temperature) * units.kelvin), throw=False
    )
    assert int(itself.phase) == int(warm.phase)
    np.testing.assert_allclose(warm.lengths, itself.lengths, rtol=1e-8, atol=1e-12)
    # Light at which the sample stays ordered: cooled well, weakly lit, of a small quantum.
    gentle = thermal(2e-3, coupling=20.0, photon_energy=100.0)
    chasing = steady_state(magnet, thermal=gentle)
    assert bool(chasing.valid) and "balances" not in str(chasing) and float(chasing.chase_frequency) > 1.0
    resistance = 2e-3 / 0.2585 + 1 / 20.0

    def excess(kelvin):
        state = steady_state(hanai2025_bilayer(0.05, 6.0, temperature=kelvin * units.kelvin))
        s = np.asarray(state.m)
        j = np.array([[10.0, 6.0], [6.0, 5.0]])
        singlets = 1.0 + 0.2 * s[1] @ (j[1] @ s)
        return kelvin - float(gentle.base) - resistance * 0.5 * 100.0 * 0.05 * singlets * units.ps

    root: Any = brentq(excess, float(gentle.base) + 0.01, float(gentle.base) + 5.0, xtol=1e-11)
    np.testing.assert_allclose(chasing.electron_temperature, root, rtol=1e-10)


@pytest.mark.long
def test_derivatives_of_a_warm_state():
    gentle = thermal(2e-3, coupling=20.0, photon_energy=100.0)

    def frequency(loss):
        return steady_state(hanai2025_bilayer(loss, 6.0), thermal=gentle, throw=False).chase_frequency

    np.testing.assert_allclose(jax.grad(frequency)(0.05), slope(frequency, 0.05, 1e-4), rtol=1e-5)


def test_layers_that_conduct_are_warm_each_by_itself():
    """The lit layer is warmer, and the dark one keeps its order; the same by time integration, and for fast flow."""
    magnet = hanai2025_bilayer(0.05, 6.0)

    def warm_of(conduction, **options):
        model = thermal(0.01, photon_energy=20.0, conduction=conduction, **options)
        return model, steady_state(magnet, thermal=model, throw=False)

    model, warm = warm_of(0.02)
    assert bool(warm.valid) and int(warm.balances) == 1 and int(warm.phase) == Phase.CHIRAL
    hot, cold = warm.electron_temperature[1], warm.electron_temperature[0]
    # What flows from B to A is what A gives to its lattice: it absorbs nothing.
    flow = 0.02 * (hot - cold)
    np.testing.assert_allclose(flow, (cold - warm.lattice_temperature[0]) * 0.0434, rtol=1e-9)
    np.testing.assert_allclose(warm.power[1], flow + (hot - warm.lattice_temperature[1]) * 0.0434, rtol=1e-9)
    assert warm.power[0] == 0.0 and float(hot - cold) > 10.0
    course = simulate(magnet, np.asarray(warm.m) * 1.01, 150.0, saveat=[150.0], thermal=model, rtol=1e-9)
    assert course.heat is not None
    np.testing.assert_allclose(course.heat.electrons[-1], warm.electron_temperature, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(course.ms[-1], axis=1), warm.lengths, rtol=1e-3)
    # Through flow without bound all layers are of one temperature.
    _, fast = warm_of(1e7, coupling=1.0)
    one = steady_state(magnet, thermal=thermal(0.01, photon_energy=20.0, coupling=1.0))
    np.testing.assert_allclose(fast.electron_temperature, [float(one.electron_temperature)] * 2, rtol=1e-6)
    np.testing.assert_allclose(fast.chase_frequency, one.chase_frequency, rtol=1e-5)
    assert " K, lattice at " in str(warm) and ", " in str(warm).split(" K")[0]


@pytest.mark.long
def test_derivatives_of_layers_that_conduct():
    def frequency(loss):
        model = thermal(0.01, photon_energy=20.0, conduction=0.02)
        return steady_state(hanai2025_bilayer(loss, 6.0), thermal=model, throw=False).chase_frequency

    np.testing.assert_allclose(jax.grad(frequency)(0.05), slope(frequency, 0.05, 1e-4), rtol=1e-5)


def test_infinite_capacity_is_the_isothermal_magnet():
    model = thermal(1.0, lattice=1e13, coupling=1e13, electronic=1e8)
    magnet = hanai2025_bilayer(0.05, 6.0, temperature=8.5)
    state, warm = steady_state(magnet), steady_state(magnet, thermal=model)
    assert int(state.phase) == int(warm.phase) and bool(warm.valid)
    np.testing.assert_allclose(warm.chase_frequency, state.chase_frequency, rtol=1e-9)
    np.testing.assert_allclose(warm.lengths, state.lengths, rtol=1e-9)
    start, times = np.asarray(state.m) + 0.01, np.linspace(0.5, 5.0, 4)
    isothermal = simulate(magnet, start, 5.0, saveat=times, rtol=1e-11)
    heated = simulate(magnet, start, 5.0, saveat=times, thermal=model, rtol=1e-11)
    np.testing.assert_allclose(heated.ms, isothermal.ms, atol=1e-9)
    assert heated.velocities is not None and isothermal.velocities is not None
    np.testing.assert_allclose(heated.velocities, isothermal.velocities, atol=1e-7)


def test_what_orders_at_no_temperature():
    """0, not the end of a bracket; and the greatest of several roots."""

    def magnet(exchange, damping, loss):
        return LayeredMagnet(exchange, damping, -10.0, loss, 1.0, 1.0, gyro=0.0)

    never = magnet([[-2.0, -8.0], [-8.0, 5.0]], [0.1, 0.002], [0.0, 0.025])
    for temperature in (1e-3, 1.57, 3.139, 30.0):
        warm = eqx.tree_at(lambda m: m.temperature, never, jnp.full(2, temperature))
        assert np.linalg.eigvals(np.asarray(warm.rates_at_rest())).real.max() < 0
    assert float(ordering_temperature(never)) == 0.0
    of_exchange = jax.grad(lambda j: ordering_temperature(eqx.tree_at(lambda m: m.exchange, never, never.exchange + j)))
    assert float(of_exchange(0.0)) == 0
    assert float(ordering_temperature(magnet([[7.0]], 0.1, 0.0))) == pytest.approx(7.0, rel=1e-12)
    # Random magnets: the last sign change of the spectrum on a fine grid.
    rng = np.random.default_rng(5)
    for _ in range(20):
        some = magnet(rng.uniform(-8, 8, (2, 2)), 10 ** rng.uniform(-2.7, -0.7, 2), rng.uniform(0, 0.1, 2))
        grid = np.linspace(1e-6, 60.0, 4001)
        rest = np.asarray(some.rates_at_rest()) + np.diag(2.0 * np.asarray(some.damping))
        decays = -2.0 * np.asarray(some.damping)[None, :] * grid[:, None]
        growth = np.linalg.eigvals(rest + decays[:, :, None] * np.eye(2)).real.max(axis=1)
        expected = grid[np.flatnonzero(growth > 0)[-1]] if (growth > 0).any() else 0.0
        assert float(ordering_temperature(some)) == pytest.approx(expected, abs=0.016)


def test_where_anisotropic_order_is_lost():
    """An easy axis adds K to the exchange along it, T = j + K, and an easy plane nothing; in a field m = 0 is no state.
    A Dzyaloshinskii-Moriya term by the magnet's own equation of motion: its linearization at m = 0 by differences."""

    def single(strength):
        return LayeredMagnet([[10.0]], 0.1, -10.0, 0.0, 1.0, 9.0, anisotropy=strength)

    np.testing.assert_allclose([float(ordering_temperature(single(k))) for k in (2.0, -1.0)], [12.0, 10.0], rtol=1e-10)
    found = jax.grad(lambda k: ordering_temperature(single(k)))(2.0)
    np.testing.assert_allclose(found, 1.0, rtol=1e-9)
    assert np.isnan(ordering_temperature(hanai2025_bilayer(0.05, 6.0, field=[0.0, 0.0, 0.1])))

    twist = DzyaloshinskiiMoriya.reciprocal(2, {(0, 1): (0.0, 0.0, 4.0)})
    twisted = hanai2025_bilayer(0.05, 6.0, gyro=0.0, terms=(twist,))

    def growth(temperature):
        warm = eqx.tree_at(lambda m: m.temperature, twisted, jnp.full(2, temperature))
        rates = [warm.vector_field(0.0, 1e-6 * jnp.eye(6)[i].reshape(2, 3)).ravel() for i in range(6)]
        return np.linalg.eigvals(np.stack(rates, axis=1)).real.max() / 1e-6

    expected: Any = brentq(growth, 9.0, 12.0, xtol=1e-9)
    np.testing.assert_allclose(ordering_temperature(twisted), expected, rtol=1e-7)


@pytest.mark.parametrize("conduction", [0.0, 0.5])
def test_layers_that_conduct_melt_no_sooner_than_estimated(conduction):
    """The lit one alone takes the heat: the estimate is its count where it hands nothing on, and else below it."""
    model = thermal(bath_temperature=9.0, electronic=4.65e-3, conduction=conduction)
    counted, estimate = turns(MAGNET, model, 10.0), estimated_turns(MAGNET, model, steady_state(MAGNET))
    assert bool(counted.valid) and bool(counted.ended)
    assert float(estimate) < 1.02 * float(counted.chase)
    if conduction == 0.0:
        np.testing.assert_allclose(estimate, counted.chase, rtol=0.02)


@pytest.mark.long
def test_the_warming_of_a_steady_sample_that_conducts():
    """Of a paramagnet, whose power no temperature changes, the limit's temperature is that of the balance."""
    paramagnet = hanai2025_bilayer(0.2, 6.0)
    for options in (dict(conduction=2.0), dict(conduction=None), dict(conduction=2.0, follows="lattice")):
        model = thermal(0.005, coupling=2.0, photon_energy=1550.0, **options)
        warm = steady_state(paramagnet, thermal=model)
        felt = warm.lattice_temperature if model.follows == "lattice" else warm.electron_temperature
        found = MaxTemperature(model, 1e4).quantity(paramagnet, warm.state)
        np.testing.assert_allclose(found, jnp.max(felt), rtol=1e-9)


def test_turns_at_the_published_point():
    """A thousandth of a turn even if the lattice takes its share at once; 1.9 photons for each lit atom and turn."""
    model = thermal(bath_temperature=9.0)
    melting = ordering_temperature(MAGNET)
    # trace W(0) = 0: 0.2 (10 - T) + 0.004 (5 - T) - 2 x 0.05 x 5/10 - 0.05 = 0.
    np.testing.assert_allclose(melting, (2.0 + 0.02 - 0.05 - 0.05) / 0.204, rtol=1e-10)
    found = turns(MAGNET, model, 1.0)
    assert bool(found.valid) and bool(found.ended)
    frequency = float(steady_state(MAGNET).chase_frequency) * 1e-3
    warming = float(melting - 9.0) / units.kelvin
    assert 4.5 < warming < 5.0
    # gamma_B [n - (2/g) m_B . sum_b j_Bb m_b] over the frequency, for layer B alone; published as 1.9.
    m = np.asarray(steady_state(MAGNET).m)
    photons = 0.05 * (1.0 + 0.2 * m[1] @ (np.array([6.0, 5.0]) @ m)) * units.ps / frequency
    np.testing.assert_allclose(2 * found.photons_per_turn, photons, rtol=1e-9)
    assert 1.75 < photons < 2.0
    hot, cold = float(melting) / units.kelvin, 9.0 / units.kelvin
    alone = 0.5 * 4.65e-5 * (hot**2 - cold**2)
    np.testing.assert_allclose(found.estimate_electrons, alone / found.power * frequency, rtol=1e-9)
    np.testing.assert_allclose(found.estimate, (alone + 0.2585 * warming) / found.power * frequency, rtol=1e-9)
    assert 5e-4 < float(found.estimate) < 2e-3
    # The lattice has no time to help: the count is that of the electrons, nearly.
    np.testing.assert_allclose(found.chase, found.estimate_electrons, rtol=0.02)
    np.testing.assert_allclose(found.electron_temperature, found.limit, rtol=1e-9)
    np.testing.assert_allclose(found.chase / found.time, frequency, rtol=0.01)
    assert "until the order melts" in str(found)


@pytest.mark.long
def test_turns_of_a_cold_bright_future():
    """An insulator with a small quantum of light: many turns, their derivatives, and batches."""

    def count(capacity, loss=0.05):
        model = ThermalModel(0.0, capacity, 1.0, jnp.inf, 8.5, follows="lattice", photon_energy=20.0)
        return turns(hanai2025_bilayer(loss, 6.0), model, 200.0)

    found = count(10.0)
    assert bool(found.ended) and float(found.chase) > 0.3 and bool(found.valid)
    # All of the heat is the lattice's: capacity times warming over power, but for the change of the power on the way.
    np.testing.assert_allclose(found.chase, found.estimate, rtol=0.1)

    def looked_at(capacity):
        found = count(capacity)
        return jnp.stack([found.chase, found.time, found.rotation, found.absorbed])

    derivative = jax.jvp(looked_at, (10.0,), (1.0,))[1]
    np.testing.assert_allclose(derivative, slope(looked_at, 10.0, 0.05), rtol=1e-5)

    # Of a sample that stays below its limit: how warm it is at the end.
    def end(capacity):
        found = count(capacity)
        return jnp.stack([found.electron_temperature, found.lattice_temperature])

    assert not bool(count(1e3).ended)
    warming = jax.jvp(end, (1e3,), (1.0,))[1]
    assert (np.abs(warming) > 1e-4).all()
    np.testing.assert_allclose(warming, slope(end, 1e3, 5.0), rtol=1e-5)
    many = jax.vmap(count)(jnp.array([5.0, 10.0, 1e6]))
    np.testing.assert_allclose(many.chase[1], found.chase, rtol=1e-8)
    assert not bool(many.ended[2]) and float(many.time[2]) == pytest.approx(200.0)
    lower = turns(
        hanai2025_bilayer(0.05, 6.0),
        ThermalModel(0.0, 10.0, 1.0, jnp.inf, 8.5, follows="lattice", photon_energy=20.0),
        200.0,
        limit=99.0,
    )
    assert float(lower.limit) == 99.0 and float(lower.chase) < float(found.chase)


@pytest.mark.long
def test_a_map_of_turns_over_intensity_and_length_of_the_pulse():
    """One sweep: each point as it is by itself. Longer pulses never turn less; after the light nothing chases."""
    model = ThermalModel(0.0, 500.0, 1.0, jnp.inf, 8.5, follows="lattice")

    def lit(intensity, length):
        return illuminated_bilayer(intensity, PHOTON, envelope=Square(0.1, length, 0.1))

    def counted(magnet):
        found = turns(magnet, model, 60.0)
        return {"turns": found.chase, "ended": found.ended, "valid": found.valid}

    axes = {"intensity": [1.5e10, 2.65e10, 4e10], "length": [5.0, 20.0]}
    found = sweep(lit, axes, observe=counted, progress=False)
    assert found["turns"].dims == ("intensity", "length") and bool(found["valid"].all())
    assert (np.diff(found["turns"], axis=1) >= -1e-9).all() and float(found["turns"].min()) > 0.0
    for intensity, length in ((1.5e10, 5.0), (4e10, 20.0)):
        alone = turns(lit(intensity, length), model, 60.0)
        point = found.sel(intensity=intensity, length=length)
        np.testing.assert_allclose(point["turns"], alone.chase, rtol=1e-7)
        assert bool(point["ended"]) == bool(alone.ended)


def test_light_that_is_not_absorbed_goes_on():
    magnet = illuminated_bilayer(0.0)
    text = price_of_light(magnet, steady_state(magnet).m, 0.0)
    assert "each ps brings 0 mJ/cm^2, inf nm deep" in text and "photons" not in text


def test_the_price_in_words():
    """The line of sheets and commands, against the exposure and the temperature at which trace W(0) = 0."""
    magnet = illuminated_bilayer(2.65e10, PHOTON)
    state = steady_state(magnet)
    text = price_of_light(magnet, state.m, state.chase_frequency)
    photons, margin, warming = (float(x) for x in re.findall(r"(?<![\w.])\d+\.?\d*(?:e[-+]\d+)?(?= photons| K)", text))
    power = float(np.mean(exposure(magnet, state.m).absorbed_power)) * units.nW * units.ps
    np.testing.assert_allclose(photons, power / (PHOTON * float(state.chase_frequency) * 1e-3), rtol=5e-3)
    np.testing.assert_allclose(warming, power / (3 * units.kelvin), rtol=5e-3)
    rates = np.diag(np.asarray(magnet.exchange_rates())) - np.asarray(magnet.light_torque()[1])
    melting = rates.sum() / (2.0 * float(magnet.damping.sum()))
    np.testing.assert_allclose(margin, (melting - float(magnet.temperature[0])) / units.kelvin, rtol=5e-3)
    # 2.65e10 W/cm^2 for 1e-12 s; I V/P with P in watts (1 meV/ps is 1.602e-10 W).
    fluence, depth = (float(x) for x in re.findall(r"[\d.]+(?= mJ| nm)", text))
    np.testing.assert_allclose(fluence, 26.5, rtol=5e-3)
    watts = power * 1.602176634e-10
    np.testing.assert_allclose(depth, 2.65e14 * 33.1e-30 / watts * 1e9, rtol=5e-3)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: thermal(electronic=-1e-5), ["electronic", "-1e-05"]),
        (lambda: thermal(lattice=0.0), ["lattice", "0"]),
        (lambda: thermal(coupling=0.0), ["coupling", "0", "warms"]),
        (lambda: thermal(cooling_time=-1.0), ["cooling_time", "-1"]),
        (lambda: thermal(bath_temperature=0.0), ["bath_temperature", "k_B T_0"]),
        (lambda: thermal(conduction=-0.1), ["conduction", "-0.1"]),
        (lambda: thermal(follows="spins"), ["follows", "spins"]),
        (lambda: turns(MAGNET, thermal(bath_temperature=9.6)), ["bath_temperature", "111.4", "109.2", "colder"]),
        (lambda: turns(MAGNET, thermal(photon_energy=None)), ["photon_energy", "missing"]),
        (lambda: turns(MAGNET, thermal(), -1.0), ["t1", "-1"]),
        (lambda: turns(MAGNET, thermal(), limit=0.0), ["limit", "K"]),
        (lambda: turns(MAGNET, thermal(), limit=50.0), ["limit = 50 K", "98.64 K", "higher"]),
        (lambda: turns(hanai2025_bilayer(0.05, 6.0, field=[0.0, 0.0, 0.1]), thermal()), ["field", "Give limit"]),
        (lambda: steady_state(MAGNET, thermal=thermal()), ["cooling_time = inf", "turns()"]),
    ],
)
def test_bad_input(make, words):
    assert_refused(make, words)
