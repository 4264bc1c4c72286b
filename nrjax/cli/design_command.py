"""`nrjax design`: ask for a rotation frequency, get the laser."""

import argparse
from collections.abc import Callable
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np

from .. import units
from .._numerics.validation import require_positive
from ..inverse import (
    AboveOnset,
    EnoughElectrons,
    LowIntensity,
    LowPower,
    Margin,
    MaxTemperature,
    MinTurns,
    NarrowLine,
    Quiet,
    StableInSpace,
    WideRange,
    design,
    design_sheet,
    gaussian_ensemble,
)
from ..inverse.sheet import rehearsal_of_sheet
from ..maps.sweeps import sweep
from ..rotation.attractors import steady_state
from . import configuration
from .ahead import OF_XARRAY, DoneAhead, importing
from .outputs import save_picture
from .sample import DEFAULT_SPINS, THERMAL_KEYS, add_thermal, thermal_model

VARY: Final = {"intensity": [0.0, 6e10], "photon_energy": [1300.0, 2100.0]}
RUN_KEYS: Final = (
    *"target_chase_ghz target_rotation_ghz vary minimize margin insensitive responsive modulation_range".split(),
    *"spread members worst_case restarts steps seed toml plot".split(),
    *"stable_in_space enough_electrons above_onset line_width spins min_turns max_temperature".split(),
    *THERMAL_KEYS,
)
MAP_POINTS: Final = 121


def add_design(parser: argparse.ArgumentParser) -> None:
    """The arguments of `nrjax design`."""
    parser.description = (
        "Find the parameters, by default intensity and photon energy of the laser, at which the bilayer "
        "rotates at the wanted frequency; print a design sheet and write a TOML file for `nrjax simulate`. "
        "Exit code 1 if the frequency is out of reach: the sheet then tells the nearest."
    )
    configuration.add_parameters(parser)
    parser.add_argument(
        "--target-chase-ghz",
        type=float,
        metavar="GHZ",
        help="the wanted chase frequency: how fast one layer chases the other; no line of a spectrum",
    )
    parser.add_argument(
        "--target-rotation-ghz",
        type=float,
        metavar="GHZ",
        help="the wanted rotation frequency: the line that a probe sees",
    )
    parser.add_argument(
        "--vary",
        action="append",
        nargs=3,
        metavar=("NAME", "MIN", "MAX"),
        help="a parameter to find and its bounds; give it several times. Default: intensity 0 6e10, "
        "photon_energy 1300 2100",
    )
    parser.add_argument(
        "--minimize",
        choices=("intensity", "power", "nothing"),
        help="among all solutions (default: intensity if it varies, else nothing: the solution nearest to the start)",
    )
    parser.add_argument("--margin", type=float, metavar="MEV", help="wanted decay rate of deviations, meV")
    parser.add_argument("--insensitive", action="store_true", default=None, help="to noise of the intensity")
    parser.add_argument("--responsive", action="store_true", default=None, help="the opposite: easy to tune")
    parser.add_argument(
        "--modulation-range", type=float, metavar="DEPTH", help="large range under this relative modulation, 0 to 1"
    )
    limits = parser.add_argument_group("limits that a design must keep (exit code 1 if it cannot)")
    limits.add_argument("--stable-in-space", action="store_true", default=None, help="the chase survives in a sample")
    limits.add_argument("--enough-electrons", action="store_true", default=None, help="the band can carry the exchange")
    limits.add_argument("--above-onset", type=float, metavar="FACTOR", help="of the intensity, for example 1.1")
    limits.add_argument("--line-width", type=float, metavar="SHARE", help="of the line's frequency, for example 0.01")
    limits.add_argument("--spins", type=float, metavar="N", help="in each layer, for the line's width (default 1e6)")
    limits.add_argument("--min-turns", type=float, metavar="N", help="turns of the chase before the sample melts")
    limits.add_argument("--max-temperature", type=float, metavar="K", help="of a sample that --cooling-time cools")
    add_thermal(limits)
    parser.add_argument(
        "--spread",
        action="append",
        nargs=2,
        metavar=("NAME", "SIGMA"),
        help="a material parameter that is not known exactly: standard deviation about its value",
    )
    parser.add_argument("--members", type=int, help="of the ensemble that --spread makes (default 16)")
    parser.add_argument("--worst-case", action="store_true", default=None, help="of the ensemble, not its mean")
    parser.add_argument("--restarts", type=int, help="starting points (default 8)")
    parser.add_argument("--steps", type=int, help="most steps of each (default 200)")
    parser.add_argument("--seed", type=int, help="of the starting points (default 0)")
    parser.add_argument("--toml", metavar="FILE", help="the design, for nrjax simulate (default design.toml)")
    parser.add_argument("--plot", metavar="FILE", help="draw convergence and the way through the phase diagram")
    configuration.add_common(parser)
    parser.set_defaults(run=_design)


