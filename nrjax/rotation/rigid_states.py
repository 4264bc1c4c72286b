"""A steady state and what is told of it: built in one place from moments and angular velocity, whoever found them."""

from typing import Any, Final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .. import units
from .._numerics.precision import collinear_tolerance, residual_tolerance
from .._numerics.small_matrices import safe_sqrt
from .._numerics.validation import in_range, is_concrete
from ..magnets import AbstractOrderParameters
from ..motion.phases import Phase
from ..motion.rigid_rotation import LeadingPair, leading_pair, turning

# What a detector makes of the two frequencies of a rigid rotation.
PROBE: Final = " (the line that a probe sees)"


class RESULTS(eqx.Enumeration):
    """Why a steady state is, or is not, valid; the text says what to do."""

    successful = ""
    modulated = (
        "The shape of the state keeps moving: phase MODULATED, with observables averaged over the last stretch. No "
        "closed orbit was found that attracts and solves the model's own vector_field. Use simulate() to look at the "
        "motion."
    )
    not_settled = (
        "The dynamics from m0 did not settle within max_steps; close to a phase boundary it is critically slow. "
        "Raise max_steps, give another m0, or move the parameters away from the boundary."
    )
    not_an_attractor = (
        "Newton's method left the state that the dynamics reached for another or an unstable one: the parameters are "
        "very close to a phase boundary. Look at branches(model), or move the parameters."
    )
    inconsistent = (
        "The state that was found does not solve the magnet's own vector_field: its bath, light or field do not obey "
        "what the solver takes for granted. Look at state.residual; use simulate(), and report it."
    )
    nonfinite = (
        "NaN, infinity or a number out of its range in the parameters, in m0 or in the dynamics. Check the lane's "
        "parameters."
    )
    truncated = (
        "Spherical harmonics that were left out would change the state: look at state.residual, and make the "
        "FokkerPlanckMagnet with a greater lmax."
    )
    beyond_saturation = (
        "A moment is longer than a saturated one, which no layer has: the torque of light, linear in the moments, is "
        "used beyond its range. Look at state.lengths; take weaker light, or a smaller mediated_exchange."
    )
    no_orbit = (
        "The shape seems to repeat itself, but no closed orbit that attracts was found: a spiral that hardly shrinks "
        "looks the same. Use simulate() to look at the motion, give another m0, or move the parameters; with "
        "cycles=False the label is that of what was seen, not valid."
    )


