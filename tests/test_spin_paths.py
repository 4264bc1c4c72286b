"""Single spins on fixed paths of the noise, against Diffrax's solver of stochastic differential equations."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nrjax import ClassicalBath, LayeredMagnet, SpinLattice
from nrjax.motion.spin_steps import llg_drift, turned

PATHS, T1, FINE = 256, 1.0, 1024
START = (0.6, 0.0, 0.8)


@pytest.mark.computes
def test_rotations_follow_a_path_of_the_noise():
    """dS = S x [(gyro h + u x S) dt + sqrt(2 D) o dW] by kicks and drifts, against Euler and Heun on the same Brownian
    path: with steps four times as short the error halves, as it must where increments are all that is known of noise
    that does not commute; with the same increments both agree."""
    magnet = LayeredMagnet([[0.0]], 0.2, -10.0, 0.0, 1.0, 1.5, gyro=2.0, field=[0.0, 0.4, 1.0], bath=ClassicalBath())
    lattice = SpinLattice(magnet, (PATHS, 1, 1))
    noise = jnp.sqrt(2.0 * lattice.diffusion()[0])
    keys = jax.random.split(jax.random.key(11), PATHS)

    def path(key):
        return diffrax.VirtualBrownianTree(0.0, T1, 1e-5, (3,), key)

    @jax.jit
    @jax.vmap
    def by_diffrax(key):
        def drift(t, s, args):
            field, drive = (jnp.stack(x).reshape(3) for x in lattice.fields([tuple(s[:, None, None, None])])[0])
            return jnp.cross(s, magnet.gyro * field + jnp.cross(lattice.llg_factor * drive, s))

        def spread(t, s, args):
            return noise * jnp.stack([jnp.cross(s, e) for e in jnp.eye(3)], axis=1)

        terms = diffrax.MultiTerm(diffrax.ODETerm(drift), diffrax.ControlTerm(spread, path(key)))
        found = diffrax.diffeqsolve(
            terms, diffrax.EulerHeun(), 0.0, T1, T1 / FINE, jnp.array(START), max_steps=2 * FINE
        )
        assert found.ys is not None
        return found.ys[0]

    @jax.jit
    def by_rotations(increments):
        def step(s, dw):
            kicked = turned(s, tuple(-noise * dw[:, k, None, None] for k in range(3)))
            dt = jnp.asarray(T1 / increments.shape[0])
            middle = turned(kicked, llg_drift(lattice, [kicked], 0.5 * dt)[0])
            return turned(kicked, llg_drift(lattice, [middle], dt)[0]), None

        start = tuple(jnp.full((PATHS, 1, 1), x) for x in START)
        return jnp.stack(jax.lax.scan(step, start, increments)[0])[:, :, 0, 0].T

    exact = np.asarray(by_diffrax(keys))
    times = jnp.linspace(0.0, T1, FINE + 1)
    walks = jax.jit(jax.vmap(lambda key: jax.vmap(path(key).evaluate)(times), out_axes=1))(keys)

    def error(steps):
        found = np.asarray(by_rotations(jnp.diff(walks[:: FINE // steps], axis=0)))
        return np.sqrt(np.mean(np.sum((found - exact) ** 2, axis=1)))

    errors = [error(n) for n in (4, 16, 64)]
    ratios = np.divide(errors[:-1], errors[1:])
    np.testing.assert_allclose(ratios, 2.0, atol=0.3)
    assert error(FINE) < 0.02 * errors[0]
