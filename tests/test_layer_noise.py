"""Layers of N spins fluctuate: against Boltzmann's distribution, the statistics of switching on, and the linewidth."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nrjax import (
    ClassicalBath,
    LayeredMagnet,
    PlanarBath,
    Square,
    ThermalModel,
    UnrolledTsit5,
    hanai2025_bilayer,
    illuminated_bilayer,
    linewidth,
    simulate,
    steady_state,
    units,
)
from nrjax.motion.coordinates import Components
from nrjax.motion.layer_noise import Fluctuating, lower_root
from nrjax.rotation.phase_noise import collision_noise
from tests.magnets import classical_bilayer
from tests.refusal import assert_refused

EXCHANGE, TEMPERATURE = np.array([[5.0, 2.0], [2.0, 4.0]]), 3.0


def paramagnet(gyro=1.0, damping=(0.5, 0.3)):
    """Two layers above their Curie point."""
    return LayeredMagnet(EXCHANGE, damping, -10.0, 0.0, 1.0, TEMPERATURE, bath=ClassicalBath(), gyro=gyro)


def realizations(magnet, m0, t1, times, spins, count, seed=0):
    """Trajectories of `count` keys, shape (count, times, L, 3)."""

    def one(key):
        done = simulate(magnet, m0, t1, saveat=times, spins=spins, key=key, rtol=1e-6, throw=False)
        return done.ms, done.valid

    moments, valid = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(seed), count))
    assert bool(jnp.all(valid))
    return np.asarray(moments)


def test_noise_balances_relaxation_in_the_dark():
    """Curie and Weiss: the moments of N classical spins at H/N = -m j m/2 have the covariance (3 - j/T)^-1/N, which a
    linear relaxation W keeps if W S + S W^T + C/N = 0."""
    spins, m0 = 1e4, jnp.zeros((2, 3))
    magnet = paramagnet()
    coordinates = Fluctuating(Components(magnet), jnp.asarray(spins))
    root = np.asarray(coordinates.noise(jnp.asarray(0.0), coordinates.start(m0)))
    expected, w = np.linalg.inv(3.0 * np.eye(2) - EXCHANGE / TEMPERATURE), np.asarray(magnet.linear_rates(m0))
    for component in range(3):
        noise = spins * np.diag((root @ root.transpose(0, 2, 1))[:, component, component])
        np.testing.assert_allclose(w @ expected + expected @ w.T, -noise, rtol=1e-12, atol=1e-12)


@pytest.mark.computes
@pytest.mark.long
@pytest.mark.parametrize("count, tolerance", [(60, 0.15), (600, 0.05)])
def test_fluctuations_in_the_dark_are_boltzmann_s(count, tolerance):
    """The same covariance, of moments that precess in each other's fields while they fluctuate."""
    spins, times = 1e4, np.arange(5.0, 21.0, 3.0)
    moments = realizations(paramagnet(), jnp.zeros((2, 3)), 20.0, times, spins, count)
    covariance = spins * np.einsum("ktax,ktbx->ab", moments, moments) / (3 * moments.shape[0] * moments.shape[1])
    expected = np.linalg.inv(3.0 * np.eye(2) - EXCHANGE / TEMPERATURE)
    # 1080 or 10800 numbers: 4 % or 1.4 % of a variance.
    np.testing.assert_allclose(covariance, expected, rtol=tolerance)
    assert abs(np.mean(moments)) < 4.0 * np.sqrt(expected.max() / spins / moments.size)


def test_noise_is_that_of_the_linewidth():
    """At a rotating state, with the second moments that it comes to, the noise is the one that widens its line."""
    magnet = classical_bilayer(5.0, 3.0, 0.05, gyro=2.0)
    state = steady_state(magnet)
    coordinates = Fluctuating(Components(magnet), jnp.asarray(1.0))
    turn = jnp.cross(state.angular_velocity[None, :], jnp.eye(3)).T

    def turning_rates(flat):
        """dQ/dt in the frame that turns with the magnet, linear in Q."""
        q = flat.reshape(2, 3, 3)
        return (coordinates.rates(jnp.asarray(0.0), (state.m, q))[1] - turn @ q - q @ turn.T).reshape(18)

    zero = jnp.zeros(18)
    q = jnp.linalg.solve(jax.jacfwd(turning_rates)(zero), -turning_rates(zero)).reshape(2, 3, 3)
    np.testing.assert_allclose(jnp.trace(q, axis1=1, axis2=2), 1.0, rtol=1e-9)
    root = coordinates.noise(jnp.asarray(0.0), (state.m, q))
    found, expected = root @ root.swapaxes(1, 2), collision_noise(magnet, state.m, state.angular_velocity)
    np.testing.assert_allclose(found, expected, atol=1e-9 * float(jnp.max(expected)))


def test_root_of_a_covariance():
    rng = np.random.default_rng(3)
    factor = rng.normal(size=(3, 3))
    for covariance in (factor @ factor.T, np.outer(factor[0], factor[0]), np.zeros((3, 3))):
        root = np.asarray(lower_root(jnp.asarray(covariance)))
        np.testing.assert_allclose(root @ root.T, covariance, atol=1e-9)


