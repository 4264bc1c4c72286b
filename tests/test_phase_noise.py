"""The width of a chase's line, against numbers from outside, closed forms, trajectories and simulated single spins."""

import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.spatial.transform import Rotation

import nrjax
from nrjax import (
    ClassicalBath,
    Phase,
    QuantumBath,
    RotationLinewidth,
    default_start,
    hanai2025_bilayer,
    simulate,
    steady_state,
)
from nrjax.rotation.phase_noise import collision_noise, rotation_modes, second_moment
from tests.differences import slope
from tests.magnets import classical_bilayer
from tests.refusal import assert_refused

CLEAR = classical_bilayer(6.0, 2.0, 0.08)


def test_the_published_numbers_of_the_collision_model():
    """N D_par and N D_perp in meV, and the width in THz, from an independent prototype."""
    noise = nrjax.linewidth(CLEAR, 1.0)
    np.testing.assert_allclose([noise.parallel, noise.perpendicular], [1.16372, 1.52607], rtol=5e-6)
    assert round(float(noise.fwhm) / 1e3, 2) == 1.30
    hundred = nrjax.linewidth(CLEAR, 100.0)
    np.testing.assert_allclose(hundred.fwhm, noise.fwhm / 100.0, rtol=1e-12)
    np.testing.assert_allclose(hundred.spins_for_one_percent, noise.spins_for_one_percent, rtol=1e-12)
    narrow = nrjax.linewidth(CLEAR, noise.spins_for_one_percent)
    np.testing.assert_allclose(narrow.relative_width, 0.01, rtol=1e-12)


@pytest.mark.parametrize("gyro", [0.0, 2.0])
def test_rotation_modes_are_where_a_deviation_leads(gyro):
    """A deviation of a chase, followed until it has died out, has turned the moments by the angles that psi gives."""
    magnet = classical_bilayer(6.0, 2.0, 0.08, gyro)
    state = steady_state(magnet)
    m, omega = np.array(state.m), np.array(state.angular_velocity)
    psi = np.asarray(rotation_modes(magnet, state.m, state.angular_velocity))
    # Deviations decay by exp(-30).
    duration, size = 30.0 / abs(float(state.growth_rate)), 1e-5
    rng = np.random.default_rng(3)
    for _ in range(2):
        delta = rng.normal(size=(2, 3))
        turned = []
        for sign in (1.0, -1.0):
            end = simulate(
                magnet, m + sign * size * delta, duration * 0.658212, rtol=1e-11, max_steps=None, watch_tilt=False
            ).ms[-1]
            # Back in the turning frame, the rotation that brings m there.
            back = Rotation.from_rotvec(-omega * duration)
            turned.append(Rotation.align_vectors(back.apply(np.array(end)), m)[0].as_rotvec())
        angles = (turned[0] - turned[1]) / (2.0 * size)
        # Its axis, fixed in space, turns backwards in that frame.
        expected = back.apply(np.tensordot(psi, delta, 2))
        np.testing.assert_allclose(angles, expected, rtol=1e-5, atol=1e-5 * np.abs(angles).max())


def test_noise_of_equilibrium():
    """In darkness, across the moment: 4 alpha T, the theorem of Einstein; along it 2 r B'(h/T)."""
    magnet = classical_bilayer(6.0, 2.0, 0.0, gyro=2.0)
    state = steady_state(magnet)
    noise = np.asarray(collision_noise(magnet, state.m, jnp.zeros(3)))
    for layer in range(2):
        direction = np.asarray(state.m[layer] / state.lengths[layer])
        across = np.linalg.svd(direction[None])[2][1:]
        np.testing.assert_allclose(
            across @ noise[layer] @ across.T, 4.0 * float(magnet.damping[layer]) * 2.0 * np.eye(2), atol=1e-12
        )
        x = float(jnp.linalg.norm(magnet.effective_field(state.m)[layer])) / 2.0
        slope = 1.0 / x**2 - 1.0 / np.sinh(x) ** 2
        rate = 2.0 * float(magnet.damping[layer]) * 2.0 * x / (1.0 / np.tanh(x) - 1.0 / x)
        np.testing.assert_allclose(direction @ noise[layer] @ direction, 2.0 * rate * slope, rtol=1e-10)


