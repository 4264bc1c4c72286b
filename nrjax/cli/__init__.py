"""The `nrjax` command: the main jobs without writing Python."""

import argparse
import sys
import warnings
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from typing import Any

import jax

from . import design_command, info, maps, motion, spacer


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code: 0 done, 1 the computation failed, 2 bad input."""
    parser = _parser()
    options = parser.parse_args(arguments)
    jax.config.update("jax_enable_x64", options.precision == "double")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", UserWarning)
            warnings.showwarning = partial(_show_warning, options.command, set())
            return options.run(options)
    except ValueError as error:
        print(f"nrjax {options.command}: error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(
            f"nrjax {options.command}: cannot write: {error}. Free some space, or choose another place; nothing "
            "half-written is left.",
            file=sys.stderr,
        )
        return 1
    except (RuntimeError, MemoryError) as error:
        print(f"nrjax {options.command}: the computation failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"nrjax {options.command}: interrupted; nothing half-written is left", file=sys.stderr)
        return 130


def _show_warning(command: str, said: set[str], message: Warning | str, *place: Any, **options: Any) -> None:
    """One line on standard error, once, without the line of code that it comes from."""
    del place, options
    if str(message) in said:
        return
    said.add(str(message))
    print(f"nrjax {command}: warning: {message}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nrjax", description="Photo-induced non-reciprocal magnetism: phase diagrams and dynamics."
    )
    parser.add_argument("--version", action="version", version=f"nrjax {version('nrjax')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    for command in (maps, motion, design_command, spacer, info):
        command.add(commands)
    return parser
