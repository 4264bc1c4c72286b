"""Sweeps kept as Zarr: the numbers of a sweep in memory, whatever happens to the process or the disk on the way."""

import concurrent.futures
import json
import math
import os
import time
import tracemalloc

import filelock
import jax
import numpy as np
import pytest
import xarray as xr

from nrjax import ShapeSolver, hanai2025_bilayer, sweep
from nrjax.cli import main
from nrjax.maps.blocks import Blocks
from nrjax.maps.cost import foreseen
from nrjax.maps.zarr_layout import digest_of, open_group, status
from nrjax.maps.zarr_store import ZarrStore, _read
from tests.refusal import assert_refused

AXES = {"loss_rate": np.linspace(0.0, 0.12, 13), "interlayer_exchange": np.linspace(0.5, 12.0, 9)}
# Where both have a value, it differs by rounding.
FINER = {
    "loss_rate": np.nextafter(np.linspace(0.0, 0.12, 25), 1.0),
    "interlayer_exchange": np.append(AXES["interlayer_exchange"], 13.0),
}


def frequency_of(*, loss_rate, interlayer_exchange):
    """A number made of a point, in place of a model: the same to the bit, whether product and sum are one operation."""
    return 128.0 * loss_rate + interlayer_exchange


def number(x):
    return {"value": x}


def swept(axes, **options):
    """A sweep that costs nothing, in seven tiles of AXES."""
    return sweep(frequency_of, axes, observe=number, tile=20, progress=False, **options)


def exact(axes):
    return 128.0 * np.asarray(axes["loss_rate"])[:, None] + np.asarray(axes["interlayer_exchange"])


class Counting(concurrent.futures.ThreadPoolExecutor):
    """One thread, which counts tiles, and fails at one of them."""

    def __init__(self, fails_at=None):
        super().__init__(1)
        self.sent, self.fails_at = 0, fails_at

    def submit(self, fn, /, *args, **kwargs):
        self.sent += 1
        if self.sent == self.fails_at:
            return super().submit(self.fail)
        return super().submit(fn, *args, **kwargs)

    @staticmethod
    def fail():
        raise RuntimeError("out of luck")


@pytest.mark.computes
def test_the_numbers_are_those_of_a_sweep_in_memory(tmp_path):
    path = tmp_path / "map.zarr"
    kept = sweep(hanai2025_bilayer, AXES, tile=20, store=path, progress=False)
    xr.testing.assert_identical(kept.load(), sweep(hanai2025_bilayer, AXES, progress=False))
    with Counting() as executor:
        again = sweep(hanai2025_bilayer, AXES, tile=50, store=path, executor=executor, progress=False)
        assert executor.sent == 0
    xr.testing.assert_identical(again.load(), kept)
    # Without nrjax: the same, and how it was made.
    with xr.open_zarr(path) as opened:
        xr.testing.assert_equal(opened, kept)
        assert opened.phase.attrs["flag_meanings"] == kept.phase.attrs["flag_meanings"]
        assert json.loads(opened.attrs["parameters"]) and opened.attrs["edges"] == [2, 9]
        assert {"dtype", "device", "jax_version", "computation"} <= set(opened.attrs)
    assert str(status(path)) == "7 of 7 tiles done (100.0 % of 117 points)"
    refined = sweep(hanai2025_bilayer, AXES, tile=20, refine=True, store=tmp_path / "refined.zarr", progress=False)
    xr.testing.assert_identical(refined.load(), sweep(hanai2025_bilayer, AXES, tile=20, refine=True, progress=False))


