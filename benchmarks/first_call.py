"""What a newcomer waits for: commands in a new process, with an empty cache of compiled programs and with a full one.

Times are those of whole processes, the median of three with a full cache; inside, JAX tells how long it traced,
lowered, compiled and read programs from the cache (what is compiled in the background counts, so that parts may add up
to more than the total). A unit is the time that `import jax` takes, so that machines can be compared. Measured where
`nrjax[plot]` is installed alone: libraries that others look for (xarray for Dask) are imported as well where they are.

python benchmarks/first_call.py        writes benchmarks/results/first_call-DEVICE.json
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import record

COMMANDS: Final = {
    "--help": ["--help"],
    "info": ["info"],
    "curve": ["curve"],
    "phase-diagram": ["phase-diagram"],
    "simulate": ["simulate"],
    "design": ["design", "--target-chase-ghz", "40"],
}
REPEATS: Final = 3
# Runs a command, and tells on the last line of standard error where the time went.
WATCHED: Final = """
import json, os, sys, time
begin = time.perf_counter()
import jax
spent = dict.fromkeys(("trace", "lower", "compile", "read", "load"), 0.0)
kinds = {
    "/jax/core/compile/jaxpr_trace_duration": "trace",
    "/jax/core/compile/jaxpr_to_mlir_module_duration": "lower",
    "/jax/core/compile/backend_compile_duration": "compile",
    "/jax/compilation_cache/cache_retrieval_time_sec": "read",
    "/nrjax/ready_program_loaded": "load",
}
def count(name, seconds, **more):
    if name in kinds:
        spent[kinds[name]] += seconds
jax.monitoring.register_event_duration_secs_listener(count)
os.environ.setdefault("EQX_ON_ERROR", "off")  # as the command does, which imports them later
import nrjax.cli, nrjax.plot
spent["import"] = time.perf_counter() - begin
nrjax.cli.main(sys.argv[1:])
spent["total"] = time.perf_counter() - begin
spent["compile"] -= spent["read"]
print(json.dumps(spent), file=sys.stderr)
"""


def process(program: list[str], folder: Path, cache: Path) -> tuple[float, str]:
    """Seconds that a process takes, and what it wrote to standard error."""
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(cache), "MPLBACKEND": "agg"}
    begin = time.perf_counter()
    done = subprocess.run([sys.executable, *program], cwd=folder, env=environment, capture_output=True, text=True)
    seconds = time.perf_counter() - begin
    if done.returncode:
        raise RuntimeError(f"{' '.join(program[-4:])} ended with {done.returncode}:\n{done.stderr}")
    return seconds, done.stderr


def of_command(arguments: list[str], folder: Path, unit: float) -> dict[str, Any]:
    """Seconds and units, with an empty cache and with a full one, and where they went."""
    result: dict[str, Any] = {}
    outputs = [] if arguments[0] in ("--help", "info") else ["--quiet", "--overwrite"]
    plain = ["-m", "nrjax.cli", *arguments, *outputs]
    with tempfile.TemporaryDirectory() as cache:
        result["cold_s"], _ = process(plain, folder, Path(cache))
        result["warm_s"] = statistics.median(process(plain, folder, Path(cache))[0] for _ in range(REPEATS))
        if outputs:
            _, told = process(["-c", WATCHED, *arguments, *outputs], folder, Path(cache))
            result["warm_parts_s"] = json.loads(told.splitlines()[-1])
            with tempfile.TemporaryDirectory() as empty:
                _, told = process(["-c", WATCHED, *arguments, *outputs], folder, Path(empty))
                result["cold_parts_s"] = json.loads(told.splitlines()[-1])
    return result | {"cold_units": result["cold_s"] / unit, "warm_units": result["warm_s"] / unit}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        importing = ["-c", "import jax"]
        process(importing, place, place / "none")
        unit = statistics.median(process(importing, place, place / "none")[0] for _ in range(2 * REPEATS))
        commands = {name: of_command(arguments, place, unit) for name, arguments in COMMANDS.items()}
    record.write("first_call", {"import_jax_s": unit, "commands": commands})


if __name__ == "__main__":
    main()
