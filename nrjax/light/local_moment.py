"""The local moment: from the loss of doublons to the coupling and the loss rate of the conduction electrons."""

from collections.abc import Iterator
from typing import Final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._numerics.validation import Numbers, float_array, is_concrete, require, require_finite, warn_if_implausible
from .laser import Laser, OpticalTransition

# Expansion parameters above this are reported: first corrections are then of order 10 % or more.
NOT_SMALL: Final = 0.1

REMEDIES: Final = {
    "hybridization / doublon cost": "hops are not rare: lower the hybridization, raise U, or detune the other way",
    "hybridization / hole cost": "hops are not rare: lower the hybridization or the level",
    "loss rate / linewidth": "the upper level remembers (not Markovian): lower the intensity",
}


class Validity(eqx.Module):
    """The small parameters of the projection by name, a mapping: `validity["loss rate / linewidth"]`.

    `warnings` says in words which are not small (above 0.1), and what to do; `str()` prints all.
    """

    parameters: dict[str, Float[Array, "..."]]

    def __getitem__(self, name: str) -> Float[Array, "..."]:
        return self.parameters[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.parameters)

    def __len__(self) -> int:
        return len(self.parameters)

    def keys(self) -> Iterator[str]:
        """The names."""
        return iter(self.parameters)

    @property
    def warnings(self) -> dict[str, str]:
        """Name -> text for each parameter that is not small. Needs known numbers (not under jit)."""
        texts = {}
        for name, value in self.parameters.items():
            largest = float(np.max(np.asarray(value)))
            if not largest < NOT_SMALL:
                texts[name] = f"{name} = {largest:.3g} is not small (limit {NOT_SMALL:g}): {REMEDIES[name]}"
        return texts

    def __str__(self) -> str:
        if not is_concrete(*self.parameters.values()):
            return f"Validity({', '.join(self.parameters)})"
        warnings = self.warnings
        return "\n".join(
            warnings.get(name, f"{name} = {float(np.max(np.asarray(value))):.3g}")
            for name, value in self.parameters.items()
        )


