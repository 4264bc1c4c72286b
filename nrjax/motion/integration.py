"""Integrating spin dynamics in time: the one front door to Diffrax."""

from functools import partial
from typing import Any, Final, Protocol, runtime_checkable

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .. import units
from .._numerics.cpu_options import alone_options
from .._numerics.failures import raise_if
from .._numerics.precision import in_full_precision, integration_tolerance, require_reachable
from .._numerics.ready_programs import FEW, PASSED_OVER, kept
from .._numerics.unrolled_runge_kutta import UnrolledTsit5
from .._numerics.validation import (
    Number,
    Numbers,
    array_of,
    float_array,
    in_range,
    is_concrete,
    moments_array,
    require,
    require_finite,
    require_memory,
    require_nonnegative,
)
from ..magnets import AbstractOrderParameters, LayeredMagnet, ThermalModel
from ..magnets.collisions import require_all_directions
from ..magnets.field_terms import strongest_field
from ..magnets.heat import Heat
from .coordinates import AbstractCoordinates, Components, ComponentsAndTilt, Heated
from .layer_noise import Fluctuating, KickedFlow, Kicks
from .saved_times import internal_saveat, internal_times, require_times, saved_times
from .solution import Solution, TemperatureCourse
from .step_sizes import longest_step_of_deviations, require_envelope, step_control
from .tilt_seeds import ROUNDING, look_times, seed_of, warn_of_seed

# Above this many layers the stages are kept as arrays: writing them out would cost compile time.
UNROLLED_LAYERS: Final = 4
# The tilt up to which the components are held to its own equation, in units of the tolerance and at most: where errors
# of the components are a ten thousandth of it.
HELD: Final = 1e4
LARGEST_HELD: Final = 1e-2


_solve: Final = kept(diffrax.diffeqsolve, diffrax.diffeqsolve, options=alone_options)


@runtime_checkable
class SpinModel(Protocol):
    """Anything with `vector_field(t, m, args)`: t in hbar/meV, m of shape (L, n), result in meV."""

    def vector_field(self, t: Any, m: Any, args: Any = None) -> Any: ...


