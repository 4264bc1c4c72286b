"""What a probe of the moments sees of a steady state: lines, their amplitudes and their widths."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._numerics.small_matrices import safe_sqrt
from .._numerics.validation import is_concrete
from ..motion.phases import Phase
from ..motion.rigid_rotation import in_space
from .phase_noise import RotationNoise
from .rigid_states import SteadyState


class Spectrum(eqx.Module):
    """Lines of a rigid state: one at zero frequency, one at the frequency of the rotation, none at that of the chase.

    - `signals`: what is looked at: the total moment (its radiation), each layer (Kerr effect, XMCD), the staggered
      moment.
    - `frequency`: |Omega|/2 pi hbar in GHz, 0 for a state that does not turn.
    - `still`: |M . Omega|/|Omega| of each signal, shape (signals,): the line at zero frequency.
    - `turning`: |M x Omega|/|Omega|, shape (signals,): the line at `frequency`, circularly polarized about Omega.
    - `width`, `still_width`: of both lines, full width at half maximum in GHz; NaN if no noise was given.

    Amplitudes are in units of the saturated moment of one layer. All NaN where there is no rigid state.
    """

    signals: tuple[str, ...] = eqx.field(static=True)
    frequency: Float[Array, ""]
    still: Float[Array, " signals"]
    turning: Float[Array, " signals"]
    width: Float[Array, ""]
    still_width: Float[Array, ""]

    def __str__(self) -> str:
        if not is_concrete(self.frequency) or self.frequency.ndim:
            return f"Spectrum(frequency{self.frequency.shape})"
        rows = [f"{'':10s} {'at 0 GHz':>10s} {f'at {float(self.frequency):.6g} GHz':>16s}"]
        rows += [
            f"{name:10s} {float(still):10.4g} {float(turning):16.4g}"
            for name, still, turning in zip(self.signals, self.still, self.turning, strict=True)
        ]
        if not np.isnan(float(self.width)):
            rows.append(f"{'width, GHz':10s} {float(self.still_width):10.3g} {float(self.width):16.3g}")
        return "\n".join(rows)


def spectrum(state: SteadyState, noise: RotationNoise | None = None) -> Spectrum:
    """The lines of a rigid rotation,

        M(t) = M_0 + Re[M_1 exp(-i |Omega| t)],   |M_0| = |M . Omega|/|Omega|,   |M_1| = |M x Omega|/|Omega|,

    for the sum of all moments, for each layer, and for the sum with alternating signs.

    **Arguments** `state`: from `steady_state`. `noise`: from `linewidth`, for the widths.

    **Returns** a `Spectrum`. Differentiable; batches by vmap.

    The chase frequency omega_c is the part of Omega across the plane of the moments. It is no line of its own: where
    exchange makes the moments precess (gyro other than 0), |Omega| is many times larger.

    **Source** docs/physics.md, "The width of the line".
    """
    m = in_space(state.m)
    layers = m.shape[0]
    signs = jnp.where(jnp.arange(layers) % 2 == 0, 1.0, -1.0).astype(m.dtype)
    moments = jnp.concatenate([jnp.sum(m, axis=0)[None], m, (signs @ m)[None]])
    turns = state.phase == Phase.CHIRAL
    omega = jnp.where(turns, state.angular_velocity, jnp.asarray([0.0, 0.0, 1.0], m.dtype))
    axis = omega / safe_sqrt(jnp.sum(omega**2))
    along = moments @ axis
    across = safe_sqrt(jnp.sum((moments - jnp.outer(along, axis)) ** 2, axis=1))
    length = safe_sqrt(jnp.sum(moments**2, axis=1))
    nothing = jnp.full((), jnp.nan, m.dtype)
    return Spectrum(
        ("total", *(f"layer {a}" for a in range(layers)), "staggered"),
        jnp.where(state.valid, state.rotation_frequency, jnp.nan),
        jnp.where(state.valid, jnp.where(turns, jnp.abs(along), length), jnp.nan),
        jnp.where(state.valid, jnp.where(turns, across, 0.0), jnp.nan),
        nothing if noise is None else noise.width,
        nothing if noise is None else noise.axis_width,
    )
