"""`nrjax experiment`: one page on an experiment, with what could kill it."""

import argparse
from typing import Any, Final

from ..inverse import experiment
from ..motion.phases import Phase
from . import configuration
from .outputs import save_picture
from .sample import THERMAL_KEYS, add_thermal, thermal_model

NUMBERS: Final = ("duration", "spins")
# Of `nrjax simulate`'s file, which may be the same one.
OTHERS: Final = ("samples",)


def add_experiment(parser: argparse.ArgumentParser) -> None:
    """The arguments of `nrjax experiment`."""
    parser.description = (
        "Plan an experiment on a chase, for example on the design.toml that nrjax design has written: what to shine, "
        "what it does to the sample, what to look for, and what could kill it, each with its margin. Exit code 1 if "
        "something does. Default: the reference bilayer under its reference laser."
    )
    configuration.add_parameters(parser)
    add_thermal(parser)
    parser.add_argument("--duration", type=float, metavar="PS", help="of the pulse, ps (default: ten turns)")
    parser.add_argument("--spins", type=float, metavar="N", help="in each layer, for the line's width (default 1e6)")
    parser.add_argument(
        "--output", "-o", metavar="FILE", help="the picture, .png, .pdf or .svg (default experiment.png)"
    )
    configuration.add_common(parser)
    parser.set_defaults(run=_experiment, default_output="experiment.png")


def _experiment(options: argparse.Namespace) -> int:
    keys = (*THERMAL_KEYS, *NUMBERS, "output")
    fixed, run = configuration.parameters(options, (*keys, *OTHERS))
    configuration.put_flags(options, run, (*THERMAL_KEYS, *NUMBERS))
    configuration.picture(options, run)
    by_hand = [name for name in configuration.BY_HAND if name in fixed]
    if by_hand:
        raise ValueError(
            f"{by_hand[0]} sets the light by hand, and an experiment has a laser. Leave it out; give --intensity and "
            "--photon-energy."
        )
    if not any(name in fixed for name in configuration.LASER_KEYS):
        fixed = {"photon_energy": 1550.0} | fixed
    configuration.require_numbers(run, NUMBERS)
    magnet = configuration.build(fixed)
    given: dict[str, Any] = {name: run[name] for name in NUMBERS if name in run}
    plan = experiment(magnet, thermal_model(run, magnet), **given)
    if int(plan.state.phase) == Phase.CHIRAL:
        from .. import plot

        save_picture(plot.experiment(plan), run["output"])
    print(plan)
    return 0 if plan.observable and plan.checks else 1
