"""The `nrjax` command: the main jobs without writing Python."""

import argparse
import json
import sys
import tomllib
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from . import units
from .equilibria import default_start, steady_state
from .files import atomic, require_writable
from .magnets import ClassicalBath, LayeredMagnet, QuantumBath
from .phases import Phase
from .presets import hanai2025_bilayer
from .solve import simulate
from .sweeps import save_dataset, sweep

MAGNET_KEYS = (
    "loss_rate interlayer_exchange exchange damping sd_coupling filling temperature gyro mediated_exchange field "
    "anisotropy bath"
).split()
BATHS = {"quantum": QuantumBath, "classical": ClassicalBath}
DEFAULT_AXES = {"loss_rate": [0.0, 0.12, 401], "interlayer_exchange": [0.0, 12.0, 401]}


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

    diagram = commands.add_parser(
        "phase-diagram",
        help="map the phases of the light-driven bilayer",
        description="Compute the phase of the light-driven bilayer on a grid, draw it with the exact boundaries, and "
        "save the numbers. Default: loss rate 0 to 0.12 meV by interlayer exchange 0 to 12 meV.",
    )
    _common(diagram, "phase_diagram.png", "phase_diagram.nc")
    diagram.add_argument(
        "--axis",
        action="append",
        nargs=4,
        metavar=("NAME", "MIN", "MAX", "POINTS"),
        help="an axis of the grid; give it twice, the horizontal one first. Energies in meV",
    )
    diagram.add_argument("--no-boundaries", action="store_true", help="do not draw the closed-form boundary lines")
    diagram.set_defaults(run=_phase_diagram)

    motion = commands.add_parser(
        "simulate",
        help="integrate the moments in time",
        description="Integrate the moments of the light-driven bilayer and draw their tips in space and their "
        "components against time. Default: the chiral phase, loss rate 0.05 meV, interlayer exchange 6 meV.",
    )
    _common(motion, "simulation.png", "simulation.nc")
    motion.add_argument("--time", type=float, metavar="PS", help="how long to simulate, in ps (default 400)")
    motion.add_argument("--samples", type=int, metavar="N", help="how many times to save (default 16000)")
    motion.add_argument(
        "--m0",
        type=float,
        nargs="+",
        metavar="M",
        help="initial moments, x y z of each layer (default: no-light state)",
    )
    motion.set_defaults(run=_simulate)

    info = commands.add_parser("info", help="versions, device and precision", description="Print versions and devices.")
    info.add_argument("--precision", choices=("double", "single"), default="double", help=argparse.SUPPRESS)
    info.set_defaults(run=_info)
    return parser


def _common(parser: argparse.ArgumentParser, picture: str, data: str) -> None:
    parser.add_argument("config", nargs="?", type=Path, help="a TOML file with the tables [magnet] and [run]")
    parser.add_argument("--loss-rate", type=float, metavar="MEV", help="gamma_B, the light on layer B, in meV")
    parser.add_argument("--interlayer-exchange", type=float, metavar="MEV", help="j_AB in meV")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help=f"any parameter of the magnet, energies in meV; value as JSON. Names: {', '.join(MAGNET_KEYS)}",
    )
    parser.add_argument("--output", "-o", metavar="FILE", help=f"the picture, .png, .pdf or .svg (default {picture})")
    parser.add_argument("--data", metavar="FILE", help=f"the numbers, NetCDF (default {data})")
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
    parser.add_argument(
        "--precision", choices=("double", "single"), default="double", help="floating point (default double)"
    )
    parser.add_argument("--quiet", "-q", action="store_true", help="no progress bar")
    parser.set_defaults(default_output=picture, default_data=data)


