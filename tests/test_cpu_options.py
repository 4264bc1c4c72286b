"""XLA's options for a CPU: asked for in time or not, with the same results, to the bit whatever the tile."""

import argparse
import os
import subprocess
import sys
from typing import Any

import jax
import numpy as np
import pytest

from nrjax import hanai2025_bilayer, sweep, tune_cpu
from nrjax._numerics import cpu_options
from nrjax._numerics.cpu_options import LOOPS, WIDTH, ask_for_cpu_options
from nrjax.cli import _set_up

AXES = {"loss_rate": np.linspace(0.0, 0.12, 31), "interlayer_exchange": np.linspace(0.0, 13.0, 17)}
MAPS = """
import sys, numpy as np, jax
jax.config.update("jax_enable_x64", True)
import nrjax
assert nrjax.tune_cpu()
from tests.test_cpu_options import AXES
ways = {}, {"tile": 50}, {"tile": 300}
maps = [nrjax.sweep(nrjax.hanai2025_bilayer, AXES, progress=False, **more) for more in ways]
for name in maps[0]:
    for other in maps[1:]:
        np.testing.assert_array_equal(maps[0][name], other[name])
maps[0].to_netcdf(sys.argv[1])
"""


def told(script: str, *arguments: str, flags: str = "") -> subprocess.CompletedProcess[str]:
    """What a new process prints, whose XLA has these flags."""
    environment = os.environ | {"XLA_FLAGS": flags}
    return subprocess.run(
        [sys.executable, "-c", script, *arguments], env=environment, capture_output=True, text=True, check=True
    )


def test_asked_for_in_time():
    """Flags that were set stay in force."""
    script = "import nrjax, jax; print(nrjax.tune_cpu(), jax.device_count())"
    assert told(script, flags="--xla_force_host_platform_device_count=2").stdout.split() == ["True", "2"]


def test_asked_for_too_late():
    """Said, with the remedy."""
    ended = told("import jax.numpy as jnp; jnp.ones(2) + 1.0; import nrjax; print(nrjax.tune_cpu())")
    assert ended.stdout.split() == ["False"]
    assert "at the top of the script" in ended.stderr


def test_without_a_processor(monkeypatch):
    """Where JAX was told to use a GPU alone there is nothing to take whole: said, and no error."""

    def none(backend: str) -> list[Any]:
        raise RuntimeError(f"Unknown backend {backend}")

    monkeypatch.setenv("XLA_FLAGS", "")
    monkeypatch.setattr(jax, "local_devices", none)
    with pytest.warns(UserWarning, match="has no CPU"):
        assert not tune_cpu()


@pytest.mark.parametrize("flags", [f"--xla_backend_extra_options={LOOPS}=7 {WIDTH}=128", f"{WIDTH}=128"])
def test_set_once(flags, monkeypatch):
    """Whoever has set an option keeps the value."""
    monkeypatch.setenv("XLA_FLAGS", flags)
    ask_for_cpu_options()
    assert os.environ["XLA_FLAGS"].startswith(flags)
    assert all(os.environ["XLA_FLAGS"].count(option) == 1 for option in (LOOPS, WIDTH))


@pytest.mark.parametrize(
    "version, known", [("0.12.1", True), ("0.12rc1", True), ("0.13.0.dev1", False), ("1.0", False)]
)
def test_versions_that_were_not_tried(version, known, monkeypatch):
    """XLA would end the process, had it that flag no more."""
    monkeypatch.setenv("XLA_FLAGS", "")
    monkeypatch.setattr(cpu_options, "version", lambda name: version)
    ask_for_cpu_options()
    assert (WIDTH in os.environ["XLA_FLAGS"]) == known
    assert LOOPS in os.environ["XLA_FLAGS"]


def test_the_command_line_asks_for_them(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")
    _set_up(argparse.Namespace(precision="double", no_cache=True))
    assert LOOPS in os.environ["XLA_FLAGS"]


@pytest.mark.computes
def test_results_are_the_same(tmp_path):
    """To rounding those of any other process; among themselves to the bit, in tiles of any size."""
    import xarray as xr

    told(MAPS, str(tmp_path / "map.nc"))
    whole, usual = xr.load_dataset(tmp_path / "map.nc"), sweep(hanai2025_bilayer, AXES, progress=False)
    xr.testing.assert_equal(whole["phase"], usual["phase"])
    for name in ("lengths", "rotation_frequency", "chase_frequency", "growth_rate"):
        np.testing.assert_allclose(whole[name], usual[name], rtol=1e-9, atol=1e-11)
