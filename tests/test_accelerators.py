"""What can be known of an accelerator without one: programs for many lanes lower for it, call nothing back on the host,
multiply matrices in full precision, and never write from two lanes to one place."""

import concurrent.futures
import os
import re
import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nrjax
from nrjax._numerics import programs
from nrjax._numerics.tiles import run_tiles
from nrjax.inverse import laser_design
from nrjax.maps import sweeps
from nrjax.motion import trajectory_batches

LANES = 4
LOSSES = jnp.linspace(0.02, 0.09, LANES)


def in_type(tree, dtype):
    return jax.tree.map(lambda x: x.astype(dtype) if eqx.is_inexact_array(x) else x, tree)


def bilayers():
    return jax.vmap(lambda loss: nrjax.hanai2025_bilayer(loss, 6.0))(LOSSES)


def chase(magnets):
    return nrjax.steady_states(magnets).chase_frequency.sum()


def trajectories(models, rtol):
    frame, arrays = trajectory_batches._framed(models)
    dtype = models.exchange.dtype
    start = jnp.broadcast_to(jnp.asarray([[0.1, 0.0, 0.8], [0.0, 0.1, 0.6]], dtype), (LANES, 2, 3))
    solve = trajectory_batches._batch_solver(frame, 1000, True)
    return solve((*arrays, start, jnp.full(LANES, 10.0, dtype)), None, rtol)


def lit(intensity):
    return nrjax.steady_states(jax.vmap(nrjax.illuminated_bilayer)(intensity)).rotation_frequency


PROGRAMS = {
    "steady states": (nrjax.steady_states, (bilayers(),)),
    "their derivatives": (jax.grad(chase), (bilayers(),)),
    "from the laser on": (lit, (jnp.linspace(1e10, 5e10, LANES),)),
    "trajectories": (trajectories, (bilayers(), jnp.full(2, 1e-5))),
}


def lowered(function, arguments) -> str:
    """The program for an NVIDIA GPU; refused by JAX where it calls back."""
    return jax.jit(function).trace(*arguments).lower(lowering_platforms=("cuda",)).as_text()


def require_fit(text: str):
    assert "callback" not in text
    for product in re.findall(r"dot_general.*", text):
        assert "HIGHEST" in product, product
    for scattered in re.findall(r"stablehlo.scatter.*", text):
        assert "unique_indices = true" in scattered, scattered


@pytest.mark.parametrize("dtype", [pytest.param(jnp.float64, marks=pytest.mark.long), jnp.float32])
@pytest.mark.parametrize(
    "name", [name if name == "steady states" else pytest.param(name, marks=pytest.mark.long) for name in PROGRAMS]
)
def test_programs_of_many_lanes_lower_for_a_gpu(name, dtype):
    function, arguments = PROGRAMS[name]
    require_fit(lowered(function, in_type(arguments, dtype)))


@pytest.mark.long
def test_a_step_of_a_design_lowers_for_a_gpu(monkeypatch):
    seen = []

    def kept(*arguments):
        seen.append(arguments)
        raise InterruptedError

    monkeypatch.setattr(laser_design, "take_steps", kept)
    with pytest.raises(InterruptedError):
        bounds = {"intensity": (0.0, 6e10)}
        nrjax.design(nrjax.illuminated_bilayer, {"intensity": 2e10}, 40.0, bounds=bounds, progress=False)
    arrays, rest = eqx.partition(seen[0], eqx.is_array)
    monkeypatch.undo()
    require_fit(lowered(lambda arrays: laser_design.take_steps(*eqx.combine(arrays, rest)), (arrays,)))


def test_tiles_fill_an_accelerator(monkeypatch):
    """Where there is one; a CPU gets few lanes at a time."""
    assert sweeps.default_tile(10**7) == sweeps.LARGE_CPU_TILE and trajectory_batches._default_tile(10**6) == 64
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert sweeps.default_tile(10**7) == 1 << 20
    # Equal parts of 2^18 at most, which up to 16 devices can share.
    assert [trajectory_batches._default_tile(n) for n in (9, 2**18, 2**18 + 1)] == [9, 2**18, 33 * 2**12]
    assert sweeps.default_tile(1000) == 1024


