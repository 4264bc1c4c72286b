"""The phases of a layered magnet, told from a state or from a trajectory."""

import enum
from typing import Final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .._numerics.validation import is_concrete
from .rigid_rotation import leading_pair
from .solution import Solution


class Phase(enum.IntEnum):
    """What the moments of a magnet do.

    - `PARAMAGNETIC`: all moments vanish.
    - `ALIGNED`: the moments of the first two layers point the same way (or only one layer is ordered).
    - `ANTIALIGNED`: they point opposite ways.
    - `CHIRAL`: they enclose an angle and rotate rigidly, one chasing the other.
    - `MODULATED`: lengths or angle themselves keep oscillating.
    - `UNRESOLVED`: could not be told; never a guess.

    With a field or an anisotropy a static canted state counts as aligned or antialigned by the sign of m_0 . m_1.
    """

    PARAMAGNETIC = 0
    ALIGNED = 1
    ANTIALIGNED = 2
    CHIRAL = 3
    MODULATED = 4
    UNRESOLVED = -1


def label(
    *, ordered: Bool[Array, ""], cosine: Float[Array, ""], collinear: Bool[Array, ""], rotating: Bool[Array, ""]
) -> Int[Array, ""]:
    """The phase of a rigid state, as the integer of `Phase`.

    **Arguments** whether any moment is nonzero; the cosine between the first two moments; whether all are collinear;
    whether the state rotates.
    """
    parallel = jnp.where(cosine > 0, Phase.ALIGNED, Phase.ANTIALIGNED)
    phase = jnp.where(~collinear & rotating, Phase.CHIRAL, parallel)
    return jnp.where(ordered, phase, Phase.PARAMAGNETIC).astype(jnp.int32)


class TrajectoryPhase(eqx.Module):
    """What a trajectory has become by its end.

    - `phase`: integer of `Phase`.
    - `lengths`: mean |m_a| over the last half, shape (L,).
    - `angle`: mean angle between layers 0 and 1 over the last half, rad (0 for one layer).
    - `spread`: peak-to-peak variation of the scalar products m_a . m_b over the last quarter, relative to their size.
    """

    phase: Int[Array, ""]
    lengths: Float[Array, " L"]
    angle: Float[Array, ""]
    spread: Float[Array, ""]

    def __str__(self) -> str:
        if not is_concrete(self.phase) or self.phase.ndim:
            return f"TrajectoryPhase(phase{self.phase.shape})"
        lengths = ", ".join(f"{x:.6g}" for x in np.asarray(self.lengths))
        return f"{Phase(int(self.phase)).name}: lengths {lengths}, angle {float(self.angle):.6g} rad"


SETTLED_SPREAD: Final = 1e-3
VANISHED_LENGTH: Final = 1e-3


def classify_trajectory(solution: Solution) -> TrajectoryPhase:
    """Tell the phase from the last half of a trajectory, without using the equations of motion.

    The scalar products G_ab = m_a . m_b do not see a rigid rotation. If they stand still over the last quarter the
    state is rigid and gets the label of its last moments; if they oscillate with the same amplitude in the third
    quarter, and with a tilt that does not grow, it is MODULATED; if they drift, UNRESOLVED: integrate for longer.

    **Arguments** `solution`: a `simulate` result saved at 16 or more evenly spaced times.

    **Raises** `ValueError` if there are fewer times.
    """
    times = solution.ms.shape[0]
    if times < 16:
        raise ValueError(
            f"the trajectory has {times} saved times: classify_trajectory needs 16. Set saveat=linspace(...)."
        )
    ms = jnp.where(jnp.isfinite(solution.ms), solution.ms, 0.0)
    gram = jnp.einsum("tai,tbi->tab", ms, ms)
    third, fourth = gram[times // 2 : 3 * times // 4], gram[3 * times // 4 :]
    size = jnp.maximum(jnp.max(jnp.einsum("taa->t", fourth)), jnp.finfo(ms.dtype).tiny)

    def peak_to_peak(part: Array) -> Array:
        return jnp.max(jnp.max(part, axis=0) - jnp.min(part, axis=0)) / size

    now, before = peak_to_peak(fourth), peak_to_peak(third)
    steady = now < SETTLED_SPREAD
    # A tilt that still grows on top of a repeating motion ends that motion sooner or later, however small it is.
    tilt_now, tilt_before = _largest_tilt(fourth) / size**2, _largest_tilt(third) / size**2
    growing = (tilt_now > 1.05 * tilt_before) & (tilt_now > 1e-12)
    shrinking = (tilt_now < 0.95 * tilt_before) & (tilt_now > SETTLED_SPREAD)
    recurrent = ~steady & (jnp.abs(now - before) < 0.02 * now) & ~growing & ~shrinking

    lengths = jnp.sqrt(jnp.einsum("taa->ta", gram))
    end = gram[-1]
    vanished = jnp.max(lengths[times // 2 :]) < VANISHED_LENGTH
    squares = jnp.diag(end)
    products = squares[:, None] * squares[None, :]
    sine_squared = jnp.where(products > 0, 1.0 - end**2 / jnp.where(products > 0, products, 1.0), 0.0)
    collinear = jnp.max(sine_squared) < SETTLED_SPREAD
    step = jnp.linalg.norm(ms[-1] - ms[-2]) / jnp.sqrt(size)

    def seen(m: Array) -> tuple[Array, Array]:
        pair = leading_pair(m)
        return pair.cosine, pair.angle

    cosines, angles = jax.vmap(seen)(ms[times // 2 :])
    rigid = label(ordered=~vanished, cosine=cosines[-1], collinear=collinear, rotating=step > 1e-6)
    phase = jnp.where(steady | vanished, rigid, jnp.where(recurrent, Phase.MODULATED, Phase.UNRESOLVED))
    return TrajectoryPhase(
        jnp.where(solution.valid, phase, Phase.UNRESOLVED).astype(jnp.int32),
        jnp.mean(lengths[times // 2 :], axis=0),
        jnp.mean(angles),
        now,
    )


def _largest_tilt(gram: Float[Array, "times L L"]) -> Float[Array, ""]:
    """max |m_a x m_b|^2 over times and pairs."""
    squares = jnp.einsum("taa->ta", gram)
    return jnp.max(squares[:, :, None] * squares[:, None, :] - gram**2)
