"""`nrjax phase-diagram` and `nrjax curve`: sweeps, drawn."""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import jax
import numpy as np
import xarray as xr

from .._numerics.validation import array_of
from ..maps.cost import foreseen
from ..maps.sweeps import sweep
from ..motion.phases import Phase
from ..rotation.attractors import solver_for
from ..rotation.observables import OBSERVABLES, OF_EVERY_STATE
from ..rotation.turns_before_melting import price_of_light
from . import configuration
from .ahead import ImportedAhead
from .outputs import print_exposure, save, save_picture

PLANE: Final = {"loss_rate": [0.0, 0.12, 401], "interlayer_exchange": [0.0, 12.0, 401]}
LINE: Final = {"intensity": [0.0, 6e10, 401]}


def add_phase_diagram(diagram: argparse.ArgumentParser) -> None:
    """The arguments of `nrjax phase-diagram`."""
    diagram.description = (
        "Compute the phase of the light-driven bilayer on a grid, draw it with the exact boundaries, and "
        "save the numbers. Default: loss rate 0 to 0.12 meV by interlayer exchange 0 to 12 meV. Which light, how "
        "strong: --axis photon_energy 1300 2100 401 --axis intensity 0 6e10 401"
    )
    configuration.add_parameters(diagram)
    configuration.add_outputs(diagram, "phase_diagram.png", "phase_diagram.nc")
    _axis_flag(diagram, "an axis of the grid; give it twice, the horizontal one first")
    _observable_flag(diagram, "drawn beside the phases", "chase_frequency")
    diagram.add_argument(
        "--full",
        action="store_true",
        help="solve every point from its start; without, only points next to boundaries, and the others are continued",
    )
    _store_flags(diagram)
    diagram.add_argument("--no-boundaries", action="store_true", help="do not draw the closed-form boundary lines")
    diagram.set_defaults(run=_phase_diagram)


def add_curve(curve: argparse.ArgumentParser) -> None:
    """The arguments of `nrjax curve`."""
    curve.description = (
        "Chase and rotation frequency along one parameter: the characteristic of the frequency modulator. "
        "The rotation is the line that a probe sees, the chase none. "
        "Default: the laser's intensity, 0 to 6e10 W/cm^2."
    )
    configuration.add_parameters(curve)
    configuration.add_outputs(curve, "curve.png", "curve.nc")
    _axis_flag(curve, "the parameter and its range")
    _observable_flag(curve, "drawn against it", "chase_frequency and rotation_frequency")
    _store_flags(curve)
    curve.set_defaults(run=_curve)


def _axis_flag(parser: argparse.ArgumentParser, words: str) -> None:
    parser.add_argument(
        "--axis",
        action="append",
        nargs=4,
        metavar=("NAME", "MIN", "MAX", "POINTS"),
        help=f"{words}. Energies in meV, intensities in W/cm^2",
    )


def _store_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--store",
        type=Path,
        metavar="FOLDER",
        help="keep the numbers tile by tile in a .zarr folder, in place of --data; `nrjax status FOLDER` tells how far",
    )
    parser.add_argument("--resume", action="store_true", help="go on with a --store that is there, or let it grow")
    parser.add_argument(
        "--dry-run", action="store_true", help="say what the sweep will cost, and compute nothing of it"
    )


def _observable_flag(parser: argparse.ArgumentParser, words: str, default: str) -> None:
    names = [name for name, observable in OBSERVABLES.items() if name in OF_EVERY_STATE and not observable.each]
    parser.add_argument("--observable", choices=names, help=f"what is {words} (default {default})")


def _phase_diagram(options: argparse.Namespace) -> int:
    seen = options.observable or "chase_frequency"
    return _sweep(
        options,
        PLANE,
        lambda plot, data, build: plot.phase_diagram(data, None if options.no_boundaries else build, seen),
        refine=not options.full,
        rehearse=None if options.no_boundaries else _compile_boundaries,
    )


def _curve(options: argparse.Namespace) -> int:
    seen = [options.observable] if options.observable else ["chase_frequency", "rotation_frequency"]
    return _sweep(options, LINE, lambda plot, data, build: plot.characteristic(data, seen))


