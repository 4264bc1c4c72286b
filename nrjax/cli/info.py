"""`nrjax info`: versions, devices, units, and what is kept on disk."""

import argparse
import sys
from importlib.metadata import version

from .. import units
from .._numerics import program_cache


def add_info(info: argparse.ArgumentParser) -> None:
    """The arguments of `nrjax info`."""
    info.description = (
        "Print versions and units, and where compiled programs are kept: they let a second run of a command start "
        "without compiling."
    )
    info.add_argument("--devices", action="store_true", help="start JAX and list what it computes on")
    info.add_argument("--clear-cache", action="store_true", help="remove all compiled programs")
    info.set_defaults(run=_info)


def _info(options: argparse.Namespace) -> int:
    directory = program_cache.current_directory()
    if options.clear_cache:
        removed = program_cache.contents(directory)
        program_cache.clear(directory)
        print(f"removed {removed.programs} compiled programs, {removed.size / 1e6:.1f} MB, from {directory}")
        return 0
    for package in ("nrjax", "jax", "jaxlib", "equinox", "diffrax", "optimistix", "lineax", "optax", "numpy", "xarray"):
        print(f"{package:11s} {version(package)}")
    print(f"python      {sys.version.split()[0]}")
    for line in _devices() if options.devices else ["nrjax info --devices starts JAX and lists them"]:
        print(f"devices     {line}")
    print("precision   double on the command line; in Python set jax.config.update('jax_enable_x64', True)")
    print(f"units       meV, ps, GHz; 1 meV = {1 / units.GHz:.3f} GHz, hbar/meV = {1 / units.ps:.7f} ps")
    kept = program_cache.contents(directory)
    print(f"cache       {kept.programs} compiled programs, {kept.size / 1e6:.1f} MB, in {directory}")
    return 0


def _devices() -> list[str]:
    import jax

    return [f"{device.platform}: {device.device_kind}" for device in jax.devices()]
