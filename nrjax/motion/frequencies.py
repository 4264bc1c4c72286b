"""The rotation of moments at every instant of a trajectory."""

from functools import partial
from typing import Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .. import units
from .._numerics.ready_programs import PASSED_OVER, kept
from .._numerics.small_matrices import safe_sqrt
from .rigid_rotation import closest_rotation, leading_pair, turning
from .solution import Solution


class InstantaneousFrequency(NamedTuple):
    """Rotation against time.

    - `times`: ps, shape (times,).
    - `chase`: |n . Omega| / 2 pi hbar in GHz, n the normal of the plane of the first two moments that span one;
      0 while all are collinear.
    - `rotation`: |Omega| / 2 pi hbar in GHz.
    - `angular_velocity`: Omega in meV, shape (times, 3).
    - `swing`: max_a |Omega x m_a| / (|Omega| max_a |m_a|), 0 to 1: how much of the moments turns. A frequency whose
      swing is small (a nearly collinear pair about its own axis) is there, but hardly to be seen.
    """

    times: Float[Array, " times"]
    chase: Float[Array, " times"]
    rotation: Float[Array, " times"]
    angular_velocity: Float[Array, "times 3"]
    swing: Float[Array, " times"]


@partial(kept, brief=PASSED_OVER)
def instantaneous_frequency(solution: Solution) -> InstantaneousFrequency:
    """The rigid rotation that comes closest to the motion at every saved time,

        Omega = argmin sum_a |dm_a/dt - Omega x m_a|^2,   i.e.  J Omega = sum_a m_a x dm_a/dt,
        J = sum_a (|m_a|^2 - m_a m_a^T).

    On a relative equilibrium it is the exact angular velocity, and equals that of `steady_state`. It uses the
    velocities of the equation of motion, so that the spacing of the saved times does not matter. Of collinear moments
    only the rotation across their axis shows; while a nearly collinear pair aligns, `rotation` is the precession of its
    small tilt.

    **Arguments** `solution`: from `simulate`, saved at the times of interest.

    **Returns** an `InstantaneousFrequency`.

    **Raises** `ValueError` if the solution carries no velocities.
    """
    if solution.velocities is None:
        raise ValueError("the solution has no velocities. Take it from simulate(), or fill in `velocities` (1/ps).")
    chase, omega = jax.vmap(_at_one_time)(solution.ms, solution.velocities)
    rotation = safe_sqrt(jnp.sum(omega**2, axis=-1))
    moving = safe_sqrt(jnp.max(jnp.sum(jax.vmap(turning)(omega, solution.ms) ** 2, axis=-1), axis=-1))
    size = rotation * safe_sqrt(jnp.max(jnp.sum(solution.ms**2, axis=-1), axis=-1))
    swing = moving / jnp.where(size > 0, size, 1.0)
    return InstantaneousFrequency(solution.ts, jnp.abs(chase) / units.GHz, rotation / units.GHz, omega, swing)


# Less swing than this is not shown, and its turns are not counted.
VISIBLE_SWING: Final = 1e-2


def visible(frequency: InstantaneousFrequency, values: Float[Array, " times"]) -> Float[np.ndarray, " times"]:
    """Values of the times at which something turns that a probe could see; NaN at the others."""
    return np.where(np.asarray(frequency.swing) > VISIBLE_SWING, np.asarray(values), np.nan)


def _at_one_time(m: Float[Array, "L n"], velocity: Float[Array, "L n"]) -> tuple[Float[Array, ""], Float[Array, "3"]]:
    """(n . Omega, Omega) in meV from moments and velocities in 1/ps."""
    omega, spread = closest_rotation(m, velocity / units.ps)
    return jnp.where(spread, jnp.dot(leading_pair(m).normal, omega), 0.0), omega