class SteadyState(eqx.Module):
    """The attractor of a magnet: a rigidly rotating (or static) state.

    - `phase`: integer of `Phase`; `Phase(int(state.phase)).name` is its name.
    - `m`: moments, shape (L, n). An isotropic magnet leaves their orientation free: m_A is then put along m0_A with
      m_B on the side of m0_B.
    - `lengths`: |m_a|, shape (L,), in units of the saturated moment.
    - `angle`: between layers 0 and 1, rad.
    - `chase_frequency`: omega_c / 2 pi hbar in GHz, the rate at which the layers chase each other about the normal of
      their plane (of more than two layers: of the first two that span one); zero outside the chiral phase. The order
      parameter of the transition, and no line of any spectrum (unless gyro = 0).
    - `rotation_frequency`: |Omega| / 2 pi hbar in GHz: the whole magnet turns rigidly about Omega, so that a probe sees
      lines at 0 and at this frequency, and no other.
    - `angular_velocity`: Omega, shape (3,), meV: dm_a/dt = Omega x m_a.
    - `period`: after which the shape (lengths and angle) of a MODULATED state repeats itself, ps; infinite for a rigid
      state, NaN if unknown. The moments turn meanwhile, and do not come back to where they were.
    - `growth_rate`: the largest real part of the linearization without the symmetry's zero modes, meV; negative for an
      attractor, close to zero near a boundary. For MODULATED of a deviation from the orbit, averaged over a period.
    - `residual`: |dm/dt - Omega x m| relative to the terms of dm/dt, from the magnet's own `vector_field`; for
      MODULATED how far that field misses the start after a period, relative to the scalar products.
    - `result`: why; see `RESULTS`.
    - `steps`: pseudo-time steps taken (0 for states found by time integration).
    - `valid`: finite, an attractor that was solved for, consistent with the magnet's own `vector_field`, and no moment
      longer than a saturated one.

    For MODULATED lengths (root mean square), frequencies and the scalar product m_0 . m_1 are averages over the period;
    the cosine of `angle` is that product over the lengths. They are differentiable as the period is (`growth_rate` is
    not: its derivative is 0); `m` is where |m_A|^2 + |m_B|^2 is largest. Where time integration was needed the orbit is
    not solved for: not valid, period and frequencies NaN. Where the dynamics did not settle at all, every observable is
    NaN.
    """

    phase: Int[Array, ""]
    m: Float[Array, "L n"]
    lengths: Float[Array, " L"]
    angle: Float[Array, ""]
    chase_frequency: Float[Array, ""]
    rotation_frequency: Float[Array, ""]
    angular_velocity: Float[Array, "3"]
    period: Float[Array, ""]
    growth_rate: Float[Array, ""]
    residual: Float[Array, ""]
    result: RESULTS
    steps: Int[Array, ""]
    valid: Bool[Array, ""]

    @property
    def is_rigid(self) -> Bool[Array, "..."]:
        """Whether it is valid, and all moments turn as one body or stand still."""
        return jnp.logical_and(self.valid, self.phase != Phase.MODULATED)

    def __str__(self) -> str:
        if not is_concrete(self.phase) or self.phase.ndim:
            return f"SteadyState(phase{self.phase.shape})"
        lengths = ", ".join(f"{x:.6g}" for x in np.asarray(self.lengths))
        return (
            f"{Phase(int(self.phase)).name}: lengths {lengths}, angle {float(self.angle):.6g} rad, "
            f"chase {float(self.chase_frequency):.6g} GHz, rotation {float(self.rotation_frequency):.6g} GHz"
            f"{PROBE if int(self.phase) == Phase.CHIRAL else ''}, "
            f"{f'period of the shape {float(self.period):.6g} ps, ' if np.isfinite(self.period) else ''}"
            f"growth rate {float(self.growth_rate):.3g} meV, residual {float(self.residual):.1e}"
            + ("" if self.valid else f" [not valid: {RESULTS[self.result]}]")
        )


class MovingShape(eqx.Module):
    """What is told of a state whose shape keeps moving: the fields of `SteadyState`, as averages over a period where
    they change. `solved`: whether the motion was found to be a closed orbit, and an attractor. What is not known is NaN
    (`residual`: infinite)."""

    m: Float[Array, "L n"]
    lengths: Float[Array, " L"]
    angle: Float[Array, ""]
    chase_frequency: Float[Array, ""]
    rotation_frequency: Float[Array, ""]
    period: Float[Array, ""]
    growth_rate: Float[Array, ""]
    residual: Float[Array, ""]
    solved: Bool[Array, ""]


def unknown_state(layers: int, dtype: Any, components: int) -> SteadyState:
    """A state of which nothing is known yet: UNRESOLVED, not valid."""
    zero = jnp.zeros((), dtype)
    return SteadyState(
        phase=jnp.asarray(Phase.UNRESOLVED.value, jnp.int32),
        m=jnp.zeros((layers, components), dtype),
        lengths=jnp.zeros(layers, dtype),
        angle=zero,
        chase_frequency=zero,
        rotation_frequency=zero,
        angular_velocity=jnp.zeros(3, dtype),
        period=zero + jnp.nan,
        growth_rate=zero,
        residual=zero + jnp.inf,
        result=RESULTS.not_settled,
        steps=jnp.asarray(0, jnp.int32),
        valid=jnp.asarray(False),
    )


