"""The `nrjax` command: the main jobs without writing Python."""

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version

import jax

from . import design, info, maps, motion, spacer


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code: 0 done, 1 the computation failed, 2 bad input."""
    parser = _parser()
    options = parser.parse_args(arguments)
    jax.config.update("jax_enable_x64", options.precision == "double")
    try:
        return options.run(options)
    except (ValueError, OSError) as error:
        print(f"nrjax {options.command}: error: {error}", file=sys.stderr)
        return 2
    except (RuntimeError, MemoryError) as error:
        print(f"nrjax {options.command}: the computation failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"nrjax {options.command}: interrupted; nothing half-written is left", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nrjax", description="Photo-induced non-reciprocal magnetism: phase diagrams and dynamics."
    )
    parser.add_argument("--version", action="version", version=f"nrjax {version('nrjax')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    for command in (maps, motion, design, spacer, info):
        command.add(commands)
    return parser
