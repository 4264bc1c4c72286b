"""What a design asks for, and one look at it: how far a set of parameters is from the target, and which way to go."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ..rotation.attractors import solver_for, steady_state
from ..rotation.observables import AbstractObservable, is_frequency
from ..rotation.rigid_states import RESULTS, SteadyState, unknown_state
from .box import Box
from .constraints import AbstractConstraint
from .distance_to_chase import chase_distance


class Look(NamedTuple):
    """One set of parameters seen from the target (n parameters, M members of the ensemble).

    - `y`: coordinates in the box, shape (n,).
    - `miss`: the signed distance to the target, dimensionless; 0 on it, growing past -1 away from the chase.
    - `uphill`: its gradient with respect to y, shape (n,).
    - `loss`: of the objectives; `slope`: its gradient with respect to y.
    - `achieved`: the observable (GHz, or its own unit): mean or mid-range over members; `each`: shape (M,).
    - `gradient`: of `achieved` with respect to the parameters in their units, shape (n,).
    - `states`: the steady state of each member, batched over (M,).
    - `valid`: whether every member has a valid state. `flat`: whether some member's observable has no slope.
    """

    y: Float[Array, " n"]
    miss: Float[Array, ""]
    uphill: Float[Array, " n"]
    loss: Float[Array, ""]
    slope: Float[Array, " n"]
    achieved: Float[Array, ""]
    each: Float[Array, " M"]
    gradient: Float[Array, " n"]
    states: SteadyState
    valid: Bool[Array, ""]
    flat: Bool[Array, ""]

    @property
    def settled(self) -> Bool[Array, ""]:
        """Whether every member's motion did."""
        return jnp.all(self.states.result != RESULTS.not_settled)

    def row(self) -> Float[Array, " numbers"]:
        """All its numbers, one after the other: what is carried as one array is chosen by one kernel, not by one for
        each of its fields. `in_rows` takes them apart."""
        return jnp.concatenate([jnp.ravel(x).astype(self.y.dtype) for x in jax.tree.leaves(self)])

    def in_rows(self, rows: Float[Array, "*lanes numbers"]) -> "Look":
        """The looks whose numbers are in `rows`, of the shapes of this one."""
        leaves, structure = jax.tree.flatten(self)
        ends = np.cumsum([leaf.size for leaf in leaves])
        return jax.tree.unflatten(
            structure,
            [
                rows[..., end - leaf.size : end].reshape(*rows.shape[:-1], *leaf.shape).astype(leaf.dtype)
                for leaf, end in zip(leaves, ends, strict=True)
            ],
        )


