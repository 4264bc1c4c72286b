"""A store holds what was computed, and says of what."""

import functools
import importlib.metadata
import json
import sys
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from nrjax import (
    AbstractBath,
    ClassicalBath,
    RotationLinewidth,
    ShapeSolver,
    hanai2025_bilayer,
    illuminated_bilayer,
    steady_state,
    sweep,
)
from nrjax._numerics import digests
from nrjax._numerics.digests import code_digest, computation_digest
from nrjax.maps import computation
from nrjax.maps.computation import Observation, identity

AXES = {"x": np.linspace(0.0, 0.05, 3)}
SCALE = 0.0


def scaled(x):
    """At x = 0, the first point of the grid, all scales give the same magnet."""
    return hanai2025_bilayer([SCALE * x, x], 6.0)


def run(build, store, **options):
    return sweep(build, AXES, store=store, progress=False, **options)


def test_a_store_of_another_constant_is_not_read(tmp_path, monkeypatch):
    store = tmp_path / "map.nc"
    first = run(scaled, store)
    xr.testing.assert_identical(run(scaled, store), first)
    monkeypatch.setattr(sys.modules[__name__], "SCALE", 0.5)
    with pytest.raises(ValueError, match="other input"):
        run(scaled, store)
    second = run(scaled, store, resume=False)
    np.testing.assert_array_equal(run(scaled, None)["lengths"], second["lengths"])
    monkeypatch.setattr(sys.modules[__name__], "SCALE", 0.0)
    np.testing.assert_array_equal(run(scaled, None)["lengths"], first["lengths"])
    assert not np.allclose(first["lengths"], second["lengths"])
    # Not the program that the same function had before, either.
    expected = steady_state(hanai2025_bilayer([0.025, 0.05], 6.0)).lengths
    np.testing.assert_allclose(second["lengths"][-1], expected, rtol=1e-9)


def test_unfinished_tiles_of_another_constant_are_not_read(tmp_path, monkeypatch):
    store = tmp_path / "map.nc"
    monkeypatch.setattr("nrjax.maps.store.save_dataset", lambda *a: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError):
        run(scaled, store)
    monkeypatch.undo()
    monkeypatch.setattr(sys.modules[__name__], "SCALE", 0.3)
    found = run(scaled, store)
    np.testing.assert_allclose(
        found["lengths"][-1], steady_state(hanai2025_bilayer([0.015, 0.05], 6.0)).lengths, rtol=1e-9
    )


def test_a_store_of_another_observable_is_not_read(tmp_path):
    store = tmp_path / "map.nc"

    def observed(power):
        def observe(magnet):
            return {"size": jnp.sum(magnet.loss_rate) ** power}

        return observe

    run(scaled, store, observe=observed(1))
    run(scaled, store, observe=observed(1))
    with pytest.raises(ValueError, match="other input"):
        run(scaled, store, observe=observed(2))


def test_what_a_digest_sees():
    x = jnp.ones(3)
    table = np.arange(1000.0)

    def of(constant):
        return computation_digest(lambda x: jnp.sum(x * constant) + jnp.asarray(table)[0], x)

    assert of(2.0) == of(2.0) != of(2.0 + 1e-15)
    before = computation_digest(lambda x: jnp.take(jnp.asarray(table), 3) + x, x)
    table[700] += 1e-9
    assert computation_digest(lambda x: jnp.take(jnp.asarray(table), 3) + x, x) != before
    assert computation_digest(jnp.sin, x) != computation_digest(jnp.cos, x)
    assert computation_digest(lambda a, b: a - b, x, x) != computation_digest(lambda a, b: b - a, x, x)
    # Inside of loops and of functions with derivatives of their own, too.
    bath = lambda f: eqx.tree_at(lambda m: m.bath, hanai2025_bilayer(0.05), f)  # noqa: E731

    def shifted(shift):
        class Shifted(AbstractBath):
            def reduced_rate(self, s):
                return 1.0 + shift * s

        return bath(Shifted())

    found = []
    for model in (shifted(0.3), shifted(0.3), shifted(0.31)):
        found.append(computation_digest(lambda x, model=model: model.bath.field_squared_at_rate(x + 2.0, x), x))
    assert found[0] == found[1] != found[2]