def _design(options: argparse.Namespace) -> int:
    fixed, run = configuration.parameters(options, RUN_KEYS)
    configuration.put_flags(options, run, RUN_KEYS)
    observable, target = _target(run)
    bounds = _bounds(run.get("vary"))
    run.setdefault("toml", "design.toml")
    for name in ("toml", "plot"):
        if name in run:
            configuration.require_new(run[name], options.overwrite, f"--{name}")
    if "plot" in run:
        configuration.require_picture(run["plot"], "--plot")
        if Path(run["plot"]) == Path(run["toml"]):
            raise ValueError(f"--plot and --toml are both {run['plot']}. Give them names of their own.")
    _require_used(options, run)
    configuration.require_numbers(run, ("spins",))
    spins = run.get("spins", DEFAULT_SPINS)
    require_positive("spins", spins, "In each layer.")

    given = {name: value for name, value in fixed.items() if name in bounds}
    initial = ({"intensity": bounds["intensity"][0]} if "intensity" in bounds else {}) | given
    constant = {name: value for name, value in fixed.items() if name not in bounds}
    ensemble = _ensemble(run, constant)
    nominal: Callable[..., Any] = partial(configuration.build, constant)
    build = partial(configuration.build, {k: v for k, v in constant.items() if k not in ensemble})
    objectives = [*_objectives(run, bounds), *_limits(run, build, bounds)]
    rehearsal: Any = () if ensemble else rehearsal_of_sheet(nominal, bounds)
    with DoneAhead(chain(importing(OF_XARRAY), rehearsal)) as ahead:
        result = design(
            build,
            initial,
            target,
            observable=observable,
            bounds=bounds,
            objectives=objectives,
            ensemble=ensemble,
            worst_case=bool(run.get("worst_case", False)),
            restarts=run.get("restarts", 8),
            steps=run.get("steps", 200),
            seed=run.get("seed", 0),
            progress=not options.quiet,
        )
        ahead.wait()
    reached = bool(result.history["reached"][result.history.attrs["chosen"]])
    magnet = nominal(**result.parameters)
    if reached:
        state = steady_state(magnet, throw=False) if result.state is None else result.state
        settled = {"time": _settling_time(float(state.growth_rate))}
        configuration.write(run["toml"], constant | result.parameters, settled)
    if "plot" in run:
        from .. import plot

        dataset = sweep(nominal, _grid(bounds), progress=not options.quiet) if len(bounds) == 2 else None
        figure = plot.design(result, dataset, nominal)
        save_picture(figure, run["plot"])
    print(design_sheet(result, nominal, bounds, spins=spins))
    if not reached:
        print(f"{run['toml']} is not written: there is no design to simulate")
        return 1
    planned = f", nrjax experiment {run['toml']}" if magnet.has_laser else ""
    print(f"wrote {run['toml']}: nrjax simulate {run['toml']}{planned}")
    return 0 if result.feasible else 1


def _require_used(options: argparse.Namespace, run: dict[str, Any]) -> None:
    """Raise `ValueError` for flags that would change nothing without another setting, or that cancel. (A file may hold
    what other commands use.)"""
    thermal = ("min_turns", "max_temperature")
    needs = {"members": ("spread",), "worst_case": ("spread",)}
    for name, others in (needs | dict.fromkeys(THERMAL_KEYS, thermal)).items():
        if getattr(options, name) is not None and not any(other in run for other in others):
            flags = " or ".join(f"--{other.replace('_', '-')}" for other in others)
            raise ValueError(f"{name} = {run[name]} changes nothing without {flags}. Give that, too, or leave it out.")
    if run.get("insensitive") and run.get("responsive"):
        raise ValueError("--insensitive and --responsive cancel. Leave one of them out.")


