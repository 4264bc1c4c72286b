"""The attractor that a magnet reaches, solved for rather than read off a trajectory."""

from typing import Any, Final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .. import units
from .._numerics.small_matrices import safe_sqrt
from .._numerics.validation import Numbers, is_concrete, moments_array
from ..magnets import LayeredMagnet
from ..magnets.shape import Gram, ShapeDynamics
from ..motion.phases import Phase, classify_trajectory, collinear_tolerance
from . import bilayer_states, corotating_states
from .bilayer_relaxation import VANISHED, Motion, settle
from .modulated_shapes import averages, is_modulated, watch_for_repetition

# Size of the deviation that the default initial state carries, so that no symmetry of the start is special.
DEVIATION: Final = 1e-2
# Fixed-point iterations for the lengths of the state without light, which is only a place to start from.
START_ITERATIONS: Final = 60
# Fine steps spent on a shape that does not settle, for each step spent on settling.
WATCH_FACTOR: Final = 4


# What a detector makes of the two frequencies of a rigid rotation.
PROBE: Final = " (the line that a probe sees)"


class RESULTS(eqx.Enumeration):  # pyright: ignore
    """Why a steady state is, or is not, valid; the text says what to do."""

    successful = ""
    modulated = (
        "The shape of the state keeps moving: phase MODULATED, with observables averaged over the last stretch. "
        "Use simulate() to look at the motion."
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
    nonfinite = "NaN or infinity in the parameters, in m0 or in the dynamics. Check the lane's parameters."


class SteadyState(eqx.Module):
    """The attractor of a magnet: a rigidly rotating (or static) state.

    - `phase`: integer of `Phase`; `Phase(int(state.phase)).name` is its name.
    - `m`: moments, shape (L, 3). An isotropic magnet leaves their orientation free: m_A is then put along m0_A with
      m_B on the side of m0_B.
    - `lengths`: |m_a|, shape (L,), in units of the saturated moment.
    - `angle`: between layers 0 and 1, rad.
    - `chase_frequency`: omega_c / 2 pi hbar in GHz, the rate at which the layers chase each other about the normal of
      their plane; zero outside the chiral phase. The order parameter of the transition, and no line of any spectrum
      (unless gyro = 0).
    - `rotation_frequency`: |Omega| / 2 pi hbar in GHz: the whole magnet turns rigidly about Omega, so that a probe sees
      lines at 0 and at this frequency, and no other.
    - `angular_velocity`: Omega, shape (3,), meV: dm_a/dt = Omega x m_a.
    - `growth_rate`: the largest real part of the linearization without the symmetry's zero modes, meV; negative for an
      attractor, close to zero near a boundary, NaN for a state that is not rigid.
    - `residual`: |dm/dt - Omega x m| relative to the terms of dm/dt, from the magnet's own `vector_field`.
    - `result`: why; see `RESULTS`.
    - `steps`: pseudo-time steps taken (0 for states found by time integration).
    - `valid`: finite, converged to a rigid state, stable. False for MODULATED, which is no rigid state.

    For MODULATED lengths (root mean square for a bilayer), angle and frequencies are averages; where time integration
    was needed the frequencies are NaN. Where the dynamics did not settle at all, every observable is NaN.
    """

    phase: Int[Array, ""]
    m: Float[Array, "L 3"]
    lengths: Float[Array, " L"]
    angle: Float[Array, ""]
    chase_frequency: Float[Array, ""]
    rotation_frequency: Float[Array, ""]
    angular_velocity: Float[Array, "3"]
    growth_rate: Float[Array, ""]
    residual: Float[Array, ""]
    result: RESULTS
    steps: Int[Array, ""]
    valid: Bool[Array, ""]

    def __str__(self) -> str:
        if not is_concrete(self.phase) or self.phase.ndim:
            return f"SteadyState(phase{self.phase.shape})"
        lengths = ", ".join(f"{x:.6g}" for x in np.asarray(self.lengths))
        return (
            f"{Phase(int(self.phase)).name}: lengths {lengths}, angle {float(self.angle):.6g} rad, "
            f"chase {float(self.chase_frequency):.6g} GHz, rotation {float(self.rotation_frequency):.6g} GHz"
            f"{PROBE if self.phase == Phase.CHIRAL else ''}, "
            f"growth rate {float(self.growth_rate):.3g} meV, residual {float(self.residual):.1e}"
            + ("" if self.valid else f" [not valid: {RESULTS[self.result]}]")
        )


def residual_tolerance(dtype: Any) -> float:
    """The relative residual that a valid state does not exceed: 1e-9 in double, 1e-4 in single precision."""
    return 1e-9 if jnp.dtype(dtype) == jnp.float64 else 1e-4


def unknown_state(layers: int, dtype: Any) -> SteadyState:
    """A state of which nothing is known yet: UNRESOLVED, not valid."""
    zero = jnp.zeros((), dtype)
    return SteadyState(
        phase=jnp.asarray(Phase.UNRESOLVED.value, jnp.int32),
        m=jnp.zeros((layers, 3), dtype),
        lengths=jnp.zeros(layers, dtype),
        angle=zero,
        chase_frequency=zero,
        rotation_frequency=zero,
        angular_velocity=jnp.zeros(3, dtype),
        growth_rate=zero,
        residual=zero + jnp.inf,
        result=RESULTS.not_settled,
        steps=jnp.asarray(0, jnp.int32),
        valid=jnp.asarray(False),
    )


@eqx.filter_jit
def default_start(model: LayeredMagnet) -> Float[Array, "L 3"]:
    """The state without light, m_a = B(h_a/T) along z, with a small generic deviation. Shape (L, 3)."""
    sign = jnp.where(model.exchange[0] < 0, -1.0, 1.0).at[0].set(1.0)

    def settle_lengths(_: Any, lengths: Array) -> Array:
        h = jnp.sum(model.exchange * lengths[None, :], axis=1)
        return jnp.sign(h) * model.bath.equilibrium_length(jnp.abs(h), model.temperature)

    lengths = jax.lax.fori_loop(0, START_ITERATIONS, settle_lengths, sign)
    return _deviated(jnp.stack([jnp.zeros_like(lengths), jnp.zeros_like(lengths), lengths], axis=1))


def _deviated(m: Float[Array, "L 3"]) -> Float[Array, "L 3"]:
    """Moments with a small deviation in general position."""
    return m + DEVIATION * corotating_states.generic_directions(m.shape[0], m.dtype)


def steady_state(
    model: LayeredMagnet, m0: Numbers | None = None, *, max_steps: int = 1500, throw: bool = True
) -> SteadyState:
    """The attractor that dm/dt = model.vector_field(t, m) reaches from m0: a state with dm_a/dt = Omega x m_a.

    An isotropic bilayer is followed through its shape (lengths and angle, no fast precession); any other magnet
    through time integration. Newton's method then polishes the state, and derivatives follow from the implicit
    function theorem, so that the path taken does not matter to them.

    **Arguments**

    - `model`: a `LayeredMagnet`; light with an envelope counts with its full intensity.
    - `m0`: initial moments, shape (L, 3). Default: the state without light, with a small generic deviation. Moments
      that are exactly collinear get a deviation as well: no sample is, and the attractor may be beside them.
    - `max_steps`: the most pseudo-time steps to settle; four times as many, finer ones are spent on a shape that
      does not. Where time integration is needed: a thousand time steps for each.
    - `throw`: raise if the state is UNRESOLVED; with False look at `valid` and `result` (for use in batches).

    **Returns** a `SteadyState`. Works under jit, vmap, grad and jacfwd.

    **Raises** `ValueError` for bad input; a runtime error with the text of `RESULTS` if UNRESOLVED and `throw` is set.

    **Source** docs/physics.md, "Shape dynamics".
    """
    model = model.plateau()
    dtype = model.exchange.dtype
    if m0 is None:
        start = default_start(jax.tree.map(jax.lax.stop_gradient, model))
    else:
        start = moments_array(m0, model.layers)
    start = jax.lax.stop_gradient(start.astype(dtype))
    solve = _bilayer_steady_state if ShapeDynamics.applies_to(model) else _general_steady_state
    state = solve(model, start, max_steps)
    if throw:
        failed = (state.phase == Phase.UNRESOLVED) | ~(state.valid | (state.phase == Phase.MODULATED))
        result = RESULTS.where(failed, state.result, RESULTS.successful)
        state = result.error_if(state, failed)
    return state


@jax.jit
def steady_states(models: LayeredMagnet, m0: Float[Array, "L 3"] | None = None) -> SteadyState:
    """`steady_state` of many magnets, batched along the first axis of every array; one program for all that are alike.

    **Arguments** `models`: whose arrays have a leading axis (lanes). `m0`: one start for all, shape (L, 3), or None.

    **Returns** a `SteadyState` whose arrays have that axis; bad lanes are flagged.
    """
    return jax.vmap(lambda model: steady_state(model, m0, throw=False))(models)


def continued(model: LayeredMagnet, state: SteadyState) -> SteadyState:
    """The steady state of `model` next to a known one: dm_a/dt = Omega x m_a solved by Newton's method from `state.m`.

    For derivatives at a known state and for small changes of it: nothing is followed through time again.

    **Arguments** `model`: a `LayeredMagnet`. `state`: the `SteadyState` of this magnet, or of one that differs little.

    **Returns** a `SteadyState` in the orientation of `state`, differentiable; `valid` only if it is an attractor near
    the known one. A state that is not valid is returned as it is, with derivative zero.

    **Source** docs/physics.md, "Shape dynamics".
    """
    model = model.plateau()
    state = jax.lax.stop_gradient(state)
    if ShapeDynamics.applies_to(model):
        near = bilayer_state_from_gram(model, _gram(state.m), state.phase == Phase.PARAMAGNETIC, state.m)
    else:
        near = _general_state_near(model, state.m)
    near = eqx.tree_at(lambda s: s.steps, near, state.steps)
    return jax.tree.map(lambda new, old: jnp.where(state.valid, new, old), near, state)


def _gram(m: Float[Array, "2 3"]) -> Gram:
    """Scalar products of two moments."""
    return Gram(jnp.sum(m[0] ** 2), jnp.sum(m[1] ** 2), jnp.sum(m[0] * m[1]))


def _without_derivative(function: Any) -> Any:
    """`function` with derivative zero: for searches whose result Newton's method polishes afterwards."""

    @jax.custom_jvp
    def wrapped(*arrays: Any) -> Any:
        return function(*arrays)

    @wrapped.defjvp
    def _jvp(primals: Any, tangents: Any) -> Any:
        del tangents
        output = wrapped(*primals)
        return output, jax.tree.map(_zero_tangent, output)

    return wrapped


def _zero_tangent(x: Array) -> Any:
    if jnp.issubdtype(x.dtype, jnp.inexact):
        return jnp.zeros_like(x)
    return np.zeros(jnp.shape(x), jax.dtypes.float0)


@eqx.filter_jit
def _bilayer_steady_state(model: LayeredMagnet, start: Float[Array, "2 3"], max_steps: int) -> SteadyState:
    gram = _gram(start)
    arrays, rest = eqx.partition((ShapeDynamics(model), _gyro_exchange(model)), eqx.is_array)

    def search(arrays: Any, gram: Gram) -> Any:
        shape, gyro_exchange = eqx.combine(arrays, rest)
        journey = settle(shape, gram, max_steps)
        journey, watch = watch_for_repetition(shape, gyro_exchange, journey, (1 + WATCH_FACTOR) * max_steps)
        motion = journey.motion
        rates = shape.rates(motion.gram)
        finite = jnp.isfinite(sum((*motion.gram, *rates), start=jnp.zeros_like(gram.aa)))
        arrived = motion.arrived & finite
        return motion, arrived, is_modulated(watch) & ~arrived & finite, finite, averages(watch), journey.steps

    motion, arrived, modulated, finite, averaged, steps = _without_derivative(search)(arrays, gram)
    state = bilayer_state_from_gram(model, _without_vanished(motion, arrived), motion.paramagnetic, start)

    valid = state.valid & arrived
    result = RESULTS.where(modulated, RESULTS.modulated, RESULTS.not_settled)
    result = RESULTS.where(arrived, state.result, result)
    result = RESULTS.where(finite & jnp.isfinite(gram.aa + gram.bb), result, RESULTS.nonfinite)
    phase = jnp.where(valid, state.phase, jnp.where(modulated, Phase.MODULATED, Phase.UNRESOLVED))

    def observe(average: Array, rigid: Array) -> Array:
        return jnp.where(modulated, average, jnp.where(arrived, rigid, jnp.nan))

    mean = averaged.gram
    lengths = jnp.sqrt(jnp.stack([mean.aa, mean.bb]))
    angle = jnp.arctan2(safe_sqrt(mean.aa * mean.bb - mean.ab**2), mean.ab)
    return SteadyState(
        phase=phase.astype(jnp.int32),
        m=state.m,
        lengths=observe(lengths, state.lengths),
        angle=observe(angle, state.angle),
        chase_frequency=observe(averaged.chase / units.GHz, state.chase_frequency),
        rotation_frequency=observe(averaged.rotation / units.GHz, state.rotation_frequency),
        angular_velocity=state.angular_velocity,
        growth_rate=jnp.where(arrived, state.growth_rate, jnp.nan),
        residual=jnp.where(arrived, state.residual, jnp.inf),
        result=result,
        steps=steps,
        valid=valid,
    )


def _gyro_exchange(model: LayeredMagnet) -> tuple[Array, Array]:
    """(gyro j_BA, gyro j_AB) in meV: the plane of the moments turns at their sum over m_A and m_B."""
    return model.gyro * model.exchange[1, 0], model.gyro * model.exchange[0, 1]


def bilayer_state_from_gram(
    model: LayeredMagnet, seed: Gram, paramagnetic: Bool[Array, ""], like: Float[Array, "2 3"]
) -> SteadyState:
    """The rigid state of an isotropic bilayer next to `seed`, polished and described.

    **Arguments** `seed`: its Gram matrix, nearly. `paramagnetic`: whether m = 0 is meant. `like`: moments that
    choose the orientation, shape (2, 3).

    **Returns** a `SteadyState`; `valid` only if it is an attractor. Differentiable.
    """
    shape = ShapeDynamics(model)
    seed = jax.lax.stop_gradient(seed)
    root, converged = bilayer_states.polish(shape, seed)
    state = bilayer_states.describe(shape, root, paramagnetic)
    stayed = (jnp.abs(root.aa - seed.aa) <= 0.3 * seed.aa) & (jnp.abs(root.bb - seed.bb) <= 0.3 * seed.bb)
    physical = root.ab**2 <= root.aa * root.bb * (1.0 + collinear_tolerance(like.dtype))
    tolerance = residual_tolerance(like.dtype)
    # Next to a boundary two roots merge and Newton's method creeps; a residual at rounding level is as good.
    solved = (converged & (state.residual < tolerance)) | (state.residual < 1e-3 * tolerance)
    attractor = solved & stayed & physical & (state.growth_rate < 0)
    m = bilayer_states.moments(state, like)
    to_a, to_b = _gyro_exchange(model)
    precession = to_a * m[0] + to_b * m[1]
    omega = bilayer_states.angular_velocity(state, m, precession)
    # What decides is the equation of motion itself, not the reduced one that was solved.
    residual = corotating_states.rigid_residual(model, m, omega)
    consistent = residual < tolerance
    finite = jnp.isfinite(root.aa + root.bb + root.ab + state.growth_rate + state.chase_rate)
    result = RESULTS.where(consistent, RESULTS.successful, RESULTS.inconsistent)
    result = RESULTS.where(attractor, result, RESULTS.not_an_attractor)
    result = RESULTS.where(finite, result, RESULTS.nonfinite)

    chiral = state.phase == Phase.CHIRAL
    rate = safe_sqrt(jnp.where(chiral, state.chase_rate**2 + jnp.sum(precession**2), 0.0))
    return SteadyState(
        phase=state.phase,
        m=m,
        lengths=jnp.stack([safe_sqrt(root.aa), safe_sqrt(root.bb)]),
        angle=jnp.arctan2(state.sine, state.cosine),
        chase_frequency=state.chase_rate / units.GHz,
        rotation_frequency=rate / units.GHz,
        angular_velocity=omega,
        growth_rate=state.growth_rate,
        residual=residual,
        result=result,
        steps=jnp.asarray(0, jnp.int32),
        valid=attractor & consistent & finite,
    )


def _without_vanished(motion: Motion, arrived: Bool[Array, ""]) -> Gram:
    """The seed for Newton's method, with moments that have vanished set to zero."""
    gram = motion.gram
    total = gram.aa + gram.bb
    no_a = motion.paramagnetic | (arrived & (gram.aa < VANISHED * total))
    no_b = motion.paramagnetic | (arrived & (gram.bb < VANISHED * total))
    return Gram(jnp.where(no_a, 0.0, gram.aa), jnp.where(no_b, 0.0, gram.bb), jnp.where(no_a | no_b, 0.0, gram.ab))


@eqx.filter_jit
def _general_steady_state(model: LayeredMagnet, start: Float[Array, "L 3"], max_steps: int) -> SteadyState:
    steps = 1000 * max_steps
    start = _not_quite_collinear(start)
    arrays, rest = eqx.partition(model, eqx.is_array)

    def search(arrays: Any, start: Array) -> Any:
        frozen = eqx.combine(arrays, rest)
        state, end, slow = corotating_states.integrate_until_rigid(frozen, start, steps)
        moving = ~(state.converged & (state.growth_rate < 0))
        last = corotating_states.unsettled(frozen, end, steps, moving)
        observed = classify_trajectory(last)
        label = jnp.where(slow & (observed.phase == Phase.MODULATED), Phase.UNRESOLVED, observed.phase)
        return state.m, state.converged & ~moving, label, observed.lengths, observed.angle

    seed, settled, observed_phase, observed_lengths, observed_angle = _without_derivative(search)(arrays, start)
    state = _general_state_near(model, seed)
    valid = state.valid & settled
    modulated = ~settled & (observed_phase == Phase.MODULATED)
    phase = jnp.where(valid, state.phase, jnp.where(modulated, Phase.MODULATED, Phase.UNRESOLVED))
    result = RESULTS.where(modulated, RESULTS.modulated, RESULTS.not_settled)
    result = RESULTS.where(settled, state.result, result)
    finite = (state.result != RESULTS.nonfinite) & jnp.all(jnp.isfinite(start))
    result = RESULTS.where(finite, result, RESULTS.nonfinite)

    def observe(observed: Array, rigid: Array) -> Array:
        return jnp.where(modulated, observed, jnp.where(settled, rigid, jnp.nan))

    return SteadyState(
        phase=phase.astype(jnp.int32),
        m=state.m,
        lengths=observe(observed_lengths, state.lengths),
        angle=observe(observed_angle, state.angle),
        chase_frequency=jnp.where(settled, state.chase_frequency, jnp.nan),
        rotation_frequency=jnp.where(settled, state.rotation_frequency, jnp.nan),
        angular_velocity=state.angular_velocity,
        growth_rate=jnp.where(settled, state.growth_rate, jnp.nan),
        residual=jnp.where(settled, state.residual, jnp.inf),
        result=result,
        steps=jnp.asarray(0, jnp.int32),
        valid=valid,
    )


def _not_quite_collinear(start: Float[Array, "L 3"]) -> Float[Array, "L 3"]:
    """The start, with the default deviation where its moments are collinear: exactly collinear ones would stay so for
    ever, also where any tilt grows."""
    if start.shape[0] == 1:
        return start
    gram = start @ start.T
    squares = jnp.diagonal(gram)
    areas = squares[:, None] * squares[None, :] - gram**2
    tilted = jnp.max(areas) > jnp.finfo(start.dtype).eps * jnp.max(squares) ** 2
    return jnp.where(tilted, start, _deviated(start))


def _general_state_near(model: LayeredMagnet, seed: Float[Array, "L 3"]) -> SteadyState:
    """The rigid state of any magnet next to moments `seed`, polished and described; `valid` if it is an attractor."""
    projector = corotating_states.symmetry_projector(model)
    m, omega, converged = corotating_states.polish(model, projector, seed)
    state = corotating_states.describe(model, projector, m, omega, converged)
    attractor = converged & (state.growth_rate < 0) & (state.residual < residual_tolerance(seed.dtype))
    finite = jnp.all(jnp.isfinite(m)) & jnp.all(jnp.isfinite(omega)) & jnp.isfinite(state.growth_rate)
    result = RESULTS.where(attractor, RESULTS.successful, RESULTS.not_an_attractor)
    result = RESULTS.where(finite, result, RESULTS.nonfinite)

    second = min(1, model.layers - 1)
    cross = jnp.cross(m[0], m[second])
    area = safe_sqrt(jnp.sum(cross**2))
    chiral = state.phase == Phase.CHIRAL
    normal = cross / jnp.where(area > 0, area, 1.0)
    chase = jnp.where(chiral, jnp.abs(jnp.dot(normal, omega)), 0.0)
    rate = jnp.where(chiral, safe_sqrt(jnp.sum(omega**2)), 0.0)
    ordered = state.phase != Phase.PARAMAGNETIC
    angle = jnp.arctan2(jnp.where(ordered, area, 0.0), jnp.where(ordered, jnp.dot(m[0], m[second]), 1.0))
    return SteadyState(
        phase=state.phase,
        m=m,
        lengths=safe_sqrt(jnp.sum(m**2, axis=1)),
        angle=angle,
        chase_frequency=chase / units.GHz,
        rotation_frequency=rate / units.GHz,
        angular_velocity=jnp.where(chiral, omega, jnp.zeros_like(omega)),
        growth_rate=state.growth_rate,
        residual=state.residual,
        result=result,
        steps=jnp.asarray(0, jnp.int32),
        valid=attractor & finite,
    )
