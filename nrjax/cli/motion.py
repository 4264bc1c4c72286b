"""`nrjax simulate`: moments in time."""

import argparse
import sys
from importlib.metadata import version
from typing import Any

import diffrax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from ..equilibria import default_start, steady_state
from ..frequencies import instantaneous_frequency
from ..phases import Phase
from ..solve import simulate
from . import configuration
from .outputs import print_exposure, save


def add(commands: Any) -> None:
    """The command."""
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


def _simulate(options: argparse.Namespace) -> int:
    from .. import plot

    fixed, run = configuration.read(options, ("time", "samples", "m0", "pulse", "output", "data"))
    configuration.put_flags(options, run, ("time", "samples", "m0", "pulse"))
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
    print_exposure(model, state)
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
    save(figure, dataset, run)
    return 0
