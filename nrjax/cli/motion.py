"""`nrjax simulate`: moments in time."""

import argparse
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from .._numerics.digests import versions
from .._numerics.validation import require_memory
from ..magnets import LayeredMagnet
from ..maps.provenance import parameters
from ..motion.coordinates import ComponentsAndTilt
from ..motion.frequencies import InstantaneousFrequency, instantaneous_frequency, visible
from ..motion.integration import simulate
from ..motion.phases import Phase
from ..motion.solution import Solution
from ..rotation.attractors import default_start, steady_state
from ..rotation.phase_noise import Linewidth, linewidth
from ..rotation.rigid_states import SteadyState
from ..rotation.stability_in_space import SpatialStability, spatial_stability
from . import configuration
from .ahead import ImportedAhead
from .outputs import print_exposure, save
from .sample import DEFAULT_SPINS

# Of an initial moment: a saturated one that is tilted a little by hand is meant to be one.
LONGEST = 1.01


class Attractor(NamedTuple):
    """What a motion leads to under full light; of a state that rotates, what a sample makes of it."""

    state: SteadyState
    stability: SpatialStability | None
    linewidth: Linewidth | None


def add_simulation(motion: argparse.ArgumentParser) -> None:
    """The arguments of `nrjax simulate`."""
    motion.description = (
        "Integrate the moments of the light-driven bilayer and draw their tips in space and their "
        "components against time; under a pulse, lengths, angle and frequencies. Default: the chiral phase, loss rate "
        "0.05 meV, interlayer exchange 6 meV. Of the two frequencies printed, the chase is the rate at which the "
        "layers chase each other; the rotation is that of the whole magnet, and the line that a probe sees."
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
    motion.add_argument(
        "--spins",
        type=float,
        metavar="N",
        help="spins in each layer, whose thermal tilt is what a chase grows from (default 1e6; 0 for none; isotropic "
        "bilayers)",
    )
    motion.add_argument(
        "--noise",
        type=int,
        metavar="SEED",
        help="let the moments fluctuate as those of --spins spins do; the whole number SEED picks the realization",
    )
    motion.set_defaults(run=_simulate)


def _simulate(options: argparse.Namespace) -> int:
    fixed, run = configuration.read(options, ("time", "samples", "m0", "pulse", "spins", "noise", "output", "data"))
    configuration.put_flags(options, run, ("time", "samples", "m0", "pulse", "spins", "noise"))
    duration, samples = run.get("time", 400.0), run.get("samples", 16000)
    if not (isinstance(duration, int | float) and np.isfinite(duration) and duration > 0):
        raise ValueError(f"time = {duration!r}: give a time in ps greater than 0.")
    if not (isinstance(samples, int) and samples >= 2):
        raise ValueError(f"samples = {samples!r}: give a whole number, 2 or greater.")
    if "pulse" in run:
        fixed["envelope"] = configuration.pulse(run["pulse"])
        if fixed["envelope"]["start"] >= duration:
            begin = fixed["envelope"]["start"]
            raise ValueError(
                f"pulse: the light begins at {begin:g} ps, the simulation ends at {duration:g}. Raise --time."
            )
    with ImportedAhead() as ahead:
        return _move(options, configuration.build(fixed), run, float(duration), samples, ahead)


def _move(
    options: argparse.Namespace,
    model: LayeredMagnet,
    run: dict[str, Any],
    duration: float,
    samples: int,
    ahead: ImportedAhead,
) -> int:
    """Integrate for so many ps, tell, draw, and save so many times."""
    start = default_start(model)
    if "m0" in run:
        given = np.asarray(run["m0"], dtype=float)
        if given.size != start.size:
            raise ValueError(f"m0 has {given.size} numbers: the magnet needs {start.size}, x y z of each layer.")
        start = jnp.asarray(given.reshape(start.shape))
        longest = float(np.linalg.norm(start, axis=1).max())
        if longest == 0:
            raise ValueError("m0 = 0: no moment has a direction there. Give moments, however small.")
        if longest > LONGEST:
            raise ValueError(f"m0 has a moment of length {longest:g}: give 0 to 1, in units of the saturated moment.")

    bar: Any = diffrax.NoProgressMeter()
    if not options.quiet and sys.stderr.isatty():
        bar = diffrax.TqdmProgressMeter()
    require_memory(f"saving {samples:.3g} times", 48.0 * start.size * samples, "Save fewer times: lower --samples.")
    times = np.linspace(0.0, duration, samples)
    spins, key = _noise(run.get("spins"), run.get("noise"), model)
    with ThreadPoolExecutor(max_workers=1) as beside:
        # A first call compiles both, each on a core of its own.
        found = beside.submit(_attractor, model, start, spins or DEFAULT_SPINS)
        solution = simulate(
            model, start, duration, saveat=times, spins=spins, key=key, max_steps=None, progress_meter=bar
        )
        frequency = instantaneous_frequency(solution)
        attractor = found.result()
    state = attractor.state
    values, _ = parameters([model])
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
            **versions(),
            "parameters": json.dumps(values),
            "spins": 0.0 if spins is None else spins,
            **({} if key is None else {"noise": run["noise"]}),
            "seed_tilt": float(np.asarray(solution.seed_tilt)),
            "seeded_by_rounding": int(np.asarray(solution.seeded_by_rounding)),
            "steps": int(solution.stats["num_steps"]),
            "phase": Phase(int(state.phase)).name,
            "chase_frequency_ghz": float(state.chase_frequency),
            "rotation_frequency_ghz": float(state.rotation_frequency),
        },
    )
    if model.changes_in_time:
        figure = ahead.plot.switching(solution, model)
    else:
        chase, rotation = float(state.chase_frequency), float(state.rotation_frequency)
        reached = f"attractor: {Phase(int(state.phase)).name.lower()}"
        title = f"{reached}, chase {chase:.4g} GHz, a probe sees {rotation:.4g} GHz"
        figure = ahead.plot.trajectory(solution, title=title)
    save(figure, dataset, run)
    _tell(model, solution, attractor, frequency, duration)
    return 0


