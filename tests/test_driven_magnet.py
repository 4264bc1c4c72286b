"""The whole road: laser, local moments, magnet, rotation."""

import functools
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nrjax import (
    Chirped,
    Gaussian,
    Laser,
    Lattice,
    LayeredMagnet,
    LocalMoment,
    OpticalTransition,
    Phase,
    Solution,
    Square,
    Tabulated,
    default_start,
    exposure,
    hanai2025_bilayer,
    illuminated_bilayer,
    instantaneous_frequency,
    layer_exchange,
    layer_susceptibility,
    simulate,
    simulate_many,
    steady_state,
    units,
)
from tests import differences
from tests.magnets import magnet_of
from tests.systems.bilayer import UNEQUAL

M = jnp.asarray([[0.3, -0.2, 0.6], [-0.1, 0.45, 0.2]])


def test_light_sets_the_published_bilayer():
    transition = OpticalTransition(1550.0, 1.0, 100.0)
    a, b = LocalMoment(-2000.0, 4000.0, 100.0), LocalMoment(-2000.0, 4000.0, 100.0, transition)
    laser = Laser(2.65e10, 1550.0)
    lit = hanai2025_bilayer(0.0, 6.0).with_light((a, b), laser)
    by_hand = hanai2025_bilayer(float(b.loss_rate(laser)), 6.0, sd_coupling=[-10.0, float(b.sd_coupling(laser))])
    np.testing.assert_allclose(lit.vector_field(0.0, M), by_hand.vector_field(0.0, M), rtol=1e-13)
    assert int(steady_state(lit).phase) == Phase.CHIRAL


def test_the_preset_is_made_of_what_it_is_given():
    """Every number of both layers is where it belongs."""
    given: dict[str, Any] = dict(
        level=(-1900.0, -2100.0),
        repulsion=(4100.0, 3900.0),
        hybridization=(90.0, 110.0),
        resonance=(1800.0, 1560.0),
        dipole=(0.9, 1.2),
        linewidth=(80.0, 120.0),
        fermi_energy=(30.0, -20.0),
    )
    names = ("level", "repulsion", "hybridization", "fermi_energy")
    moments = [
        LocalMoment(
            **{name: given[name][i] for name in names},
            transition=OpticalTransition(given["resonance"][i], given["dipole"][i], given["linewidth"][i]),
        )
        for i in range(2)
    ]
    numbers: dict[str, Any] = dict(damping=(0.07, 0.003), filling=(0.9, 1.1), temperature=(9.0, 8.0), gyro=1.9)
    lit = illuminated_bilayer(2e10, 1590.0, 5.5, **given, **numbers)
    j = [[10.0, 5.5], [5.5, 5.0]]
    by_hand = LayeredMagnet(j, numbers["damping"], -1.0, 0.0, numbers["filling"], numbers["temperature"], gyro=1.9)
    by_hand = by_hand.with_light(moments, Laser(2e10, 1590.0))
    np.testing.assert_allclose(lit.vector_field(0.0, M), by_hand.vector_field(0.0, M), rtol=1e-13)
    assert np.ptp(lit.loss_rate) > 1e-3 and np.ptp(lit.sd_coupling) > 0.1
    # What it is without being given any: gamma_B = kappa/400 at kappa = 20 meV on resonance, A 300 meV away, g = -10.
    ordinary = illuminated_bilayer()
    lorentzian = [2500.0 / (300.0**2 + 2500.0), 1.0]
    np.testing.assert_allclose(ordinary.loss_rate, 0.05 * np.array(lorentzian), rtol=2e-3)
    np.testing.assert_allclose(ordinary.sd_coupling, -10.0, rtol=2e-3)


