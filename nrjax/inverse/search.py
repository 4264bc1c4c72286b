"""The way to a target: Optax far from it and along it, Newton's method across.

The parameters that reach a target form a surface (a line for two parameters). Far from it an Optax optimizer follows
the gradient. Close to it the step splits: across the surface Newton's method, whose error squares at each step; along
the surface Optax again, on the objectives alone. A step that does not help is taken back and shortened.
"""

from functools import partial
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from .._numerics.precision import in_full_precision
from .._numerics.ready_programs import FEW, kept
from .problem import Look, Problem

# The longest step across, in coordinates of the box (whose width is 1), and the shortest.
LONGEST: Final = 0.2
SHORTEST: Final = 1e-10
# A step across must keep this share of what the slope promised.
KEPT: Final = 0.1
# Steps without a quarter less miss after which Newton's method gives way to Optax.
STRIKES: Final = 8
# While objectives move the parameters along the target, they may leave it by this much.
TUBE: Final = 0.02
# Steps across, at the end, to return onto the target.
FINISH: Final = 20
# Relative change that counts as progress.
PROGRESS: Final = 1e-5
# What a look without slope, or without a valid state, is worse than any other.
NO_SLOPE: Final = 1e6


class Lane(NamedTuple):
    """One restart on its way.

    - `y`: where to look next. `best`: the look that is built on, as a row. `memory`: the optimizer's.
    - `radius`: longest step across. `promised`: how much of the miss the last step should have taken away.
    - `reference`, `strikes`: the miss when Newton's method last took a quarter off it, and its steps since then.
    - `record`, `champion`, `idle`: the best score, the look that had it, and steps since. `finishing`: steps since
      objectives rest.
    - `steps`: looks taken. `done`: nothing more to do. `target`: to reach. `settled`: whether every look's motion did.
    """

    y: Float[Array, " n"]
    best: Float[Array, " numbers"]
    memory: Any
    radius: Float[Array, ""]
    promised: Float[Array, ""]
    reference: Float[Array, ""]
    strikes: Int[Array, ""]
    record: Float[Array, ""]
    champion: Float[Array, " numbers"]
    idle: Int[Array, ""]
    finishing: Int[Array, ""]
    steps: Int[Array, ""]
    done: Bool[Array, ""]
    target: Float[Array, ""]
    settled: Bool[Array, ""]


def begin(problem: Problem, optimizer: optax.GradientTransformation, y: Float[Array, " n"], target: Array) -> Lane:
    """A lane that has not looked yet."""
    infinite, zero = jnp.asarray(jnp.inf, y.dtype), jnp.zeros((), y.dtype)
    best = problem.unseen(y).row()
    count = jnp.asarray(0, jnp.int32)
    return Lane(
        y=y,
        best=best,
        memory=optimizer.init(y),
        radius=zero + LONGEST,
        promised=zero,
        reference=infinite,
        strikes=count,
        record=infinite,
        champion=best,
        idle=count,
        finishing=count,
        steps=count,
        done=jnp.asarray(False),
        target=target,
        settled=jnp.asarray(True),
    )


@partial(kept, brief=FEW)
def relative_error(achieved: Float[Array, "*lanes"], target: Float[Array, "*lanes"]) -> Float[Array, "*lanes"]:
    """|achieved - target| / |target|; absolute for a target of 0."""
    return jnp.abs(achieved - target) / jnp.where(target == 0, 1.0, jnp.abs(target))


def step(
    problem: Problem, optimizer: optax.GradientTransformation, lane: Lane, tolerance: float, steps: int, patience: int
) -> Lane:
    """Look where the lane stands, and choose where to look next.

    **Arguments** `tolerance`: relative error that counts as reached. `steps`: looks before objectives rest.
    `patience`: looks without progress that end the search.
    """
    look = problem.look(lane.y, lane.target)
    free = problem.has_objectives & (lane.finishing == 0)
    judged = _judge(lane, look, free)
    moved = _move(judged, look, free, optimizer)
    new = _ending(moved, look, problem.has_objectives, tolerance, steps, patience)
    return _either(lane.done, lane, new._replace(settled=lane.settled & look.settled))


def _goes_across(lane: Lane, best: Look) -> Array:
    """Whether Newton's method leads, not Optax alone."""
    return _has_slope(best) & (lane.strikes < STRIKES)


def _judge(lane: Lane, look: Look, free: Array) -> Lane:
    """Keep the look if it helped, and set the length of the next step by that."""
    best = look.in_rows(lane.best)
    across = _goes_across(lane, best)
    miss, best_miss = badness(look), badness(best)
    helped = miss <= jnp.maximum(best_miss - KEPT * lane.promised, jnp.where(free, TUBE, 0.0))
    accept = jnp.where(across, helped, miss < best_miss)
    row = jnp.where(accept, look.row(), lane.best)
    best = look.in_rows(row)
    radius = jnp.where(accept, jnp.minimum(2.0 * lane.radius, LONGEST), jnp.maximum(0.25 * lane.radius, SHORTEST))
    much_less = 0.75 * lane.reference
    quarter = badness(best) <= jnp.where(free, jnp.maximum(much_less, TUBE), much_less)
    return lane._replace(
        best=row,
        radius=jnp.where(across, radius, LONGEST),
        strikes=jnp.where(quarter, 0, lane.strikes + 1).astype(jnp.int32),
        reference=jnp.where(quarter, badness(best), lane.reference),
    )