def test_damage_of_any_kind_is_noticed(tmp_path):
    path = tmp_path / "map.zarr"
    swept(AXES, store=path)
    chunks = [path / "value" / "c" / str(i) / "0" for i in range(7)]
    chunks[1].write_bytes(chunks[1].read_bytes()[:-9])
    content = bytearray(chunks[3].read_bytes())
    content[len(content) // 2] ^= 1
    chunks[3].write_bytes(content)
    # A chunk that is not there reads as nothing, without an error; one of another tile as numbers.
    chunks[4].unlink()
    chunks[5].write_bytes(chunks[0].read_bytes())
    with Counting() as executor, pytest.warns(UserWarning, match="is damaged .* computed again") as told:
        dataset = swept(AXES, store=path, executor=executor)
    assert len(told) == 4 and executor.sent == 4
    np.testing.assert_array_equal(dataset["value"], exact(AXES))


def test_a_store_knows_its_solver(tmp_path):
    """Of maps that differ only in whether closed orbits are solved for."""
    small = {"loss_rate": [0.05, 0.06], "interlayer_exchange": [6.0, 7.0]}
    path = tmp_path / "map.zarr"
    sweep(hanai2025_bilayer, small, store=path, progress=False, solver=ShapeSolver(cycles=False))
    assert_refused(
        lambda: sweep(hanai2025_bilayer, small, store=path, progress=False), ["map.zarr", "other input", "resume=False"]
    )


def test_other_input_and_other_folders_are_refused(tmp_path):
    path = tmp_path / "map.zarr"
    swept(AXES, store=path)
    moved = AXES | {"loss_rate": AXES["loss_rate"] + 1e-6}
    assert_refused(lambda: swept(moved, store=path), ["map.zarr", "other input", "loss_rate lacks", "resume=False"])
    assert_refused(
        lambda: sweep(hanai2025_bilayer, AXES, store=path, progress=False), ["map.zarr", "other input", "resume=False"]
    )
    assert_refused(lambda: swept({"loss_rate": [0.0, 1.0]} | AXES | {"x": [1.0]}, store=path), ["x"])
    (tmp_path / "photos.zarr").mkdir()
    (tmp_path / "photos.zarr" / "cat.png").write_bytes(b"cat")
    for resume in (True, False):
        assert_refused(
            lambda r=resume: swept(AXES, store=tmp_path / "photos.zarr", resume=r), ["photos.zarr", "no store"]
        )
    assert (tmp_path / "photos.zarr" / "cat.png").exists()
    assert_refused(lambda: swept(AXES, store=tmp_path / "nowhere" / "map.zarr"), ["nowhere", "does not exist"])
    with filelock.FileLock(tmp_path / "map.zarr.lock"):
        assert_refused(lambda: swept(moved, store=path, resume=False), ["map.zarr", "another process"])
    np.testing.assert_array_equal(swept(moved, store=path, resume=False)["value"], exact(moved))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["map.zarr", "photos.zarr"]


def test_a_failed_tile_is_told_and_computed_by_the_next_run(tmp_path):
    path = tmp_path / "map.zarr"
    with Counting(fails_at=3) as executor, pytest.raises(RuntimeError, match="out of luck"):
        swept(AXES, store=path, executor=executor)
    before = status(path)
    assert before.failed == 1 and before.done == 6 and not before.active
    assert "1 failed" in str(before) and "run the same sweep again" in str(before)
    with Counting() as executor:
        np.testing.assert_array_equal(swept(AXES, store=path, executor=executor)["value"], exact(AXES))
        assert executor.sent == 1


def test_a_full_disk_loses_no_finished_tile(tmp_path, monkeypatch):
    path, array = tmp_path / "map.zarr", ZarrStore._array

    def full(self, name, some):
        if int((self.state == 2).sum()) >= 3:
            raise OSError(28, "No space left on device")
        return array(self, name, some)

    monkeypatch.setattr(ZarrStore, "_array", full)
    with pytest.raises(OSError, match="No space left"):
        swept(AXES, store=path)
    monkeypatch.undo()
    assert status(path).done == 3
    with Counting() as executor:
        np.testing.assert_array_equal(swept(AXES, store=path, executor=executor)["value"], exact(AXES))
        assert executor.sent == 4


def test_a_store_grows_and_keeps_what_it_has(tmp_path):
    """A finer and a longer axis: only new points are computed, and an interrupted growth leaves the store as it was."""
    path = tmp_path / "map.zarr"
    swept(AXES, store=path)
    # Marked, so that points which are computed again would show.
    with xr.open_zarr(path) as opened:
        marked = opened["value"].values + 0.25
    group = open_group(path, "r+")
    store = ZarrStore.of(path, AXES, 20, group.attrs["computation"], True, {})
    group["value"][:] = marked
    digests = [digest_of(_read(group, store.blocks, index)) for index in range(len(store.blocks))]
    group["tiles"]["digest"][:] = np.reshape(np.array(digests, np.uint64), store.blocks.counts)

    with Counting(fails_at=5) as executor, pytest.raises(RuntimeError, match="out of luck"):
        swept(FINER, store=path, executor=executor)
    np.testing.assert_array_equal(swept(AXES, store=path)["value"], marked)
    assert status(path).failed == 1
    # Growth to other axes begins anew, and so does this one after it.
    other = AXES | {"interlayer_exchange": np.append(AXES["interlayer_exchange"], [14.0, 15.0])}
    with Counting(fails_at=1) as executor, pytest.raises(RuntimeError, match="out of luck"):
        swept(other, store=path, executor=executor)
    grown = swept(FINER, store=path)
    expected = exact({name: grown[name] for name in AXES})
    places = np.isin(grown.loss_rate, AXES["loss_rate"])
    assert places.sum() == 13 and FINER["loss_rate"].size == 25
    expected[np.ix_(places, np.arange(9))] += 0.25
    np.testing.assert_array_equal(grown["value"], expected)
    assert [p.name for p in tmp_path.iterdir()] == ["map.zarr"] and status(path).done == status(path).tiles
    # Fewer points than it holds would be lost.
    assert_refused(lambda: swept(AXES, store=path), ["map.zarr", "lacks", "resume=False"])


def test_memory_is_that_of_a_few_tiles_and_a_grid_too_large_asks_for_a_store(tmp_path):
    axes = {"loss_rate": np.linspace(0.0, 1.0, 2000), "interlayer_exchange": np.linspace(0.0, 1.0, 2000)}
    warm = {"loss_rate": axes["loss_rate"][:64], "interlayer_exchange": axes["interlayer_exchange"]}
    options = {"observe": number, "tile": 1 << 16, "progress": False}
    sweep(frequency_of, warm, store=tmp_path / "warm.zarr", **options)
    tracemalloc.start()
    dataset = sweep(frequency_of, axes, store=tmp_path / "map.zarr", **options)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Two axes and a value of a tile, of each thread and on its way, against 32 MB of the values alone.
    assert peak < 16e6, f"{peak / 1e6:.0f} MB"
    np.testing.assert_array_equal(dataset["value"][::500, ::500], exact(axes)[::500, ::500])
    vast = {"loss_rate": np.linspace(0.0, 1.0, 10**6), "interlayer_exchange": np.linspace(0.0, 1.0, 10**6)}
    assert_refused(lambda: sweep(hanai2025_bilayer, vast, progress=False), ["1e+12 points", "GiB", "store='map.zarr'"])


@pytest.mark.parametrize("shape, tile", [((13, 9), 20), ((1, 50), 7), ((6, 5, 4), 11), ((3, 1000), 64), ((7,), 100)])
def test_blocks_hold_every_point_once(shape, tile):
    axes = {f"x{i}": np.arange(n, dtype=float) for i, n in enumerate(shape)}
    blocks, seen = Blocks.of(axes, tile), np.zeros(shape, int)
    for index in range(len(blocks)):
        lanes = blocks.lanes(index)
        places = tuple(lanes[name].astype(int) for name in axes)
        assert places[0].size == math.prod(blocks.extent(index)) <= tile
        np.add.at(seen, places, 1)
        np.testing.assert_array_equal(seen[blocks.region(index)], 1)
    assert (seen == 1).all()


def test_what_it_will_cost(tmp_path):
    cost = foreseen(hanai2025_bilayer, AXES, tile=20, store=tmp_path / "map.zarr")
    assert (cost.points, cost.tiles, cost.tile) == (117, 7, 18)
    # Lengths of two layers and five other numbers; phase, valid and result.
    assert cost.disk == 117 * (7 * 8 + 3) + (13 + 9) * 8 and cost.memory == 18 * 59 * (os.cpu_count() or 1)
    assert "117 points in 7 tiles of 18" in str(cost) and list(tmp_path.iterdir()) == []


def test_time_left(tmp_path):
    """While another thread looks on: four of seven tiles done, at the rate of these."""
    path, seen, begun = tmp_path / "map.zarr", [], []

    def watched(x):
        def look(value):
            # Until the thread that sweeps has kept all tiles before this one.
            begun.append(time.monotonic())
            while not seen or (seen[-1].done < len(begun) - 1 and time.monotonic() < begun[-1] + 20.0):
                time.sleep(0.05)
                seen.append(status(path))
            return value

        return {"value": jax.pure_callback(look, jax.ShapeDtypeStruct(x.shape, x.dtype), x, vmap_method="expand_dims")}

    with Counting() as executor:
        sweep(frequency_of, AXES, observe=watched, tile=20, store=path, executor=executor, progress=False)
    told = [now for now in seen if now.done == 4]
    assert told and told[0].active and told[0].running >= 1
    assert told[0].seconds_left is not None and 0.1 < told[0].seconds_left < 60.0
    assert "left" in str(told[0]) and "running" in str(told[0])


def test_command_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    axes = (
        "--axis loss_rate 0 0.12 13 --axis interlayer_exchange 0.5 12 9 --store map.zarr --no-boundaries --no-cache -q"
    )
    arguments = ["phase-diagram", *axes.split()]
    assert main([*arguments, "--dry-run"]) == 0 and list(tmp_path.iterdir()) == []
    assert "117 points in 1 tiles of 117" in capsys.readouterr().out
    assert main(arguments) == 0
    assert "the numbers are in map.zarr" in capsys.readouterr().out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["map.zarr", "phase_diagram.png"]
    assert main(["status", "map.zarr"]) == 0
    assert "map.zarr: 1 of 1 tiles done" in capsys.readouterr().out
    refusals = (
        (arguments, "exists. Add --resume"),
        ([*arguments, "--resume", "--overwrite"], "both given"),
        (["phase-diagram", "--resume"], "--store"),
        ([*arguments, "--data", "x.nc"], "leave one out"),
        (["phase-diagram", "--store", "map.nc"], ".zarr"),
        (["status", "nowhere.zarr"], "does not exist"),
    )
    for given, words in refusals:
        assert main(given) == 2
        assert words in capsys.readouterr().err
    assert main([*arguments, "--resume", "-o", "again.png"]) == 0 and (tmp_path / "again.png").exists()