def test_exchanging_the_resonances_exchanges_the_layers():
    j, damping = np.array([[10.0, 6.0], [6.0, 5.0]]), np.array([0.1, 0.002])
    one = illuminated_bilayer(exchange=j, damping=damping, resonance=(1850.0, 1550.0))
    other = illuminated_bilayer(exchange=j[::-1, ::-1], damping=damping[::-1], resonance=(1550.0, 1850.0))
    a, b = steady_state(one), steady_state(other)
    assert int(a.phase) == int(b.phase) == Phase.CHIRAL
    np.testing.assert_allclose(a.lengths, b.lengths[::-1], rtol=1e-8)
    np.testing.assert_allclose([a.angle, a.chase_frequency], [b.angle, b.chase_frequency], rtol=1e-8)
    # Light on A only leaves the layers of the reference bilayer aligned: A has the larger damping.
    assert int(steady_state(illuminated_bilayer(resonance=(1550.0, 1850.0))).phase) == Phase.ALIGNED


def test_no_light_is_the_reciprocal_magnet():
    dark = illuminated_bilayer(intensity=0.0)
    np.testing.assert_allclose(dark.vector_field(0.0, M), hanai2025_bilayer(0.0, 6.0).vector_field(0.0, M), rtol=1e-13)
    elsewhere = illuminated_bilayer(dipole=0.0)
    np.testing.assert_array_equal(elsewhere.loss_rate, 0.0)


@pytest.mark.parametrize(
    "envelope", [Gaussian(20.0, 15.0), Square(10.0, 30.0, 2.0), Chirped(3.0, 20.0), lambda t: 1.0 / (1.0 + t**2)]
)
def test_magnet_follows_the_envelope(envelope):
    driven = illuminated_bilayer(envelope=envelope)
    for t in (0.0, 11.0, 19.0, 31.5):
        laser = Laser(2.65e10, 1550.0, envelope).at(t)
        frozen = illuminated_bilayer(laser.intensity, laser.photon_energy)
        expected = frozen.vector_field(0.0, M)
        np.testing.assert_allclose(driven.vector_field(t * units.ps, M), expected, rtol=1e-12)
        scalars = driven.at(t * units.ps).layer_vector_fields([(m[0], m[1], m[2]) for m in M])
        np.testing.assert_allclose(jnp.stack([jnp.stack(m) for m in scalars]), expected, rtol=1e-12)
    np.testing.assert_allclose(driven.loss_rate, illuminated_bilayer().loss_rate)


def test_pulses():
    """A pulse shorter than the build-up leaves the dark state, a long one ends in the steady state of its plateau, and
    the chase stops when the light goes off. One compilation: the envelope is made of arrays."""
    dark = steady_state(illuminated_bilayer(intensity=0.0))
    plateau = steady_state(illuminated_bilayer())
    start = default_start(illuminated_bilayer())
    run = eqx.filter_jit(simulate)

    def pulsed(stop, times):
        model = illuminated_bilayer(envelope=Square(10.0, stop, 1.0))
        return run(model, start, times[-1], saveat=jnp.asarray(times))

    short = pulsed(11.5, [0.0, 9.0, 11.0, 400.0])
    np.testing.assert_allclose(np.linalg.norm(short.ms[3], axis=1), dark.lengths, rtol=1e-4)
    assert float(instantaneous_frequency(short).chase[3]) < 1e-6

    long = pulsed(900.0, [0.0, 9.0, 899.0, 1300.0])
    lengths = np.linalg.norm(long.ms[2], axis=1)
    cosine = float(long.ms[2, 0] @ long.ms[2, 1]) / lengths.prod()
    frequency = instantaneous_frequency(long)
    np.testing.assert_allclose(lengths, plateau.lengths, rtol=1e-4)
    assert np.arccos(cosine) == pytest.approx(float(plateau.angle), rel=1e-4)
    assert float(frequency.chase[2]) == pytest.approx(float(plateau.chase_frequency), rel=1e-4)
    assert float(frequency.rotation[2]) == pytest.approx(float(plateau.rotation_frequency), rel=1e-4)
    np.testing.assert_allclose(np.linalg.norm(long.ms[3], axis=1), dark.lengths, rtol=1e-4)
    assert float(frequency.chase[3]) < 1e-6