def _configuration(options: argparse.Namespace, run_keys: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The magnet's parameters and the run's settings: the TOML file first, flags over it."""
    magnet: dict[str, Any] = {}
    run: dict[str, Any] = {}
    if options.config is not None:
        try:
            content = tomllib.loads(options.config.read_text())
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"{options.config} is not valid TOML: {error}. Mend that line.") from error
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"cannot read {options.config}: {error}. Give the path of a TOML file.") from error
        _known("table", content, ("magnet", "run"), options.config)
        for name in ("magnet", "run"):
            if not isinstance(content.get(name, {}), dict):
                raise ValueError(
                    f"{name} = {content[name]!r} in {options.config} must be a table. Write it as [{name}]."
                )
        magnet, run = dict(content.get("magnet", {})), dict(content.get("run", {}))
        _known("key in [magnet]", magnet, MAGNET_KEYS, options.config)
        _known("key in [run]", run, run_keys, options.config)
    for item in options.set:
        name, separator, text = item.partition("=")
        if not separator:
            raise ValueError(f"--set {item} has no value. Write it as NAME=VALUE, for example temperature=9.")
        _known("name in --set", [name], MAGNET_KEYS, "the magnet")
        try:
            magnet[name] = json.loads(text)
        except json.JSONDecodeError:
            magnet[name] = text
    for name in ("loss_rate", "interlayer_exchange"):
        if getattr(options, name) is not None:
            magnet[name] = getattr(options, name)
    if isinstance(magnet.get("bath"), str):
        _known("bath", [magnet["bath"]], tuple(BATHS), "nrjax")
        magnet["bath"] = BATHS[magnet["bath"]]()
    for name in ("output", "data"):
        if getattr(options, name) is not None:
            run[name] = getattr(options, name)
        run.setdefault(name, getattr(options, f"default_{name}"))
        path = require_writable(run[name])
        if path.exists() and not options.overwrite:
            raise ValueError(f"{path} exists. Add --overwrite to replace it, or choose another name with --{name}.")
    if Path(run["output"]).suffix.lower() not in (".png", ".pdf", ".svg"):
        raise ValueError(f"--output {run['output']}: pictures are .png, .pdf or .svg. Change the ending.")
    return magnet, run


def _known(what: str, names: Any, allowed: Sequence[str], where: Any) -> None:
    for name in names:
        if name not in allowed:
            raise ValueError(f"unknown {what}: {name!r} in {where}. Allowed: {', '.join(allowed)}.")


def _build(fixed: dict[str, Any], **point: Any) -> LayeredMagnet:
    """The reference bilayer with parameters replaced."""
    parameters = fixed | point
    try:
        return hanai2025_bilayer(
            parameters.pop("loss_rate", 0.05), parameters.pop("interlayer_exchange", 6.0), **parameters
        )
    except TypeError as error:
        raise ValueError(f"{error}. Give numbers for the magnet's parameters.") from error


def _save_picture(figure: Any, path: str) -> None:
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=160)


def _phase_diagram(options: argparse.Namespace) -> int:
    from . import plot

    magnet, run = _configuration(options, ("axes", "output", "data"))
    axes = run.get("axes", DEFAULT_AXES)
    if options.axis:
        axes = {name: [low, high, points] for name, low, high, points in options.axis}
    if not isinstance(axes, dict) or len(axes) != 2:
        raise ValueError(f"axes = {axes!r}: give two different ones, each NAME MIN MAX POINTS.")
    _known("axis", axes, MAGNET_KEYS, "the magnet")
    grid = {name: _axis(name, values) for name, values in axes.items()}
    for name in grid:
        magnet.pop(name, None)

    build = partial(_build, magnet)
    dataset = sweep(build, grid, progress=not options.quiet)
    figure = plot.phase_diagram(dataset, None if options.no_boundaries else build)
    save_dataset(dataset, run["data"])
    _save_picture(figure, run["output"])

    total = dataset["phase"].size
    for phase in Phase:
        share = int((dataset["phase"] == phase).sum())
        if share:
            print(f"{phase.name.lower():13s} {share:9d} points  {100 * share / total:6.2f} %")
    print(f"largest relative residual {float(dataset['residual'].where(dataset['valid']).max()):.1e}")
    if bool((dataset["phase"] == Phase.CHIRAL).any()):
        print(f"highest chase frequency {float(dataset['chase_frequency'].max()):.4g} GHz")
    print(f"wrote {run['data']}\nwrote {run['output']}")
    return 0


def _axis(name: str, values: Any) -> np.ndarray:
    try:
        low, high, points = values
        low, high, points = float(low), float(high), int(points)
    except (TypeError, ValueError) as error:
        raise ValueError(f"axis {name} = {values!r}: write it as MIN MAX POINTS, for example 0 0.12 401.") from error
    if not (np.isfinite([low, high]).all() and low < high and 2 <= points <= 100_000):
        raise ValueError(f"axis {name} = {low:g} {high:g} {points}: needs MIN < MAX and 2 to 100000 points.")
    return np.linspace(low, high, points)


def _simulate(options: argparse.Namespace) -> int:
    from . import plot

    magnet, run = _configuration(options, ("time", "samples", "m0", "output", "data"))
    for name in ("time", "samples", "m0"):
        if getattr(options, name) is not None:
            run[name] = getattr(options, name)
    duration, samples = run.get("time", 400.0), run.get("samples", 16000)
    if not (isinstance(duration, int | float) and np.isfinite(duration) and duration > 0):
        raise ValueError(f"time = {duration!r}: give a time in ps greater than 0.")
    if not (isinstance(samples, int) and samples >= 2):
        raise ValueError(f"samples = {samples!r}: give a whole number, 2 or greater.")
    model = _build(magnet)
    start = default_start(model)
    if "m0" in run:
        given = np.asarray(run["m0"], dtype=float)
        if given.size != start.size:
            raise ValueError(f"m0 has {given.size} numbers: the magnet needs {start.size}, x y z of each layer.")
        start = jnp.asarray(given.reshape(start.shape))

    bar: Any = diffrax.NoProgressMeter()
    if not options.quiet and sys.stderr.isatty():
        bar = diffrax.TqdmProgressMeter()
    times = np.linspace(0.0, duration, samples)
    solution = simulate(model, start, duration, saveat=times, max_steps=None, progress_meter=bar)
    state = steady_state(model, start, throw=False)
    print(solution)
    print(f"attractor: {state}")
    dataset = xr.Dataset(
        {"moment": (("time", "layer", "component"), np.asarray(solution.ms), {"units": "saturated moment"})},
        coords={"time": ("time", np.asarray(solution.ts), {"units": "ps"}), "component": list("xyz")},
        attrs={
            "title": "nrjax simulate",
            "dtype": str(solution.ms.dtype),
            "nrjax_version": version("nrjax"),
            "steps": int(solution.stats["num_steps"]),
            "phase": Phase(int(state.phase)).name,
            "chase_frequency_ghz": float(state.chase_frequency),
            "rotation_frequency_ghz": float(state.rotation_frequency),
        },
    )
    chase, rotation = float(state.chase_frequency), float(state.rotation_frequency)
    title = f"{Phase(int(state.phase)).name.lower()}: chase {chase:.4g} GHz, rotation {rotation:.4g} GHz"
    figure = plot.trajectory(solution, title=title)
    save_dataset(dataset, run["data"])
    _save_picture(figure, run["output"])
    print(f"wrote {run['data']}\nwrote {run['output']}")
    return 0


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


if __name__ == "__main__":
    sys.exit(main())
