"""`nrjax info`: versions, devices, units."""

import argparse
import sys
from importlib.metadata import version
from typing import Any

import jax

from .. import units


def add(commands: Any) -> None:
    """The command."""
    info = commands.add_parser("info", help="versions, device and precision", description="Print versions and devices.")
    info.add_argument("--precision", choices=("double", "single"), default="double", help=argparse.SUPPRESS)
    info.set_defaults(run=_info)


def _info(options: argparse.Namespace) -> int:
    del options
    for package in ("nrjax", "jax", "jaxlib", "equinox", "diffrax", "optimistix", "lineax", "optax", "numpy", "xarray"):
        print(f"{package:11s} {version(package)}")
    print(f"python      {sys.version.split()[0]}")
    for device in jax.devices():
        print(f"device      {device.platform}: {device.device_kind}")
    print("precision   double on the command line; in Python set jax.config.update('jax_enable_x64', True)")
    print(f"units       meV, ps, GHz; 1 meV = {1 / units.GHz:.3f} GHz, hbar/meV = {1 / units.ps:.7f} ps")
    return 0