class Problem(eqx.Module):
    """A design without its target: how parameters become an observable.

    - `build`: parameters -> magnet. `box`: where they may lie. `m0`: the start of every steady state; None for default.
    - `observable`: what shall meet the target.
    - `objectives`: losses (magnet, state) -> scalar.
    - `ensemble`: further arguments of `build`, each of shape (M,); empty for M = 1.
    - `worst_case`: aim the middle between the extremes at the target, not the mean.
    - `spread_weight`: of the ensemble's relative spread among the objectives.
    - `watches`: whether shapes that do not settle are watched; else `Look.settled` tells that there were some.
    """

    build: Callable[..., Any] = eqx.field(static=True)
    box: Box
    m0: Float[Array, "L 3"] | None
    observable: AbstractObservable = eqx.field(static=True)
    objectives: tuple[Callable[..., Array], ...]
    ensemble: dict[str, Float[Array, " M"]]
    worst_case: Bool[Array, ""]
    spread_weight: Float[Array, ""]
    watches: bool = eqx.field(default=True, static=True)

    @property
    def has_objectives(self) -> bool:
        """Whether anything but the target matters."""
        return bool(self.objectives) or bool(self.ensemble)

    @property
    def members(self) -> int:
        """M, the size of the ensemble; 1 without."""
        return next((values.shape[0] for values in self.ensemble.values()), 1)

    @property
    def constraints(self) -> tuple[AbstractConstraint, ...]:
        """The objectives that are limits."""
        return tuple(x for x in self.objectives if isinstance(x, AbstractConstraint))

    def checks(self, y: Float[Array, " n"], states: SteadyState) -> tuple[Float[Array, " C"], Float[Array, " C"]]:
        """The quantity of each limit and its excess, of the member that keeps it least; excess inf where there is none.

        **Arguments** `y`: coordinates. `states`: of each member, batched over (M,).
        """

        def member(material: dict[str, Array], state: SteadyState) -> Any:
            magnet = self.build(**self.box.values(y), **material)
            figures = [c.measured(magnet, state) for c in self.constraints]
            quantities, excesses = (jnp.stack([jnp.asarray(x[i]) for x in figures]) for i in range(2))
            return quantities, jnp.where(jnp.isfinite(excesses), excesses, jnp.inf)

        if not self.constraints:
            return jnp.zeros(0, y.dtype), jnp.zeros(0, y.dtype)
        if self.ensemble:
            quantities, excesses = jax.vmap(member)(self.ensemble, states)
        else:
            one = jax.tree.map(lambda x: x[0], states)
            quantities, excesses = (x[None] for x in member({}, one))
        worst = jnp.argmax(excesses, axis=0)[None]
        quantity, excess = (jnp.take_along_axis(x, worst, axis=0)[0] for x in (quantities, excesses))
        return quantity, excess

    def unseen(self, y: Float[Array, " n"]) -> Look:
        """What is known of coordinates before the first look: infinitely far from the target."""
        material = {name: values[0] for name, values in self.ensemble.items()}
        model = eqx.filter_eval_shape(lambda: self.build(**self.box.values(y), **material))
        unknown = unknown_state(model.layers, y.dtype, model.components)
        states = jax.tree.map(lambda x: jnp.stack([x] * self.members), unknown)
        zero, none, vector = jnp.zeros((), y.dtype), jnp.asarray(False), jnp.zeros_like(y)
        far, each = zero + jnp.inf, jnp.zeros(self.members, y.dtype)
        return Look(y, far, vector, far, vector, zero, each, vector, states, none, none)

    def _measure(self, p: Float[Array, " n"]) -> Any:
        """Observable and guidance of each member, and the loss; then what is looked at without derivatives."""
        parameters = {name: p[i] for i, name in enumerate(self.box.names)}

        def member(material: dict[str, Array]) -> Any:
            magnet = self.build(**parameters, **material)
            lit = magnet.plateau()
            solver = None if self.watches else solver_for(lit).of_settling_states()
            state = steady_state(lit, self.m0, solver=solver, cycles=False, throw=False)
            value = jnp.asarray(self.observable(magnet, state))
            loss = sum((f(magnet, state) for f in self.objectives), start=jnp.zeros_like(value))
            ok = state.is_rigid & jnp.isfinite(value)
            distance = chase_distance(lit, state)
            figures = (
                jnp.where(ok, value, 0.0),
                jnp.where(jnp.isfinite(distance), distance, 1.0),
                jnp.where(ok & jnp.isfinite(loss), loss, 0.0),
            )
            return figures, (ok, state)

        if self.ensemble:
            figures, seen = jax.vmap(member)(self.ensemble)
        else:
            figures, seen = jax.tree.map(lambda x: x[None], member({}))
        return figures, (figures, seen)

    def look(self, y: Float[Array, " n"], target: Float[Array, ""]) -> Look:
        """The parameters at coordinates y, seen from `target`."""
        p, dp = jax.jvp(self.box.vector, (y,), (jnp.ones_like(y),))
        slopes, (figures, (ok, states)) = jax.jacfwd(self._measure, has_aux=True)(p)
        (value, distance, loss), (d_value, d_distance, d_loss) = figures, slopes

        scale = jnp.where(target == 0, 1.0, jnp.abs(target))
        aim = target / scale
        flat = jnp.all(d_value == 0, axis=1)
        share, d_share = value / scale, d_value / scale
        # Without a slope of its own an observable is led towards the chase, away from the target as far as D says.
        side = jnp.where(share < aim, -1.0, 1.0)
        share = jnp.where(flat, share + side * distance, share)
        d_share = jnp.where(flat[:, None], side[:, None] * d_distance, d_share)

        centre, d_centre = self._centre(share, d_share)
        achieved, gradient = self._centre(value, d_value)
        miss, stretch = _squared(centre) if is_frequency(self.observable) else (centre - aim, 1.0)
        total, slope = jnp.mean(loss), jnp.mean(d_loss, axis=0)
        if self.ensemble:
            spread, d_spread = self._spread(share, d_share)
            total, slope = total + self.spread_weight * spread, slope + self.spread_weight * d_spread
        return Look(
            y,
            miss,
            stretch * d_centre * dp,
            total,
            slope * dp,
            achieved,
            value,
            gradient,
            states,
            jnp.all(ok),
            jnp.any(flat),
        )

    def _centre(self, x: Float[Array, " M"], dx: Float[Array, "M n"]) -> tuple[Array, Array]:
        """What is aimed at the target, and its gradient: the mean, or the middle between the extremes."""
        low, high = jnp.argmin(x), jnp.argmax(x)
        middle, mean = 0.5 * (x[low] + x[high]), jnp.mean(x)
        d_middle, d_mean = 0.5 * (dx[low] + dx[high]), jnp.mean(dx, axis=0)
        return jnp.where(self.worst_case, middle, mean), jnp.where(self.worst_case, d_middle, d_mean)

    def _spread(self, x: Float[Array, " M"], dx: Float[Array, "M n"]) -> tuple[Array, Array]:
        """The relative spread to keep small, and its gradient: standard deviation, or half the range."""
        low, high = jnp.argmin(x), jnp.argmax(x)
        from_mean, d_from_mean = x - jnp.mean(x), dx - jnp.mean(dx, axis=0)[None]
        deviation = jnp.sqrt(jnp.mean(from_mean**2))
        d_deviation = jnp.mean(from_mean[:, None] * d_from_mean, axis=0) / jnp.where(deviation > 0, deviation, 1.0)
        half, d_half = 0.5 * (x[high] - x[low]), 0.5 * (dx[high] - dx[low])
        return jnp.where(self.worst_case, half, deviation), jnp.where(self.worst_case, d_half, d_deviation)


def _squared(share: Array) -> tuple[Array, Array]:
    """The miss of a frequency f = share f*, and its derivative: smooth at the onset, where f rises like a square root.

    share^2 - 1, and share - 1 for negative shares (no chase).
    """
    return jnp.where(share > 0, share**2, share) - 1.0, jnp.where(share > 0, 2.0 * share, 1.0)
