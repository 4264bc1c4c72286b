import concurrent.futures
import io
import json
import signal
import subprocess
import sys
import time
from functools import partial
from typing import Any

import filelock
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from nrjax import (
    AbstractObservable,
    LayeredMagnet,
    Phase,
    exposure,
    hanai2025_bilayer,
    illuminated_bilayer,
    steady_state,
    sweep,
)
from nrjax._numerics.files import atomic
from nrjax.maps.zarr_layout import DONE, open_group, status
from nrjax.rotation import RESULTS, shape_solver
from nrjax.rotation.observables import OF_EVERY_STATE
from tests.refusal import assert_refused


def programs_of_states() -> int:
    """How many programs have been compiled to find steady states in batches."""
    kinds = (shape_solver._settle_all, shape_solver._watch_all, shape_solver._tell_all)
    return sum(kind.programs() for kind in kinds)


AXES = {"loss_rate": np.linspace(0.0, 0.12, 13), "interlayer_exchange": np.linspace(0.5, 12.0, 9)}


def test_every_point_is_the_steady_state():
    dataset = sweep(hanai2025_bilayer, AXES, progress=False)
    assert set(OF_EVERY_STATE) == set(dataset.data_vars)
    assert dataset["phase"].shape == (13, 9) and dataset["lengths"].dims == (*AXES, "layer")
    assert dataset["phase"].dtype == np.int8
    for i, j in ((0, 0), (5, 4), (12, 8), (3, 7)):
        state = steady_state(hanai2025_bilayer(AXES["loss_rate"][i], AXES["interlayer_exchange"][j]))
        point = dataset.isel(loss_rate=i, interlayer_exchange=j)
        assert int(point["phase"]) == int(state.phase)
        for name in ("lengths", "angle", "chase_frequency", "rotation_frequency", "growth_rate"):
            np.testing.assert_allclose(point[name], getattr(state, name), rtol=1e-9, atol=1e-12)


def test_metadata():
    dataset = sweep(hanai2025_bilayer, {"loss_rate": [0.0, 0.05]}, progress=False)
    assert dataset["chase_frequency"].attrs["units"] == "GHz" and dataset["growth_rate"].attrs["units"] == "meV"
    flags = dict(
        zip(dataset["phase"].attrs["flag_meanings"].split(), dataset["phase"].attrs["flag_values"], strict=True)
    )
    assert flags == {phase.name.lower(): phase.value for phase in Phase}
    assert set(dataset["result"].attrs["flag_meanings"].split()) == set(RESULTS._name_to_item)
    assert dataset.attrs["dtype"] == "float64" and dataset.attrs["nrjax_version"]
    assert dataset["loss_rate"].attrs["units"] == "meV"


def test_a_sweep_compiles_once():
    traces = []

    def build(temperature):
        traces.append(1)
        return hanai2025_bilayer(0.05, 6.0, temperature=temperature)

    axes = {"temperature": np.linspace(7.0, 11.0, 50)}
    sweep(build, axes, tile=20, progress=False)
    first = len(traces)
    # One build for each corner of the grid and its middle, which checks the values; one trace to tell what is computed;
    # one to compile it, which a second sweep does not need.
    assert first == 2 + 1 + 1 + 1
    sweep(build, axes, tile=20, progress=False)
    assert len(traces) == first + 2 + 1 + 1


def test_another_function_shares_the_program_of_the_steady_states():
    axes = {"temperature": np.linspace(7.0, 11.0, 50)}
    programs = []
    for exchange in (6.0, 7.0):
        sweep(lambda temperature, j=exchange: hanai2025_bilayer(0.05, j, temperature=temperature), axes, progress=False)
        programs.append(programs_of_states())
    sweep(hanai2025_bilayer, AXES, progress=False)
    programs.append(programs_of_states())
    assert programs[0] > 0 and programs == [programs[0]] * 3