def _attractor(model: LayeredMagnet, start: Any, spins: float) -> Attractor:
    """Found without the motion; with the linewidth of so many spins in each layer."""
    state = steady_state(model, start, throw=False)
    rotates = float(state.rotation_frequency) > 0
    return Attractor(
        state,
        spatial_stability(model, state=state) if rotates else None,
        linewidth(model, spins, state) if rotates and not model.field_terms else None,
    )


def _tell(
    model: LayeredMagnet,
    solution: Solution,
    attractor: Attractor,
    frequency: InstantaneousFrequency,
    duration: float,
) -> None:
    """What the trajectory was, what it leads to, and what a sample makes of that."""
    state = attractor.state
    print(solution)
    print(f"attractor{' under full light' if model.changes_in_time else ''}: {state}")
    for of_sample in (attractor.stability, attractor.linewidth):
        if of_sample is not None:
            print(of_sample)
    print(
        f"turns in {duration:g} ps: {_turns(frequency, frequency.chase):.4g} of the chase, "
        f"{_turns(frequency, frequency.rotation):.4g} of the whole magnet (those a probe counts)"
    )
    print_exposure(model, state.m, state.chase_frequency)


def _noise(asked: Any, seed: Any, model: LayeredMagnet) -> tuple[float | None, Any]:
    """How many spins seed the chase, the default only where they can, and the key of their fluctuations, if any."""
    if seed is not None and not isinstance(seed, int):
        raise ValueError(f"noise = {seed!r}: give a whole number, which picks the realization.")
    key = None if seed is None else jax.random.key(seed)
    if asked is None:
        return DEFAULT_SPINS if seed is not None or ComponentsAndTilt.applies_to(model) else None, key
    if not (isinstance(asked, int | float) and asked >= 0):
        raise ValueError(f"spins = {asked!r}: give the number of spins in each layer, or 0 for none.")
    return float(asked) if asked > 0 else None, key


def _turns(motion: InstantaneousFrequency, rate: Any) -> float:
    """Turns of a motion at `rate` (GHz), while there is anything to see of it."""
    return float(np.trapezoid(np.nan_to_num(visible(motion, rate)), np.asarray(motion.times)) * 1e-3)