@pytest.mark.parametrize("length", [0.0, 1e-3, 0.3, 0.9, 0.99])
def test_second_moments(length):
    """Of vectors with the density exp(kappa . S): by quadrature. Of a spin 1/2: that of Pauli matrices."""
    mean = jnp.asarray([0.6, 0.0, 0.8]) * length
    found = np.asarray(second_moment(ClassicalBath(), mean, jnp.asarray(3.0)))
    # The field of that length, by bisection on the closed form of the Langevin function.
    low, high = 0.0, 1000.0
    for _ in range(200):
        middle = 0.5 * (low + high)
        value = 1.0 / np.tanh(middle) - 1.0 / middle
        low, high = (middle, high) if value < length else (low, middle)
    weight = lambda z: np.exp(high * (z - 1.0))  # noqa: E731
    square = quad(lambda z: z * z * weight(z), -1, 1, epsabs=0)[0] / quad(weight, -1, 1, epsabs=0)[0]
    direction = np.outer([0.6, 0.0, 0.8], [0.6, 0.0, 0.8])
    expected = 0.5 * (1.0 - square) * (np.eye(3) - direction) + square * direction
    np.testing.assert_allclose(found, expected, atol=1e-8)
    np.testing.assert_allclose(second_moment(QuantumBath(), mean, jnp.asarray(3.0)), np.eye(3), atol=1e-9)


def test_it_turns_with_the_state_and_is_a_number_of_each_lane():
    state = steady_state(CLEAR)
    turn = jnp.asarray(Rotation.from_rotvec([0.3, -1.0, 0.5]).as_matrix())
    turned = eqx.tree_at(lambda s: (s.m, s.angular_velocity), state, (state.m @ turn.T, turn @ state.angular_velocity))
    one, other = nrjax.linewidth(CLEAR, state=state), nrjax.linewidth(CLEAR, state=turned)
    np.testing.assert_allclose([one.parallel, one.perpendicular], [other.parallel, other.perpendicular], rtol=1e-10)
    losses = np.linspace(0.0, 0.08, 3)
    found = nrjax.sweep(
        lambda loss: classical_bilayer(6.0, 2.0, loss),
        {"loss": losses},
        observe=["phase", RotationLinewidth(spins=1.0)],
    )
    assert found["linewidth"].attrs["units"] == "GHz"
    np.testing.assert_array_equal(np.isnan(found["linewidth"]), found["phase"] != Phase.CHIRAL)
    np.testing.assert_allclose(found["linewidth"][-1], nrjax.linewidth(CLEAR, 1.0).fwhm, rtol=1e-9)


def test_derivative():
    def width(loss):
        magnet = hanai2025_bilayer(loss, 6.0)
        return nrjax.linewidth(magnet, state=steady_state(magnet)).fwhm

    np.testing.assert_allclose(jax.grad(width)(0.05), slope(width, 0.05, 1e-4), rtol=1e-6)


def test_what_has_no_line():
    dark = hanai2025_bilayer(0.0, 6.0)
    assert np.isnan(float(nrjax.linewidth(dark).fwhm)) and "no valid chase" in str(nrjax.linewidth(dark))
    # Faster light than the layer forgets: |u_B| > r_B, and no spin can follow.
    driven = eqx.tree_at(lambda m: m.light.sd_coupling, CLEAR, jnp.asarray([-10.0, -0.5]))
    lengths = jnp.linalg.norm(driven.exchange_rates() @ steady_state(CLEAR).m, axis=1)
    assert lengths[1] > -(driven.linear_rates(steady_state(CLEAR).m) - driven.exchange_rates())[1, 1]
    assert np.isnan(np.asarray(collision_noise(driven, steady_state(CLEAR).m, jnp.zeros(3)))).all()
    field = hanai2025_bilayer(0.05, 6.0, field=jnp.asarray([0.0, 0.0, 0.1]))
    assert_refused(lambda: nrjax.linewidth(field), ["isotropic", "Zeeman"])
    assert_refused(lambda: nrjax.linewidth(dark, 0.0), ["spins", "greater than 0"])
    assert not RotationLinewidth().exists_for(field) and RotationLinewidth().exists_for(dark)


