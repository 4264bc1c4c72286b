"""Published parameter sets, and microscopic ones that lead to them."""

from typing import Any

import jax.numpy as jnp

from ._numerics.validation import Number, Numbers, float_array
from .light.hopping_light import HundLight, MottLight
from .light.illumination import AbstractLight
from .light.laser import Envelope, Laser, OpticalTransition
from .light.local_moment import LocalMoment
from .magnets import CoupledCondensates, LayeredMagnet


def hanai2025_bilayer(loss_rate: Numbers = 0.0, interlayer_exchange: Number = 5.0, **overrides: Any) -> LayeredMagnet:
    """The bilayer of Hanai, Ootsuki and Tazai (2025), Fig. 1c: layer A orders by itself, layer B does not, and the
    light is resonant with B only.

    j = [[10, j_AB], [j_AB, 5]] meV, alpha = (0.1, 0.002), g = -10 meV, n = 1, k_B T = 9 meV, gyro = 2.

    **Arguments**

    - `loss_rate`: gamma_B in meV, the light on layer B; or [gamma_A, gamma_B], the light on both.
    - `interlayer_exchange`: j_AB = j_BA in meV.
    - `overrides`: any argument of `LayeredMagnet`, replacing the value above.

    **Returns** a `LayeredMagnet` of two layers.

    **Raises** `TypeError` for an unknown name, `ValueError` for a value out of range.
    """
    shape = float_array("loss_rate", loss_rate).shape
    if shape not in ((), (2,)):
        raise ValueError(f"loss_rate has shape {shape}: give gamma_B, or [gamma_A, gamma_B].")
    arguments: dict[str, Any] = {
        "exchange": [[10.0, interlayer_exchange], [interlayer_exchange, 5.0]],
        "damping": (0.1, 2e-3),
        "sd_coupling": -10.0,
        "loss_rate": loss_rate if shape else [0.0, loss_rate],
        "filling": 1.0,
        "temperature": 9.0,
    }
    return LayeredMagnet(**(arguments | overrides))


def illuminated_bilayer(
    intensity: Number = 2.65e10,
    photon_energy: Number = 1550.0,
    interlayer_exchange: Number = 6.0,
    *,
    envelope: Envelope | None = None,
    level: Numbers = -2000.0,
    repulsion: Numbers = 4000.0,
    hybridization: Numbers = 100.0,
    resonance: Numbers = (1850.0, 1550.0),
    dipole: Numbers = 1.0,
    linewidth: Numbers = 100.0,
    fermi_energy: Numbers = 0.0,
    **overrides: Any,
) -> LayeredMagnet:
    """The published bilayer on local moments under a laser: g and gamma of both layers follow from the light.

    eps_d = -2000, U = 4000, v = 100, Gamma = 100 meV and a dipole of 1 e*angstrom give g = -10 meV and, on
    resonance, gamma = kappa/400. Layer B answers to 1550 meV (800 nm), layer A to 1850 meV (670 nm). Published are g
    and the parameters of `hanai2025_bilayer`; the microscopic ones are chosen here to agree with them.

    **Arguments**

    - `intensity`: W/cm^2. `photon_energy`: meV. `envelope`: as in `Laser`.
    - `interlayer_exchange`: j_AB = j_BA in meV.
    - `level`, `repulsion`, `hybridization`, `fermi_energy`: of the `LocalMoment`s, meV; one value, or (A, B).
    - `resonance`, `linewidth`: of the `OpticalTransition`s, meV; `dipole` in e*angstrom; one value, or (A, B).
    - `overrides`: any other argument of `LayeredMagnet`.

    **Returns** a `LayeredMagnet` of two layers.

    **Raises** `TypeError` for an unknown name or one that the light decides (loss_rate, sd_coupling), `ValueError` for
    a value out of range.
    """
    for name in ("loss_rate", "sd_coupling"):
        if name in overrides:
            raise TypeError(f"{name} follows from the laser here. Use hanai2025_bilayer to set it by hand")

    def both(name: str, value: Numbers) -> Any:
        return float_array(name, value, (2,))

    transition = OpticalTransition(both("resonance", resonance), both("dipole", dipole), both("linewidth", linewidth))
    moments = LocalMoment(
        both("level", level),
        both("repulsion", repulsion),
        both("hybridization", hybridization),
        transition,
        both("fermi_energy", fermi_energy),
    )
    magnet = hanai2025_bilayer(0.0, interlayer_exchange, **overrides)
    return magnet.with_light(moments, Laser(intensity, photon_energy, envelope))