@pytest.mark.computes
def test_tiling_and_executors_change_nothing():
    """Every bit, wherever a point lies in a tile, and whatever lies beside it."""
    axes = {"loss_rate": np.linspace(0.0, 0.12, 81), "interlayer_exchange": np.linspace(0.0, 13.0, 33)}
    whole = sweep(hanai2025_bilayer, axes, progress=False)
    ways: list[dict[str, Any]] = [
        {"tile": 50},
        {"tile": 200, "executor": concurrent.futures.ThreadPoolExecutor(1)},
        {"tile": 4096},
    ]
    for options in ways:
        parts = sweep(hanai2025_bilayer, axes, progress=False, **options)
        for name in OF_EVERY_STATE:
            np.testing.assert_array_equal(parts[name], whole[name])


def test_own_observables_and_three_axes():
    axes = {"loss_rate": [0.0, 0.05], "temperature": [8.0, 9.0, 10.0], "interlayer_exchange": [6.0]}
    dataset = sweep(
        hanai2025_bilayer, axes, observe=lambda m: {"rates": m.linear_rates(jnp.zeros((2, 3)))}, progress=False
    )
    assert dataset["rates"].dims == (*axes, "rates_0", "rates_1")
    expected = hanai2025_bilayer(0.05, 6.0, temperature=9.0).linear_rates(jnp.zeros((2, 3)))
    np.testing.assert_allclose(dataset["rates"].values[1, 1, 0], expected)
    trace = sweep(
        hanai2025_bilayer, axes, observe=lambda m: jnp.trace(m.linear_rates(jnp.zeros((2, 3)))), progress=False
    )
    np.testing.assert_allclose(trace["value"].values[1, 1, 0], jnp.trace(expected))


def test_a_bad_point_is_flagged_and_spoils_no_other():
    def build(loss_rate):
        return hanai2025_bilayer(jnp.where(jnp.abs(loss_rate - 0.05) < 1e-9, jnp.nan, loss_rate), 6.0)

    dataset = sweep(build, {"loss_rate": np.array([0.0, 0.03, 0.05, 0.1])}, progress=False)
    np.testing.assert_array_equal(dataset["valid"], [True, True, False, True])
    assert int(dataset["phase"][2]) == Phase.UNRESOLVED and int(dataset["result"][2]) == 4
    healthy = sweep(hanai2025_bilayer, {"loss_rate": [0.0, 0.03, 0.1], "interlayer_exchange": [6.0]}, progress=False)
    # Two compiled programs round differently; to rounding they are the same.
    np.testing.assert_allclose(
        dataset["chase_frequency"].values[[0, 1, 3]], healthy["chase_frequency"].values[:, 0], rtol=1e-12
    )


class NetMoment(AbstractObservable):
    """|m_A + m_B|."""

    name: str = "net_moment"
    unit: str = "1"
    long_name: str = "length of the total moment"

    def __call__(self, model, state):
        return jnp.sqrt(jnp.sum(jnp.sum(state.m, axis=0) ** 2))


class HalfAngle(AbstractObservable):
    """Has the name of another one."""

    name: str = "angle"
    unit: str = "rad"
    long_name: str = "half of the angle"

    def __call__(self, model, state):
        return 0.5 * state.angle


def test_observables_by_name_and_by_class():
    """What is asked for and nothing else, each by its own function, of the lit magnet where it needs one."""
    axes = {"intensity": [1e10, 2.65e10]}
    build = illuminated_bilayer
    asked = ["phase", "absorbed_power", NetMoment(), HalfAngle()]
    dataset = sweep(build, axes, observe=asked, progress=False)
    assert list(dataset.data_vars) == ["phase", "absorbed_power", "net_moment", "angle"]
    assert dataset.absorbed_power.dims == ("intensity", "layer") and dataset.absorbed_power.attrs["units"] == "nW"
    assert dataset.net_moment.attrs["long_name"] == "length of the total moment"
    for i, intensity in enumerate(axes["intensity"]):
        magnet = build(intensity)
        state = steady_state(magnet)
        np.testing.assert_allclose(dataset.absorbed_power[i], exposure(magnet, state.m).absorbed_power, rtol=1e-9)
        np.testing.assert_allclose(dataset.net_moment[i], np.linalg.norm(np.sum(state.m, axis=0)), rtol=1e-9)
        np.testing.assert_allclose(dataset.angle[i], 0.5 * float(state.angle), atol=1e-12)
    assert_refused(lambda: sweep(build, axes, observe="colour"), ["'colour'", "chase_frequency", "AbstractObservable"])
    assert_refused(lambda: sweep(build, axes, observe=["angle", HalfAngle()]), ["angle, angle", "each name"])
    dark = {"loss_rate": [0.0]}
    assert_refused(
        lambda: sweep(hanai2025_bilayer, dark, observe="absorbed_power"), ["absorbed_power", "LayeredMagnet"]
    )


