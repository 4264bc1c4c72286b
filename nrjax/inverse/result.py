"""What a design found, chosen among its restarts and put into words."""

from functools import partial
from typing import Final

import equinox as eqx
import jax
import numpy as np
import xarray as xr
from jaxtyping import Array, Float

from .._numerics.ready_programs import FEW, kept
from ..motion.phases import Phase
from ..rotation.rigid_states import SteadyState
from .box import parameters_at, shares_at
from .constraints import Check, check_of
from .problem import Look, Problem
from .search import STRIKES, Lane, badness

# Decay rate in meV below which a state counts as lying on the edge of its phase.
EDGE: Final = 1e-3
# A target so many times what was found is a mistake of unit.
FAR: Final = 100.0


class DesignResult(eqx.Module):
    """What a design found.

    - `parameters`: name -> value, in the unit of `build`'s argument.
    - `achieved`: the observable, GHz for frequencies; of an ensemble its mean (or mid-range).
    - `error`: |achieved - target| / target; absolute for a target of 0.
    - `feasible`: whether the target is reached to the tolerance by a valid steady state that keeps all limits. If not,
      `parameters` and `achieved` are the nearest that was found: on the target with the least broken limit, if the
      target was reached at all.
    - `converged`: whether the search came to its end: with `feasible` False, the target is out of reach.
    - `message`: what was found, and what to do if the target was not reached.
    - `active_bounds`: name -> "lower" or "upper" for parameters on a bound.
    - `gradient`: name -> derivative of `achieved`, per unit of the parameter.
    - `loss`: of the objectives.
    - `limits`: quantity -> `Check`, for each constraint among the objectives; of an ensemble the worst member's.
    - `state`: the `SteadyState` of `build(**parameters)`; None for an ensemble.
    - `each`: the observable of each member of an ensemble, shape (members,); one entry without.
    - `history`: an xarray.Dataset over restart and step: parameters, best achieved so far and its miss; over restart:
      `reached`, `final_error`, `steps`; the attribute `chosen` is the restart that is returned.
    """

    parameters: dict[str, float]
    target: float
    achieved: float
    error: float
    feasible: bool
    converged: bool
    message: str
    active_bounds: dict[str, str]
    gradient: dict[str, float]
    loss: float
    limits: dict[str, Check]
    state: SteadyState | None
    each: np.ndarray
    history: xr.Dataset

    def __str__(self) -> str:
        values = ", ".join(f"{name} = {value:.8g}" for name, value in self.parameters.items())
        return "\n".join([self.message, values, *(f"{name}: {check}" for name, check in self.limits.items())])


def best_of_restarts(
    problem: Problem,
    lanes: Lane,
    looks: Look,
    errors: np.ndarray,
    history: xr.Dataset,
    first: np.ndarray,
    tolerance: float,
) -> DesignResult:
    """Choose among the restarts of one target, and say what was found.

    **Arguments** `looks`: the best of each, that `lanes` hold as rows.
    """
    box, target = problem.box, float(lanes.target[0])
    reached = (errors <= tolerance) & looks.valid
    quantities, excesses = (np.asarray(x) for x in _checks(problem, looks.y, looks.states))
    broken = np.max(excesses, axis=1, initial=0.0)
    keeps = broken <= 0.0
    shares = np.asarray(shares_at(box, looks.y))
    if not reached.any():
        order = np.asarray(badness(looks))
    elif not (reached & keeps).any():
        order = np.where(reached, broken, np.inf)
    elif problem.has_objectives:
        order = np.where(reached & keeps, looks.loss, np.inf)
    else:
        order = np.where(reached & keeps, np.linalg.norm(shares - first, axis=1), np.inf)
    k = int(np.argmin(order))
    look: Look = jax.tree.map(lambda x: x[k], looks)
    feasible = bool(reached[k] & keeps[k])
    limits = dict(map(check_of, problem.constraints, quantities[k], excesses[k]))
    # Where Newton's method has given way, and Optax went on to its end, there is nothing nearer around.
    converged = bool(reached[k]) or bool(lanes.strikes[k] >= STRIKES)
    active = box.active(shares[k])
    values = box.named(np.asarray(parameters_at(box, look.y)))
    state = None if problem.ensemble else jax.device_put(jax.tree.map(lambda x: x[0], look.states))
    unit = "" if problem.observable.unit == "1" else problem.observable.unit
    what = problem.observable.name.replace("_", " ")
    return DesignResult(
        parameters={name: float(value) for name, value in values.items()},
        target=target,
        achieved=float(look.achieved),
        error=float(errors[k]),
        feasible=feasible,
        converged=converged,
        message=_message(what, unit, target, look, errors[k], bool(reached[k]), converged, active, limits),
        active_bounds=active,
        gradient={name: float(g) for name, g in zip(box.names, look.gradient, strict=True)},
        loss=float(look.loss),
        limits=limits,
        state=state,
        each=np.asarray(look.each),
        history=history.assign(
            reached=("restart", reached),
            final_error=("restart", errors),
            steps=("restart", np.asarray(lanes.steps)),
        ).assign_attrs(chosen=k),
    )


