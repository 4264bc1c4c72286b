"""The `nrjax` command: the main jobs without writing Python."""

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from . import configuration, units
from .equilibria import SteadyState, default_start, steady_state
from .exchange import layer_susceptibility
from .exposure import exposure
from .files import atomic
from .frequencies import instantaneous_frequency
from .lattices import Lattice
from .magnets import LayeredMagnet
from .phases import Phase
from .solve import simulate
from .sweeps import save_dataset, sweep

PLANE = {"loss_rate": [0.0, 0.12, 401], "interlayer_exchange": [0.0, 12.0, 401]}
LINE = {"intensity": [0.0, 6e10, 401]}


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
        "save the numbers. Default: loss rate 0 to 0.12 meV by interlayer exchange 0 to 12 meV. Which light, how "
        "strong: --axis photon_energy 1300 2100 401 --axis intensity 0 6e10 401",
    )
    configuration.add_parameters(diagram)
    configuration.add_outputs(diagram, "phase_diagram.png", "phase_diagram.nc")
    _axis_flag(diagram, "an axis of the grid; give it twice, the horizontal one first")
    diagram.add_argument("--no-boundaries", action="store_true", help="do not draw the closed-form boundary lines")
    diagram.set_defaults(run=_phase_diagram)

    curve = commands.add_parser(
        "curve",
        help="draw the rotation frequency against the light",
        description="Chase and rotation frequency along one parameter: the characteristic of the frequency modulator. "
        "Default: the laser's intensity, 0 to 6e10 W/cm^2.",
    )
    configuration.add_parameters(curve)
    configuration.add_outputs(curve, "curve.png", "curve.nc")
    _axis_flag(curve, "the parameter and its range")
    curve.set_defaults(run=_curve)

    motion = commands.add_parser(
        "simulate",
        help="integrate the moments in time",
        description="Integrate the moments of the light-driven bilayer and draw their tips in space and their "
        "components against time; under a pulse, lengths, angle and frequencies. Default: the chiral phase, loss rate "
        "0.05 meV, interlayer exchange 6 meV.",
    )
    configuration.add_parameters(motion)
    configuration.add_outputs(motion, "simulation.png", "simulation.nc")
    motion.add_argument("--time", type=float, metavar="PS", help="how long to simulate, in ps (default 400)")
    motion.add_argument("--samples", type=int, metavar="N", help="how many times to save (default 16000)")
    motion.add_argument(
        "--m0",
        type=float,
        nargs="+",
        metavar="M",
        help="initial moments, x y z of each layer (default: no-light state)",
    )
    motion.add_argument(
        "--pulse",
        type=float,
        nargs=3,
        metavar=("START", "STOP", "RISE"),
        help="the laser is on from START to STOP and takes RISE to switch, in ps",
    )
    motion.set_defaults(run=_simulate)

    spacer = commands.add_parser(
        "exchange",
        help="draw the exchange against the thickness of a spacer",
        description="The exchange between two magnetic layers, carried by the conduction electrons of a layered "
        "lattice, against the number of spacer layers between them.",
    )
    spacer.add_argument("--hopping", type=float, default=1000.0, metavar="MEV", help="in the layers (default 1000)")
    spacer.add_argument("--hopping-across", type=float, metavar="MEV", help="between layers (default: as --hopping)")
    spacer.add_argument("--filling", type=float, default=0.3, help="electrons per site, 0 to 2 (default 0.3)")
    spacer.add_argument("--temperature", type=float, default=30.0, metavar="MEV", help="k_B T (default 30)")
    spacer.add_argument("--sd-coupling", type=float, default=-100.0, metavar="MEV", help="g of both (default -100)")
    spacer.add_argument("--sites", type=int, default=96, help="along both axes of a layer (default 96)")
    spacer.add_argument("--layers", type=int, default=128, help="of the periodic lattice (default 128)")
    configuration.add_outputs(spacer, "exchange.png", "exchange.nc")
    spacer.set_defaults(run=_exchange)

    info = commands.add_parser("info", help="versions, device and precision", description="Print versions and devices.")
    info.add_argument("--precision", choices=("double", "single"), default="double", help=argparse.SUPPRESS)
    info.set_defaults(run=_info)
    return parser


def _axis_flag(parser: argparse.ArgumentParser, words: str) -> None:
    parser.add_argument(
        "--axis",
        action="append",
        nargs=4,
        metavar=("NAME", "MIN", "MAX", "POINTS"),
        help=f"{words}. Energies in meV, intensities in W/cm^2",
    )


def _save(figure: Any, dataset: xr.Dataset, run: dict[str, Any]) -> None:
    """Write the numbers and the picture, each whole or not at all, and say so."""
    save_dataset(dataset, run["data"])
    with atomic(run["output"]) as temporary:
        figure.savefig(temporary, dpi=160)
    print(f"wrote {run['data']}\nwrote {run['output']}")


def _print_exposure(magnet: LayeredMagnet, state: SteadyState) -> None:
    if magnet.light is not None:
        print(exposure(magnet, state.m))


def _fastest(dataset: xr.Dataset) -> dict[str, Any] | None:
    """The point of the highest chase frequency; None if nothing chases."""
    chase = dataset["chase_frequency"].where(dataset["phase"] == Phase.CHIRAL)
    if not bool(chase.notnull().any()):
        return None
    return {str(name): float(dataset[name][index]) for name, index in chase.argmax(...).items()}