@pytest.mark.long
@pytest.mark.parametrize("count, tolerance", [(200, 0.18), (3000, 0.05)])
def test_a_chase_starts_at_random_times(count, tolerance):
    """Just after the light comes on the tilt is |z| e^(growth t), z a complex Gaussian: ln |z| has the mean
    ln <|z|^2>^(1/2) - euler/2 and the spread pi/(2 sqrt 6), whatever N. <|z|^2> is what the smooth tilt holds."""
    spins, times = 1e8, np.array([20.0, 25.0])
    magnet = illuminated_bilayer(2.65e10, 1550.0, envelope=Square(10.0, 200.0, 0.1), gyro=0.0)
    rest = steady_state(magnet.without_light()).m
    moments = realizations(magnet, rest, 25.0, times, spins, count)
    smooth = simulate(magnet, rest, 25.0, saveat=times, spins=spins)
    tilts = np.log(np.linalg.norm(np.cross(moments[:, :, 0], moments[:, :, 1]), axis=-1))
    held = np.log(np.linalg.norm(np.cross(np.asarray(smooth.ms)[:, 0], np.asarray(smooth.ms)[:, 1]), axis=-1))
    assert np.exp(held[1]) < 0.02
    spread = np.pi / (2.0 * np.sqrt(6.0))
    np.testing.assert_allclose(np.std(tilts, axis=0), spread, rtol=tolerance)
    np.testing.assert_allclose(np.mean(tilts, axis=0), held - 0.5 * np.euler_gamma, atol=4.0 * spread / np.sqrt(count))


def test_noise_has_a_key_of_its_own():
    """It falls like 1/sqrt(N), and neither the other lanes of a batch nor the times that are saved change it."""
    magnet, m0, times = paramagnet(), jnp.zeros((2, 3)), np.array([2.0, 4.0])
    many = realizations(magnet, m0, 4.0, times, 1e6, 3)
    key = jax.random.split(jax.random.key(0), 3)[1]
    alone = simulate(magnet, m0, 4.0, saveat=times, spins=1e6, key=key, rtol=1e-6)
    np.testing.assert_allclose(alone.ms, many[1], rtol=1e-9, atol=1e-15)
    fewer = simulate(magnet, m0, 4.0, saveat=times, spins=1e4, key=key, rtol=1e-6)
    np.testing.assert_allclose(fewer.ms, 10.0 * alone.ms, rtol=0.05, atol=1e-3)
    more_times = simulate(magnet, m0, 4.0, saveat=np.linspace(0.0, 4.0, 33), spins=1e6, key=key, rtol=1e-6)
    np.testing.assert_allclose(more_times.ms[-1], alone.ms[-1], rtol=0.05, atol=1e-4)
    assert not np.allclose(many[0], many[1], rtol=0.1)


def test_spins_that_never_forget_make_no_noise():
    """A layer without damping and light precesses, and keeps its length."""
    magnet = paramagnet(damping=(0.5, 0.0))
    m0 = jnp.asarray([[0.1, 0.0, 0.2], [0.3, 0.0, 0.4]])
    done = simulate(magnet, m0, 4.0, saveat=[2.0, 4.0], spins=1e4, key=jax.random.key(0))
    assert bool(done.valid)
    np.testing.assert_allclose(np.linalg.norm(done.ms[:, 1], axis=1), 0.5, rtol=1e-6)
    assert abs(np.linalg.norm(done.ms[-1, 0]) - np.linalg.norm(m0[0])) > 1e-3


def test_what_does_not_go_with_noise_is_refused():
    magnet, m0, key = hanai2025_bilayer(0.05), jnp.asarray([[0.0, 0.1, 0.5], [0.0, 0.0, 0.5]]), jax.random.key(0)
    assert_refused(lambda: simulate(magnet, m0, 1.0, key=key), ["spins=N", "leave key out"])
    assert_refused(lambda: simulate(magnet, m0, 1.0, spins=0.5, key=key), ["spins = 0.5", "1 or greater"])
    assert_refused(
        lambda: simulate(magnet, m0, 1.0, spins=1e4, key=key, thermal=ThermalModel.gadolinium(1.0, 9.0)),
        ["thermal", "Leave thermal out"],
    )
    assert_refused(lambda: simulate(magnet, m0, 1.0, spins=1e4, key=key, solver=UnrolledTsit5()), ["solver"])
    planar = LayeredMagnet([[1.0, 0.5], [0.5, 1.0]], 0.3, -10.0, 0.0, 1.0, 3.0, bath=PlanarBath())
    assert_refused(lambda: simulate(planar, m0, 1.0, spins=1e4, key=key), ["PlanarBath", "ClassicalBath"])
    assert_refused(lambda: linewidth(planar), ["PlanarBath", "leave the noise out"])


@pytest.mark.long
def test_the_chase_diffuses_as_its_linewidth_says():
    """The direction of layer A, across the axis of the chase, loses its phase at D_par + D_perp."""
    spins, lags = 20_000, np.array([0.0, 100.0, 200.0])
    magnet = classical_bilayer(6.0, 2.0, 0.08)
    state = steady_state(magnet)
    expected = linewidth(magnet, spins, state)
    moments = realizations(magnet, state.m, 300.0, 100.0 + lags, spins, 600)
    # Without precession the axis is m_A x m_B, and its wandering is D_perp about each of two axes.
    axes = np.cross(moments[:, :, 0], moments[:, :, 1])
    axes /= np.linalg.norm(axes, axis=-1, keepdims=True)
    cosine = np.mean(np.sum(axes[:, :1] * axes[:, 1:], axis=-1), axis=0)
    rates = -np.log(cosine) / (lags[1:] * units.ps)
    np.testing.assert_allclose(rates, 2.0 * float(expected.perpendicular), rtol=0.12)
