"""What the Dataset of a sweep says about its variables: dimensions, units, the names of flags."""

import dataclasses
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from .._numerics.digests import versions
from ..motion.phases import Phase
from .computation import RESULT_NAMES, Observation
from .provenance import revision

AXIS_UNITS: Final = {"intensity": "W/cm^2", "dipole": "e*angstrom"} | dict.fromkeys(
    "loss_rate interlayer_exchange temperature sd_coupling field photon_energy level repulsion hybridization resonance "
    "linewidth fermi_energy".split(),
    "meV",
)


@dataclasses.dataclass(frozen=True)
class Table:
    """A Dataset without its numbers.

    **Arguments** `axes`: name -> values. `observation`: what was asked for. `attributes`: of the whole Dataset.
    """

    axes: dict[str, np.ndarray]
    observation: Observation
    attributes: dict[str, Any]

    def described(self, name: str, dimensions: int) -> tuple[list[str], dict[str, Any]]:
        """The names of a variable's dimensions, and its attributes."""
        known = self.observation.names
        unit, text, each = (
            (known[name].unit, known[name].long_name, known[name].each) if name in known else ("", name, "")
        )
        extra = ["layer"] if each else [f"{name}_{i}" for i in range(dimensions - len(self.axes))]
        attributes: dict[str, Any] = {"long_name": text} | ({"units": unit} if unit else {})
        if name == "phase":
            attributes["flag_values"] = np.array([phase.value for phase in Phase], np.int8)
            attributes["flag_meanings"] = " ".join(phase.name.lower() for phase in Phase)
        if name == "result":
            attributes["flag_values"] = np.arange(len(RESULT_NAMES), dtype=np.int8)
            attributes["flag_meanings"] = " ".join(RESULT_NAMES)
        return [*self.axes, *extra], attributes

    def axis_attributes(self, name: str) -> dict[str, str]:
        """The unit of an axis, if it is one of nrjax's parameters."""
        return {"units": AXIS_UNITS[name]} if name in AXIS_UNITS else {}

    def dataset(self, values: dict[str, Any]) -> xr.Dataset:
        """The Dataset of arrays over the grid, which may still be on a disk."""
        # In the order in which they were asked for, which compiled programs do not keep.
        asked = [observable.name for observable in self.observation.observables]
        variables = {}
        for name in dict.fromkeys((*asked, *values)):
            dimensions, attributes = self.described(name, values[name].ndim)
            variables[name] = xr.Variable(dimensions, values[name], attributes)
        coordinates = {name: xr.Variable(name, x, self.axis_attributes(name)) for name, x in self.axes.items()}
        return xr.Dataset(variables, coordinates, self.attributes)


def origin() -> dict[str, Any]:
    """On what, and with what, a Dataset is computed."""
    return {
        "title": "nrjax sweep",
        "dtype": jnp.result_type(float).name,
        "device": jax.devices()[0].device_kind,
        **versions(),
        **revision(),
    }
