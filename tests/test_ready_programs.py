"""Programs that another process calls without tracing them: what decides one is in its name."""

import enum
import functools
import hashlib
import json
import os
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import nrjax
from nrjax._numerics import ready_programs
from nrjax._numerics.cpu_options import alone_options, brief_options, lanes_options
from nrjax._numerics.programs import SharedProgram
from nrjax._numerics.ready_programs import Programs, kept
from nrjax.cli.ahead import DoneAhead
from nrjax.motion.phases import Phase

# Steady states (several programs, one compiled ahead) and a linewidth (which calls LAPACK), and what was traced.
STATES = """
import hashlib, json, sys, jax
jax.config.update("jax_enable_x64", True)
traced = []
jax.monitoring.register_event_duration_secs_listener(
    lambda name, seconds, **more: traced.append(more.get("fun_name")) if "trace" in name else None
)
import jax.numpy as jnp, numpy as np, nrjax
nrjax.keep_compiled_programs(sys.argv[1])
many = jax.vmap(lambda loss: nrjax.hanai2025_bilayer(loss, 6.0))(jnp.linspace(0.01, 0.1, 16))
states, width = nrjax.steady_states(many), nrjax.linewidth(nrjax.hanai2025_bilayer(0.05, 6.0), 1e6)
digest = hashlib.sha256()
for leaf in jax.tree.leaves((states, width)):
    digest.update(np.asarray(leaf).tobytes())
wanted = ("_settle_each", "_tell_each", "_noise")
print(json.dumps([digest.hexdigest(), [name for name in wanted if any(name in str(one) for one in traced)]]))
"""

# A line of points where programs are kept.
LINE = """
import sys, jax
jax.config.update("jax_enable_x64", True)
import numpy as np, nrjax
nrjax.keep_compiled_programs(sys.argv[1])
line = nrjax.sweep(nrjax.hanai2025_bilayer, {"loss_rate": np.linspace(0.0, 0.12, 40)}, progress=False)
line.to_netcdf(sys.argv[1] + "/line.nc", engine="h5netcdf")
"""

# A sheet after its rehearsal: how many programs were kept, how many more the sheet took, and what must be in it.
SHEET = """
import json, sys, jax
jax.config.update("jax_enable_x64", True)
import numpy as np, nrjax, xarray as xr
from nrjax.inverse.sheet import rehearsal_of_sheet
folder = nrjax.keep_compiled_programs(sys.argv[1]) / "ready"
bounds = {"intensity": (1e10, 6e10), "photon_energy": (1400.0, 1700.0)}
magnet = nrjax.illuminated_bilayer()
state = nrjax.steady_state(magnet)
alone = set(folder.iterdir())
for task in rehearsal_of_sheet(nrjax.illuminated_bilayer, bounds):
    task()
rehearsed = set(folder.iterdir())
result = nrjax.DesignResult(
    {"intensity": 2.65e10, "photon_energy": 1550.0}, 40.0, float(state.chase_frequency), 0.0, True, True, "", {},
    {"intensity": 1.0, "photon_energy": 1.0}, 0.0, {}, state, np.ones(1), xr.Dataset(),
)
print(nrjax.design_sheet(result, nrjax.illuminated_bilayer, bounds))
more = set(folder.iterdir()) - rehearsed
expected = [str(nrjax.spatial_stability(magnet, state=state)), str(nrjax.linewidth(magnet, state=state)), str(state)]
print(json.dumps([len(rehearsed - alone), len(more), expected]))
"""


@pytest.fixture
def folder(tmp_path):
    ready_programs.keep_in(tmp_path / "ready")
    yield tmp_path / "ready"
    ready_programs.keep_in(None)


def names(folder) -> set[str]:
    return {path.name for path in folder.glob("*")}


@pytest.fixture
def no_compiler(monkeypatch):
    """From when it is called on, a program that is not kept is an error."""

    def never(*arguments):
        raise AssertionError("compiled")

    return lambda: monkeypatch.setattr(Programs, "_made", never)


def test_a_second_process_traces_nothing_that_is_kept(tmp_path):
    environment = os.environ | {"EQX_ON_ERROR": "off", "JAX_ENABLE_COMPILATION_CACHE": "true"}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    told = []
    for _ in range(2):
        command = [sys.executable, "-c", STATES, str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=250)
        assert done.returncode == 0, done.stderr[-2000:]
        told.append(json.loads(done.stdout))
    (first, traced), (second, again) = told
    assert first == second and traced == ["_settle_each", "_tell_each", "_noise"] and again == []


def test_what_is_kept_is_loaded_and_does_the_same(folder, no_compiler):
    x = jnp.asarray([4.0, 9.0, 0.0])
    np.testing.assert_array_equal(kept(jnp.sqrt)(x), [2.0, 3.0, 0.0])
    assert len(names(folder)) == 1
    no_compiler()
    np.testing.assert_array_equal(kept(jnp.sqrt)(x + 7.0), np.sqrt([11.0, 16.0, 7.0]))