def test_lines_of_a_chase_and_of_its_trajectory():
    """Of the total moment, each layer and the staggered one: lines at 0 and |Omega|, and in between nothing."""
    magnet = hanai2025_bilayer(0.05, 6.0)
    state = steady_state(magnet)
    noise = nrjax.linewidth(magnet, 1e9, state)
    lines = nrjax.spectrum(state, noise)
    np.testing.assert_array_equal(lines.frequency, [0.0, state.rotation_frequency])
    np.testing.assert_array_equal(lines.fwhm, [noise.fwhm_at_zero, noise.fwhm])
    assert list(lines.signal.values) == ["total", "layer 0", "layer 1", "staggered"]
    assert np.all(lines.polarization[:, 1] == 1.0) and lines.frequency.attrs["units"] == "GHz"
    # Forty periods: whole numbers of them, so that both lines lie on a frequency of the grid.
    duration, samples = 40e3 / float(state.rotation_frequency), 1600
    times = np.arange(samples) * duration / samples
    moved = simulate(magnet, state.m, duration, saveat=times, rtol=1e-10, max_steps=None)
    seen = nrjax.spectrum(moved)
    at = seen.frequency.values.searchsorted(float(state.rotation_frequency) * (1.0 - 1e-6))
    np.testing.assert_allclose(seen.frequency[at], state.rotation_frequency, rtol=1e-9)
    np.testing.assert_allclose(seen.amplitude[:, [0, at]], lines.amplitude, rtol=1e-5)
    np.testing.assert_allclose(seen.polarization[:, at], 1.0, atol=1e-5)
    elsewhere = np.ones(seen.frequency.size, bool)
    elsewhere[[0, 1, at - 1, at, at + 1]] = False
    assert float(seen.amplitude[:, elsewhere].max()) < 1e-5
    # The chase frequency is among these.
    assert elsewhere[seen.frequency.values.searchsorted(float(state.chase_frequency))]


def test_lines_faster_than_the_saved_times_are_warned_of():
    """A rotation at 946 GHz, seen once in a picosecond, would be a line at 54 GHz."""
    magnet = hanai2025_bilayer(0.05, 6.0)
    state = steady_state(magnet)
    moved = simulate(magnet, state.m, 40.0, saveat=np.linspace(0.0, 40.0, 41))
    with pytest.warns(UserWarning, match=r"up to 94\d\.\d GHz.* up to 500 GHz.*at least every 0\.42 ps"):
        nrjax.spectrum(moved)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nrjax.spectrum(simulate(magnet, state.m, 40.0, saveat=np.linspace(0.0, 40.0, 101)))


def test_lines_of_what_does_not_turn_in_a_circle():
    """An ellipse with half axes 0.3 and 0.2 at 250 GHz; a state that rests; what has no spectrum."""
    times = np.arange(400) * 0.1
    angle = 2.0 * np.pi * 0.25 * times
    moments = np.stack([0.3 * np.cos(angle), 0.2 * np.sin(angle), 0.5 + 0.0 * angle], axis=1)[:, None]
    solution = eqx.tree_at(
        lambda s: (s.ts, s.ms), simulate(hanai2025_bilayer(), default_start(hanai2025_bilayer()), 1.0), (times, moments)
    )
    seen = nrjax.spectrum(solution).sel(signal="layer 0")
    line = seen.sel(frequency=250.0, method="nearest")
    np.testing.assert_allclose(line.frequency, 250.0, rtol=1e-12)
    np.testing.assert_allclose([line.amplitude, line.polarization], [0.3, 2 * 0.3 * 0.2 / (0.3**2 + 0.2**2)], rtol=1e-9)
    np.testing.assert_allclose(seen.amplitude[0], 0.5, rtol=1e-12)
    # What stands still shows nowhere else, and what changes from one time to the next with its own amplitude.
    np.testing.assert_allclose(seen.amplitude[1:9], 0.0, atol=1e-12)
    moments = moments + 0.05 * np.array([0.0, 0.0, 1.0]) * (-1.0) ** np.arange(400)[:, None, None]
    changed = nrjax.spectrum(eqx.tree_at(lambda s: s.ms, solution, moments)).sel(signal="layer 0")
    np.testing.assert_allclose(changed.amplitude[-1], 0.05, rtol=1e-9)
    still = nrjax.spectrum(steady_state(hanai2025_bilayer(0.0, 6.0)))
    assert still.frequency.values.tolist() == [0.0] and "fwhm" not in still
    np.testing.assert_allclose(
        still.amplitude[1:3, 0], np.linalg.norm(steady_state(hanai2025_bilayer(0.0, 6.0)).m, axis=1), rtol=1e-12
    )
    uneven = eqx.tree_at(lambda s: s.ts, solution, times**1.01)
    assert_refused(lambda: nrjax.spectrum(uneven), ["equally spaced", "saveat"])
    batch = jax.vmap(lambda loss: steady_state(hanai2025_bilayer(loss, 6.0), throw=False))(jnp.asarray([0.0, 0.05]))
    assert_refused(lambda: nrjax.spectrum(batch), ["batch", "(2,)"])