def mott_bilayer(hop_rate: Number = 0.03, interlayer_exchange: Number = -2.0, **overrides: Any) -> LayeredMagnet:
    """Two layers of a Mott insulator whose virtual doublons light empties.

    j = [[10, j_AB], [j_AB, 5]] meV, alpha = (0.1, 0.002), k_B T = 9 meV, gyro = 2. Light on one layer acts on both
    alike here: the chase is that of layers of unequal damping.

    **Arguments** `hop_rate`: Gamma = z kappa t^2/(Delta^2 + kappa^2) in meV. `interlayer_exchange`: j_AB in meV;
    antiferromagnetic for a chase. `overrides`: any other argument of `LayeredMagnet`.

    **Returns** a `LayeredMagnet` of two layers under `MottLight`.

    **Source** docs/physics.md, "Light in other materials"; exchange and damping are those of `hanai2025_bilayer`.
    """
    return _between_layers(MottLight(hop_rate), (10.0, interlayer_exchange, 5.0), (0.1, 2e-3), overrides)


def hund_bilayer(
    transfer_rate: Number = 0.08, precession: Number = 0.02, interlayer_exchange: Number = 0.1, **overrides: Any
) -> LayeredMagnet:
    """Two layers of a two-orbital Mott insulator: A lends its electrons to an empty orbital of B, where light takes
    them.

    j = [[10.6, j_AB], [j_AB, 10]] meV, alpha = 0.1 in both, k_B T = 9 meV, gyro = 2; a pure triplet, G0 = 3 G1 and
    G2 = G1. It chases with equal damping.

    **Arguments** `transfer_rate`: G1 in meV. `precession`: Y in meV. `interlayer_exchange`: j_AB in meV. `overrides`:
    any other argument of `LayeredMagnet`.

    **Returns** a `LayeredMagnet` of two layers under `HundLight`.

    **Source** docs/physics.md, "Light in other materials".
    """
    rate = jnp.asarray(transfer_rate, jnp.result_type(float))
    light = HundLight(3.0 * rate, rate, rate, precession)
    return _between_layers(light, (10.6, interlayer_exchange, 10.0), (0.1, 0.1), overrides)


def two_band_superconductor(
    conversion_rate: Number = 0.1, josephson: Number = 0.3, **overrides: Any
) -> CoupledCondensates:
    """Two superconducting bands of unequal relaxation, whose Josephson coupling light opposes.

    Gamma = (1, 0.1), a = -1, b = 1 meV. Light breaks pairs that are shared by both bands, gamma of each:
    Lambda_12 = Lambda_21 = -gamma, loss = gamma. The phases chase where Gamma_2 eta < gamma < Gamma_1 eta; near the
    lower edge the amplitudes oscillate as well.

    **Arguments** `conversion_rate`: gamma in meV. `josephson`: eta in meV. `overrides`: any other argument of
    `CoupledCondensates`.

    **Returns** `CoupledCondensates` of two bands. Frequencies are against twice the normal electrons' potential: 1 GHz
    is 2.07 uV between a superconducting and a normal probe.

    **Source** docs/physics.md, "Two condensates".
    """
    gamma = jnp.asarray(conversion_rate, jnp.result_type(float))
    swapped = jnp.asarray([[0.0, 1.0], [1.0, 0.0]], gamma.dtype)
    arguments: dict[str, Any] = {
        "rate": (1.0, 0.1),
        "linear": -1.0,
        "quartic": 1.0,
        "josephson": jnp.asarray(josephson, gamma.dtype) * swapped,
        "light": -gamma * swapped,
        "loss": gamma,
    }
    return CoupledCondensates(**(arguments | overrides))


def _between_layers(
    light: AbstractLight, exchange: tuple[Number, Number, Number], damping: tuple[float, float], overrides: Any
) -> LayeredMagnet:
    """A bilayer with j_AA, j_AB and j_BB under light between its layers."""
    a, across, b = exchange
    arguments: dict[str, Any] = {
        "exchange": [[a, across], [across, b]],
        "damping": damping,
        "temperature": 9.0,
        "light": light,
    }
    return LayeredMagnet(**(arguments | overrides))