def test_a_function_that_would_raise_flags_instead():
    """The front door itself, told not to raise, gives the default Dataset."""
    axes = {"loss_rate": [0.05, 0.06, 0.07]}

    def build(loss_rate):
        return hanai2025_bilayer(jnp.where(loss_rate == 0.06, jnp.nan, loss_rate), 6.0)

    default, same = (sweep(build, axes, observe=f, progress=False) for f in (OF_EVERY_STATE, steady_state))
    assert set(default.data_vars) == set(same.data_vars)
    np.testing.assert_array_equal(default.phase, same.phase)
    assert default.phase.values.tolist() == [Phase.CHIRAL, Phase.UNRESOLVED, Phase.CHIRAL]
    np.testing.assert_allclose(same.angle[::2], default.angle[::2], rtol=1e-9)


def test_interrupted_sweep_resumes(tmp_path):
    store = tmp_path / "map.nc"

    class Interrupting(concurrent.futures.ThreadPoolExecutor):
        """The fourth tile is interrupted, after the fifth and the sixth have been computed."""

        sent = 0

        def submit(self, fn, /, *args, **kwargs):
            self.sent += 1
            if self.sent == 4:
                return super().submit(self.interrupt)
            future = super().submit(fn, *args)
            if self.sent == 6:
                concurrent.futures.wait([future])
            return future

        @staticmethod
        def interrupt():
            raise KeyboardInterrupt

    with Interrupting(1) as executor, pytest.raises(KeyboardInterrupt):
        sweep(hanai2025_bilayer, AXES, tile=20, store=store, executor=executor, progress=False)
    finished = sorted((tmp_path / "map.nc.parts").iterdir())
    # The seventh may have begun before the interrupt was seen.
    assert not store.exists() and len(finished) in (5, 6)
    # What is finished is read, not computed: a mark in it is found again.
    marked = dict(np.load(finished[1]))
    kept = marked["angle"].copy()
    marked["angle"][7] = 0.125
    np.savez(finished[1], **marked)
    dataset = sweep(hanai2025_bilayer, AXES, tile=20, store=store, progress=False)
    assert dataset["angle"].values.ravel()[25] == 0.125
    dataset["angle"].values.ravel()[25] = kept[7]
    assert store.exists() and not (tmp_path / "map.nc.parts").exists()
    whole = sweep(hanai2025_bilayer, AXES, tile=20, progress=False)
    xr.testing.assert_equal(dataset, whole)
    # A finished store is read, not computed; another sweep does not overwrite it.
    again = sweep(hanai2025_bilayer, AXES, tile=20, store=store, progress=False)
    assert float(again["angle"].values.ravel()[25]) == 0.125
    with pytest.raises(ValueError, match="other input"):
        sweep(hanai2025_bilayer, {"loss_rate": [0.0, 0.1]}, store=store, progress=False)
    moved = AXES | {"loss_rate": AXES["loss_rate"] + 1e-6}
    with pytest.raises(ValueError, match="other input"):
        sweep(hanai2025_bilayer, moved, tile=20, store=store, progress=False)
    colder = partial(hanai2025_bilayer, temperature=8.0)
    with pytest.raises(ValueError, match=r"temperature = \[9.0, 9.0\] \(here \[8.0, 8.0\]\)"):
        sweep(colder, AXES, tile=20, store=store, progress=False)
    other = sweep(hanai2025_bilayer, {"loss_rate": [0.0, 0.1]}, store=store, resume=False, progress=False)
    with xr.open_dataset(store, engine="h5netcdf") as stored:
        np.testing.assert_array_equal(stored["phase"], other["phase"])


