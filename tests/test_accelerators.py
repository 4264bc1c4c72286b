"""What can be known of an accelerator without one: programs for many lanes lower for it, call nothing back on the host,
and multiply matrices in full precision."""

import concurrent.futures
import re

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

import nrjax
from nrjax._numerics import programs
from nrjax.inverse import laser_design
from nrjax.maps import sweeps
from nrjax.motion import integration

LANES = 4
LOSSES = jnp.linspace(0.02, 0.09, LANES)


def in_type(tree, dtype):
    return jax.tree.map(lambda x: x.astype(dtype) if eqx.is_inexact_array(x) else x, tree)


def bilayers():
    return jax.vmap(lambda loss: nrjax.hanai2025_bilayer(loss, 6.0))(LOSSES)


def chase(magnets):
    return nrjax.steady_states(magnets).chase_frequency.sum()


def trajectories(models, rtol):
    arrays, static = eqx.partition(models, eqx.is_array)
    solve = integration._batch_solver(static, 1000)
    dtype = models.exchange.dtype
    start = jnp.broadcast_to(jnp.asarray([[0.1, 0.0, 0.8], [0.0, 0.1, 0.6]], dtype), (LANES, 2, 3))
    return solve(arrays, start, jnp.full(LANES, 10.0, dtype), None, rtol)


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
    assert sweeps._default_tile(10**7) == sweeps.CPU_TILE and integration._default_tile(10**6) == 256
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert sweeps._default_tile(10**7) == 1 << 20 and integration._default_tile(10**6) == 1 << 16
    assert sweeps._default_tile(1000) == 1024


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