@in_full_precision
def simulate(
    model: SpinModel,
    m0: Numbers,
    t1: Number,
    *,
    t0: Number = 0.0,
    saveat: diffrax.SaveAt | Numbers | None = None,
    spins: Number | None = None,
    key: Array | None = None,
    rtol: float | Array | None = None,
    atol: float | Array | None = None,
    max_steps: int | None = 1_000_000,
    throw: bool = True,
    progress_meter: diffrax.AbstractProgressMeter = diffrax.NoProgressMeter(),
    solver: diffrax.AbstractSolver | None = None,
    stepsize_controller: diffrax.AbstractStepSizeController | None = None,
    adjoint: diffrax.AbstractAdjoint | None = None,
    event: diffrax.Event | None = None,
    watch_tilt: bool = True,
    thermal: ThermalModel | None = None,
) -> Solution:
    """Integrate dm/dt = model.vector_field(t, m) from t0 to t1.

    **Arguments**

    - `model`: a `LayeredMagnet`, other `AbstractOrderParameters`, or any object with `vector_field(t, m, args)`.
    - `m0`: initial moments, shape (L, n), n = 3 unless the model has another number of `components`.
    - `t1`, `t0`: final and initial time in ps.
    - `saveat`: times in ps at which to save, as an array or as a `diffrax.SaveAt` whose `ts` are in ps.
      Default: the final time only.
    - `spins`: the number N of spins in each layer, whose thermal motion at the layer's temperature keeps the moments
      from ever being quite collinear: a tilt of order 1/sqrt(N), from which a chase starts. With a `key` the moments
      fluctuate; without one they move smoothly, held to the root mean square of that tilt (isotropic bilayers only).
      Default: no noise; the deviation of m0 may then decay to a tilt that no sample has (`seed_tilt`), with a warning.
    - `key`: of the fluctuations of `spins` spins, `jax.random.key(0)` for example; vmap over keys for realizations.
    - `rtol`, `atol`: tolerances of the default step-size control (1e-8; 1e-5 in single precision).
    - `max_steps`: the most steps to take.
    - `throw`: raise if the integration fails; with False look at `valid` and `result` (for use in batches).
    - `progress_meter`: for example `diffrax.TqdmProgressMeter()`.
    - `thermal`: a `ThermalModel`: a `LayeredMagnet` starts at its bath's temperature and warms as it absorbs its light
      (`heat` of the solution).

    Rarely needed:

    - `solver`: default `diffrax.Tsit5()`. `nrjax.UnrolledTsit5()` takes the same steps with its stages written
      out: several times faster under vmap (`simulate_many` uses it), slow to compile and to run in reverse mode.
    - `stepsize_controller`: replaces the default PID control; `rtol` and `atol` are then not allowed. Steps in
      hbar/meV.
    - `adjoint`: default `diffrax.RecursiveCheckpointAdjoint()` (reverse mode); pass `diffrax.ForwardMode()` for jvp
      and jacfwd.
    - `event`: a `diffrax.Event` whose condition sees t in hbar/meV and y = m of shape (L, n).
    - `watch_tilt`: look at the tilt at a few hundred times for what the chase grows from, and warn; without, only the
      saved times are looked at (for use in batches).

    **Returns** a `Solution`, times in ps. Differentiable; with respect to `m0` in shorter steps.

    **Raises** `ValueError` for bad input; a runtime error from Diffrax if integration fails and `throw` is set.

    Cost: the exchange precession (about gyro * j in meV) sets the step. Under vmap all lanes step until the slowest
    is done; `simulate_many` groups lanes of equal cost.
    """
    model, state = _checked(model, m0, t0, t1, thermal is not None)
    laser = model.illumination.laser if isinstance(model, LayeredMagnet) and model.has_laser else None
    if laser is not None:
        require_envelope(laser, t0, t1)
    if saveat is not None and not isinstance(saveat, diffrax.SaveAt):
        # Moments, velocities, and copies of both on the way.
        needed = 6.0 * np.size(saveat) * state.nbytes
        require_memory(f"saving {np.size(saveat):.3g} times", needed, "Save fewer times: give a shorter saveat.")
    require_times(saveat, t0, t1)
    dtype = state.dtype
    start, stop = internal_times(t0, dtype), internal_times(t1, dtype)

    method = diffrax.Tsit5() if solver is None else solver
    unroll = isinstance(model, LayeredMagnet) and isinstance(method, UnrolledTsit5) and thermal is None
    longest = None
    if isinstance(model, LayeredMagnet) and not unroll and not is_concrete(state):
        longest = longest_step_of_deviations(state, jax.lax.stop_gradient(_fastest_precession(model)))
    if stepsize_controller is None:
        rtol = integration_tolerance(dtype) if rtol is None else rtol
        atol = rtol if atol is None else atol
        require_reachable("rtol", rtol, dtype)
        control: Any = step_control(laser, start, stop, rtol, atol, longest)
    elif rtol is not None or atol is not None:
        raise ValueError("rtol and atol belong to the default step-size control. Set them in your stepsize_controller.")
    else:
        control = stepsize_controller

    if unroll and event is not None:
        raise ValueError("an event sees moments as an array, UnrolledTsit5 as scalars. Use diffrax.Tsit5() with it.")
    precision = array_of(integration_tolerance(dtype) if rtol is None else rtol, dtype)
    if thermal is not None and not isinstance(model, LayeredMagnet):
        raise ValueError(f"thermal: a {type(model).__name__} absorbs no light. Leave it out, or take a LayeredMagnet.")
    number = _spins(model, spins, key, dtype)
    if key is not None:
        _require_noise_alone(model, thermal, solver, stepsize_controller)
    chosen, first = _coordinates(model, state, precision, number, start, unroll, thermal, key is not None)
    watch_tilt = watch_tilt and key is None
    looks = look_times(laser, start, stop) if watch_tilt else None
    terms: Any = diffrax.ODETerm(_rates)
    if key is not None and isinstance(chosen, Fluctuating):
        terms, method = diffrax.MultiTerm(terms, Kicks(chosen.path(key, start, stop))), KickedFlow()
        least, landings = precision if atol is None else atol, saved_times(saveat, dtype)
        control = step_control(laser, start, stop, precision, least, chosen.longest_step(), landings)
    solution = _solve(
        terms,
        method,
        start,
        stop,
        None,
        first,
        args=chosen,
        saveat=internal_saveat(saveat, dtype, looks),
        stepsize_controller=control,
        adjoint=diffrax.RecursiveCheckpointAdjoint() if adjoint is None else adjoint,
        event=None if event is None else _internal_event(event),
        max_steps=max_steps,
        throw=False,
        progress_meter=progress_meter,
    )
    done, grew, failed = _told(model, chosen, solution, looks is not None, precision)
    if throw:
        done = raise_if(failed, diffrax.RESULTS, done.result, done)
    if watch_tilt:
        warn_of_seed(done.seed_tilt, grew, done.seeded_by_rounding, spins)
    return done


