"""How many turns of a chase fit before the light has melted the sample."""

import math
from functools import partial
from typing import Any, Final

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from jaxtyping import Array, Bool, Float

from .. import units
from .._numerics.precision import integration_tolerance
from .._numerics.ready_programs import FEW, kept
from .._numerics.root_scan import bisected
from .._numerics.small_matrices import safe_sqrt
from .._numerics.spectral_abscissa import largest_real_part
from .._numerics.validation import Number, is_concrete, require_positive
from ..magnets import LayeredMagnet, ThermalModel
from ..magnets.absorption import exposure
from ..magnets.heat import DULONG_PETIT, GADOLINIUM_VOLUME, penetration_depth
from ..motion.coordinates import Components, Heated
from ..motion.rigid_rotation import closest_rotation, leading_pair
from ..motion.step_sizes import step_control
from .attractors import steady_state
from .rigid_states import SteadyState

# Temperatures between which a root of W(0) is looked for.
SCAN: Final = 65
MOST_STEPS: Final = 100_000


class Turns(eqx.Module):
    """A chase under light that warms its sample.

    - `chase`, `rotation`: turns of the chase and of the whole magnet about Omega until `time`.
    - `time`: ps, when the limit was passed, or t1. `ended`: whether it was passed.
    - `limit`: K, the temperature of the moments at which their order is lost under this light, or a bound below it.
    - `electron_temperature`, `lattice_temperature`: K at that time.
    - `power`: absorbed by the moments of the start at full intensity, mean of the layers, meV/ps per atom.
      `photons_per_turn`: power over photon energy and chase frequency, per atom: the same at any intensity where the
      frequency is proportional to it.
    - `estimate_electrons`, `estimate`: turns before the limit if the electrons kept all of the heat, and if electrons
      and lattice shared it at once: heat capacity times warming over power times period, closed. Of layers that
      conduct, for the one that absorbs most, as if it handed nothing on.
    - `absorbed`: meV per atom until `time`.
    - `valid`: a valid chase at the start, and a successful integration.
    """

    chase: Float[Array, ""]
    rotation: Float[Array, ""]
    time: Float[Array, ""]
    ended: Bool[Array, ""]
    limit: Float[Array, ""]
    electron_temperature: Float[Array, ""]
    lattice_temperature: Float[Array, ""]
    power: Float[Array, ""]
    photons_per_turn: Float[Array, ""]
    estimate_electrons: Float[Array, ""]
    estimate: Float[Array, ""]
    absorbed: Float[Array, ""]
    valid: Bool[Array, ""]

    def __str__(self) -> str:
        if not is_concrete(self.chase) or self.chase.ndim:
            return f"Turns(chase{self.chase.shape})"
        end = "until the order melts" if self.ended else f"in {float(self.time):.4g} ps, and goes on"
        return (
            f"{float(self.chase):.3g} turns of the chase, {float(self.rotation):.3g} of the magnet, {end}\n"
            f"absorbed per atom: {float(self.power):.3g} meV/ps, {float(self.photons_per_turn):.3g} photons a turn\n"
            f"{float(self.electron_temperature):.4g} K after {float(self.time):.3g} ps; limit "
            f"{float(self.limit):.4g} K\n"
            f"closed estimates {float(self.estimate_electrons):.2g} to {float(self.estimate):.2g} turns"
            + ("" if self.valid else "; not valid: no chase at the substrate's temperature, or too many steps")
        )