def test_each_thing_that_decides_a_program_is_in_its_name(folder, monkeypatch):
    """Function, shapes, types, numbers that are no arrays, what it is bound to, the source of nrjax, settings."""
    x = jnp.asarray([4.0, 9.0])

    def files_more(call) -> int:
        before = names(folder)
        call()
        return len(names(folder) - before)

    power = functools.partial(jnp.tensordot, axes=1)
    assert files_more(lambda: kept(jnp.sqrt)(x)) == 1
    assert files_more(lambda: kept(jnp.sqrt)(2.0 * x)) == 0
    assert files_more(lambda: kept(jnp.sqrt)(x[:1])) == 1
    assert files_more(lambda: kept(jnp.sqrt)(x.astype(jnp.float32))) == 1
    assert files_more(lambda: kept(jnp.square)(x)) == 1
    assert files_more(lambda: kept(power)(x, x)) == 1
    assert files_more(lambda: kept(functools.partial(jnp.tensordot, axes=0))(x, x)) == 1
    assert files_more(lambda: kept(jnp.tensordot)(x, x, axes=0)) == 1
    assert files_more(lambda: kept(jnp.tensordot)(x, x, axes=1)) == 1
    with jax.default_matmul_precision("highest"):
        assert files_more(lambda: kept(power)(x, x)) == 1
    monkeypatch.setattr(ready_programs, "code_digest", lambda: b"another")
    assert files_more(lambda: kept(jnp.sqrt)(x)) == 1


def test_the_structure_of_a_model_decides_its_program(folder):
    """Equal shapes, and another bath: another program."""
    find = Programs(jnp.sqrt)
    quantum = nrjax.hanai2025_bilayer(0.05, 6.0)
    classical = nrjax.hanai2025_bilayer(0.05, 6.0, bath=nrjax.ClassicalBath())
    paths = [find._name(*_parts(magnet)) for magnet in (quantum, classical, nrjax.hanai2025_bilayer(0.04, 7.0))]
    assert paths[0] == paths[2] != paths[1]


def _parts(magnet):
    arrays, structure = jax.tree.flatten(((magnet,), {}))
    return structure, arrays, None


class Colour(enum.Enum):
    RED = 1


def test_nothing_is_kept_of_what_another_process_cannot_know(folder):
    """A function of the user's, also where it is enclosed; and the result is right all the same."""

    def mine(x):
        return 2.0 * x

    @functools.wraps(jnp.sqrt)
    def disguised(x):
        return 3.0 * x

    ruled = jax.custom_jvp(jnp.sqrt)
    ruled.defjvp(lambda primals, tangents: (jnp.sqrt(*primals), mine(*tangents)))
    x = jnp.asarray([1.0, 2.0])
    np.testing.assert_array_equal(kept(mine)(x), [2.0, 4.0])
    np.testing.assert_array_equal(kept(disguised)(x), [3.0, 6.0])
    np.testing.assert_array_equal(kept(jax.tree.map)(mine, x), [2.0, 4.0])
    for unknown in (mine, disguised, ruled, functools.partial(map, mine), Colour.RED, object()):
        with pytest.raises(ready_programs.UnknownOrigin):
            Programs(jnp.sqrt)._name(*_parts(x)[:2], unknown)
    # It is the unknown thing that is refused.
    assert Programs(jnp.sqrt)._name(*_parts(x)[:2], (jax.custom_jvp(jnp.sqrt), functools.partial(map, jnp.sqrt)))
    assert names(folder) == set()


def test_a_program_that_calls_back_is_not_kept(folder, capfd):
    kept(jax.debug.print)("it is {}", jnp.asarray(3.0))
    jax.effects_barrier()
    assert "it is 3.0" in capfd.readouterr().out and names(folder) == set()
    assert ready_programs._is_linked("lapack_dgetrf_ffi")
    assert not ready_programs._is_linked("xla_ffi_python_cpu_callback")


