"""Does the suite notice? Plants one bug at a time in a copy of the project and runs the tests of `make test` until one
fails. See README.md. Run it with `make mutants`, or `python tests/mutants/run.py --help`."""

import argparse
import concurrent.futures
import datetime
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
RESULTS = HERE / "results.json"

# Where a bug in a file is most likely noticed: these tests run first. Everything else follows.
LIKELY = {
    "nrjax/light/": ["test_light.py", "test_driven_magnet.py", "test_pulses.py"],
    "nrjax/bands/": ["test_exchange.py"],
    "nrjax/magnets/": ["test_layers.py", "test_baths.py", "test_shape.py", "test_seams.py", "test_driven_magnet.py"],
    "nrjax/magnets/layers.py": [
        *("test_layers.py", "test_baths.py", "test_shape.py", "test_seams.py", "test_driven_magnet.py"),
        "test_stability_in_space.py",
    ],
    "nrjax/magnets/condensates.py": ["test_condensates.py"],
    "nrjax/magnets/relaxation.py": ["test_condensates.py", "test_shape.py"],
    "nrjax/motion/": ["test_phases.py", "test_simulate.py", "test_seed.py", "test_driven_magnet.py"],
    "nrjax/rotation/": ["test_solvers.py", "test_steady_state.py", "test_boundaries.py", "test_shape.py"],
    "nrjax/rotation/corotating_states.py": ["test_solvers.py", "test_condensates.py"],
    "nrjax/_numerics/gpu_options.py": ["test_gpu_options.py"],
    "nrjax/_numerics/stored_values.py": ["test_shape.py"],
    "nrjax/rotation/following.py": ["test_solvers.py"],
    "nrjax/light/illumination.py": ["test_solvers.py", "test_light.py", "test_layers.py", "test_driven_magnet.py"],
    "nrjax/motion/step_sizes.py": ["test_simulate.py", "test_driven_magnet.py"],
    "nrjax/motion/coordinates.py": ["test_simulate.py", "test_seed.py", "test_driven_magnet.py"],
    "nrjax/_numerics/precision.py": ["test_solvers.py", "test_simulate.py"],
    "nrjax/rotation/shape_solver.py": [
        "test_shape.py",
        "test_random_agreement.py",
        "test_solvers.py",
        "test_steady_state.py",
    ],
    "nrjax/rotation/phase_noise.py": ["test_phase_noise.py", "test_fokker_planck.py"],
    "nrjax/rotation/fokker_planck_solver.py": ["test_fokker_planck.py"],
    "nrjax/rotation/collinear_distributions.py": ["test_fokker_planck.py"],
    "nrjax/magnets/fokker_planck.py": ["test_fokker_planck.py"],
    "nrjax/rotation/spectral_lines.py": ["test_phase_noise.py"],
    "nrjax/rotation/stability_in_space.py": ["test_stability_in_space.py"],
    "nrjax/rotation/survival.py": ["test_survival.py"],
    "nrjax/inverse/search.py": ["test_constraints.py", "test_inverse.py"],
    "nrjax/rotation/boundaries.py": ["test_boundaries.py"],
    "nrjax/rotation/edges_along.py": ["test_boundaries.py", "test_survival.py"],
    "nrjax/inverse/result.py": ["test_constraints.py", "test_inverse.py"],
    "nrjax/lindblad/correlated_insulators.py": ["test_correlated_insulators.py"],
    "nrjax/inverse/constraints.py": ["test_constraints.py"],
    "nrjax/inverse/proposal.py": ["test_experiment.py"],
    "nrjax/plot/designs.py": ["test_plot.py"],
    "nrjax/inverse/sheet.py": ["test_design_command.py"],
    "nrjax/cli/design_command.py": ["test_design_command.py"],
    "nrjax/plot/samples.py": ["test_experiment.py"],
    "nrjax/motion/rigid_rotation.py": ["test_leading_pair.py"],
    "nrjax/motion/trajectory_batches.py": ["test_simulate.py", "test_executors.py", "test_accelerators.py"],
    "nrjax/motion/integration.py": ["test_solvers.py", "test_experiment.py", "test_simulate.py", "test_seed.py"],
    "nrjax/motion/layer_noise.py": ["test_layer_noise.py"],
    "nrjax/rotation/warm_states.py": ["test_heat.py"],
    "nrjax/rotation/shape_cycles.py": ["test_steady_state.py"],
    "nrjax/rotation/rigid_states.py": [
        *("test_solvers.py", "test_steady_state.py", "test_phase_noise.py", "test_shape.py"),
    ],
    "nrjax/rotation/basins.py": ["test_basins.py"],
    "nrjax/magnets/order_parameters.py": ["test_vector_magnet.py", "test_layers.py", "test_shape.py"],
    "nrjax/magnets/vector_magnet.py": ["test_vector_magnet.py"],
    "nrjax/magnets/planar_bath.py": ["test_vector_magnet.py"],
    "nrjax/lindblad/models.py": ["test_elimination.py", "test_lindblad.py"],
    "nrjax/rotation/turns_before_melting.py": ["test_heat.py", "test_constraints.py"],
    "nrjax/maps/refinement.py": ["test_refinement.py"],
    "nrjax/maps/scattered_points.py": ["test_scattered_points.py"],
    "nrjax/magnets/heat.py": ["test_experiment.py", "test_heat.py"],
    "nrjax/maps/computation.py": ["test_provenance.py", "test_executors.py", "test_sweep.py"],
    "nrjax/maps/sweeps.py": ["test_zarr_store.py", "test_refinement.py", "test_sweep.py", "test_provenance.py"],
    "nrjax/magnets/neighbours.py": ["test_spin_lattice.py"],
    "nrjax/magnets/shifted_sums.py": ["test_shifted_sums.py", "test_spin_lattice.py"],
    "nrjax/magnets/spin_lattice.py": ["test_spin_lattice.py"],
    "nrjax/motion/spin_": ["test_spin_lattice.py", "test_spin_paths.py"],
    "nrjax/light/hopping_light.py": ["test_hopping_light.py"],
    "nrjax/lindblad/elimination.py": ["test_elimination.py"],
    "nrjax/maps/zarr_": ["test_zarr_store.py"],
    "nrjax/maps/": ["test_refinement.py", "test_sweep.py", "test_provenance.py", "test_sensitivities.py"],
    "nrjax/inverse/": ["test_inverse.py", "test_pulses.py", "test_design_command.py"],
    "nrjax/lindblad/": ["test_lindblad.py"],
    "nrjax/cli/": ["test_cli.py", "test_design_command.py"],
    "nrjax/plot/": ["test_plot.py", "test_cli.py"],
    "nrjax/_numerics/": ["test_shape.py", "test_layers.py", "test_sweep.py", "test_simulate.py", "test_exchange.py"],
    "nrjax/_numerics/digests.py": ["test_provenance.py", "test_sweep.py", "test_spin_lattice.py"],
    "nrjax/_numerics/tiles.py": ["test_accelerators.py", "test_sweep.py", "test_executors.py", "test_simulate.py"],
    "nrjax/_numerics/random_words.py": ["test_spin_lattice.py"],
    "nrjax/_numerics/refilled_loops.py": [
        *("test_accelerators.py", "test_shape.py", "test_sweep.py", "test_cpu_options.py"),
    ],
    "nrjax/_numerics/cpu_options.py": ["test_cpu_options.py"],
    "nrjax/_numerics/programs.py": ["test_executors.py", "test_accelerators.py", "test_sweep.py"],
    "nrjax/_numerics/ready_programs.py": ["test_ready_programs.py"],
    "nrjax/_numerics/failures.py": ["test_steady_state.py"],
    "nrjax/_numerics/root_scan.py": ["test_boundaries.py"],
    "nrjax/_numerics/spectral_abscissa.py": ["test_spectral_abscissa.py"],
    "nrjax/": ["test_units.py", "test_light.py", "test_driven_magnet.py"],
}