def _fastest_precession(magnet: LayeredMagnet) -> Array:
    """The most that a saturated moment turns about the field of others and about that of a magnet's terms, in meV."""
    field = strongest_field(magnet.field_terms, magnet.layers, magnet.dtype)
    return jnp.max(jnp.sum(jnp.abs(magnet.precession_exchange()), axis=1) + jnp.abs(magnet.gyro) * field)


def _checked(model: Any, m0: Numbers, t0: Number, t1: Number, heats: bool) -> tuple[Any, Array]:
    """The model, constant if it can be, and the initial moments in the precision of both.

    **Arguments** `heats`: whether the light's photons count, so that a laser has to stay one.

    **Raises** `ValueError` for moments or times that do not fit.
    """
    state = float_array("m0", m0)
    if isinstance(model, AbstractOrderParameters):
        state = moments_array(state, model.layers, model.components)
        model = model if heats or model.changes_in_time else model.plateau()
    elif state.ndim != 2 or state.shape[1] != 3:
        raise ValueError(f"m0 has shape {state.shape}: it must be (layers, 3). Pass one row (x, y, z) for each layer.")
    require_finite("m0", state)
    for name, value in (("t0", t0), ("t1", t1)):
        require_finite(name, value)
    if is_concrete(t0, t1):
        require_nonnegative("t1 - t0", np.asarray(t1) - np.asarray(t0), "Times run forward; give t1 after t0 (ps).")
    dtype = jnp.result_type(state, *(x for x in jax.tree.leaves(model) if eqx.is_inexact_array(x)))
    return model, state.astype(dtype)


@partial(kept, brief=PASSED_OVER)
def _told(
    model: Any, chosen: AbstractCoordinates, solution: diffrax.Solution, watched_apart: bool, precision: Array
) -> tuple[Solution, Array, Array]:
    """What is told of a trajectory in coordinates, whether a tilt grew in it, and whether its integration failed.

    **Arguments** `watched_apart`: whether tilts were saved at times of their own. `precision`: relative, of a step.
    """
    ts, ys, watched, tilts = solution.ts, solution.ys, None, None
    if watched_apart and ts is not None and ys is not None:
        (ts, watched), (ys, tilts) = ts, ys
    if ts is None or ys is None:
        raise ValueError("saveat saves no moments. Pass times, SaveAt(t1=True) or SaveAt(ts=...).")
    # Diffrax pads the times that it did not use with infinity.
    used = jnp.isfinite(ts)[:, None, None]
    ms = jnp.where(used, chosen.moments(ys), jnp.inf)
    valid = diffrax.is_okay(solution.result) & jnp.all(jnp.isfinite(ms) | ~used) & in_range(model)
    velocities = jax.vmap(lambda t, y, m: chosen.model_at(y).vector_field(t, m, None))(ts, ys, ms) * units.ps
    if watched is None or tilts is None:
        watched, tilts = ts, jax.vmap(chosen.tilt)(ys)
    seed, grew, by_rounding = seed_of(watched, tilts, 0.0 if _knows_its_tilt(chosen) else ROUNDING * precision)
    told = Solution(ts / units.ps, ms, solution.result, solution.stats, valid, velocities, seed, by_rounding)
    if isinstance(chosen, Heated):
        told = eqx.tree_at(lambda s: s.heat, told, _course(chosen, ys[1], ms.shape[1]), is_leaf=lambda x: x is None)
    return told, grew, ~diffrax.is_okay(solution.result)