def turns(
    magnet: LayeredMagnet,
    thermal: ThermalModel,
    t1: Number = 1000.0,
    *,
    limit: Number | None = None,
    state: SteadyState | None = None,
) -> Turns:
    """Turns of a chase from when a cold sample is in its steady rotation until its temperature passes a limit,

        n = int f_c(t) dt,   f_c the chase frequency of the moving moments,   T(t) < min(T_melt, limit).

    **Arguments**

    - `magnet`: under a laser, or with rates and a `thermal` that knows the photon energy. An envelope is followed.
    - `thermal`: a `ThermalModel`.
    - `t1`: ps, when to stop counting.
    - `limit`: K, a bound on the temperature that the moments feel. Default: where their order is lost under this light.
    - `state`: the rotation at the start. Default: the steady state at the substrate's temperature and full intensity.

    **Returns** `Turns`. Differentiable; batches by vmap and in `sweep`.

    **Raises** `ValueError` if the substrate is above the temperature at which the order is lost, or light is missing.

    Only heat ends the count here: the sample may lose its chase in other ways (`spatial_stability`).

    **Source** docs/physics.md, "Heat".
    """
    require_positive("t1", t1, "It is a time in ps.")
    if limit is not None:
        require_positive("limit", limit, "It is a temperature in K.")
    melting = ordering_temperature(magnet) / units.kelvin
    bound = _bound(melting, limit)
    if is_concrete(bound, thermal.base) and jnp.ndim(bound) == 0:
        if float(thermal.base) >= float(melting):
            raise ValueError(
                f"bath_temperature is {float(thermal.base):.4g} K, and the order under this light is lost at "
                f"{float(melting):.4g} K: nothing chases. Give a colder substrate, or weaker light."
            )
        if np.isnan(float(bound)):
            raise ValueError("in a field, or without damping, no temperature ends the order. Give limit, in K.")
        if float(thermal.base) >= float(bound):
            raise ValueError(
                f"limit = {float(bound):.4g} K, and bath_temperature is {float(thermal.base):.4g} K already. Give a "
                "higher limit, or a colder substrate."
            )
    state = steady_state(thermal.cold(magnet), cycles=False, throw=False) if state is None else state
    return _counted(magnet, thermal, jnp.asarray(t1, magnet.dtype), bound, state)


def estimated_turns(
    magnet: LayeredMagnet, thermal: ThermalModel, state: SteadyState, limit: Number | None = None
) -> Float[Array, ""]:
    """Turns of a chase before its temperature passes a limit, closed: n = f_c t, and t from

        C_l (T - P/G - T_0) = P tau (1 - e^(-t/tau)),   or, where that is later,   electronic (T^2 - T_0^2)/2 = P t:

    the lattice takes the heat, with the electrons P/G ahead of it; or the electrons are too hot before it could.

    **Arguments** as for `turns`; `state`: a steady rotation at the substrate's temperature. **Returns** turns, infinite
    where cooling keeps up. Differentiable. `turns` counts them. Of layers that conduct P is that of the one which
    absorbs most, as if it handed nothing on: no fewer turns than that.
    """
    bound = _bound(ordering_temperature(magnet) / units.kelvin, limit)
    power = jnp.max(thermal.power(magnet, state.m))
    frequency = state.chase_frequency * 1e-3
    metal = thermal.electronic > 0
    ahead = jnp.where(metal, power / thermal.coupling, 0.0) if thermal.follows == "electrons" else 0.0
    warming = jnp.maximum(bound - ahead - thermal.base, 0.0)
    alone = jnp.where(metal, 0.5 * thermal.electronic * jnp.maximum(bound**2 - thermal.base**2, 0.0), 0.0) / power
    cools = jnp.isfinite(thermal.cooling_time)
    tau = jnp.where(cools, thermal.cooling_time, 1.0)
    needed = thermal.lattice * warming / power
    share = needed / tau
    cooled = jnp.where(share < 1.0, -tau * jnp.log1p(-jnp.where(share < 1.0, share, 0.0)), jnp.inf)
    return frequency * jnp.maximum(alone, jnp.where(cools, cooled, needed))


def _bound(melting: Float[Array, ""], limit: Number | None) -> Float[Array, ""]:
    """The temperature at which to stop counting, K: where the order is lost, if it is at any, or a lower limit."""
    if limit is None:
        return melting
    asked = jnp.asarray(limit, melting.dtype)
    return jnp.where(jnp.isnan(melting), asked, jnp.minimum(melting, asked))


