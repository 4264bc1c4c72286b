"""`nrjax status`: how far a sweep with a store has come."""

import argparse
from pathlib import Path

from ..maps.zarr_layout import status


def add_status(parser: argparse.ArgumentParser) -> None:
    """The arguments of `nrjax status`."""
    parser.description = (
        "Tiles done, failed and running of a sweep that is kept in a .zarr folder, whether a process works on it, and "
        "the time left at its present rate."
    )
    parser.add_argument("store", type=Path, help="the folder given to --store, or to sweep(store=...)")
    parser.set_defaults(run=_status)


def _status(options: argparse.Namespace) -> int:
    print(f"{options.store}: {status(options.store)}")
    return 0
