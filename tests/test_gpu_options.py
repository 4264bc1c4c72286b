"""XLA's options for a GPU: asked for in time or not. What they gain is measured by benchmarks/gpu.py."""

import os

import pytest

from nrjax import tune_gpu
from nrjax._numerics import cpu_options, gpu_options
from nrjax._numerics.gpu_options import GRAPHS
from tests.test_cpu_options import told

SCRIPT = "import nrjax, os; print(nrjax.tune_gpu(), os.environ['XLA_FLAGS'].count('{}')); import jax; jax.devices()"


@pytest.mark.parametrize("flags", ["", f"{GRAPHS}=FUSION"])
def test_asked_for_in_time(flags):
    """Set once; a processor takes no notice, and XLA knows the option."""
    assert told(SCRIPT.format(GRAPHS), flags=flags).stdout.split() == ["True", "1"]


def test_asked_for_too_late():
    """Said, with the remedy."""
    script = "import nrjax, os; print(nrjax.tune_cpu(), nrjax.tune_gpu(), '{}' in os.environ['XLA_FLAGS'])"
    ended = told(script.format(GRAPHS))
    assert ended.stdout.split() == ["True", "False", "False"]
    assert "before tune_cpu()" in ended.stderr


@pytest.mark.parametrize("flags", [f"{GRAPHS}=FUSION", "--xla_force_host_platform_device_count=2"])
def test_what_is_set_stays(flags, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", flags)
    monkeypatch.setattr(gpu_options, "_has_read_them", lambda: False)
    assert tune_gpu()
    assert os.environ["XLA_FLAGS"].startswith(flags)
    assert os.environ["XLA_FLAGS"].count(GRAPHS) == 1


@pytest.mark.parametrize("version, known", [("0.12.1", True), ("0.13.0.dev1", False)])
def test_versions_that_were_not_tried(version, known, monkeypatch):
    """XLA would end the process, had it that option no more."""
    monkeypatch.setenv("XLA_FLAGS", "")
    monkeypatch.setattr(cpu_options, "version", lambda name: version)
    monkeypatch.setattr(gpu_options, "_has_read_them", lambda: False)
    tune_gpu()
    assert (GRAPHS in os.environ["XLA_FLAGS"]) == known