def price_of_light(magnet: LayeredMagnet, m: Float[Array, "L 3"], chase_frequency: Number) -> str:
    """One line: photons absorbed per site and turn of the chase, how far the sample is from losing its order, and what
    a picosecond of this light brings (mJ/cm^2), how deep (nm).

    **Arguments** `magnet`: under a laser. `m`: its moments, shape (L, 3). `chase_frequency`: GHz.
    """
    light = exposure(magnet, m)
    power = float(np.asarray(light.absorbed_power).mean()) * units.nW * units.ps
    energy, frequency = float(light.photon_energy), float(np.asarray(chase_frequency)) * 1e-3
    margin = (float(ordering_temperature(magnet)) - float(np.asarray(magnet.temperature).max())) / units.kelvin
    photons = f"{power / (energy * frequency):.3g} photons absorbed per site and turn; " if frequency > 0 else ""
    order = "" if math.isnan(margin) else f"the order is lost {margin:.3g} K above this temperature, and "
    warming = power / DULONG_PETIT
    fluence = float(light.intensity) * 1e-9
    depth = penetration_depth(float(light.intensity), power, GADOLINIUM_VOLUME) if power else math.inf
    return (
        f"{photons}{order}without cooling a lattice of 3 k_B per "
        f"atom warms by {warming:.3g} K/ps (see turns); each ps brings {fluence:.3g} mJ/cm^2, {depth:.3g} nm "
        f"deep where a site takes {GADOLINIUM_VOLUME:g} cubic angstrom"
    )


@partial(kept, brief=FEW)
def ordering_temperature(magnet: LayeredMagnet) -> Float[Array, ""]:
    """k_B T in meV, the same in all layers, above which m = 0 is stable under the magnet's light at full intensity: the
    greatest at which the largest real part of W(0) is 0 (but for an order that lives in less than a 64th of the range
    that bounds it). W(0) is that of the moments' components where anisotropies or other terms take part. 0 for a magnet
    that orders at no temperature; NaN for one without damping, and in a field, where m = 0 is no state.
    Differentiable."""
    one = jnp.ones_like(magnet.temperature)
    relaxation = 2.0 * magnet.damping * magnet.bath.free_rate(one)
    rates, still = magnet.exchange_rates() - jnp.diag(magnet.light_torque()[1]), jnp.asarray(True)
    if magnet.field_terms:
        at_one = eqx.tree_at(lambda x: x.temperature, magnet.plateau(), one)
        size, zero = 3 * magnet.layers, jnp.zeros((magnet.layers, 3), magnet.dtype)
        relaxation = jnp.repeat(relaxation, 3)
        slopes = jax.jacfwd(lambda m: at_one.vector_field(0.0, m))(zero).reshape(size, size)
        rates, still = slopes + jnp.diag(relaxation), jnp.all(at_one.vector_field(0.0, zero) == 0)

    def growth(temperature: Array, rates: Array, relaxation: Array) -> Array:
        return largest_real_part(rates - jnp.diag(relaxation * temperature))

    # Found without derivatives; they enter by one step of Newton's method, whose slope is frozen.
    fixed = jax.lax.stop_gradient((rates, relaxation))
    # Gershgorin: above it every row decays.
    diagonal = jnp.diag(fixed[0])
    reach = diagonal + jnp.sum(jnp.abs(fixed[0]), axis=1) - jnp.abs(diagonal)
    top = jnp.maximum(jnp.max(reach / jnp.where(fixed[1] > 0, fixed[1], jnp.nan)), 0.0)
    grid = jnp.linspace(0.0, 1.0, SCAN, dtype=top.dtype) * top
    grows = jax.vmap(lambda t: growth(t, *fixed))(grid) > 0
    # The greatest root: warmer layers may lose an order that only some warmth had given them.
    last = jnp.minimum(jnp.max(jnp.where(grows, jnp.arange(SCAN), 0)), SCAN - 2)
    root = bisected(lambda t: growth(t, *fixed), grid[last], grid[last + 1], jnp.ones_like(top))
    _, slope = jax.jvp(lambda t: growth(t, *fixed), (root,), (jnp.ones_like(root),))
    orders = jnp.any(grows)
    found = root - growth(root, rates, relaxation) / jnp.where(orders, slope, 1.0)
    return jnp.where(orders & still, found, jnp.where(jnp.isnan(top) | ~still, jnp.nan, 0.0))