def _summarize(build: Any, dataset: xr.Dataset) -> None:
    """Shares of the phases, the largest residual, and the fastest chase with the light that drives it."""
    total = dataset["phase"].size
    for phase in Phase:
        share = int((dataset["phase"] == phase).sum())
        if share:
            print(f"{phase.name.lower():13s} {share:9d} points  {100 * share / total:6.2f} %")
    print(f"largest relative residual {float(dataset['residual'].where(dataset['valid']).max()):.1e}")
    fastest = _fastest(dataset)
    if fastest is not None:
        magnet = build(**fastest)
        state = steady_state(magnet, throw=False)
        where = ", ".join(f"{name} {value:.5g}" for name, value in fastest.items())
        print(f"highest chase frequency {float(state.chase_frequency):.4g} GHz at {where}")
        _print_exposure(magnet, state)


def _phase_diagram(options: argparse.Namespace) -> int:
    from . import plot

    return _sweep(
        options, PLANE, lambda data, build: plot.phase_diagram(data, None if options.no_boundaries else build)
    )


def _curve(options: argparse.Namespace) -> int:
    from . import plot

    return _sweep(options, LINE, lambda data, build: plot.characteristic(data))


def _sweep(options: argparse.Namespace, default: dict[str, Any], draw: Callable[[xr.Dataset, Any], Any]) -> int:
    """Sweep over as many axes as the default has, draw, tell and save."""
    fixed, run = configuration.read(options, ("axes", "output", "data"))
    grid = configuration.axes(options, run, len(default), default)
    build = partial(configuration.build, {name: value for name, value in fixed.items() if name not in grid})
    dataset = sweep(build, grid, progress=not options.quiet)
    figure = draw(dataset, build)
    _summarize(build, dataset)
    _save(figure, dataset, run)
    return 0


def _simulate(options: argparse.Namespace) -> int:
    from . import plot

    fixed, run = configuration.read(options, ("time", "samples", "m0", "pulse", "output", "data"))
    for name in ("time", "samples", "m0", "pulse"):
        if getattr(options, name) is not None:
            run[name] = getattr(options, name)
    duration, samples = run.get("time", 400.0), run.get("samples", 16000)
    if not (isinstance(duration, int | float) and np.isfinite(duration) and duration > 0):
        raise ValueError(f"time = {duration!r}: give a time in ps greater than 0.")
    if not (isinstance(samples, int) and samples >= 2):
        raise ValueError(f"samples = {samples!r}: give a whole number, 2 or greater.")
    if "pulse" in run:
        fixed["envelope"] = configuration.pulse(run["pulse"])
    model = configuration.build(fixed)
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
    frequency = instantaneous_frequency(solution)
    print(solution)
    print(f"attractor{' under full light' if model.changes_in_time else ''}: {state}")
    _print_exposure(model, state)
    dataset = xr.Dataset(
        {
            "moment": (("time", "layer", "component"), np.asarray(solution.ms), {"units": "saturated moment"}),
            "chase_frequency": ("time", np.asarray(frequency.chase), {"units": "GHz"}),
            "rotation_frequency": ("time", np.asarray(frequency.rotation), {"units": "GHz"}),
        },
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
    if model.changes_in_time:
        figure = plot.switching(solution, model)
    else:
        chase, rotation = float(state.chase_frequency), float(state.rotation_frequency)
        title = f"{Phase(int(state.phase)).name.lower()}: chase {chase:.4g} GHz, rotation {rotation:.4g} GHz"
        figure = plot.trajectory(solution, title=title)
    _save(figure, dataset, run)
    return 0


def _exchange(options: argparse.Namespace) -> int:
    from . import plot

    run: dict[str, Any] = {}
    configuration.outputs(options, run)
    if options.layers < 8:
        raise ValueError(f"layers = {options.layers} is out of range: take 8 or more, four for each step of thickness.")
    across = options.hopping if options.hopping_across is None else options.hopping_across
    lattice = Lattice.layered(options.sites, options.layers, options.hopping, across)
    chi = layer_susceptibility(lattice, options.temperature, filling=options.filling)
    # Farther apart than a quarter, the periodic image of the other layer is felt.
    thickness = np.arange(options.layers // 4)
    exchange = options.sd_coupling**2 * np.asarray(chi)[1 : len(thickness) + 1]
    dataset = xr.Dataset(
        {"interlayer_exchange": ("spacer", exchange, {"units": "meV", "long_name": "exchange j_AB per moment"})},
        coords={"spacer": ("spacer", thickness, {"long_name": "nonmagnetic layers between the magnetic ones"})},
        attrs={
            "title": "nrjax exchange",
            "dtype": str(exchange.dtype),
            "nrjax_version": version("nrjax"),
            "filling": options.filling,
            "hopping_mev": options.hopping,
            "hopping_across_mev": across,
            "temperature_mev": options.temperature,
            "sd_coupling_mev": options.sd_coupling,
        },
    )
    print(f"exchange across 0 to {len(thickness) - 1} spacer layers: {exchange.min():.4g} to {exchange.max():.4g} meV")
    print(f"it changes sign {int((np.diff(np.sign(exchange)) != 0).sum())} times")
    _save(plot.exchange(dataset), dataset, run)
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