def _sweep(
    options: argparse.Namespace,
    default: dict[str, Any],
    draw: Callable[[Any, xr.Dataset, Any], Any],
    refine: bool = False,
    rehearse: Callable[[Any, dict[str, Any]], Any] | None = None,
) -> int:
    """Sweep over as many axes as the default has, draw, tell and save.

    **Arguments** `draw`: of `nrjax.plot`, the numbers and what builds a magnet. `rehearse`: compiles in the background
    what `draw` computes, for what builds a magnet and the grid.
    """
    fixed, run = _settings(options)
    grid = configuration.axes(options, run, len(default), default)
    configuration.require_unswept(options, grid)
    for name in fixed:
        if name in grid:
            print(f"{name} of {options.config} is not used: an axis sweeps it")
    build = partial(configuration.build, {name: value for name, value in fixed.items() if name not in grid})
    # Other models than isotropic bilayers have no states to continue.
    refine = refine and solver_for(build(**{name: float(values[0]) for name, values in grid.items()})).is_light
    if options.dry_run:
        print(foreseen(build, grid, refine=refine, store=options.store))
        return 0
    store, rehearsal = options.store, [] if rehearse is None else [partial(rehearse, build, grid)]
    first = partial(build, **{name: float(values[0]) for name, values in grid.items()})
    with ImportedAhead([*rehearsal, partial(_compile_price, first)]) as ahead:
        dataset = sweep(build, grid, refine=refine, progress=not options.quiet, store=store, resume=options.resume)
        figure = draw(ahead.plot, dataset, build)
    if store is None:
        save(figure, dataset, run)
    else:
        save_picture(figure, run["output"])
        print(f"the numbers are in {store}")
    _summarize(build, dataset)
    return 0


def _compile_boundaries(build: Any, grid: dict[str, Any]) -> None:
    from ..plot.phase_maps import prepare_boundaries

    prepare_boundaries(build, *grid.items())


def _compile_price(build: Callable[[], Any]) -> None:
    """What `print_exposure` computes, for moments of zeros."""
    magnet = build()
    if magnet.has_laser:
        price_of_light(magnet, array_of(np.zeros((magnet.layers, magnet.components))), 0.0)


def _settings(options: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """The magnet's parameters and the run's settings, checked before any work is done."""
    keys = ("axes", "output", "data")
    if options.dry_run:
        return configuration.parameters(options, keys)
    if options.store is None:
        if options.resume:
            raise ValueError("--resume goes on with a store. Name it with --store FOLDER.")
        return configuration.read(options, keys)
    if options.data is not None:
        raise ValueError("--store and --data are both given. The numbers go to one of them: leave one out.")
    if options.store.suffix != ".zarr":
        raise ValueError(f"--store {options.store}: a store is a folder named *.zarr. Change the ending.")
    if options.resume and options.overwrite and options.store.exists():
        raise ValueError("--resume and --overwrite are both given. Keep what the store holds, or replace it.")
    if options.store.exists() and not (options.resume or options.overwrite):
        raise ValueError(f"{options.store} exists. Add --resume to go on with it, or --overwrite to replace it.")
    fixed, run = configuration.parameters(options, keys)
    run.pop("data", None)
    configuration.picture(options, run)
    return fixed, run


def _summarize(build: Any, dataset: xr.Dataset) -> None:
    """Shares of the phases, the largest residual, and the fastest chase with the light that drives it."""
    total = dataset["phase"].size
    for phase in Phase:
        share = int((dataset["phase"] == phase).sum())
        if share:
            print(f"{phase.name.lower():13s} {share:9d} points  {100 * share / total:6.2f} %")
    if "points_in_full" in dataset.attrs:
        print(
            f"{dataset.attrs['points_in_full']} points solved in full, the others continued from them; a phase less "
            f"than {dataset.attrs['refined_from']} points wide may be missing (--full solves all)"
        )
    print(f"largest relative residual {float(dataset['residual'].where(dataset['valid']).max()):.1e}")
    fastest = _fastest(dataset)
    if fastest is not None:
        where = ", ".join(f"{name} {float(value):.5g}" for name, value in fastest.coords.items())
        print(
            f"highest chase frequency {float(fastest['chase_frequency']):.4g} GHz at {where}; a probe sees "
            f"{float(fastest['rotation_frequency']):.4g} GHz there"
        )
        magnet = build(**{str(name): float(value) for name, value in fastest.coords.items()})
        print_exposure(magnet, _planar(fastest), float(fastest["chase_frequency"]))


def _fastest(dataset: xr.Dataset) -> xr.Dataset | None:
    """The point of the highest chase frequency; None if nothing chases."""
    chase = dataset["chase_frequency"].where(dataset["phase"] == Phase.CHIRAL)
    return dataset.isel(chase.argmax(...)) if bool(chase.notnull().any()) else None


def _planar(point: xr.Dataset) -> jax.Array:
    """Moments of two layers with the lengths and the angle of a point, in the plane of x and z."""
    (a, b), angle = np.asarray(point["lengths"]), float(point["angle"])
    return array_of([[0.0, 0.0, a], [b * np.sin(angle), 0.0, b * np.cos(angle)]], a.dtype)