@kept
def _counted(magnet: LayeredMagnet, thermal: ThermalModel, t1: Array, limit: Array, state: SteadyState) -> Turns:
    chases = state.is_rigid & (state.chase_frequency > 0)
    m0 = jnp.where(chases, state.m, jnp.eye(*state.m.shape, dtype=state.m.dtype))
    coordinates, laser = Heated(Components(magnet), thermal), None
    if magnet.has_laser:
        laser = magnet.illumination.laser
    zero = jnp.zeros((), m0.dtype)
    first = (*coordinates.start(m0), zero, zero)
    stop = t1 * units.ps
    tolerance = integration_tolerance(m0.dtype)

    def rates(t: Any, y: Any, args: Any) -> Any:
        (coordinates,) = args
        moments, warming = coordinates.rates(t, y[:2])
        omega, spread = closest_rotation(y[0], moments)
        chase = jnp.where(spread, jnp.abs(jnp.dot(leading_pair(y[0]).normal, omega)), 0.0)
        return moments, warming, chase / (2.0 * jnp.pi), safe_sqrt(jnp.sum(omega**2)) / (2.0 * jnp.pi)

    def above(t: Any, y: Any, args: Any, **options: Any) -> Array:
        del t, args, options
        return jnp.max(thermal.felt(y[1])) / units.kelvin - limit

    def run(coordinates: Heated, first: Any, stop: Array, event: Any, adjoint: Any) -> diffrax.Solution:
        return diffrax.diffeqsolve(
            diffrax.ODETerm(rates),
            diffrax.Tsit5(),
            jnp.zeros_like(stop),
            stop,
            None,
            first,
            args=(coordinates,),
            stepsize_controller=step_control(laser, jnp.zeros_like(stop), stop, tolerance, tolerance),
            adjoint=adjoint,
            event=event,
            max_steps=MOST_STEPS,
            throw=False,
        )

    # Where the limit is passed, without derivative; then up to there, with it.
    event = diffrax.Event(above, optx.Newton(1e-10, 1e-10))
    fixed = jax.tree.map(jax.lax.stop_gradient, (coordinates, first, stop))
    found = run(fixed[0], fixed[1], fixed[2], event, diffrax.RecursiveCheckpointAdjoint())
    assert found.ts is not None
    when, ended = jax.lax.stop_gradient(found.ts[-1]), jnp.asarray(found.event_mask)
    solution = run(coordinates, first, when, None, diffrax.DirectAdjoint())
    assert solution.ys is not None
    end = jax.tree.map(lambda x: x[-1], solution.ys)
    speed = rates(when, end, (coordinates,))
    # The time itself moves with the parameters: d(when) = -d(above)/(slope of above).
    missing, slope = jax.jvp(lambda heat: above(None, (None, heat), None), (end[1],), (speed[1],))
    late = jnp.where(ended, -missing / jax.lax.stop_gradient(jnp.where(slope != 0, slope, 1.0)), 0.0)
    moments, heat, chase, rotation = jax.tree.map(lambda x, v: x + late * jax.lax.stop_gradient(v), end, speed)
    electrons, lattice = thermal.temperatures(heat)
    powers = thermal.power(thermal.cold(magnet), m0)
    power, most = jnp.mean(powers), jnp.max(powers)
    energy = _photon_energy(magnet, thermal)
    frequency = state.chase_frequency * 1e-3
    warming, squares = limit - thermal.base, limit**2 - thermal.base**2
    alone = jnp.where(thermal.electronic > 0, 0.5 * thermal.electronic * squares, thermal.lattice * warming)
    together = 0.5 * thermal.electronic * squares + thermal.lattice * warming
    fine = chases & (limit > thermal.base) & diffrax.is_okay(solution.result) & (diffrax.is_okay(found.result) | ended)
    return Turns(
        chase,
        rotation,
        (when + late) / units.ps,
        ended,
        limit,
        jnp.max(electrons),
        jnp.max(lattice),
        power,
        power / (energy * frequency),
        alone / most * frequency,
        together / most * frequency,
        jnp.mean(heat.absorbed),
        fine & jnp.all(jnp.isfinite(moments)),
    )


def _photon_energy(magnet: LayeredMagnet, thermal: ThermalModel) -> Any:
    """hnu in meV."""
    return magnet.illumination.laser.photon_energy if magnet.has_laser else thermal.photon_energy