@partial(kept, brief=FEW)
def _checks(problem: Problem, y: Float[Array, "restarts n"], states: SteadyState) -> tuple[Array, Array]:
    """`Problem.checks` of all restarts, each of shape (restarts, constraints)."""
    return jax.vmap(problem.checks)(y, states)


def _message(
    what: str,
    unit: str,
    target: float,
    look: Look,
    error: float,
    reached: bool,
    converged: bool,
    active: dict[str, str],
    limits: dict[str, Check],
) -> str:
    wanted, found = f"{what} {target:.6g} {unit}".rstrip(), f"{look.achieved:.6g} {unit}".rstrip()
    if reached:
        broken = [name for name, check in limits.items() if not check.met]
        if broken:
            return (
                f"reached {wanted}, but not within its limits: {' and '.join(broken)}. Widen the bounds or relax the "
                "limit; what is told breaks it least."
            )
        return f"reached {wanted} (relative error {error:.1e})"
    if look.flat or not look.valid:
        where = ", ".join(Phase(int(p)).name.lower() for p in sorted(set(np.asarray(look.states.phase).tolist())))
        return (
            f"{wanted} not reached: no chiral state was found within the bounds (nearest: {where}). "
            "Widen the bounds, or raise `restarts`."
        )
    if not converged:
        return (
            f"{wanted} not reached: the search ended at {found} while still on its way. "
            "Raise `steps`, `patience` or `restarts`."
        )
    edges = [f"the {side} bound of {name}" for name, side in active.items()]
    if np.max(look.states.growth_rate) > -EDGE:
        edges.append("the edge of the phase")
    if abs(target) > FAR * abs(look.achieved):
        return (
            f"{wanted} is out of reach: {found} is all that was found, {abs(look.achieved / target):.1g} of it. From "
            "so far the search does not tell the very nearest. Check the unit of the target."
        )
    limit = " and ".join(edges) or "an extremum inside the bounds"
    return f"{wanted} is out of reach: the nearest is {found}, at {limit}. " + (
        "Widen the bounds." if active else "Change the material, or the target."
    )


def history(problem: Problem, track: list[np.ndarray]) -> xr.Dataset:
    """The way of all restarts: misses, observables and coordinates y, (step, restart, ...), as a Dataset."""
    miss, achieved, y = track
    values = np.asarray(parameters_at(problem.box, y))
    both = ("step", "restart")
    return xr.Dataset(
        {
            "miss": (both, np.abs(miss), {"long_name": "least distance to the target so far, dimensionless"}),
            "achieved": (both, achieved, {"long_name": "observable of the best parameters so far"}),
            **{name: (both, values[:, :, i]) for i, name in enumerate(problem.box.names)},
        }
    )
