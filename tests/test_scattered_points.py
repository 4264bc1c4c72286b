"""Scattered points against the grid, and Sobol' indices against closed forms."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

from nrjax import (
    AbstractObservable,
    Phase,
    hanai2025_bilayer,
    sobol_indices,
    spread_points,
    steady_state,
    sweep,
    sweep_points,
)
from nrjax._numerics.tiles import run_tiles
from tests.refusal import assert_refused


class Ishigami(AbstractObservable):
    """sin x + 7 sin^2 y + z^4 sin(x)/10, whose indices are known; x, y, z hide in a magnet's dampings and gyro."""

    name: str = eqx.field(default="ishigami", static=True)
    unit: str = eqx.field(default="1", static=True)
    long_name: str = eqx.field(default="a function that is hard to integrate", static=True)

    def __call__(self, model: Any, state: Any) -> Any:
        x, y, z = (jnp.pi * (2.0 * v - 1.0) for v in (*model.damping, model.gyro))
        return jnp.sin(x) + 7.0 * jnp.sin(y) ** 2 + 0.1 * z**4 * jnp.sin(x)


def hidden(x, y, z):
    return hanai2025_bilayer(0.05, 6.0, damping=jnp.stack([x, y]), gyro=z)


def test_points_are_those_of_the_grid():
    """The same states, bit for bit, whatever the order and the tile; one bad point is flagged."""
    axes = {"loss_rate": np.linspace(0.0, 0.12, 13), "interlayer_exchange": np.linspace(2.0, 8.0, 5)}
    grid = sweep(hanai2025_bilayer, axes, progress=False)
    a, b = (x.ravel() for x in np.meshgrid(*axes.values(), indexing="ij"))
    order = np.random.default_rng(0).permutation(a.size)
    points = {"loss_rate": a[order], "interlayer_exchange": b[order]}
    found = sweep_points(hanai2025_bilayer, points, progress=False, tile=256)
    for name in ("phase", "chase_frequency", "lengths", "growth_rate"):
        expected = grid[name].values.reshape(a.size, *grid[name].shape[2:])[order]
        np.testing.assert_array_equal(found[name].values, expected)
    np.testing.assert_array_equal(found["loss_rate"], points["loss_rate"])
    assert "[0.1, 0.002]" in found.attrs["parameters"]
    assert {"light.loss_rate", "exchange"} <= set(found.attrs["parameters_that_vary"].split(", "))
    assert found["loss_rate"].attrs["units"] == "meV" and found["chase_frequency"].attrs["units"] == "GHz"
    bad = sweep_points(
        hanai2025_bilayer, {"loss_rate": [0.05, -0.05, 0.06]}, observe=["phase", "valid"], progress=False
    )
    assert bad["valid"].values.tolist()[::2] == [True, True]
    assert int(bad["phase"][2]) == int(steady_state(hanai2025_bilayer(0.06)).phase)


@pytest.mark.long
def test_few_points_of_costly_magnets_are_few_lanes(monkeypatch):
    """Magnets that need time integration are not filled up to a tile of thousands, and run in one thread."""
    seen = {}

    def watched(function, lanes, tile, **options):
        seen.update(tile=tile, **options)
        return run_tiles(function, lanes, tile, **options)

    monkeypatch.setattr("nrjax.maps.scattered_points.run_tiles", watched)
    field = {"loss_rate": [0.0, 0.01]}
    found = sweep_points(
        lambda loss_rate: hanai2025_bilayer(loss_rate, 6.0, field=[0.0, 0.0, 1.0]), field, progress=False
    )
    assert (seen["tile"], seen["threads"]) == (2, 1)
    assert found["valid"].values.all() and (found["phase"].values == Phase.ALIGNED).all()


@pytest.mark.parametrize("kind", ["sobol", "latin hypercube"])
def test_spread_points_fill_the_box(kind):
    bounds = {"a": (1.0, 3.0), "b": (1e-3, 1e3)}
    points = spread_points(bounds, 64, kind=kind, logarithmic=["b"], seed=1)
    shares = [0.5 * (points["a"] - 1.0), (np.log10(points["b"]) + 3.0) / 6.0]
    for share in shares:
        # One point in each of 64 equal parts.
        assert sorted(np.floor(64 * share).astype(int)) == list(range(64))
    again = spread_points(bounds, 64, kind=kind, logarithmic=["b"], seed=1)
    np.testing.assert_array_equal(points["b"], again["b"])
    assert not np.array_equal(points["a"], spread_points(bounds, 64, kind=kind, seed=2)["a"])


def test_indices_of_ishigami():
    """Variance a^2/8 + b pi^4/5 + b^2 pi^8/18 + 1/2 with a = 7, b = 0.1, and its parts."""
    a, b = 7.0, 0.1
    of_x, of_y, of_xz = 0.5 * (1 + b * np.pi**4 / 5) ** 2, a**2 / 8, b**2 * np.pi**8 * 8 / 225
    total = of_x + of_y + of_xz
    unit = dict.fromkeys("xyz", (1e-6, 1.0))
    found = sobol_indices(hidden, unit, [Ishigami()], samples=2048, progress=False)
    first, both = found["first_order"].values[0], found["total"].values[0]
    np.testing.assert_allclose(first, [of_x / total, of_y / total, 0.0], atol=0.03)
    np.testing.assert_allclose(both, [(of_x + of_xz) / total, of_y / total, of_xz / total], atol=0.03)
    assert found.attrs["points"] == 2048 * 5 and found.attrs["unresolved"] < 0.05
    assert (found["total_confidence"].values < 0.1).all()


def test_which_parameter_sets_the_frequency():
    """Inside the chiral phase of the reference bilayer gyro does not matter to the chase, and the light most."""
    found = sobol_indices(
        lambda loss_rate, gyro: hanai2025_bilayer(loss_rate, 6.0, gyro=gyro),
        {"loss_rate": (0.03, 0.08), "gyro": (0.0, 2.0)},
        samples=128,
        progress=False,
    )
    chase = found["total"].sel(observable="chase_frequency")
    assert float(chase.sel(parameter="loss_rate")) == pytest.approx(1.0, abs=0.05)
    assert float(chase.sel(parameter="gyro")) < 1e-9
    assert float(found["total"].sel(observable="rotation_frequency", parameter="gyro")) > 0.1


def test_bad_points_are_refused():
    assert_refused(lambda: sweep_points(hanai2025_bilayer, {}), ["points is empty"])
    assert_refused(
        lambda: sweep_points(hanai2025_bilayer, {"loss_rate": [0.1, 0.2], "interlayer_exchange": [1.0]}),
        ["shapes", "one value for each point"],
    )
    assert_refused(lambda: sweep_points(hanai2025_bilayer, {"colour": [1.0]}), ["colour", "do not fit"])
    assert_refused(lambda: sweep_points(hanai2025_bilayer, {"loss_rate": [np.nan]}), ["loss_rate", "finite"])
    assert_refused(lambda: spread_points({"a": (2.0, 1.0)}, 8), ["'a'", "the lower one first"])
    assert_refused(lambda: spread_points({"a": (0.0, 1.0)}, 8, logarithmic=["a"]), ["'a'", "greater than 0"])
    assert_refused(lambda: spread_points({"a": (0.0, 1.0)}, 8, kind="random"), ["random", "latin hypercube"])
    assert_refused(lambda: sobol_indices(hidden, dict.fromkeys("xyz", (0.1, 1.0)), samples=100), ["power of two"])
