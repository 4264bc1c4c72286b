"""What XLA makes of the programs for many lanes on an NVIDIA H200, found without one.

Every program is compiled for the device that h200.txtpb describes (the fields of XLA's GpuTargetConfig, with NVIDIA's
published figures). For each, and for every loop in it, the kernels of one iteration and the library calls among them;
registers and spills as NVIDIA's assembler counts them; scratch memory; and whether a matrix product is left in TF32.
Equinox's checks, callbacks on the host, are off: nrjax makes them before and after a program.

make gpu-check        writes benchmarks/results/gpu-compilation.json (about six minutes)
"""

import argparse
import collections
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

TOOLS: Final = Path(sysconfig.get_paths()["purelib"]) / "nvidia" / "cuda_nvcc"
DUMPS: Final = tempfile.TemporaryDirectory()
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["EQX_ON_ERROR"] = "off"
os.environ["PATH"] = f"{TOOLS / 'bin'}:{os.environ['PATH']}"
os.environ["XLA_FLAGS"] = (
    f"--xla_gpu_cuda_data_dir={TOOLS} --xla_gpu_autotune_level=0 --xla_dump_to={DUMPS.name} "
    f"--xla_dump_hlo_pass_re=none {os.environ.get('XLA_FLAGS', '')}"
)

import equinox as eqx  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import record  # noqa: E402
from jax.experimental import topologies  # noqa: E402

import nrjax  # noqa: E402
from nrjax.motion import spin_dynamics, trajectory_batches  # noqa: E402

LANES: Final = 1 << 16
# What takes no time of its own.
FREE: Final = {
    *("parameter", "get-tuple-element", "tuple", "constant", "bitcast", "after-all"),
    *("while", "conditional", "call", "copy-done", "copy-start"),
}


def lanes_of(build: Callable[..., Any], *numbers: Any, dtype: Any) -> Any:
    """The shapes of many models, and no numbers."""
    shapes = [jax.ShapeDtypeStruct((LANES,), dtype) for _ in numbers]
    made = eqx.filter_eval_shape(jax.vmap(build), *shapes)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, dtype) if is_floating(x) else x, made)


def is_floating(x: Any) -> bool:
    return isinstance(x, jax.ShapeDtypeStruct) and jnp.issubdtype(x.dtype, jnp.floating)


def programs(dtype: Any) -> Iterator[tuple[str, Callable[..., Any], tuple[Any, ...]]]:
    """Name, function and the shapes of its arguments."""
    bilayers = lanes_of(lambda loss: nrjax.hanai2025_bilayer(loss, 6.0), 0.05, dtype=dtype)
    in_field = lanes_of(lambda loss: nrjax.hanai2025_bilayer(loss, 6.0, field=[[0.0, 0.0, 0.1]] * 2), 0.05, dtype=dtype)
    intensities = jax.ShapeDtypeStruct((LANES,), dtype)
    yield "steady states", nrjax.steady_states, (bilayers,)
    yield "from the laser on", lambda x: nrjax.steady_states(jax.vmap(nrjax.illuminated_bilayer)(x)), (intensities,)

    def slopes(magnets: Any) -> Any:
        return jax.grad(lambda x: jnp.sum(nrjax.steady_states(x).chase_frequency))(magnets)

    yield "derivatives of steady states", slopes, (bilayers,)

    frame, arrays = trajectory_batches._framed(bilayers)
    solve = trajectory_batches._batch_solver(frame, 100_000, True)
    starts, stops = jax.ShapeDtypeStruct((LANES, 2, 3), dtype), intensities
    tolerances = jax.ShapeDtypeStruct((2,), dtype)
    yield "trajectories", lambda part, tolerances: solve(part, None, tolerances), ((*arrays, starts, stops), tolerances)
    yield "steady states in a field", nrjax.steady_states, (in_field,)

    magnet = nrjax.LayeredMagnet(
        jnp.asarray([[10.0]], dtype), 0.1, -10.0, 0.0, 1.0, 2.0, gyro=2.0, bath=nrjax.ClassicalBath()
    )
    lattice = nrjax.SpinLattice.from_layers(magnet, (LANES >> 10, 32, 32), reach="nearest")
    spins, number = [(jax.ShapeDtypeStruct(lattice.cells, dtype),) * 3], jnp.asarray(8)

    def steps(spins: Any, first: Any, dt: Any) -> Any:
        key, held = jax.random.key(0), jnp.asarray(True)
        return spin_dynamics._advance(lattice, key, spins, held, first, number, first + number, dt)

    first, dt = jax.ShapeDtypeStruct((), number.dtype), jax.ShapeDtypeStruct((), dtype)
    yield "spins with 6 neighbours", steps, (spins, first, dt)


def target() -> jax.sharding.NamedSharding:
    """All of one H200."""
    text = (Path(__file__).parent / "h200.txtpb").read_text()
    topology = topologies.get_topology_desc(platform="cuda", topology="1x1x1", target_config=text)
    mesh = topologies.make_mesh(topo=topology, mesh_shape=(1,), axis_names=("device",))
    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())


