"""What the light does to the sample: the figures that an experiment is planned with."""

from functools import partial
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .. import units
from .._numerics.ready_programs import FEW, kept
from .._numerics.small_matrices import safe_sqrt
from .._numerics.validation import Number, is_concrete
from ..light.laser import Laser
from ..light.local_moment import LocalMoment, Validity
from .layers import LayeredMagnet


class Exposure(eqx.Module):
    """A magnet in its light, at full intensity (L layers).

    - `intensity`: W/cm^2. `photon_energy`: meV. `peak_field`: amplitude E0 in MV/cm.
    - `rabi_energy`: Omega_R in meV, shape (L,). `detuning`: delta in meV, shape (L,).
    - `pump_rate`: kappa in meV, shape (L,). `loss_rate`: gamma in meV, shape (L,). `sd_coupling`: g in meV, (L,).
    - `absorbed_power`: per site in nW, shape (L,).
    - `polarization`: of the conduction electrons, as a share of what there is, shape (L,); see `electron_polarization`.
    - `validity`: the small parameters, with warnings.
    """

    intensity: Float[Array, ""]
    photon_energy: Float[Array, ""]
    peak_field: Float[Array, ""]
    rabi_energy: Float[Array, " L"]
    detuning: Float[Array, " L"]
    pump_rate: Float[Array, " L"]
    loss_rate: Float[Array, " L"]
    sd_coupling: Float[Array, " L"]
    absorbed_power: Float[Array, " L"]
    polarization: Float[Array, " L"]
    validity: Validity

    def __str__(self) -> str:
        if not is_concrete(self.intensity) or self.intensity.ndim:
            return f"Exposure(intensity{self.intensity.shape})"

        def row(values: Any, form: str) -> str:
            return ", ".join(format(float(x), form) for x in np.asarray(values))

        ev_per_ps = np.asarray(self.absorbed_power) * units.nW * units.ps * 1e-3
        lines = [
            f"light: {float(self.intensity):.4g} W/cm^2 at {float(self.photon_energy):.5g} meV, "
            f"peak field {float(self.peak_field):.3g} MV/cm",
            f"by layer: Rabi energy {row(self.rabi_energy, '.3g')} meV, detuning {row(self.detuning, '.4g')} meV, "
            f"pump rate {row(self.pump_rate, '.3g')} meV, loss rate {row(self.loss_rate, '.4g')} meV, "
            f"g {row(self.sd_coupling, '.5g')} meV",
            f"absorbed per site: {row(self.absorbed_power, '.3g')} nW ({row(ev_per_ps, '.2g')} eV/ps)",
        ]
        return "\n".join(lines + [f"warning: {text}" for text in self.warnings])

    @property
    def warnings(self) -> list[str]:
        """What is not small, and electrons that would have to be polarized by more than there are."""
        texts, share = list(self.validity.warnings.values()), float(np.asarray(self.polarization).max())
        if not share <= 1.0:
            texts.append(
                f"exchange of this size takes {share:.3g} times the spin that the conduction electrons have: no band "
                "carries it. Raise |g| or the filling, weaken the exchange, or give mediated_exchange."
            )
        return texts


def exposure(magnet: LayeredMagnet, m: Float[Array, "L 3"]) -> Exposure:
    """Field, Rabi energies, rates and absorbed power of a magnet under its laser,

        P_a = hnu gamma_a [n_a - (2/g_a) m_a . sum_b jm_ab m_b]:

    the photon energy times the rate at which singlets of electron and moment are lost, with the electrons' polarization
    s_a = (1/g_a) sum_b jm_ab m_b of the mean field. At the plateau of the envelope.

    **Arguments** `magnet`: from `LayeredMagnet.with_light`. `m`: its moments, shape (L, 3), for example
    `steady_state(magnet).m`.

    **Returns** an `Exposure`; `print` it.

    **Raises** `ValueError` for a magnet without laser.

    **Source** docs/physics.md, "Absorbed power".
    """
    return _exposure(magnet.illumination.moments, magnet.illumination.laser.plateau(), magnet.plateau(), m)


@partial(kept, brief=FEW)
def _exposure(moments: LocalMoment, laser: Laser, magnet: LayeredMagnet, m: Array) -> Exposure:
    """Moments under a constant laser, and the magnet with the rates that it makes."""
    transition = moments.transition
    dark = jnp.zeros_like(moments.level)
    return Exposure(
        laser.intensity,
        laser.photon_energy,
        laser.peak_field,
        dark if transition is None else transition.rabi_energy(laser),
        dark if transition is None else transition.detuning(laser),
        moments.pump_rate(laser),
        magnet.loss_rate,
        magnet.sd_coupling,
        absorbed_power(magnet, m, photon_energy=laser.photon_energy) / units.nW,
        electron_polarization(magnet, m),
        moments.validity(laser),
    )


def electron_polarization(magnet: LayeredMagnet, m: Float[Array, "L 3"]) -> Float[Array, " L"]:
    """2 |s_a| / min(n_a, 2 - n_a), s_a = (1/g_a) sum_b jm_ab m_b: the share of the conduction electrons' spin that the
    exchange takes. Above 1 there is no such band, and `absorbed_power` may come out negative. Infinite for a band that
    is empty or full.

    **Arguments** as in `exposure`; rates without a laser will do. **Returns** one for each layer; 0 where g is 0.

    **Source** docs/physics.md, "Absorbed power".
    """
    g, field = magnet.sd_coupling, magnet.light_exchange() @ m
    coupled = g != 0
    spin = safe_sqrt(jnp.sum(field**2, axis=1)) / jnp.where(coupled, jnp.abs(g), 1.0)
    most = 0.5 * jnp.minimum(magnet.filling, 2.0 - magnet.filling)
    some = most > 0
    share = jnp.where(some, spin / jnp.where(some, most, 1.0), jnp.inf)
    return jnp.where(coupled & (spin > 0), share, 0.0)


def absorbed_power(
    magnet: LayeredMagnet, m: Float[Array, "L 3"], t: Number | None = None, photon_energy: Number | None = None
) -> Float[Array, " L"]:
    """P_a = hnu gamma_a [n_a - (2/g_a) m_a . sum_b jm_ab m_b], by layer, in meV^2/hbar per site.

    **Arguments** `magnet`, `m`: as in `exposure`. `t`: ps; None for full intensity. `photon_energy`: hnu in meV of a
    light that is given by rates; a laser has its own.

    **Raises** `ValueError` for rates without a photon energy.

    **Source** docs/physics.md, "Absorbed power".
    """
    if magnet.has_laser:
        laser = magnet.illumination.laser_at(t)
        energy = laser.photon_energy
    elif photon_energy is None:
        raise ValueError(
            "photon_energy is missing: the light is given by rates, which do not tell what a photon brings. Give it in "
            "meV, or put the magnet under a laser."
        )
    else:
        energy = jnp.asarray(photon_energy, magnet.dtype)
    lit = magnet if t is None else magnet.at(jnp.asarray(t) * units.ps)
    g, loss = lit.sd_coupling, lit.loss_rate
    coupled = g != 0
    polarization = jnp.sum(m * (magnet.light_exchange() @ m), axis=1) / jnp.where(coupled, g, 1.0)
    return energy * loss * (magnet.filling - 2.0 * jnp.where(coupled, polarization, 0.0))
