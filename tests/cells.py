"""A magnet in several cells: coupled copies of it, whose deviations from the uniform rotation may grow."""

import jax
import jax.numpy as jnp
import numpy as np

from nrjax import LayeredMagnet, steady_state


def coupled_cells(magnet, share):
    """As many copies of a magnet as `share` has rows, with the exchange share_ij j from cell j on cell i."""
    share = np.asarray(share)
    copies = lambda x: jnp.concatenate([x] * len(share))  # noqa: E731
    return LayeredMagnet(
        jnp.asarray(np.kron(share, np.asarray(magnet.exchange))),
        copies(magnet.damping),
        copies(magnet.sd_coupling),
        copies(magnet.loss_rate),
        copies(magnet.filling),
        copies(magnet.temperature),
        gyro=magnet.gyro,
    )


def halves(factor):
    """The share of two cells: (1 + f)/2 within each and (1 - f)/2 between them."""
    return 0.5 * np.array([[1.0 + factor, 1.0 - factor], [1.0 - factor, 1.0 + factor]])


def turning_jacobian(magnet, m, omega):
    """Of the magnet's own vector field, in the frame that turns with Omega."""

    def rates(flat):
        moments = flat.reshape(-1, 3)
        return (magnet.vector_field(0.0, moments) - jnp.cross(omega[None, :], moments)).ravel()

    return np.asarray(jax.jacfwd(rates)(m.ravel()))


def growth_apart(magnet, share):
    """The largest growth rate in meV of deviations that are not the same in all cells."""
    state, n = steady_state(magnet), len(share)
    jacobian = turning_jacobian(coupled_cells(magnet, share), jnp.tile(state.m, (n, 1)), state.angular_velocity)
    # An orthonormal basis of what sums up to zero over the cells.
    apart = np.kron(np.linalg.svd(np.ones((1, n)))[2][1:], np.eye(state.m.size))
    return np.linalg.eigvals(apart @ jacobian @ apart.T).real.max()