def test_a_late_short_pulse_is_not_stepped_over():
    """From an exact fixed point steps would grow without bound; the pulse must still act."""
    dark = steady_state(illuminated_bilayer(intensity=0.0), default_start(illuminated_bilayer()))
    rest = np.asarray(dark.lengths)[:, None] * np.array([[0.0, 0.0, 1.0]])
    times = np.array([4900.0, 4911.0])
    triangle = Tabulated([4899.9, 4900.0, 4900.1], [0.0, 1.0, 0.0])
    for envelope in (Square(4899.9, 4900.0, 0.05), triangle, Chirped(0.0, 0.0, Gaussian(4900.0, 0.1))):
        # A tenth of a picosecond, a fortieth of the steps that are taken in the dark.
        lit = illuminated_bilayer(2e12, envelope=envelope)
        solution = simulate(lit, rest, 4911.0, saveat=times, rtol=1e-10)
        close = simulate(lit, rest, 4911.0, t0=4899.0, saveat=times, rtol=1e-10)
        assert abs(float(solution.ms[1, 1, 2]) - rest[1, 2]) > 0.05
        np.testing.assert_allclose(solution.ms, close.ms, atol=1e-6)


@pytest.mark.parametrize("system", [UNEQUAL, UNEQUAL.relabelled()], ids=["B chases A", "A chases B"])
def test_instantaneous_frequency_of_rigid_states(system):
    magnet = magnet_of(system)
    state = steady_state(magnet)
    solution = simulate(magnet, state.m, 1.0, saveat=[0.0, 0.3, 1.0])
    assert float(state.chase_frequency) > 10.0
    frequency = instantaneous_frequency(solution)
    np.testing.assert_allclose(frequency.chase, float(state.chase_frequency), rtol=1e-5)
    np.testing.assert_allclose(frequency.rotation, float(state.rotation_frequency), rtol=1e-5)
    np.testing.assert_allclose(frequency.angular_velocity[0], state.angular_velocity, rtol=1e-5, atol=1e-9)
    # One moment precessing in a field: Omega = -gyro B across the moment; along it nothing shows.
    single = LayeredMagnet([[0.0]], 0.0, -10.0, 0.0, 1.0, 9.0, field=[[0.0, 0.0, 0.4]])
    turning = instantaneous_frequency(simulate(single, [[0.5, 0.0, 0.0]], 1.0))
    np.testing.assert_allclose(turning.angular_velocity[0], [0.0, 0.0, -0.8], atol=1e-9)
    still = instantaneous_frequency(simulate(single, [[0.0, 0.0, 0.0]], 1.0))
    np.testing.assert_array_equal(still.rotation, 0.0)


def test_the_chase_of_a_stack_is_that_of_its_first_two_layers():
    """A third, static moment along another direction changes the best rigid rotation, not the plane it is seen in."""
    ms = jnp.asarray([[[0.5, 0.0, 0.0], [0.0, 0.4, 0.0], [0.0, 0.3, 0.6]]])
    omega = jnp.asarray([0.3, -0.2, 0.7])
    velocities = jnp.cross(omega[None, None, :], ms) * units.ps
    seen = instantaneous_frequency(
        Solution(jnp.zeros(1), ms, diffrax.RESULTS.successful, {}, jnp.asarray(True), velocities)
    )
    np.testing.assert_allclose(seen.angular_velocity[0], omega, rtol=1e-10)
    np.testing.assert_allclose(seen.chase[0] * units.GHz, 0.7, rtol=1e-10)
    np.testing.assert_allclose(seen.rotation[0] * units.GHz, np.linalg.norm(omega), rtol=1e-10)


def test_batches_of_lasers():
    def build(intensity):
        return illuminated_bilayer(intensity, envelope=Square(1.0, 8.0, 0.5))

    intensities = jnp.asarray([0.0, 1e10, 3e10])
    start = default_start(build(1e10))
    batch = simulate_many(jax.vmap(build)(intensities), start, 10.0)
    assert batch.valid.all()
    for lane in (0, 2):
        alone = simulate(build(intensities[lane]), start, 10.0, saveat=[1.2, 10.0])
        np.testing.assert_allclose(batch.ms[lane], alone.ms[1:], atol=1e-9)
        # Velocities are those under the light of the saved times.
        assert alone.velocities is not None
        for t, m, velocity in zip(alone.ts, alone.ms, alone.velocities, strict=True):
            expected = build(intensities[lane]).vector_field(t * units.ps, m) * units.ps
            np.testing.assert_allclose(velocity, expected, rtol=1e-9, atol=1e-12)