def test_a_rehearsal_leaves_a_sheet_nothing_to_compile(tmp_path):
    """Whatever `design_sheet` needs for a chase is there when all of its rehearsal is done, and numbers are its own."""
    done = subprocess.run([sys.executable, "-c", SHEET, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *sheet, told = done.stdout.splitlines()
    kept_programs, of_sheet, expected = json.loads(told)
    assert kept_programs > 4 and of_sheet == 0
    assert all(any(text in line for line in sheet) for text in expected)


def test_tasks_ahead_end_with_what_they_are_for():
    """One that fails is forgotten, those not begun when the block ends are left out, and the thread with them."""
    begun, go, done = threading.Event(), threading.Event(), []

    def wait() -> None:
        begun.set()
        assert go.wait(60.0)

    with pytest.raises(ValueError, match="refused"), DoneAhead([wait, lambda: done.append(1)]):
        assert begun.wait(60.0)
        threading.Timer(0.2, go.set).start()
        raise ValueError("refused")
    assert not done
    with DoneAhead([lambda: done.append(1), lambda: 1 / 0, lambda: done.append(2)]) as ahead:
        ahead.wait()
        assert done == [1, 2]


def test_a_damaged_program_is_compiled_and_replaced(folder):
    x = jnp.asarray([4.0, 9.0])
    kept(jnp.sqrt)(x)
    (path,) = folder.glob("*")
    whole = path.read_bytes()
    middle = len(whole) // 2
    wrong_digest, wrong_program = (whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :] for i in (0, middle))
    for damaged in (whole[:100], b"", wrong_digest, wrong_program):
        path.write_bytes(damaged)
        np.testing.assert_array_equal(kept(jnp.sqrt)(x), [2.0, 3.0])
        replaced = path.read_bytes()
        assert replaced != damaged and hashlib.sha256(replaced[32:]).digest() == replaced[:32]


def test_under_transformations_it_is_the_function(folder):
    root = kept(jnp.sqrt)
    x = jnp.asarray([4.0, 9.0])
    np.testing.assert_allclose(jax.grad(lambda x: root(x).sum())(x), [0.25, 1.0 / 6.0])
    np.testing.assert_array_equal(jax.vmap(root)(x), [2.0, 3.0])
    np.testing.assert_array_equal(jax.jit(lambda: root(jnp.asarray([16.0])))(), [4.0])
    assert names(folder) == set()


def test_programs_of_few_numbers_are_ready_soon(folder, monkeypatch):
    """With options of XLA's own, which it knows; of more numbers with those that are given, and the rest without."""
    asked = []

    def noting(options):
        return lambda: asked.append(options.__name__) or options()

    monkeypatch.setattr(ready_programs, "brief_options", noting(brief_options))
    few, many = jnp.linspace(1.0, 2.0, 8), jnp.linspace(1.0, 2.0, 9)
    for function, x in ((kept(jnp.sqrt), few), (kept(jnp.sqrt, brief=8), many)):
        np.testing.assert_allclose(function(x), np.sqrt(x), rtol=1e-15)
        assert not asked
    np.testing.assert_allclose(kept(jnp.cbrt, brief=8, options=noting(alone_options))(few), np.cbrt(few), rtol=1e-15)
    assert asked == ["brief_options"]
    np.testing.assert_allclose(kept(jnp.cbrt, brief=8, options=noting(lanes_options))(many), np.cbrt(many), rtol=1e-15)
    assert asked == ["brief_options", "lanes_options"] and len(names(folder)) == 4
    np.testing.assert_allclose(kept(jnp.square, options=noting(alone_options))(few), np.square(few), rtol=1e-15)
    assert asked[2:] == ["alone_options"]


def test_on_suspicion_only_what_is_soon_compiled_is(folder):
    program, one = SharedProgram(jnp.sqrt, brief=8), jax.ShapeDtypeStruct((8,), jnp.float32)
    program.compile_ahead(jax.ShapeDtypeStruct((9,), one.dtype), if_brief=True)
    ready_programs.keep_in(None)
    program.compile_ahead(one, if_brief=True)
    assert not folder.exists() and not program._begun
    ready_programs.keep_in(folder)
    program.compile_ahead(one, if_brief=True)
    with program._lock:
        assert len(names(folder)) == 1


def test_lines_are_the_same_where_programs_are_kept(tmp_path):
    """Their programs are narrower then, and made in more haste: results change by rounding alone."""
    usual = nrjax.sweep(nrjax.hanai2025_bilayer, {"loss_rate": np.linspace(0.0, 0.12, 40)}, progress=False)
    assert {Phase.CHIRAL, Phase.ALIGNED} <= set(usual["phase"].values)
    subprocess.run([sys.executable, "-c", LINE, str(tmp_path)], check=True)
    assert len(list((tmp_path / "ready").iterdir())) > 3
    with xr.open_dataset(tmp_path / "line.nc") as hasty:
        for name, values in usual.data_vars.items():
            scale = 1e-9 * float(np.nanmax(np.abs(values)))
            np.testing.assert_allclose(hasty[name], values, rtol=1e-9, atol=scale, err_msg=name)


def test_a_shared_program_is_kept(folder, no_compiler):
    x = jnp.linspace(1.0, 2.0, 8)
    np.testing.assert_array_equal(SharedProgram(jnp.sqrt)(x), jnp.sqrt(x))
    no_compiler()
    program = SharedProgram(jnp.sqrt)
    program.compile_ahead(jax.ShapeDtypeStruct(x.shape, x.dtype))
    np.testing.assert_array_equal(program(x), jnp.sqrt(x))
    assert program.programs() == 0


def test_the_least_used_programs_go_first(tmp_path, monkeypatch):
    from nrjax._numerics import program_cache

    monkeypatch.setattr(program_cache, "LARGEST", 60)
    for age, name in enumerate("abc"):
        (tmp_path / name).write_bytes(bytes(15))
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    program_cache._remove_oldest(tmp_path)
    assert names(tmp_path) == {"a", "b"}