def test_a_shared_program_is_compiled_once_whoever_asks():
    """Compiled ahead for shapes, then called with numbers from several threads."""
    counted = []
    program = programs.SharedProgram(lambda x: counted.append(1) or jnp.sin(x) * 3.0)
    x = jnp.linspace(0.0, 1.0, 64)
    program.compile_ahead(jax.ShapeDtypeStruct(x.shape, x.dtype))
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for y in pool.map(program, [x] * 8):
            assert jnp.allclose(y, jnp.sin(x) * 3.0)
    assert len(counted) == 1 and program.programs() == 1


def test_a_tile_without_memory_is_halved_and_none_lost():
    sizes = []

    def scarce(part):
        sizes.append(part["x"].size)
        if part["x"].size > 4:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 8 GiB.")
        return {"y": part["x"] ** 2}

    lanes = {"x": np.arange(21.0)}
    found = run_tiles(scarce, lanes, 11, threads=1, progress=False)
    np.testing.assert_array_equal(found["y"], lanes["x"] ** 2)
    assert sizes == [11, 5, 2, 3, 6, 3, 3] * 2

    def broken(part):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        run_tiles(broken, lanes, 16, threads=1, progress=False)


# Four devices, then the first of them alone: every bit of every observable must be the same.
SEVERAL = """
import jax, jax.numpy as jnp, numpy as np, nrjax
jax.config.update("jax_enable_x64", True)
devices = jax.local_devices()
assert len(devices) == 4
used = set()
whole = jax.shard_map
def watched(function, *, mesh, **options):
    used.add(mesh.size)
    return whole(function, mesh=mesh, **options)
jax.shard_map = watched
axes = {"loss_rate": np.linspace(0.0, 0.12, 70), "interlayer_exchange": np.linspace(0.0, 12.0, 60)}
magnets = jax.vmap(lambda g: nrjax.hanai2025_bilayer(g, 6.0))(jnp.linspace(0.0, 0.1, 64))
def results():
    full = nrjax.sweep(nrjax.hanai2025_bilayer, axes, progress=False)
    refined = nrjax.sweep(nrjax.hanai2025_bilayer, axes, refine=True, progress=False)
    moved = nrjax.simulate_many(magnets, [[0.1, 0.0, 0.8], [0.0, 0.1, 0.5]], 5.0, tile=64, progress=False)
    return full, refined, moved.ms
spread = results()
assert used == {4}, used
jax.local_devices = lambda: devices[:1]
alone = results()
assert used == {4}
for one, other in zip(spread[:2], alone[:2]):
    for name in one.data_vars:
        np.testing.assert_array_equal(one[name].values, other[name].values, err_msg=name)
np.testing.assert_allclose(spread[2], alone[2], rtol=0.0, atol=1e-12)
print("the same")
"""


@pytest.mark.computes
def test_devices_share_every_tile_and_change_no_bit():
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    ran = subprocess.run([sys.executable, "-c", SEVERAL], env=environment, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0 and ran.stdout.strip() == "the same", ran.stderr[-2000:]


CHOSEN = """
import jax, jax.numpy as jnp, numpy as np
from nrjax._numerics.programs import SharedProgram
from nrjax._numerics.tiles import run_tiles
devices, seen = jax.local_devices(), []
program = SharedProgram(jnp.sin)
def work(part):
    seen.append(program(part).devices())
    return part
def devices_of_tiles():
    seen.clear()
    run_tiles(work, np.arange(256.0), 128, progress=False)
    return seen
assert devices_of_tiles() == [set(devices)] * 2, seen
with jax.default_device(devices[2]):
    assert devices_of_tiles() == [{devices[2]}] * 2, seen
    program.compile_ahead(jnp.zeros(64))
    assert program(jnp.zeros(64)).devices() == {devices[2]}
print("there")
"""


def test_tiles_are_computed_on_the_device_that_is_chosen():
    """`jax.default_device` holds in this thread; tiles are computed in others."""
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    ran = subprocess.run([sys.executable, "-c", CHOSEN], env=environment, capture_output=True, text=True, timeout=100)
    assert ran.returncode == 0 and ran.stdout.strip() == "there", ran.stderr[-2000:]
