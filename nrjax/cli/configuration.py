"""What a command is asked for: a TOML file and flags, turned into a magnet's parameters and a run's settings."""

import argparse
import inspect
import json
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import numpy as np
import tomli_w

from .._numerics.files import atomic, require_writable
from ..light.envelopes import Chirped, Gaussian, Spline, Square, Tabulated
from ..magnets import ClassicalBath, LayeredMagnet, QuantumBath
from ..presets import hanai2025_bilayer, illuminated_bilayer

MAGNET_KEYS: Final = (
    "loss_rate interlayer_exchange exchange damping sd_coupling filling temperature gyro mediated_exchange field "
    "anisotropy bath"
).split()
LASER_KEYS: Final = "intensity photon_energy envelope".split()
MOMENT_KEYS: Final = "level repulsion hybridization resonance dipole linewidth fermi_energy".split()
# What `nrjax design` writes of a run into its file, which every command reads.
OF_A_DESIGN: Final = ("time",)
TABLES: Final = {"magnet": MAGNET_KEYS, "laser": LASER_KEYS, "moments": MOMENT_KEYS}
PARAMETERS: Final = [*MAGNET_KEYS, *LASER_KEYS, *MOMENT_KEYS]
SCALARS: Final = [name for name in PARAMETERS if name not in ("bath", "envelope", "exchange", "anisotropy", "field")]
# What stands for the light where no laser does.
BY_HAND: Final = ("loss_rate", "sd_coupling")
FLAGS: Final = ("loss_rate", "interlayer_exchange", "intensity", "photon_energy")
BATHS: Final = {"quantum": QuantumBath, "classical": ClassicalBath}
ENVELOPES: Final = {
    "gaussian": Gaussian,
    "square": Square,
    "tabulated": Tabulated,
    "spline": Spline,
    "chirped": Chirped,
}


def build(fixed: dict[str, Any], **point: Any) -> LayeredMagnet:
    """The published bilayer with parameters replaced: under a laser if any is named, with rates set by hand if not."""
    parameters = _objects(fixed) | point
    of_laser = [name for name in (*LASER_KEYS, *MOMENT_KEYS) if name in parameters]
    for name in BY_HAND:
        if of_laser and name in parameters:
            raise ValueError(
                f"{name} is the light set by hand, {of_laser[0]} is of a laser, from which {name} follows. Leave one "
                "of them out, or choose another axis."
            )
    try:
        if of_laser:
            return illuminated_bilayer(**parameters)
        return hanai2025_bilayer(
            parameters.pop("loss_rate", 0.05), parameters.pop("interlayer_exchange", 6.0), **parameters
        )
    except TypeError as error:
        raise ValueError(f"{error}. Give numbers for the magnet's parameters.") from error


def add_parameters(parser: argparse.ArgumentParser) -> None:
    """The flags of every command that works on a magnet."""
    tables = ", ".join(f"[{name}]" for name in (*TABLES, "run"))
    parser.add_argument("config", nargs="?", type=Path, help=f"a TOML file with the tables {tables}")
    parser.add_argument(
        "--loss-rate",
        type=_rates,
        metavar="MEV[,MEV]",
        help="the light set by hand, meV: gamma_B, or gamma_A,gamma_B for both layers",
    )
    parser.add_argument("--intensity", type=float, metavar="W/CM2", help="of a laser on both layers, W/cm^2")
    parser.add_argument("--photon-energy", type=float, metavar="MEV", help="of the laser; layer B's resonance is 1550")
    parser.add_argument("--interlayer-exchange", type=float, metavar="MEV", help="j_AB in meV")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help=f"any parameter, energies in meV; value as JSON. Names: {', '.join(PARAMETERS)}",
    )