def rigid_residual(
    model: AbstractOrderParameters, m: Float[Array, "L n"], omega: Float[Array, "3"]
) -> Float[Array, ""]:
    """max_a |dm_a/dt - Omega x m_a| from the model's own `vector_field`, relative to the terms of dm/dt.

    It knows nothing of how m and Omega (meV) were found. Not below the rounding unit, which is all that can be told.
    """
    rest = model.vector_field(0.0, m) - turning(omega, m)
    scale = jnp.maximum(model.term_size(m), 0.5 * jnp.max(model.free_relaxation()))
    scale = jnp.maximum(scale, jnp.finfo(m.dtype).tiny ** 0.5)
    return jnp.maximum(safe_sqrt(jnp.max(jnp.sum(rest**2, axis=1))) / scale, jnp.finfo(m.dtype).eps)


def within_saturation(model: AbstractOrderParameters, m: Float[Array, "L n"]) -> Bool[Array, ""]:
    """Whether moments that solve a model's equation are none too long to exist."""
    return jnp.max(jnp.sum(m**2, axis=1)) <= (model.saturation * (1.0 + residual_tolerance(m.dtype))) ** 2


def rigid_state(
    model: AbstractOrderParameters,
    m: Float[Array, "L n"],
    omega: Float[Array, "3"],
    phase: Int[Array, ""],
    growth_rate: Float[Array, ""],
    attractor: Bool[Array, ""],
    pair: LeadingPair | None = None,
    chase_rate: Float[Array, ""] | None = None,
    residual: Float[Array, ""] | None = None,
    tolerance: float | None = None,
) -> SteadyState:
    """Everything that follows from moments m that turn with the angular velocity Omega.

    **Arguments** `omega`, `growth_rate`: meV. `attractor`: whether the solver holds it for one. `pair`: the first two
    moments, and `chase_rate`: of the chase in meV, where the solver knows them better than m and Omega tell.
    `residual`, `tolerance`: of a model whose moments have no velocity of their own, and up to which it is valid.

    **Returns** a `SteadyState`: valid if it is finite, an attractor, solves the model's own `vector_field`, and no
    moment is longer than a saturated one.
    """
    residual = rigid_residual(model, m, omega) if residual is None else residual
    consistent = residual < (residual_tolerance(m.dtype) if tolerance is None else tolerance)
    finite = jnp.all(jnp.isfinite(m)) & jnp.all(jnp.isfinite(omega)) & jnp.isfinite(growth_rate) & in_range(model)
    possible = within_saturation(model, m)
    result = RESULTS.where(possible, RESULTS.successful, RESULTS.beyond_saturation)
    result = RESULTS.where(consistent, result, RESULTS.inconsistent)
    result = RESULTS.where(attractor, result, RESULTS.not_an_attractor)
    result = RESULTS.where(finite, result, RESULTS.nonfinite)

    pair = leading_pair(m) if pair is None else pair
    chiral = phase == Phase.CHIRAL
    # Of a vanishing angle rounding leaves something, whose derivatives mean nothing.
    tilted = pair.area**2 > collinear_tolerance(m.dtype) * (pair.first * pair.second) ** 2
    angle = jnp.where(tilted, pair.angle, jnp.where(pair.product < 0, jnp.pi, 0.0).astype(m.dtype))
    if chase_rate is None:
        chase_rate = jnp.where(chiral, jnp.abs(jnp.dot(pair.normal, omega)), 0.0)
    rate = jnp.where(chiral, safe_sqrt(jnp.sum(jnp.where(chiral, omega, 0.0) ** 2)), 0.0)
    return SteadyState(
        phase=phase,
        m=m,
        lengths=safe_sqrt(jnp.sum(m**2, axis=1)),
        angle=jnp.where(phase == Phase.PARAMAGNETIC, 0.0, angle),
        chase_frequency=chase_rate / units.GHz,
        rotation_frequency=rate / units.GHz,
        angular_velocity=jnp.where(chiral, omega, jnp.zeros_like(omega)),
        period=jnp.full_like(rate, jnp.inf),
        growth_rate=growth_rate,
        residual=residual,
        result=result,
        steps=jnp.asarray(0, jnp.int32),
        valid=attractor & consistent & possible & finite,
    )