def test_what_tells_one_sweep_from_another(monkeypatch):
    """Of nrjax's own parts without tracing what is computed; anything of a user's own is traced."""

    def told(build=hanai2025_bilayer, dtype=jnp.float64, observe=("phase", "lengths"), solver=None, **options):
        def made(loss_rate):
            return build(loss_rate, 6.0, **options)

        part, model = {"loss_rate": jax.ShapeDtypeStruct((2,), dtype)}, made(jnp.asarray(0.05, dtype))
        return identity(made, Observation.of(observe, model, solver), model, part)

    linewidths = [RotationLinewidth(spins=n) for n in (1e6, 2e6)]
    with monkeypatch.context() as untraced:
        untraced.setattr(computation, "traced", lambda *a: pytest.fail("traced"))
        assert told() == told()
        different = [
            told(),
            told(bath=ClassicalBath()),
            told(field=[[0.0, 0.0, 0.1]] * 2),
            told(dtype=jnp.float32),
            told(observe="phase"),
            told(observe=linewidths[0]),
            told(observe=linewidths[1]),
            told(solver=ShapeSolver()),
            told(solver=ShapeSolver(cycles=False)),
            told(build=lambda x, j: hanai2025_bilayer([x, 0.5 * x], j)),
            told(build=lambda x, j: hanai2025_bilayer([x, 0.6 * x], j)),
        ]
        assert len(set(different)) == len(different)

    def shifted(shift):
        class Shifted(AbstractBath):
            def reduced_rate(self, s):
                return 1.0 + shift * s

        return Shifted()

    own = [told(bath=shifted(x)) for x in (0.3, 0.3, 0.31)]
    assert own[0] == own[1] != own[2] and own[0] not in different
    # Of a user's own bath also how its states are found.
    assert told(bath=shifted(0.3), solver=ShapeSolver(cycles=False)) != told(bath=shifted(0.3), solver=ShapeSolver())


@pytest.mark.parametrize("name", ["nrjax/units.py", "nrjax/light/laser.py", "nrjax/rotation/attractors.py"])
def test_every_file_of_the_source_counts(name, monkeypatch):
    before, read = code_digest.__wrapped__(), Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path) + (b"#" if path.as_posix().endswith(name) else b""))
    assert code_digest.__wrapped__() != before


def test_nrjax_need_not_be_installed(monkeypatch):
    """Run from its source: a version is missing, and nothing else."""

    def missing(package):
        if package == "nrjax":
            raise importlib.metadata.PackageNotFoundError(package)
        return "1.0"

    monkeypatch.setattr(digests, "version", missing)
    told = digests.versions()
    assert told["nrjax_version"] == "not installed" and told["jax_version"] == "1.0"


def test_parameters_stand_in_the_file(tmp_path):
    files = {}
    for temperature in (8.0, 9.0):
        store = tmp_path / f"{temperature}.nc"
        run(functools.partial(at, temperature), store)
        with xr.open_dataset(store, engine="h5netcdf") as dataset:
            files[temperature] = json.loads(dataset.attrs["parameters"])
            assert dataset.attrs["parameters_that_vary"] == "light.loss_rate"
    assert files[8.0]["temperature"] == [8.0, 8.0] and files[9.0]["temperature"] == [9.0, 9.0]
    assert files[9.0]["exchange"] == [[10.0, 6.0], [6.0, 5.0]] and files[9.0]["kind of bath"] == "QuantumBath"
    lit = sweep(illuminated_bilayer, {"intensity": [1e10, 2e10]}, progress=False)
    assert json.loads(lit.attrs["parameters"])["light.laser.photon_energy"] == 1550.0
    assert lit.attrs["parameters_that_vary"] == "light.laser.intensity"


def at(temperature, x):
    return hanai2025_bilayer(x, 6.0, temperature=temperature)