@dataclass(frozen=True)
class Bug:
    """One replacement in one file, and the claim that it breaks."""

    name: str
    file: str
    claim: str
    old: str
    new: str
    equivalent: str = ""


def planted() -> list[Bug]:
    """All bugs of the list, in the order of files."""
    return [Bug(**entry) for page in sorted(HERE.glob("*.toml")) for entry in tomllib.loads(page.read_text())["bug"]]


def mutated(bug: Bug) -> str:
    """The text of the file with the bug in it.

    **Raises** `ValueError` if the place is not there, or there twice.
    """
    text = (ROOT / bug.file).read_text()
    if text.count(bug.old) != 1:
        raise ValueError(f"{bug.name}: its text stands {text.count(bug.old)} times in {bug.file}, not once.")
    return text.replace(bug.old, bug.new)


def likely(file: str) -> list[str]:
    """The tests that run first for a bug in a file."""
    return LIKELY[max((prefix for prefix in LIKELY if file.startswith(prefix)), key=len)]


def project_files() -> list[str]:
    """Everything that a clone would hold, and new files that are not ignored."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [name for name in names if (ROOT / name).is_file()]


class Suite:
    """The tests of `make test` on a copy of the project, in order, until one fails."""

    def __init__(self, bug: Bug | None, cache: Path | None):
        self.folder = Path(tempfile.mkdtemp(prefix="nrjax-mutant-"))
        for name in project_files():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, self.folder / name)
        if bug is not None:
            (self.folder / bug.file).write_text(mutated(bug))
        self.environment = os.environ | {"PYTHONPATH": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1"}
        if cache is not None:
            self.environment |= {
                "JAX_COMPILATION_CACHE_DIR": str(cache),
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
                "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
            }

    def fails(self, tests: list[str], marks: str) -> str | None:
        """The first test that fails; None if all pass."""
        environment = dict(self.environment)
        if marks.startswith("computes"):
            environment.pop("XLA_FLAGS", None)
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-m", marks, *tests]
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True)
        if done.returncode in (0, 5) or "not found:" in done.stderr:  # 5: none of the tests has these marks
            return None
        found = re.search(r"^(?:FAILED|ERROR) (tests/.+?)(?: - .*)?$", done.stdout, flags=re.MULTILINE)
        return found.group(1) if found else f"pytest ended with {done.returncode}"

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


QUICK, SLOW = "not computes and not long", "computes and not long"


def hunt(bug: Bug, before: str | None, cache: Path | None, deep: bool) -> dict[str, object]:
    """Which test notices the bug, and how long that took (s)."""
    begin, suite = time.monotonic(), Suite(bug, cache)
    try:
        first = [f"tests/{name}" for name in likely(bug.file)]
        rest = sorted(f"tests/{p.name}" for p in (ROOT / "tests").glob("test_*.py") if f"tests/{p.name}" not in first)
        caught = None
        if before is not None and (ROOT / before.partition("::")[0]).is_file():
            caught = suite.fails([before], QUICK) or suite.fails([before], SLOW)
        caught = caught or suite.fails(first, QUICK) or suite.fails(first, SLOW)
        if deep:
            caught = caught or suite.fails(rest, QUICK) or suite.fails(rest, SLOW)
    finally:
        suite.close()
    return {"caught_by": caught, "seconds": round(time.monotonic() - begin)}


def fails_without_bug(cache: Path | None, workers: int) -> str | None:
    """The first test that fails although no bug is planted: it would seem to catch all of them."""
    suite, everything = Suite(None, cache), ["tests", "-n", str(workers)]
    try:
        return suite.fails(everything, QUICK) or suite.fails(everything, SLOW)
    finally:
        suite.close()


def main() -> int:
    """Exit code: 0 if every bug that is not marked as equivalent is caught, 2 if tests fail without any."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="bugs, or the beginning of their names or files; default all")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="bugs at a time (default: cores)")
    parser.add_argument("--likely", action="store_true", help="run only the tests in which a bug is likely noticed")
    parser.add_argument("--missed", action="store_true", help="only bugs that are not known to be caught")
    parser.add_argument("--cache", type=Path, help="a folder for compiled programs that bugs do not touch")
    options = parser.parse_args()
    known = json.loads(RESULTS.read_text())["bugs"] if RESULTS.exists() else {}
    bugs = planted()
    for bug in bugs:
        mutated(bug)
    chosen = [b for b in bugs if not b.equivalent]
    if options.names:
        chosen = [b for b in chosen if any(b.name.startswith(n) or b.file.startswith(n) for n in options.names)]
    if options.missed:
        chosen = [b for b in chosen if not known.get(b.name, {}).get("caught_by")]
    broken = None if options.likely else fails_without_bug(options.cache, options.workers)
    if broken is not None:
        print(f"{broken} fails without any bug, and would seem to catch every one. Mend it first.", file=sys.stderr)
        return 2
    lock = threading.Lock()

    def one(number: int, bug: Bug) -> None:
        before = known.get(bug.name, {}).get("caught_by")
        found = hunt(bug, before if isinstance(before, str) else None, options.cache, not options.likely)
        with lock:
            known[bug.name] = found
            print(f"{number + 1}/{len(chosen)} {bug.name}: {found['caught_by'] or 'NOT CAUGHT'} ({found['seconds']} s)")
            sys.stdout.flush()
            save(known, bugs)

    with concurrent.futures.ThreadPoolExecutor(options.workers) as pool:
        list(pool.map(one, range(len(chosen)), chosen))
    missed = [b.name for b in chosen if not known[b.name]["caught_by"]]
    print(
        f"{len(chosen) - len(missed)} of {len(chosen)} caught"
        + (f"; not caught: {', '.join(missed)}" if missed else "")
    )
    return 1 if missed else 0


def save(known: dict[str, dict[str, object]], bugs: list[Bug]) -> None:
    """Write what is known of the bugs that are still on the list."""
    found = {b.name: known[b.name] for b in bugs if b.name in known}
    caught = sum(bool(entry["caught_by"]) for entry in found.values())
    summary = {"date": datetime.date.today().isoformat(), "planted": len(found), "caught": caught, "bugs": found}
    temporary = RESULTS.with_suffix(".tmp")
    temporary.write_text(json.dumps(summary, indent=1) + "\n")
    temporary.replace(RESULTS)


if __name__ == "__main__":
    sys.exit(main())