def _rates(text: str) -> float | list[float]:
    """One number, or several with commas between them."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number, or two with a comma between them") from error
    return values if len(values) > 1 else values[0]


def add_outputs(parser: argparse.ArgumentParser, picture: str, data: str) -> None:
    """The flags of every command that draws and saves."""
    parser.add_argument("--output", "-o", metavar="FILE", help=f"the picture, .png, .pdf or .svg (default {picture})")
    parser.add_argument("--data", metavar="FILE", help=f"the numbers, NetCDF, *.nc (default {data})")
    add_common(parser)
    parser.set_defaults(default_output=picture, default_data=data)


def add_common(parser: argparse.ArgumentParser) -> None:
    """The flags of every command that computes and writes."""
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
    parser.add_argument(
        "--precision", choices=("double", "single"), default="double", help="floating point (default double)"
    )
    parser.add_argument("--no-cache", action="store_true", help="compile anew, and keep no compiled programs")
    parser.add_argument("--quiet", "-q", action="store_true", help="no progress bar")


def read(options: argparse.Namespace, run_keys: Iterable[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """`parameters`, with the names of picture and data in the run's settings.

    **Raises** `ValueError` for unknown names, values that do not fit, files that exist or cannot be written.
    """
    fixed, run = parameters(options, run_keys)
    outputs(options, run)
    return fixed, run


def parameters(options: argparse.Namespace, run_keys: Iterable[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The magnet's parameters and the run's settings: the TOML file first, flags over it.

    **Raises** `ValueError` for unknown names and values that do not fit.
    """
    fixed: dict[str, Any] = {}
    run: dict[str, Any] = {}
    if options.config is not None:
        fixed, run = _read_file(options.config, list(run_keys))
    given = {name for name in FLAGS if getattr(options, name) is not None}
    for item in options.set:
        name, separator, text = item.partition("=")
        if not separator:
            raise ValueError(f"--set {item} has no value. Write it as NAME=VALUE, for example temperature=9.")
        require_known("name in --set", [name], PARAMETERS, "the magnet")
        if name in given:
            raise ValueError(f"{name} is given twice on the command line. Leave one of them out.")
        given.add(name)
        try:
            fixed[name] = json.loads(text)
        except json.JSONDecodeError:
            fixed[name] = text
    put_flags(options, fixed, FLAGS)
    _objects(fixed)
    return fixed, run


def require_unswept(options: argparse.Namespace, grid: Iterable[str]) -> None:
    """Raise `ValueError` if a parameter is given a value on the command line and swept by an axis as well."""
    flags = [name for name in FLAGS if getattr(options, name) is not None]
    for name in grid:
        if name in flags or any(item.partition("=")[0] == name for item in options.set):
            raise ValueError(
                f"{name} has a value and an axis. Leave out the value, or choose another axis with --axis."
            )


def put_flags(options: argparse.Namespace, settings: dict[str, Any], names: Iterable[str]) -> None:
    """Put the flags that were given over the settings of the same names."""
    settings.update({name: getattr(options, name) for name in names if getattr(options, name) is not None})


def outputs(options: argparse.Namespace, run: dict[str, Any]) -> None:
    """Put the names of picture and data into `run`, checked before any work is done."""
    _put_output(options, run, "data")
    if Path(run["data"]).suffix.lower() != ".nc":
        raise ValueError(f"--data {run['data']}: the numbers are NetCDF, named *.nc. Change the ending.")
    picture(options, run)


def picture(options: argparse.Namespace, run: dict[str, Any]) -> None:
    """Put the name of the picture into `run`, checked before any work is done."""
    _put_output(options, run, "output")
    require_picture(run["output"], "--output")


def _put_output(options: argparse.Namespace, run: dict[str, Any], name: str) -> None:
    put_flags(options, run, (name,))
    run.setdefault(name, getattr(options, f"default_{name}"))
    require_new(run[name], options.overwrite, f"--{name}")


def require_new(path: Any, overwrite: bool, flag: str) -> None:
    """Raise `ValueError` if a file cannot be created, or exists and may not be replaced."""
    target = require_writable(path)
    if target.exists() and not overwrite:
        raise ValueError(f"{target} exists. Add --overwrite to replace it, or choose another name with {flag}.")


def require_picture(path: Any, flag: str) -> None:
    """Raise `ValueError` unless a file is named as a picture."""
    if Path(path).suffix.lower() not in (".png", ".pdf", ".svg"):
        raise ValueError(f"{flag} {path}: pictures are .png, .pdf or .svg. Change the ending.")


