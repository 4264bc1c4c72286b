"""How sharply a chase rotates: the diffusion of its phase and of its axis in layers of finitely many spins."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .. import units
from .._numerics.ready_programs import FEW, kept, prepare
from .._numerics.small_matrices import safe_sqrt
from .._numerics.validation import Number, float_array, is_concrete, require
from ..magnets import FokkerPlanckMagnet, LayeredMagnet
from ..magnets.collisions import change_covariance, collisions, require_all_directions, second_moment
from ..magnets.fokker_planck import harmonics
from ..motion.phases import Phase
from ..motion.rigid_rotation import turning
from .attractors import steady_state
from .observables import AbstractObservable
from .rigid_states import SteadyState


class Linewidth(eqx.Module):
    """Diffusion of a rigid rotation in layers of `spins` spins each.

    NaN where the state is no valid chase, or where its drive |u_a| exceeds the rate r_a: no such spins exist.

    - `spins`: N.
    - `parallel`, `perpendicular`: D_par about Omega (phase) and D_perp of Omega's direction (axis) in meV, like 1/N.
      The moment across Omega is correlated like exp(-(D_par + D_perp) t) cos(|Omega| t), the one along it like
      exp(-2 D_perp t).
    - `fwhm`: of the line at the rotation frequency, full width at half maximum, (D_par + D_perp)/(pi hbar) in GHz.
    - `fwhm_at_zero`: of the line at zero frequency, 2 D_perp/(pi hbar) in GHz.
    - `relative_width`: `fwhm` over the rotation frequency. Above 1 there is no line, and 1/N no small parameter.
    - `spins_for_one_percent`: the N at which `relative_width` is 0.01.
    """

    spins: Float[Array, ""]
    parallel: Float[Array, ""]
    perpendicular: Float[Array, ""]
    fwhm: Float[Array, ""]
    fwhm_at_zero: Float[Array, ""]
    relative_width: Float[Array, ""]
    spins_for_one_percent: Float[Array, ""]

    def __str__(self) -> str:
        if not is_concrete(self.fwhm) or self.fwhm.ndim:
            return f"Linewidth(fwhm{self.fwhm.shape})"
        if np.isnan(float(self.fwhm)):
            return "no line: no valid chase, or one that is driven faster than spins forget"
        return (
            f"with {float(self.spins):.3g} spins per layer the line is {float(self.fwhm):.3g} GHz wide, "
            f"{100.0 * float(self.relative_width):.2g} % of its frequency; 1 % takes "
            f"{float(self.spins_for_one_percent):.2g} spins"
        )


def linewidth(
    model: LayeredMagnet | FokkerPlanckMagnet, spins: Number = 1e6, state: SteadyState | None = None
) -> Linewidth:
    """The linewidth of a chase whose layers are N spins each, to first order in 1/N:

        D = psi^T C psi / 2,   C_a = (r_a/N) <(S' - S)(S' - S)^T>,   FWHM = (D_par + D_perp)/(pi hbar).

    Each spin forgets its direction S at the rate r_a of its layer and takes a thermal one S' of mean u_a/r_a, where
    dm_a/dt = gyro m_a x h_a + u_a - r_a m_a: the process whose limit N -> infinity is this magnet. C is the noise that
    it leaves in the layers' moments, and psi what a deviation does to the phase and to the axis once everything else
    has died out: the left vectors of the linearization that belong to the three rotations.

    **Arguments**

    - `model`: an isotropic `LayeredMagnet`; light at its full intensity. Or a `FokkerPlanckMagnet`, whose spins
      diffuse: D = (1/N) sum_a D_a <grad psi . grad psi>_a, psi a function of a spin's direction.
    - `spins`: N, in each layer.
    - `state`: a steady state of this magnet; default `steady_state(model)`.

    **Returns** a `Linewidth`. Differentiable; batches by vmap, of a `LayeredMagnet` (docs/sharp_bits.md).

    **Raises** `ValueError` for a magnet with a field, an anisotropy or a `PlanarBath`, and for `spins` that are no
    positive number.

    All layers are taken as uniform, whatever their size: see `spatial_stability`. Moments of `QuantumBath` fluctuate
    like single spins 1/2, with symmetrized products; what heat does to a slow motion it overestimates by phi/T at most.

    **Source** docs/physics.md, "The width of the line".
    """
    number = float_array("spins", spins, shape=(), dtype=model.dtype)
    require("spins", number, lambda x: x > 0, "greater than 0", "It is the number of spins in each layer.")
    if isinstance(model, LayeredMagnet):
        if model.field_terms:
            kinds = ", ".join(type(term).__name__ for term in model.field_terms)
            raise ValueError(f"linewidth is that of an isotropic magnet, and this one has {kinds}. Leave it out.")
        require_all_directions(model.bath)
        model = model.plateau()
    state = steady_state(model, cycles=False, throw=False) if state is None else state
    return _noise(model, number, state)


def prepare_linewidth(magnet: LayeredMagnet, state: SteadyState) -> None:
    """Compile or load what `linewidth(magnet, state=state)` needs, and compute nothing: in a thread beside another, its
    systems of equations could wait for each other."""
    prepare(_noise, magnet.plateau(), float_array("spins", 1.0, shape=(), dtype=magnet.dtype), state)


@partial(kept, brief=FEW)
def _noise(magnet: LayeredMagnet | FokkerPlanckMagnet, spins: Array, state: SteadyState) -> Linewidth:
    chases = state.valid & (state.phase == Phase.CHIRAL)
    m = jnp.where(chases, state.m, jnp.eye(*state.m.shape, dtype=state.m.dtype))
    omega = jnp.where(chases, state.angular_velocity, jnp.ones(3, m.dtype))
    diffuses = isinstance(magnet, FokkerPlanckMagnet)
    tensor = (_spread(magnet, m, omega) if diffuses else _collisions(magnet, m, omega)) / spins
    rate = safe_sqrt(jnp.sum(omega**2))
    axis = omega / rate
    along = axis @ tensor @ axis
    across = 0.5 * (jnp.trace(tensor) - along)
    along, across, rate = (jnp.where(chases, x, jnp.nan) for x in (along, across, rate))
    width = 2.0 * (along + across) / units.GHz
    relative = width / (rate / units.GHz)
    return Linewidth(spins, along, across, width, 4.0 * across / units.GHz, relative, 100.0 * relative * spins)


def _collisions(magnet: LayeredMagnet, m: Array, omega: Array) -> Array:
    """N D of spins that take new directions at random, in meV."""
    psi = rotation_modes(magnet, m, omega)
    return 0.5 * jnp.einsum("iax,axy,jay->ij", psi, collision_noise(magnet, m, omega), psi)


def _spread(model: FokkerPlanckMagnet, m: Array, omega: Array) -> Array:
    """N D of spins whose directions diffuse, in meV."""
    means, jacobian, turned = model.modes(m, omega)
    psi = _dual(jacobian, turned, omega).reshape(3, model.layers, -1)
    basis = harmonics(model.lmax)
    values, slopes, weights = (jnp.asarray(x, m.dtype) for x in (basis.values, basis.slopes, basis.weights))
    density = means @ values * weights[None, :]
    gradients = jnp.einsum("iaf,kfp->iakp", psi, slopes[:, 1:])
    return jnp.einsum("a,ap,iakp,jakp->ij", model.diffusion(), density, gradients, gradients)


def rotation_modes(magnet: LayeredMagnet, m: Float[Array, "L 3"], omega: Float[Array, "3"]) -> Float[Array, "3 L 3"]:
    """psi^T: the angle, about each axis of the turning frame, to which a deviation of the moments leads in the end.

    With J the linearization in that frame and R the three rotations of m, J R = R G, G = -Omega x: psi^T J = G psi^T
    and psi^T R = 1, bordered to a square system.
    """
    size = m.size

    def rest(flat: Array) -> Array:
        moments = flat.reshape(m.shape)
        return (magnet.vector_field(0.0, moments) - turning(omega, moments)).reshape(size)

    turned = jnp.stack([turning(axis, m).reshape(size) for axis in jnp.eye(3, dtype=m.dtype)], axis=1)
    return _dual(jax.jacfwd(rest)(m.reshape(size)), turned, omega).reshape(3, *m.shape)


def _dual(jacobian: Float[Array, "M M"], turned: Float[Array, "M 3"], omega: Float[Array, "3"]) -> Float[Array, "3 M"]:
    """psi^T with psi^T J = G psi^T and psi^T R = 1, for R = `turned`."""
    size, axes, turn = len(turned), jnp.eye(3, dtype=turned.dtype), -_cross_matrix(omega)
    equations = jnp.block(
        [
            [jnp.kron(axes, jacobian.T) - jnp.kron(turn, jnp.eye(size, dtype=turned.dtype)), jnp.kron(axes, turned)],
            [jnp.kron(axes, turned.T), jnp.zeros((9, 9), turned.dtype)],
        ]
    )
    right = jnp.concatenate([jnp.zeros(3 * size, turned.dtype), axes.reshape(9)])
    return jnp.linalg.solve(equations, right)[: 3 * size].reshape(3, size)


def collision_noise(magnet: LayeredMagnet, m: Float[Array, "L 3"], omega: Float[Array, "3"]) -> Float[Array, "L 3 3"]:
    """N C_a = r_a <(S' - S)(S' - S)^T> in meV: each spin takes a new direction at the rate r_a, and precesses."""
    loss, mean = collisions(magnet, m)
    possible = jnp.all(jnp.sum(mean**2, axis=1) < 1.0)
    mean = jnp.where(possible, mean, jnp.zeros_like(mean))
    precession = magnet.precession_vector(m)

    def of_layer(layer: tuple[Array, ...]) -> Array:
        m, mean, loss, precession, temperature = layer
        new = second_moment(magnet.bath, mean, temperature)
        # Since they were taken, directions have turned: A Q + Q A^T + r (Q' - Q) = 0 in the turning frame.
        turn, one = -_cross_matrix(precession + omega), jnp.eye(3, dtype=m.dtype)
        turning_all = jnp.kron(turn, one) + jnp.kron(one, turn)
        old = jnp.linalg.solve(loss * jnp.eye(9, dtype=m.dtype) - turning_all, loss * new.reshape(9)).reshape(3, 3)
        return loss * change_covariance(m, old, mean, new)

    # Layer by layer: see `FokkerPlanckMagnet.distributions`.
    noise = jax.lax.map(of_layer, (m, mean, loss, precession, magnet.temperature))
    return jnp.where(possible, noise, jnp.nan)


def _cross_matrix(w: Float[Array, "3"]) -> Float[Array, "3 3"]:
    """[w]x, the matrix of w x."""
    return jnp.cross(w[None, :], jnp.eye(3, dtype=w.dtype)).T


class RotationLinewidth(AbstractObservable):
    """The width of the line at the rotation frequency, GHz (full width at half maximum); see `linewidth`.

    For `sweep`, `sensitivity` and designs. **Arguments** `spins`: in each layer.
    """

    spins: float = eqx.field(default=1e6, static=True, kw_only=True)
    name: str = eqx.field(default="linewidth", static=True)
    unit: str = eqx.field(default="GHz", static=True)
    long_name: str = eqx.field(default="width of the line at the rotation frequency", static=True)

    def __call__(self, model: LayeredMagnet, state: SteadyState) -> Float[Array, ""]:
        """Of the state; NaN where it is no chase."""
        return linewidth(model, self.spins, state).fwhm

    def exists_for(self, model: object) -> bool:
        """Whether it is an isotropic magnet of layers. (Of distributions a batch could lock up: docs/sharp_bits.md.)"""
        return isinstance(model, LayeredMagnet) and not model.field_terms