def test_a_damaged_tile_is_noticed_and_a_store_is_for_one_process(tmp_path):
    store = tmp_path / "map.nc"

    class Full(concurrent.futures.ThreadPoolExecutor):
        """A fourth tile does not fit on the disk."""

        def __init__(self):
            super().__init__(1)
            self.sent = []

        def submit(self, fn, /, *args, **kwargs):
            if len(self.sent) == 3:
                concurrent.futures.wait(self.sent)
                raise OSError(28, "No space left on device")
            self.sent.append(super().submit(fn, *args))
            return self.sent[-1]

    with Full() as executor, pytest.raises(OSError, match="No space left"):
        sweep(hanai2025_bilayer, AXES, tile=20, store=store, executor=executor, progress=False)
    cut, changed, whole = sorted((tmp_path / "map.nc.parts").iterdir())
    cut.write_bytes(cut.read_bytes()[:-100])
    content = bytearray(changed.read_bytes())
    content[len(content) // 2] ^= 1
    changed.write_bytes(content)
    with filelock.FileLock(tmp_path / "map.nc.lock"):
        assert_refused(
            lambda: sweep(hanai2025_bilayer, AXES, tile=20, store=store, progress=False), ["map.nc", "another process"]
        )
    assert whole.exists()
    with pytest.warns(UserWarning, match="is damaged .* computed again") as told:
        dataset = sweep(hanai2025_bilayer, AXES, tile=20, store=store, progress=False)
    assert len(told) == 2 and [path.name for path in tmp_path.iterdir()] == ["map.nc"]
    xr.testing.assert_equal(dataset, sweep(hanai2025_bilayer, AXES, tile=20, progress=False))


KILLED = """
import os, signal, sys
import jax
jax.config.update("jax_enable_x64", True)
import numpy as np
import nrjax
from nrjax.maps.store import Memory
from nrjax.maps.zarr_store import ZarrStore

counted = []
def watch(store):
    keep = store.keep
    def kept(self, index, values):
        keep(self, index, values)
        counted.append(index)
        if index == 2 and sys.argv[2] == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
    store.keep = kept
watch(Memory)
watch(ZarrStore)
axes = {"loss_rate": np.linspace(0.0, 0.12, 13), "interlayer_exchange": np.linspace(0.0, 12.0, 9)}
nrjax.sweep(nrjax.hanai2025_bilayer, axes, tile=20, store=sys.argv[1], progress=False)
print(*counted)
"""


@pytest.mark.computes
@pytest.mark.parametrize("ending", [pytest.param("nc", marks=pytest.mark.long), "zarr"])
def test_a_sweep_that_is_killed_goes_on_where_it_stopped(tmp_path, ending):
    def run(store, how):
        command = [sys.executable, "-c", KILLED, str(tmp_path / store), how]
        return subprocess.run(command, capture_output=True, text=True)

    path = tmp_path / f"map.{ending}"
    assert run(path.name, "killed").returncode == -signal.SIGKILL
    if ending == "nc":
        found = {int(part.stem[-6:]) for part in (tmp_path / "map.nc.parts").iterdir()}
    else:
        found = set(np.flatnonzero(open_group(path)["tiles"]["state"][:] == DONE).tolist())
        said = str(status(path))
        assert f"{len(found)} of 7 tiles done" in said and "interrupted" in said and "run the same sweep again" in said
    assert 2 in found and len(found) < 7
    resumed = run(path.name, "whole")
    assert resumed.returncode == 0, resumed.stderr
    assert {int(index) for index in resumed.stdout.split()} == set(range(7)) - found
    assert run(f"other.{ending}", "whole").returncode == 0
    with xr.open_dataset(path) as one, xr.open_dataset(tmp_path / f"other.{ending}") as other:
        xr.testing.assert_identical(one, other)


def test_progress_is_silent_off_a_terminal(capsys):
    sweep(hanai2025_bilayer, {"loss_rate": [0.0, 0.05]})
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_a_file_is_whole_or_not_there(tmp_path):
    """Until the new content is complete the old one can be read; a failure leaves it as it was, and nothing beside."""
    path = tmp_path / "a.txt"
    with atomic(path) as temporary:
        temporary.write_text("old")
        assert not path.exists()
    with pytest.raises(RuntimeError), atomic(path) as temporary:
        temporary.write_text("half")
        assert path.read_text() == "old"
        raise RuntimeError
    assert path.read_text() == "old"
    with atomic(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_an_executor_may_be_used_again():
    """Tiles come back in the order of the points, whichever is finished first, and the executor stays open."""

    class Backwards(concurrent.futures.ThreadPoolExecutor):
        sent = 0

        def submit(self, fn, /, *args, **kwargs):
            wait, self.sent = 0.02 * (3 - self.sent % 4), self.sent + 1
            return super().submit(lambda: (time.sleep(wait), fn(*args))[1])

    with Backwards(4) as executor:
        one, two = (sweep(hanai2025_bilayer, AXES, tile=30, executor=executor, progress=False) for _ in range(2))
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        in_order = sweep(hanai2025_bilayer, AXES, tile=30, executor=executor, progress=False)
    xr.testing.assert_equal(one, in_order)
    xr.testing.assert_equal(two, in_order)


def test_every_axis_of_a_map_varies():
    """The parameters of a map: each swept one is named as varying, none of them stands as if it were fixed."""
    dataset = sweep(hanai2025_bilayer, AXES, progress=False)
    assert set(dataset.attrs["parameters_that_vary"].split(", ")) == {"light.loss_rate", "exchange"}
    assert not {"light.loss_rate", "exchange"} & set(json.loads(dataset.attrs["parameters"]))


def test_progress_bar_tells_tiles(monkeypatch):
    import nrjax._numerics.tiles

    stream = io.StringIO()
    original = nrjax._numerics.tiles.tqdm
    monkeypatch.setattr(
        nrjax._numerics.tiles,
        "tqdm",
        lambda **k: original(**(k | {"file": stream, "disable": False, "delay": 0, "mininterval": 0})),
    )
    sweep(hanai2025_bilayer, AXES, tile=30)
    text = stream.getvalue()
    assert "tile 5/5" in text and "points/s" in text


@pytest.mark.parametrize(
    "axes, words",
    [
        ({}, ["axes", "empty"]),
        ({"loss_rate": []}, ["loss_rate", "(0,)"]),
        ({"loss_rate": [[0.0, 1.0]]}, ["loss_rate", "one-dimensional"]),
        ({"loss_rate": [0.0, 0.2, 0.1]}, ["loss_rate", "not monotonic", "0.2", "0.1"]),
        ({"loss_rate": [0.0, 0.0]}, ["loss_rate", "not monotonic"]),
        ({"loss_rate": [0.0, np.nan]}, ["loss_rate", "nan", "index 1"]),
        ({"loss_rate": ["bright"]}, ["loss_rate", "bright"]),
        ({"colour": [0.0, 1.0]}, ["colour", "build()"]),
        ({"temperature": [-1.0, 1.0]}, ["temperature", "-1"]),
        ({"loss_rate": [-0.1, 0.1]}, ["loss_rate", "-0.1"]),
    ],
)
def test_bad_axes(axes, words):
    assert_refused(lambda: sweep(hanai2025_bilayer, axes, progress=False), words)


def test_bad_stores_and_tiles(tmp_path):
    axes = {"loss_rate": [0.0, 0.05]}
    with pytest.raises(ValueError, match="does not exist"):
        sweep(hanai2025_bilayer, axes, store=tmp_path / "nowhere" / "x.nc")
    with pytest.raises(ValueError, match="folder"):
        sweep(hanai2025_bilayer, axes, store=tmp_path)
    with pytest.raises(ValueError, match="tile = 0"):
        sweep(hanai2025_bilayer, axes, tile=0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_three_layers_sweep():
    def build(temperature):
        return LayeredMagnet(10.0 * np.eye(3) + 1.0, 0.1, -10.0, 0.0, 1.0, temperature)

    dataset = sweep(build, {"temperature": [9.0, 11.0, 15.0]}, progress=False)
    np.testing.assert_array_equal(dataset["phase"], [Phase.ALIGNED, Phase.ALIGNED, Phase.PARAMAGNETIC])