def collisions(magnet, spins, step, steps, seed):
    """Moments of single spins that forget their direction at random and take a thermal one: shape (steps, 2, 3).

    For gyro = 0, and with the fields of the step's beginning.
    """
    rng = np.random.default_rng(seed)
    rates = np.asarray(magnet.exchange_rates())
    exchange, damping = np.asarray(magnet.exchange), np.asarray(magnet.damping)
    loss, temperature = np.asarray(magnet.loss_rate), float(magnet.temperature[0])
    state = steady_state(magnet)

    def directions(mean, count):
        """From the density exp(kappa . S) of that mean."""
        length = np.linalg.norm(mean)
        kappa = 3.0 * length
        for _ in range(100):
            value, slope = 1 / np.tanh(kappa) - 1 / kappa, 1 / kappa**2 - 1 / np.sinh(kappa) ** 2
            kappa -= (value - length) / slope
        z = 1.0 + np.log1p(-rng.random(count) * -np.expm1(-2.0 * kappa)) / kappa
        angle, radius = rng.uniform(0.0, 2.0 * np.pi, count), np.sqrt(np.maximum(1.0 - z * z, 0.0))
        axis = mean / length
        first = np.linalg.svd(axis[None])[2][1]
        second = np.cross(axis, first)
        return z[:, None] * axis + radius[:, None] * (np.cos(angle)[:, None] * first + np.sin(angle)[:, None] * second)

    each = np.stack([directions(m, spins) for m in np.asarray(state.m)])
    recorded = np.empty((steps, 2, 3))
    for index in range(steps):
        m = each.mean(axis=1)
        recorded[index] = m
        drive, field = rates @ m, np.linalg.norm(exchange @ m, axis=1)
        x = field / temperature
        rate = 2.0 * damping * field / (1 / np.tanh(x) - 1 / x) + loss
        for layer in range(2):
            hit = np.flatnonzero(rng.random(spins) < -np.expm1(-rate[layer] * step))
            each[layer, hit] = directions(drive[layer] / rate[layer], hit.size)
    return recorded


@pytest.mark.long
def test_simulated_spins_diffuse_at_that_rate():
    """The axis of the chase of 4000 spins wanders with 2 D_perp t, within the statistics of the run."""
    spins, step, steps, lag = 4000, 0.05, 400_000, 4000
    moments = collisions(CLEAR, spins, step, steps, seed=7)
    normal = np.cross(moments[:, 0], moments[:, 1])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    products = np.sum(normal[:-lag:lag] * normal[lag::lag], axis=1)
    across = -np.log(products.mean()) / (2.0 * lag * step) * spins
    error = products.std() / np.sqrt(len(products)) / products.mean() / (2.0 * lag * step) * spins
    assert error < 0.25
    assert abs(across - float(nrjax.linewidth(CLEAR, 1.0).perpendicular)) < 3.0 * error