class LocalMoment(eqx.Module):
    """A localized level with one electron, coupled to a conduction band, whose doublon the light empties:

        Delta_2 = U + eps_d - eps_F + 2 shift  (cost of a doublon),   Delta_0 = eps_F - eps_d  (cost of a hole),
        g = -|v|^2 [Delta_2/(Delta_2^2 + kappa^2) + 1/Delta_0],   gamma = kappa |v|^2 / (Delta_2^2 + kappa^2).

    The doublon and the upper level of its transition are eliminated together: the forms hold to second order in v and
    to all orders in the light, however large kappa is against the linewidth or Delta_2 (`validity` tells what is asked
    for). Either electron of the doublon can make the transition, and each shifts its energy by `shift`.

    **Arguments** (meV; scalars, or arrays over several moments)

    - `level`: eps_d, below the Fermi energy.
    - `repulsion`: U, with eps_d + U above the Fermi energy.
    - `hybridization`: v, the amplitude of a hop between the level and the band.
    - `transition`: an `OpticalTransition` of the doublon; None for a moment that light does not touch.
    - `fermi_energy`: eps_F.

    **Raises** `ValueError` if the level is not singly occupied: then there is no local moment.

    **Source** the model is the paper's; the projection with doublon loss is derived in docs/physics.md, "Projection on
    the local moment".
    """

    level: Float[Array, "..."]
    repulsion: Float[Array, "..."]
    hybridization: Float[Array, "..."]
    transition: OpticalTransition | None
    fermi_energy: Float[Array, "..."]

    def __init__(
        self,
        level: Numbers,
        repulsion: Numbers,
        hybridization: Numbers,
        transition: OpticalTransition | None = None,
        fermi_energy: Numbers = 0.0,
    ):
        self.level = float_array("level", level)
        self.repulsion = float_array("repulsion", repulsion)
        self.hybridization = float_array("hybridization", hybridization)
        self.transition = transition
        self.fermi_energy = float_array("fermi_energy", fermi_energy)

    def __check_init__(self) -> None:
        for name in ("level", "repulsion", "hybridization", "fermi_energy"):
            require_finite(name, getattr(self, name))
        warn_if_implausible("repulsion", self.repulsion)
        require(
            "level - fermi_energy",
            self.level - self.fermi_energy,
            lambda x: x < 0,
            "less than 0 (meV)",
            "A level above the Fermi energy is empty and has no moment: lower the level.",
        )
        require(
            "level + repulsion - fermi_energy",
            self.doublon_cost,
            lambda x: x > 0,
            "greater than 0 (meV)",
            "A doublon below the Fermi energy is occupied and has no moment: raise the repulsion.",
        )

    @property
    def doublon_cost(self) -> Float[Array, "..."]:
        """U + eps_d - eps_F in meV: Delta_2 without light."""
        return self.repulsion + self.level - self.fermi_energy

    def shifted_doublon_cost(self, laser: Laser | None) -> Float[Array, "..."]:
        """Delta_2 = U + eps_d - eps_F + 2 shift in meV."""
        return self.doublon_cost + 2.0 * self.light_shift(laser)

    @property
    def hole_cost(self) -> Float[Array, "..."]:
        """Delta_0 = eps_F - eps_d in meV."""
        return self.fermi_energy - self.level

    def pump_rate(self, laser: Laser | None) -> Float[Array, "..."]:
        """kappa in meV; 0 without light or transition."""
        if laser is None or self.transition is None:
            return jnp.zeros_like(self.level)
        return self.transition.pump_rate(laser)

    def light_shift(self, laser: Laser | None) -> Float[Array, "..."]:
        """By how much the transition of one of its two electrons shifts a doublon, in meV; 0 without light."""
        if laser is None or self.transition is None:
            return jnp.zeros_like(self.level)
        return self.transition.light_shift(laser)

    def _doublon_admixture(self, laser: Laser | None) -> tuple[Array, Array]:
        """Real and imaginary part of 1/(Delta_2 - i kappa), in 1/meV."""
        cost, kappa = self.shifted_doublon_cost(laser), self.pump_rate(laser)
        size = cost**2 + kappa**2
        return cost / size, kappa / size

    def sd_coupling(self, laser: Laser | None = None) -> Float[Array, "..."]:
        """g in meV, negative: antiferromagnetic."""
        damped, _ = self._doublon_admixture(laser)
        return -(self.hybridization**2) * (damped + 1.0 / self.hole_cost)

    def loss_rate(self, laser: Laser | None) -> Float[Array, "..."]:
        """gamma in meV: the rate of the light's jump operator, sqrt(gamma) (1/2 - S.sigma) c."""
        _, lost = self._doublon_admixture(laser)
        return lost * self.hybridization**2

    def potential_scattering(self, laser: Laser | None = None) -> Float[Array, "..."]:
        """K = (|v|^2/2) [1/Delta_0 - Delta_2/(Delta_2^2 + kappa^2)] in meV: the part of the projection without spin."""
        damped, _ = self._doublon_admixture(laser)
        return 0.5 * self.hybridization**2 * (1.0 / self.hole_cost - damped)

    def validity(self, laser: Laser | None = None) -> Validity:
        """The small parameters in which doublons, holes and the upper level were eliminated:

            |v| / |Delta_2 - i kappa|,   |v| / Delta_0,   and under a laser   gamma / Gamma.

        kappa need be small against neither Gamma nor Delta_2: real doublons do not occur.
        """
        hop = jnp.abs(self.hybridization)
        real, imaginary = self._doublon_admixture(laser)
        parameters = {
            "hybridization / doublon cost": hop * jnp.sqrt(real**2 + imaginary**2),
            "hybridization / hole cost": hop / self.hole_cost,
        }
        if laser is not None and self.transition is not None:
            parameters["loss rate / linewidth"] = self.loss_rate(laser) / self.transition.linewidth
        return Validity(parameters)


def stack_moments(moments: LocalMoment | tuple[LocalMoment, ...], layers: int) -> LocalMoment:
    """One `LocalMoment` with arrays of shape (layers,) from one for all layers, or one for each.

    A moment without transition gets one of dipole 0.

    **Raises** `ValueError` if their number is not `layers`.
    """
    each = moments
    if isinstance(each, LocalMoment):
        shapes = {x.shape for x in jax.tree.leaves(each)} - {(), (1,)}
        if shapes - {(layers,)}:
            raise ValueError(
                f"moments of shape {shapes.pop()} for {layers} layers: pass one value, or one for each layer."
            )
        if shapes:
            return jax.tree.map(lambda x: jnp.broadcast_to(x, (layers,)), _lit(each))
        each = (each,) * layers
    if len(each) != layers:
        raise ValueError(
            f"{len(each)} moments for {layers} layers: pass one LocalMoment for each layer, or one for all."
        )
    dtype = jnp.result_type(*(moment.level for moment in each))

    def complete(moment: LocalMoment) -> LocalMoment:
        return jax.tree.map(lambda x: jnp.asarray(x, dtype).reshape(()), _lit(moment))

    return jax.tree.map(lambda *x: jnp.stack(x), *(complete(moment) for moment in each))


def _lit(moment: LocalMoment) -> LocalMoment:
    """The same moment, with a transition of dipole 0 if it has none."""
    if moment.transition is not None:
        return moment
    dark = OpticalTransition(1e3, 0.0, 1e2)
    return eqx.tree_at(lambda x: x.transition, moment, dark, is_leaf=lambda x: x is None)