def computations(text: str) -> dict[str, list[str]]:
    """The instructions of every computation of a compiled program by its name; of the first one as "entry", too."""
    found: dict[str, list[str]] = {}
    current: list[str] | None = None
    for line in re.sub(r"/\*.*?\*/", "", text).splitlines():
        head = re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{", line)
        if head:
            current = found.setdefault(head[2], [])
            if head[1]:
                found["entry"] = current
        elif line.startswith("}"):
            current = None
        elif current is not None and " = " in line:
            current.append(line.strip())
    return found


def kernels(found: dict[str, list[str]], name: str = "entry", depth: int = 0) -> list[dict[str, Any]]:
    """What one run through a computation launches, and what one iteration of every loop in it does."""
    here: collections.Counter[str] = collections.Counter()
    inside: list[dict[str, Any]] = []
    for line in found.get(name, []):
        operation = re.search(r" = (?:\([^=]*?\)|\S+) ([\w\-]+)\(", line)
        kind = operation[1] if operation else "?"
        if kind == "while":
            trips = re.search(r'known_trip_count":\{"n":"(\d+)"', line)
            body = re.search(r"body=%?([\w.\-]+)", line)
            assert body
            loop = kernels(found, body[1], depth + 1)
            loop[0]["trips"] = int(trips[1]) if trips else None
            inside += loop
        elif kind == "call":
            called = re.search(r"to_apply=%?([\w.\-]+)", line)
            assert called
            same, *more = kernels(found, called[1], depth)
            here.update(same["launches"])
            inside += more
        elif kind == "conditional":
            for branches in re.findall(r"branch_computations=\{([^}]*)\}", line):
                for branch in branches.split(","):
                    inside += kernels(found, branch.strip("% "), depth + 1)
        elif kind == "custom-call":
            target = re.search(r'custom_call_target="([^"]+)"', line)
            here[target[1] if target else "?"] += 1
        elif kind not in FREE:
            here["kernel" if kind == "fusion" else kind] += 1
    return [{"depth": depth, "launches": dict(here), "total": sum(here.values())}, *inside]


def registers(folder: Path) -> dict[str, int]:
    """The most registers of a kernel, all bytes that kernels spill, by NVIDIA's assembler, and the atomic operations in
    them, which wait for each other where many lanes write to one place."""
    most = spilled = atomics = 0
    for path in folder.glob("*.ptx"):
        atomics += len(re.findall(r"\b(?:atom|red)\.(?:global|relaxed|acq|gpu|cas|add)", path.read_text()))
        assembler = [str(TOOLS / "bin" / "ptxas"), "-v", "-arch=sm_90a", str(path), "-o", os.devnull]
        told = subprocess.run(assembler, capture_output=True, text=True, check=True).stderr
        most = max([most, *(int(n) for n in re.findall(r"Used (\d+) registers", told))])
        spilled += sum(int(n) for n in re.findall(r"(\d+) bytes spill stores", told))
        path.unlink()
    return {"most_registers": most, "spilled_bytes": spilled, "atomic_operations": atomics}


def compiled(function: Callable[..., Any], shapes: tuple[Any, ...], where: Any) -> dict[str, Any]:
    """The program for the target: what it launches, needs and leaves undone."""

    def placed(x: Any) -> Any:
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where) if isinstance(x, jax.ShapeDtypeStruct) else x

    dynamic, static = eqx.partition(shapes, lambda x: isinstance(x, jax.ShapeDtypeStruct))
    begin = time.perf_counter()
    program = jax.jit(lambda arrays: function(*eqx.combine(arrays, static)))
    done = program.lower(jax.tree.map(placed, dynamic)).compile()
    seconds, text = time.perf_counter() - begin, done.as_text()
    assert text is not None
    memory = done.memory_analysis()
    return {
        "compile_s": round(seconds, 1),
        "scratch_bytes_per_lane": None if memory is None else round(memory.temp_size_in_bytes / LANES),
        "tf32": "tf32" in text,
        "callbacks": len(re.findall(r"custom_call_target=\"[^\"]*callback", text)),
        "loops": kernels(computations(text)),
        **registers(Path(DUMPS.name)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="only programs whose name contains one of these; nothing is written")
    wanted = parser.parse_args().names
    if not (TOOLS / "bin" / "ptxas").exists():
        sys.exit("NVIDIA's assembler is missing. Install the extra: pip install '.[gpu-check]'.")
    jax.config.update("jax_enable_x64", True)
    jax.devices()
    where = target()
    jax.default_backend = lambda: "gpu"  # what depends on the backend, as on a GPU
    found: dict[str, Any] = {}
    for dtype in (jnp.float64, jnp.float32):
        # In single precision constants of a model are so, too.
        jax.config.update("jax_enable_x64", dtype == jnp.float64)
        for name, function, shapes in programs(dtype):
            if wanted and not any(word in name for word in wanted):
                continue
            result = compiled(function, shapes, where)
            found.setdefault(name, {})[jnp.dtype(dtype).name] = result
            loops = ", ".join(f"{'  ' * loop['depth']}{loop['total']}" for loop in result["loops"])
            print(
                f"{name}, {jnp.dtype(dtype).name}: {result['compile_s']} s, launches {loops}; "
                f"{result['atomic_operations']} atomic operations",
                file=sys.stderr,
            )
    if not wanted:
        jax.default_backend = lambda: "cpu"
        os.environ["XLA_FLAGS"] = ""
        record.write("gpu", {"target": "NVIDIA H200", "lanes": LANES, "programs": found}, about="compilation")


if __name__ == "__main__":
    main()