def _knows_its_tilt(chosen: AbstractCoordinates) -> bool:
    """Whether what a tilt grows from is physics: an equation of its own, or noise."""
    return isinstance(chosen.inner if isinstance(chosen, Heated) else chosen, ComponentsAndTilt | Fluctuating)


def _course(chosen: Heated, heat: Heat, layers: int) -> TemperatureCourse:
    """Temperatures and energies of all layers at the saved times."""
    thermal = chosen.thermal
    rest = thermal.at_rest(layers, heat.lattice.dtype)
    stored = heat.electrons + heat.lattice - (rest.electrons + rest.lattice)[None, :]
    each = (*thermal.temperatures(heat), heat.absorbed, heat.carried, stored)
    return TemperatureCourse(*(jnp.broadcast_to(x, (x.shape[0], layers)) for x in each))


def _spins(model: Any, spins: Number | None, key: Array | None, dtype: Any) -> Array | None:
    """How many spins each layer has. Without a key only what has an equation for its tilt will do."""
    if spins is None:
        if key is not None:
            raise ValueError("key is that of the fluctuations of N spins: pass spins=N as well, or leave key out.")
        return None
    if key is None and not ComponentsAndTilt.applies_to(model):
        raise ValueError(
            f"spins = {spins}: the thermal tilt has an equation of its own only for two layers without field and "
            "anisotropy. Pass key=jax.random.key(0) as well for moments that fluctuate, or leave spins out, and give "
            "m0 a deviation of the size that the noise would have."
        )
    require("spins", spins, lambda x: x >= 1, "1 or greater", "It is the number of spins in each layer.")
    return array_of(spins, dtype)


def _require_noise_alone(model: Any, thermal: Any, solver: Any, stepsize_controller: Any) -> None:
    """Raise `ValueError` for what does not go together with fluctuating moments."""
    if not isinstance(model, LayeredMagnet):
        raise ValueError(f"key: fluctuations are those of a LayeredMagnet's spins, not of a {type(model).__name__}.")
    require_all_directions(model.bath)
    given = {"thermal": thermal, "solver": solver, "stepsize_controller": stepsize_controller}
    for name, value in given.items():
        if value is not None:
            raise ValueError(
                f"{name} does not go together with key: fluctuating moments have a solver and steps of "
                f"their own, at one temperature. Leave {name} out, or key."
            )


@partial(kept, brief=FEW)
def _coordinates(
    model: Any,
    m0: Array,
    precision: Array,
    spins: Array | None,
    t0: Array,
    unroll: bool,
    thermal: ThermalModel | None,
    fluctuates: bool,
) -> tuple[AbstractCoordinates, Any]:
    """What is integrated, and where it starts."""
    if fluctuates and spins is not None:
        noisy = Fluctuating(Components(model), spins)
        return noisy, noisy.start(m0)
    if thermal is not None:
        model = thermal.cold(model)
    if ComponentsAndTilt.applies_to(model):
        resolved = jnp.minimum(HELD * precision, LARGEST_HELD)
        chosen: Components | ComponentsAndTilt = ComponentsAndTilt.of(model, m0, resolved, spins, t0, unroll)
    else:
        chosen = Components(model, unroll)
    outer = chosen if thermal is None else Heated(chosen, thermal)
    return outer, outer.start(m0)


def _rates(t: Any, y: Any, coordinates: AbstractCoordinates) -> Any:
    return coordinates.rates(t, y)


def _internal_event(event: diffrax.Event) -> diffrax.Event:
    """The same event, which sees moments and the model where coordinates are integrated."""

    def seeing_moments(condition: Any) -> Any:
        return lambda t, y, args, **options: condition(t, args.moments(y), args.model, **options)

    return eqx.tree_at(
        lambda e: e.cond_fn, event, jax.tree.map(seeing_moments, event.cond_fn), is_leaf=lambda x: x is event.cond_fn
    )