@functools.cache
def band():
    return layer_susceptibility(Lattice.layered(16, 8, 10.0, 10.0), 9.0, filling=0.1)


NAMES = ("intensity", "photon_energy", "dipole", "linewidth", "repulsion", "level", "hybridization")
VALUES = (1.8e11, 1560.0, 1.0, 300.0, 4000.0, -2000.0, 200.0)


def band_magnet(intensity, photon_energy, dipole, linewidth, repulsion, level, hybridization):
    """All of A's light-torque, and part of the exchange, is carried by a conduction band."""
    a = LocalMoment(-2000.0, 4000.0, 400.0)
    b = LocalMoment(level, repulsion, hybridization, OpticalTransition(1550.0, dipole, linewidth))
    laser = Laser(intensity, photon_energy)
    mediated = layer_exchange(jnp.stack([a.sd_coupling(laser), b.sd_coupling(laser)]), band(), (0,))
    exchange = mediated + jnp.asarray([[0.0, 6.0], [6.0, 0.0]])
    magnet = LayeredMagnet(exchange, [0.1, 0.0005], -10.0, 0.0, 0.1, 9.0, mediated_exchange=mediated)
    return magnet.with_light((a, b), laser)


@pytest.mark.long
def test_derivatives_through_the_whole_chain():
    values = jnp.asarray(VALUES)

    def chase(relative):
        return steady_state(band_magnet(*(values * relative)), throw=False).chase_frequency

    one = jnp.ones(len(values))
    state = steady_state(band_magnet(*values))
    assert int(state.phase) == Phase.CHIRAL and float(state.chase_frequency) > 5.0
    gradient = np.asarray(jax.grad(chase)(one))
    assert (np.abs(gradient) > 1e-3).all()
    expected = differences.slopes(chase, one, 1e-4)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, err_msg=", ".join(NAMES))


@pytest.mark.long
def test_derivative_through_a_pulse():
    def final(width):
        model = illuminated_bilayer(envelope=Gaussian(10.0, width))
        return simulate(model, M, 15.0, rtol=1e-11, max_steps=4096).ms[-1, 1, 2]

    expected = differences.slope(jax.jit(final), 6.0, 1e-3)
    assert float(jax.grad(final)(6.0)) == pytest.approx(float(expected), rel=1e-6)


def test_exposure():
    # Layers of other fillings, an exchange of which a part is mediated, light between both resonances.
    jm, n = np.array([[6.0, 4.0], [3.0, 2.0]]), np.array([0.9, 1.1])
    magnet = illuminated_bilayer(2.65e10, 1600.0, mediated_exchange=jm, filling=n)
    state = steady_state(magnet)
    figures = exposure(magnet, state.m)
    m = np.asarray(state.m)
    rate = np.asarray(magnet.loss_rate) * (n - 2.0 * np.einsum("ai,ai->a", m, jm @ m) / np.asarray(magnet.sd_coupling))
    # meV times meV/hbar in W: e meV^2 / hbar, with hbar = 0.6582 meV ps.
    watt = 1.602176634e-22 / (units.HBAR_MEV_PS * 1e-12)
    np.testing.assert_allclose(figures.absorbed_power, 1600.0 * rate * watt * 1e9, rtol=1e-9)
    np.testing.assert_allclose(figures.detuning, [-250.0, 50.0])
    spin = np.linalg.norm(jm @ m, axis=1) / np.abs(np.asarray(magnet.sd_coupling))
    np.testing.assert_allclose(figures.polarization, spin / [0.45, 0.45], rtol=1e-9)
    text = str(figures)
    assert "MV/cm" in text and "nW" in text and "warning" not in text
    with pytest.raises(ValueError, match="no laser"):
        exposure(hanai2025_bilayer(), state.m)


def test_bad_pulses_and_names():
    with pytest.raises(ValueError, match="envelope = -1"):
        simulate(illuminated_bilayer(1.0, envelope=lambda t: -jnp.ones_like(t)), M, 1.0)
    with pytest.raises(TypeError, match="loss_rate follows from the laser"):
        illuminated_bilayer(loss_rate=0.05)
