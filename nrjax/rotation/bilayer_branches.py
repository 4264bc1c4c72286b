"""Every rigid state of a bilayer, stable or not, so that coexistence shows."""

import functools
from collections.abc import Callable
from typing import Any, Final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._numerics.root_scan import roots_along
from .._numerics.validation import is_concrete, require_positive
from ..magnets import LayeredMagnet
from ..magnets.relaxation import Gram
from ..magnets.shape import ShapeDynamics
from .attractors import default_start
from .rigid_states import SteadyState
from .shape_solver import state_near_gram

SCAN: Final = 4001


def branches(model: LayeredMagnet) -> tuple[SteadyState, ...]:
    """All relative equilibria of an isotropic bilayer: paramagnetic, collinear and chiral.

    Each family is a scalar equation, scanned for sign changes and polished by Newton's method:

        collinear, b/a = x:  W_AA + W_AB x = 0 gives |h_A|, hence a;  then  W_BA + W_BB x = 0,
        chiral, cos = c:     (b/a)^2 = -W_BA/W_AB;  W_AA + W_AB (b/a) c = 0 gives a;  then  W_AA + W_BB = 0.

    **Arguments** `model`: a `LayeredMagnet` of two layers without field and anisotropy, with damping > 0 in layer 0;
    known numbers (not under jit).

    **Returns** the states as `SteadyState`s, attractors first. `growth_rate` tells stability: a positive one marks an
    unstable state, and `valid` is then False. Roots closer than a 4000th of the scan may be missed.

    **Raises** `ValueError` for another magnet.

    **Source** docs/physics.md, "Shape dynamics".
    """
    shape = ShapeDynamics(model)
    if not is_concrete(*jax.tree.leaves(eqx.filter(model, eqx.is_array))):
        raise ValueError("branches() returns as many states as there are: call it outside jit, vmap and grad.")
    require_positive("damping of layer 0", model.damping[0], "branches() solves for the field on layer 0 through it.")

    zero = jnp.zeros_like(shape.w_aa)
    seeds = [(Gram(zero, zero, zero), True)]
    angles = jnp.linspace(-0.5 * jnp.pi, 0.5 * jnp.pi, SCAN)[1:-1]
    # Directions of weak turning are resolved by a logarithmic grid of ratios as well.
    small = jnp.logspace(-8, 8, SCAN)
    ratios = jnp.sort(jnp.concatenate([jnp.tan(angles), small, -small]))
    seeds += [(g, False) for g in _roots(collinear_condition, model, ratios)]
    cosines = jnp.cos(jnp.linspace(jnp.pi, 0.0, SCAN))
    seeds += [(g, False) for g in _roots(chiral_condition, model, cosines)]

    start = default_start(model)
    finish = eqx.filter_jit(state_near_gram)
    states: list[SteadyState] = []
    for seed, paramagnetic in seeds:
        state = finish(model, seed, jnp.asarray(paramagnetic), start)
        known = any(bool(jnp.allclose(state.m @ state.m.T, other.m @ other.m.T, atol=1e-9)) for other in states)
        if not known and bool(jnp.isfinite(state.residual)) and float(state.residual) < 1e-6:
            states.append(state)
    return tuple(sorted(states, key=lambda state: float(state.growth_rate)))


def _field_for(model: LayeredMagnet, layer: int, relaxation: Array) -> Array:
    """|h|^2 at which r = 2 alpha phi(h) + loss of a layer has a given value; negative if it never has."""
    _, loss = model.light_torque()
    by_bath = relaxation - loss[layer]
    return model.bath.field_squared_at_rate(by_bath / (2.0 * model.damping[layer]), model.temperature[layer])


def _trace_part(model: LayeredMagnet, gram: Gram) -> tuple[Array, Array]:
    shape = ShapeDynamics(model)
    r_a, r_b = shape.relaxation_rates(gram)
    return shape.w_aa - r_a, shape.w_bb - r_b


def collinear_condition(model: LayeredMagnet, ratio: Array) -> tuple[Array, Gram]:
    """W_BA + W_BB x on the curve where layer A is stationary, with x = m_B/m_A signed; NaN where A has no solution."""
    w, j = model.exchange_rates(), model.exchange
    field_squared = _field_for(model, 0, w[0, 0] + w[0, 1] * ratio)
    aa = field_squared / (j[0, 0] + j[0, 1] * ratio) ** 2
    gram = Gram(aa, aa * ratio**2, aa * ratio)
    _, w_b = _trace_part(model, gram)
    return jnp.where(aa > 0, (w[1, 0] + w_b * ratio) / jnp.sqrt(1.0 + ratio**2), jnp.nan), gram


def chiral_condition(model: LayeredMagnet, cosine: Array) -> tuple[Array, Gram]:
    """trace W on the curve of chiral states with a given cos; NaN where there is none."""
    w, j = model.exchange_rates(), model.exchange
    squared = -w[1, 0] / jnp.where(w[0, 1] == 0, 1.0, w[0, 1])
    possible = (squared > 0) & (w[0, 1] != 0)
    ratio = jnp.sqrt(jnp.where(possible, squared, 1.0))
    field_squared = _field_for(model, 0, w[0, 0] + w[0, 1] * ratio * cosine)
    aa = field_squared / (j[0, 0] ** 2 + 2.0 * j[0, 0] * j[0, 1] * ratio * cosine + (j[0, 1] * ratio) ** 2)
    gram = Gram(aa, aa * ratio**2, aa * ratio * cosine)
    w_a, w_b = _trace_part(model, gram)
    return jnp.where(possible & (aa > 0), w_a + w_b, jnp.nan), gram


def _roots(
    condition: Callable[[LayeredMagnet, Array], tuple[Array, Gram]], model: LayeredMagnet, grid: Float[Array, " scan"]
) -> list[Gram]:
    """The Gram matrices where the condition changes sign along the grid."""
    value, gram = _parts(condition)
    (roots,) = roots_along(value, grid, model)
    return [gram(jnp.asarray(root), model) for root in roots]


@functools.cache
def _parts(condition: Callable[[LayeredMagnet, Array], tuple[Array, Gram]]) -> tuple[Any, Any]:
    """A condition's value, as one of several, and its Gram matrix, each a program."""
    return lambda x, model: condition(model, x)[0][None], jax.jit(lambda x, model: condition(model, x)[1])