def reached_state(
    state: SteadyState, *, settled: Bool[Array, ""], finite: Bool[Array, ""], steps: Int[Array, ""]
) -> SteadyState:
    """What a search has come to: the rigid state where the motion settled, UNRESOLVED where it did not.

    **Arguments** `state`: the rigid state next to where the search ended. `settled`: whether the motion has become
    rigid. `finite`: whether it stayed so. `steps`: how many it took.
    """
    valid = state.valid & settled
    result = RESULTS.where(settled, state.result, RESULTS.not_settled)
    result = RESULTS.where(finite, result, RESULTS.nonfinite)

    def told(rigid: Array, otherwise: float = jnp.nan) -> Array:
        return jnp.where(settled, rigid, otherwise)

    return SteadyState(
        phase=jnp.where(valid, state.phase, Phase.UNRESOLVED).astype(jnp.int32),
        m=state.m,
        lengths=told(state.lengths),
        angle=told(state.angle),
        chase_frequency=told(state.chase_frequency),
        rotation_frequency=told(state.rotation_frequency),
        angular_velocity=state.angular_velocity,
        period=told(state.period),
        growth_rate=told(state.growth_rate),
        residual=told(state.residual, jnp.inf),
        result=result,
        steps=steps,
        valid=valid,
    )


def unsolved_shape(m: Float[Array, "L n"], lengths: Any = jnp.nan, angle: Any = jnp.nan) -> MovingShape:
    """A shape that moves, and of which no more is known than moments, and perhaps average lengths and angle (rad)."""
    nan, inf = jnp.full((), jnp.nan, m.dtype), jnp.full((), jnp.inf, m.dtype)
    return MovingShape(
        m=m,
        lengths=jnp.broadcast_to(jnp.asarray(lengths, m.dtype), m.shape[:1]),
        angle=jnp.asarray(angle, m.dtype),
        chase_frequency=nan,
        rotation_frequency=nan,
        period=nan,
        growth_rate=nan,
        residual=inf,
        solved=jnp.asarray(False),
    )


def moving_state(
    model: AbstractOrderParameters, state: SteadyState, moves: Bool[Array, ""], shape: MovingShape
) -> SteadyState:
    """`state`, but MODULATED where its shape `moves` for ever; valid if that is a closed orbit that attracts and
    solves the model's own `vector_field`. UNRESOLVED if the orbit's moments are longer than saturated ones."""
    consistent = shape.residual < residual_tolerance(state.m.dtype)
    closed = shape.solved & consistent & jnp.isfinite(shape.growth_rate)
    possible = ~closed | within_saturation(model, shape.m)
    valid = closed & possible
    result = RESULTS.where(closed, RESULTS.successful, RESULTS.modulated)
    result = RESULTS.where(possible, result, RESULTS.beyond_saturation)
    phase = jnp.where(possible, Phase.MODULATED, Phase.UNRESOLVED).astype(jnp.int32)

    def told(moving: Array, otherwise: Array) -> Array:
        return jnp.where(moves, moving, otherwise)

    return SteadyState(
        phase=told(phase, state.phase),
        m=told(shape.m, state.m),
        lengths=told(shape.lengths, state.lengths),
        angle=told(shape.angle, state.angle),
        chase_frequency=told(shape.chase_frequency, state.chase_frequency),
        rotation_frequency=told(shape.rotation_frequency, state.rotation_frequency),
        angular_velocity=told(jnp.zeros_like(state.angular_velocity), state.angular_velocity),
        period=told(shape.period, state.period),
        growth_rate=told(shape.growth_rate, state.growth_rate),
        residual=told(shape.residual, state.residual),
        result=RESULTS.where(moves, result, state.result),
        steps=state.steps,
        valid=told(valid, state.valid),
    )
