"""The `nrjax` command: the main jobs without writing Python."""

import argparse
import gc
import os
import re
import sys
import warnings
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from importlib.metadata import version
from typing import Any, Final

# Each command with the module and function that describe it, which are loaded where it is meant: the list of commands
# is there at once.
COMMANDS: Final = {
    "phase-diagram": ("maps", "add_phase_diagram", "map the phases of the light-driven bilayer"),
    "curve": ("maps", "add_curve", "draw the rotation frequency against the light"),
    "simulate": ("motion", "add_simulation", "integrate the moments in time"),
    "design": ("design_command", "add_design", "find the laser for a rotation frequency"),
    "experiment": ("experiment_command", "add_experiment", "plan an experiment, and see what could kill it"),
    "exchange": ("spacer", "add_exchange", "draw the exchange against the thickness of a spacer"),
    "status": ("status", "add_status", "how far a sweep with a store has come"),
    "info": ("info", "add_info", "versions, devices, units and compiled programs"),
}

NEGATIVE: Final = re.compile(r"-(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$")


def run() -> int:
    """`main` in a process of its own, which ends with it.

    Python looks for cycles of unused objects after every few hundred new ones, and among all at the end of the process:
    a fifth of a short command. Here it looks a hundred times more rarely, and leaves to the system what is in use at
    the end.
    """
    gc.set_threshold(50_000, 10, 10)
    try:
        return main()
    except KeyboardInterrupt:
        print("nrjax: interrupted", file=sys.stderr)
        return 130
    finally:
        gc.freeze()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code: 0 done, 1 the computation failed, 2 bad input."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if "equinox" not in sys.modules:
        # JAX keeps no program that calls back on the host, as Equinox's checks do. Each of them is made before or after
        # the program, too.
        os.environ.setdefault("EQX_ON_ERROR", "off")
    options = _parser(next((word for word in arguments if not word.startswith("-")), None)).parse_args(arguments)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", UserWarning)
            warnings.showwarning = partial(_show_warning, options.command, set())
            _set_up(options)
            code = options.run(options)
            sys.stdout.flush()
            return code
    except ValueError as error:
        print(f"nrjax {options.command}: error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # Whoever read along has read enough; what was to be written is written.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
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
    text = str(message)
    if "persistent compilation cache" in text:
        # JAX says so of every program.
        text = "some compiled programs cannot be kept or read, and are compiled anew; `nrjax info` tells where they are"
    if text in said:
        return
    said.add(text)
    print(f"nrjax {command}: warning: {text}", file=sys.stderr)


def _set_up(options: argparse.Namespace) -> None:
    """Floating point, and programs kept from earlier runs, for commands that compute."""
    if not hasattr(options, "precision"):
        return
    import jax

    from .._numerics.cpu_options import ask_for_cpu_options
    from .._numerics.program_cache import keep_compiled_programs

    ask_for_cpu_options()
    jax.config.update("jax_enable_x64", options.precision == "double")
    if not options.no_cache:
        keep_compiled_programs()


def _parser(command: str | None = None) -> argparse.ArgumentParser:
    """The parser, with the arguments of one command; the others are only named."""
    parser = argparse.ArgumentParser(
        prog="nrjax", description="Photo-induced non-reciprocal magnetism: phase diagrams and dynamics."
    )
    parser.add_argument("--version", action="version", version=f"nrjax {version('nrjax')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    for name, (module, add, words) in COMMANDS.items():
        described = commands.add_parser(name, help=words)
        # -1e-3 is a number as well; Python's parser knows -0.001 alone.
        described._negative_number_matcher = NEGATIVE
        if name == command:
            getattr(import_module(f"{__name__}.{module}"), add)(described)
    return parser