def _move(lane: Lane, look: Look, free: Array, optimizer: optax.GradientTransformation) -> Lane:
    """Choose where to look next: across the target by Newton's method and along it by Optax, or by Optax alone."""
    across = _goes_across(lane, look.in_rows(lane.best))
    # Newton's method goes on from the best look, Optax alone from where it is.
    here = look.in_rows(jnp.where(across, lane.best, look.row()))
    norm = jnp.sqrt(jnp.sum(here.uphill**2))
    normal = here.uphill / jnp.where(norm > 0, norm, 1.0)
    along = here.slope - jnp.dot(here.slope, normal) * normal
    # Guidance gives a direction; only an observable has a slope worth its size.
    push = here.miss * jnp.where(here.flat, normal, here.uphill)
    fed = jnp.where(free, along, 0.0) + jnp.where(across, 0.0, push)
    # Optax mixes integers and floats, which a strict user of JAX forbids.
    with jax.numpy_dtype_promotion("standard"):
        updates, memory = optimizer.update(jnp.where(jnp.isfinite(fed), fed, 0.0), lane.memory, here.y)
    updates = jnp.asarray(updates)
    length = jnp.clip(-here.miss / jnp.where(norm > 0, norm, 1.0), -lane.radius, lane.radius)
    sideways = updates - jnp.dot(updates, normal) * normal
    sideways = sideways * jnp.minimum(1.0, lane.radius / jnp.maximum(jnp.sqrt(jnp.sum(sideways**2)), 1e-30))
    return lane._replace(
        y=here.y + jnp.where(across, length * normal + jnp.where(free, sideways, 0.0), updates),
        memory=memory,
        promised=jnp.where(across, jnp.abs(length) * norm, 0.0),
    )


def _ending(lane: Lane, look: Look, has_objectives: bool, tolerance: float, steps: int, patience: int) -> Lane:
    """Count the step, and see whether the lane is done."""
    best = look.in_rows(lane.best)
    in_tube = jnp.abs(best.miss) <= TUBE
    score = jnp.where(in_tube & has_objectives, _loss_on_target(best) - NO_SLOPE, badness(best))
    progress = score < lane.record - PROGRESS * jnp.minimum(jnp.abs(lane.record), 1.0)
    idle = jnp.where(progress | (lane.finishing > 0), 0, lane.idle + 1)
    counted = lane.steps + 1
    end = (idle >= patience) | (counted >= steps)
    finishing = jnp.where(lane.finishing > 0, lane.finishing + 1, end.astype(jnp.int32))
    on_target = best.valid & (relative_error(best.achieved, lane.target) <= tolerance)
    if has_objectives:
        done = (on_target & (finishing > 1)) | (finishing > FINISH)
    else:
        done = on_target | (finishing > 0)
    lane = lane._replace(
        record=jnp.where(progress, score, lane.record),
        champion=jnp.where(progress, lane.best, lane.champion),
        idle=idle,
        finishing=finishing,
        steps=counted,
        done=done,
    )
    if not has_objectives:
        return lane
    # Along the target a step is taken on trust: what it has led away from is where the lane ends.
    returned = lane._replace(
        best=lane.champion,
        y=look.in_rows(lane.champion).y,
        promised=jnp.zeros_like(lane.promised),
        radius=jnp.full_like(lane.radius, LONGEST),
    )
    return _either(finishing == 1, returned, lane)


def _loss_on_target(look: Look) -> Array:
    """What the loss will be once a step across has taken the miss away: else looks beside the target would win."""
    squared = jnp.sum(look.uphill**2)
    return look.loss - look.miss * jnp.dot(look.slope, look.uphill) / jnp.where(squared > 0, squared, 1.0)


def _either(which: Array, one: Any, other: Any) -> Any:
    """`one` where `which`, else `other`."""
    return jax.tree.map(lambda a, b: jnp.where(which, a, b), one, other)


def _has_slope(look: Look) -> Array:
    """Whether Newton's method applies: the state is valid, and its observable changes with the parameters."""
    return jnp.logical_and(look.valid, jnp.logical_not(look.flat))


def badness(look: Look) -> Array:
    """What a look is judged by: |miss|, and far more where there is no slope."""
    return jnp.abs(look.miss) + jnp.where(_has_slope(look), 0.0, NO_SLOPE)


@partial(kept, brief=FEW)
def start_lanes(
    problem: Problem,
    optimizer: optax.GradientTransformation,
    y: Float[Array, "lanes n"],
    targets: Float[Array, " lanes"],
) -> Lane:
    """`begin` for many lanes."""
    return jax.vmap(lambda y, target: begin(problem, optimizer, y, target))(y, targets)


@jax.jit
def replace_lanes(lanes: Lane, which: Bool[Array, " lanes"], others: Lane) -> Lane:
    """The same lanes, but for `which`, which become the others."""
    return jax.vmap(_either)(which, others, lanes)


@partial(kept, brief=FEW)
@in_full_precision
def take_steps(
    problem: Problem,
    optimizer: optax.GradientTransformation,
    lanes: Lane,
    number: int,
    tolerance: float,
    steps: int,
    patience: int,
) -> tuple[Lane, Look, tuple[Array, Array, Array]]:
    """`number` steps of every lane; the best look of each; and the misses, observables and coordinates on the way,
    (number, lanes, ...)."""

    like = problem.unseen(lanes.y[0])

    def one(lanes: Lane, _: Any) -> Any:
        y = lanes.y
        lanes = jax.vmap(lambda lane: step(problem, optimizer, lane, tolerance, steps, patience))(lanes)
        best = like.in_rows(lanes.best)
        return lanes, (best.miss, best.achieved, y)

    lanes, way = jax.lax.scan(one, lanes, None, length=number)
    return lanes, like.in_rows(lanes.best), way
