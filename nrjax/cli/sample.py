"""The sample, as commands are told of it: its spins, and what the light heats."""

from typing import Any, Final

import numpy as np

from .. import units
from ..magnets import LayeredMagnet, ThermalModel
from . import configuration

THERMAL_KEYS: Final = ("thermal", "cooling_time", "substrate", "background_depth")
# In each layer, of a grain of some tens of nanometres: tilts below a thousandth are not seen in it.
DEFAULT_SPINS: Final = 1e6
MATERIALS: Final = {
    "gadolinium": ThermalModel.gadolinium,
    "nickel": ThermalModel.nickel,
    "insulator": ThermalModel.insulator,
}


def add_thermal(parser: Any) -> None:
    """The flags of commands that heat a sample, in a parser or a group of one."""
    parser.add_argument(
        "--thermal", choices=tuple(MATERIALS), help="whose electrons and lattice take the heat (default gadolinium)"
    )
    parser.add_argument("--cooling-time", type=float, metavar="PS", help="to the substrate, ps (default: no cooling)")
    parser.add_argument(
        "--substrate", type=float, metavar="K", help="the substrate's temperature (default: the magnet's)"
    )
    parser.add_argument(
        "--background-depth",
        type=float,
        metavar="NM",
        help="at which everything else absorbs the light, nm (default: nothing does; metals: 10 to 30)",
    )


def thermal_model(run: dict[str, Any], magnet: LayeredMagnet) -> ThermalModel:
    """From the settings of a run; on a substrate as cold as the magnet if none is given.

    **Raises** `ValueError` for an unknown material or numbers out of range.
    """
    name = run.get("thermal", "gadolinium")
    configuration.require_known("thermal", [name], MATERIALS, "nrjax")
    configuration.require_numbers(run, ("cooling_time", "substrate", "background_depth"))
    kelvin = run.get("substrate", float(magnet.temperature[0]) / units.kelvin)
    depth = run.get("background_depth", np.inf)
    return MATERIALS[name](run.get("cooling_time", np.inf), kelvin * units.kelvin, background_depth=depth)
