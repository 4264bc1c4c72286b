"""Steady states of two order parameters from their shape: no fast precession, no integration in time."""

from typing import Any, Final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .. import units
from .._numerics.precision import collinear_tolerance, residual_tolerance
from .._numerics.small_matrices import safe_sqrt
from ..magnets import AbstractOrderParameters
from ..magnets.relaxation import Gram
from ..magnets.shape import ShapeDynamics
from ..motion.phases import Phase
from . import bilayer_states
from .bilayer_relaxation import VANISHED, Motion, settle
from .modulated_shapes import averages, is_modulated, watch_for_repetition
from .rigid_states import Averages, SteadyState, reached_state, rigid_state
from .solvers import AbstractSteadyStateSolver, without_derivative

# Fine steps spent on a shape that does not settle, for each step spent on settling.
WATCH_FACTOR: Final = 4


class ShapeSolver(AbstractSteadyStateSolver):
    """dG/dt = W G + G W^T = 0 for the scalar products of two order parameters on which nothing singles out a direction.

    Their shape is followed through pseudo-time to where it settles, then polished by Newton's method. A shape that
    keeps moving is watched until it repeats itself, which makes it MODULATED.

    **Source** docs/physics.md, "Shape dynamics".
    """

    def applies_to(self, model: Any) -> bool:
        """Whether the model is an isotropic bilayer, or two order parameters like it."""
        return isinstance(model, AbstractOrderParameters) and model.shape_closes

    @property
    def is_light(self) -> bool:
        """True."""
        return True

    @eqx.filter_jit
    def find(self, model: AbstractOrderParameters, start: Float[Array, "2 n"], max_steps: int) -> SteadyState:
        """The state reached from `start`; `max_steps` pseudo-time steps to settle, four times as many to repeat."""
        gram = gram_of(start)
        arrays, rest = eqx.partition((ShapeDynamics(model), _turning_rates(model)), eqx.is_array)

        def search(arrays: Any, gram: Gram) -> Any:
            shape, turning_rates = eqx.combine(arrays, rest)
            journey = settle(shape, gram, max_steps)
            journey, watch = watch_for_repetition(shape, turning_rates, journey, (1 + WATCH_FACTOR) * max_steps)
            motion = journey.motion
            rates = shape.rates(motion.gram)
            finite = jnp.isfinite(sum((*motion.gram, *rates), start=jnp.zeros_like(gram.aa)))
            arrived = motion.arrived & finite
            return motion, arrived, is_modulated(watch) & ~arrived & finite, finite, averages(watch), journey.steps

        motion, arrived, modulated, finite, averaged, steps = without_derivative(search)(arrays, gram)
        mean = averaged.gram
        return reached_state(
            state_near_gram(model, _without_vanished(motion, arrived), motion.paramagnetic, start),
            settled=arrived,
            modulated=modulated,
            averages=Averages(
                jnp.sqrt(jnp.stack([mean.aa, mean.bb])),
                jnp.arctan2(safe_sqrt(mean.aa * mean.bb - mean.ab**2), mean.ab),
                averaged.chase / units.GHz,
                averaged.rotation / units.GHz,
            ),
            finite=finite & jnp.isfinite(gram.aa + gram.bb),
            steps=steps,
        )

    def near(self, model: AbstractOrderParameters, state: SteadyState) -> SteadyState:
        """Newton's method from the Gram matrix of `state`."""
        return state_near_gram(model, gram_of(state.m), state.phase == Phase.PARAMAGNETIC, state.m)


def gram_of(m: Float[Array, "2 n"]) -> Gram:
    """Scalar products of two moments."""
    return Gram(jnp.sum(m[0] ** 2), jnp.sum(m[1] ** 2), jnp.sum(m[0] * m[1]))


def _turning_rates(model: AbstractOrderParameters) -> tuple[Array, Array]:
    """(J_BA, J_AB) in meV: the plane of the moments turns at their sum over m_A and m_B."""
    exchange = model.precession_exchange()
    return exchange[1, 0], exchange[0, 1]


def state_near_gram(
    model: AbstractOrderParameters, seed: Gram, paramagnetic: Bool[Array, ""], like: Float[Array, "2 n"]
) -> SteadyState:
    """The rigid state of two order parameters next to `seed`, polished and described.

    **Arguments** `seed`: its Gram matrix, nearly. `paramagnetic`: whether m = 0 is meant. `like`: moments that
    choose the orientation, shape (2, n).

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
    pair = bilayer_states.leading_pair_of(state, m)
    to_a, to_b = _turning_rates(model)
    omega = bilayer_states.angular_velocity(state, pair, to_a * m[0] + to_b * m[1])
    return rigid_state(model, m, omega, state.phase, state.growth_rate, attractor, pair, state.chase_rate)


def _without_vanished(motion: Motion, arrived: Bool[Array, ""]) -> Gram:
    """The seed for Newton's method, with moments that have vanished set to zero."""
    gram = motion.gram
    total = gram.aa + gram.bb
    no_a = motion.paramagnetic | (arrived & (gram.aa < VANISHED * total))
    no_b = motion.paramagnetic | (arrived & (gram.bb < VANISHED * total))
    return Gram(jnp.where(no_a, 0.0, gram.aa), jnp.where(no_b, 0.0, gram.bb), jnp.where(no_a | no_b, 0.0, gram.ab))