def _target(run: dict[str, Any]) -> tuple[str, Any]:
    """The frequency that is asked for, and its value as it was given, which `design` checks."""
    wanted = [(name, run[f"target_{name}_ghz"]) for name in ("chase", "rotation") if f"target_{name}_ghz" in run]
    if len(wanted) != 1:
        raise ValueError("give one target: --target-chase-ghz or --target-rotation-ghz, for example 40.")
    return f"{wanted[0][0]}_frequency", wanted[0][1]


def _bounds(vary: Any) -> dict[str, tuple[float, float]]:
    if vary is None:
        vary = VARY
    elif not isinstance(vary, dict):
        vary = {name.replace("-", "_"): [low, high] for name, low, high in vary}
    configuration.require_known("parameter to vary", vary, configuration.SCALARS, "the magnet")
    bounds = {}
    for name, limits in vary.items():
        try:
            low, high = (float(x) for x in limits)
        except (TypeError, ValueError) as error:
            raise ValueError(f"vary {name} = {limits!r}: write it as MIN MAX, for example 0 6e10.") from error
        bounds[name] = (low, high)
    return bounds


def _objectives(run: dict[str, Any], bounds: dict[str, Any]) -> list[Any]:
    least = run.get("minimize", "intensity" if "intensity" in bounds else "nothing")
    configuration.require_known("quantity to minimize", [least], ("intensity", "power", "nothing"), "nrjax")
    chosen: list[Any] = {"intensity": [LowIntensity()], "power": [LowPower()], "nothing": []}[least]
    if "margin" in run:
        chosen.append(Margin(run["margin"]))
    if run.get("insensitive"):
        chosen.append(Quiet())
    if run.get("responsive"):
        chosen.append(Quiet(-1.0))
    if "modulation_range" in run:
        chosen.append(WideRange(run["modulation_range"]))
    return chosen


def _limits(run: dict[str, Any], build: Callable[..., Any], bounds: dict[str, tuple[float, float]]) -> list[Any]:
    """The constraints among the settings of a run."""
    limits: list[Any] = [StableInSpace()] if run.get("stable_in_space") else []
    if run.get("enough_electrons"):
        limits.append(EnoughElectrons())
    configuration.require_numbers(run, ("above_onset", "line_width", "min_turns", "max_temperature"))
    if "above_onset" in run:
        limits.append(AboveOnset(run["above_onset"]))
    if "line_width" in run:
        limits.append(NarrowLine(run.get("spins", DEFAULT_SPINS), run["line_width"]))
    if "min_turns" in run or "max_temperature" in run:
        thermal = thermal_model(run, build(**{name: low for name, (low, _) in bounds.items()}))
        if "min_turns" in run:
            limits.append(MinTurns(thermal, run["min_turns"]))
        if "max_temperature" in run:
            limits.append(MaxTemperature(thermal, run["max_temperature"]))
    return limits


def _ensemble(run: dict[str, Any], constant: dict[str, Any]) -> dict[str, Any]:
    spread = run.get("spread", {})
    if not isinstance(spread, dict):
        spread = {name.replace("-", "_"): sigma for name, sigma in spread}
    if not spread:
        return {}
    configuration.require_known("parameter to spread", spread, configuration.SCALARS, "the magnet")
    try:
        deviation = {name: float(sigma) for name, sigma in spread.items()}
    except (TypeError, ValueError) as error:
        raise ValueError(f"spread = {spread!r}: write it as NAME SIGMA, for example temperature 0.1.") from error
    missing = [name for name in deviation if not isinstance(constant.get(name), int | float)]
    if missing:
        raise ValueError(f"spread of {missing[0]}: give its value first, with --set {missing[0]}=NUMBER.")
    mean = {name: float(constant[name]) for name in deviation}
    return gaussian_ensemble(mean, deviation, run.get("members", 16), run.get("seed", 0))


def _grid(bounds: dict[str, tuple[float, float]]) -> dict[str, np.ndarray]:
    return {name: np.linspace(low, high, MAP_POINTS) for name, (low, high) in bounds.items()}


def _settling_time(growth_rate: float) -> float:
    """Long enough to start from rest and settle to 1e-6 at a rate in meV: ps, two digits."""
    rate = abs(growth_rate) * units.ps
    return float(f"{300.0 + 15.0 / max(rate, 1e-3):.2g}")