def _objects(parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters with bath and envelope made of what stands for them in a file."""
    made = dict(parameters)
    if isinstance(made.get("bath"), str):
        require_known("bath", [made["bath"]], BATHS, "nrjax")
        made["bath"] = BATHS[made["bath"]]()
    if made.get("envelope") is not None:
        made["envelope"] = _envelope(made["envelope"])
    return made


def write(path: Any, parameters: dict[str, Any], run: dict[str, Any]) -> None:
    """Write parameters and a run's settings as TOML that every command reads, whole or not at all."""
    tables = {name: {key: parameters[key] for key in keys if key in parameters} for name, keys in TABLES.items()}
    content = {name: table for name, table in (tables | {"run": run}).items() if table}
    with atomic(path) as temporary:
        temporary.write_text(tomli_w.dumps(content))


def _read_file(path: Path, run_keys: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is not valid TOML: {error}. Mend that line.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read {path}: {error}. Give the path of a TOML file.") from error
    keys = TABLES | {"run": list(dict.fromkeys([*run_keys, *OF_A_DESIGN]))}
    require_known("table", content, keys, path)
    for name, table in content.items():
        if not isinstance(table, dict):
            raise ValueError(f"{name} = {table!r} in {path} must be a table. Write it as [{name}].")
        require_known(f"key in [{name}]", table, keys[name], path)
    parameters = {key: value for name in TABLES for key, value in content.get(name, {}).items()}
    return parameters, dict(content.get("run", {}))


def _envelope(table: Any) -> Any:
    """An envelope from {kind = "square", start = 10, ...}."""
    if not isinstance(table, dict) or "kind" not in table:
        raise ValueError(
            f'envelope = {table!r}: write it as {{kind = "square", start = 10, stop = 400, rise = 1}} (ps).'
        )
    arguments = dict(table)
    kind = arguments.pop("kind")
    require_known("kind of envelope", [kind], ENVELOPES, "nrjax")
    names = inspect.signature(ENVELOPES[kind]).parameters
    require_known("argument", arguments, names, f"envelope {kind}")
    if "envelope" in arguments:
        arguments["envelope"] = _envelope(arguments["envelope"])
    try:
        return ENVELOPES[kind](**arguments)
    except TypeError as error:
        raise ValueError(f"envelope {kind}: {error}. It takes {', '.join(names)}.") from error


def pulse(times: Any) -> dict[str, Any]:
    """A square envelope from START STOP RISE in ps."""
    try:
        start, stop, rise = (float(x) for x in times)
    except (TypeError, ValueError) as error:
        raise ValueError(f"pulse = {times!r}: write it as START STOP RISE in ps, for example 50 450 1.") from error
    return {"kind": "square", "start": start, "stop": stop, "rise": rise}


def require_numbers(run: dict[str, Any], names: Iterable[str]) -> None:
    """Raise `ValueError` if a setting of a run that stands for a number is none."""
    for name in names:
        if name in run and not isinstance(run[name], int | float):
            raise ValueError(f"{name} = {run[name]!r}: give a number.")


def require_known(what: str, names: Iterable[Any], allowed: Iterable[str], where: Any) -> None:
    """Raise `ValueError` for a name that is not among the allowed ones, which it lists."""
    allowed = list(allowed)
    for name in names:
        if name not in allowed:
            raise ValueError(f"unknown {what}: {name!r} in {where}. Allowed: {', '.join(allowed)}.")


def axis(name: str, values: Any) -> np.ndarray:
    """Evenly spaced values from MIN MAX POINTS."""
    try:
        low, high, points = values
        low, high, points = float(low), float(high), int(points)
    except (TypeError, ValueError) as error:
        raise ValueError(f"axis {name} = {values!r}: write it as MIN MAX POINTS, for example 0 0.12 401.") from error
    if not (np.isfinite([low, high]).all() and low < high and 2 <= points <= 100_000):
        raise ValueError(f"axis {name} = {low:g} {high:g} {points}: needs MIN < MAX and 2 to 100000 points.")
    return np.linspace(low, high, points)


def axes(options: argparse.Namespace, run: dict[str, Any], number: int, default: dict[str, Any]) -> dict[str, Any]:
    """The grid's axes, as many as asked for, from --axis, the file or the default."""
    chosen = run.get("axes", default)
    if options.axis:
        names = [name.replace("-", "_") for name, *_ in options.axis]
        if len(set(names)) < len(names):
            raise ValueError(f"--axis {names[-1]} is given twice. Leave one of them out.")
        chosen = {name.replace("-", "_"): [low, high, points] for name, low, high, points in options.axis}
    if not isinstance(chosen, dict) or len(chosen) != number:
        words = {1: "one", 2: "two different ones"}
        raise ValueError(f"axes = {chosen!r}: give {words[number]}, each NAME MIN MAX POINTS.")
    require_known("axis", chosen, SCALARS, "the magnet")
    return {name: axis(name, values) for name, values in chosen.items()}
