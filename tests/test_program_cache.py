"""Compiled programs on disk: a second process compiles nothing, and nothing that happens to the files matters."""

import os
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import pytest

from nrjax._numerics import program_cache
from nrjax.cli import main

SPACER = "exchange --sites 8 --layers 8 --quiet --overwrite".split()
# Runs a command and prints how many of its programs were compiled, and how many were found.
COUNTED = """
import sys, jax
found = {"cache_misses": 0, "cache_hits": 0}
def count(name, **more):
    word = name.rsplit("/", 1)[-1]
    if word in found:
        found[word] += 1
jax.monitoring.register_event_listener(count)
from nrjax.cli import main
code = main(sys.argv[1:])
print("missed", found["cache_misses"], "found", found["cache_hits"])
sys.exit(code)
"""


# Typical calls, each twice with other numbers. With an empty cache, a program that is found has been compiled before.
SESSION = """
import logging, sys, jax
jax.config.update("jax_enable_x64", True)
found = []
class Finds(logging.Handler):
    def emit(self, record):
        words = record.getMessage()
        if "cache hit" in words:
            found.append(words.split("'")[1])
logger = logging.getLogger("jax._src.compiler")
logger.setLevel(logging.DEBUG)
logger.addHandler(Finds())
logger.propagate = False
import jax.numpy as jnp, numpy as np, nrjax
nrjax.keep_compiled_programs(sys.argv[1])
def counted(what, *calls):
    for call in calls:
        found.clear()
        call()
        print(what, *found)
pair, lit = nrjax.hanai2025_bilayer, nrjax.illuminated_bilayer
one, two = pair(0.05, 6.0), pair(0.04, 7.0)
counted("steady_state", lambda: nrjax.steady_state(one), lambda: nrjax.steady_state(two))
counted("laser", lambda: nrjax.steady_state(lit(2.4e10, 1560.0)), lambda: nrjax.steady_state(lit(2e10, 1550.0)))
start = [[0.1, 0.0, 0.8], [0.0, 0.1, 0.5]]
counted("simulate", lambda: nrjax.simulate(one, start, 20.0), lambda: nrjax.simulate(two, start, 30.0))
counted("branches", lambda: nrjax.branches(one), lambda: nrjax.branches(two))
def edge(exchange):
    kind = nrjax.Boundary.ANTIALIGNED_CHIRAL
    return nrjax.boundary(pair, kind, "loss_rate", (0.0, 0.12), interlayer_exchange=exchange)
counted("boundary", lambda: edge(6.0), lambda: edge(7.0))
def line(top):
    return nrjax.sweep(pair, {"loss_rate": np.linspace(0.0, top, 30)}, progress=False)
counted("sweep", lambda: line(0.1), lambda: line(0.12))
many = jax.vmap(lambda loss: pair(loss, 6.0))(jnp.linspace(0.01, 0.1, 40))
counted("simulate_many", *(lambda t=t: nrjax.simulate_many(many, start, t, progress=False) for t in (5.0, 6.0)))
def found_laser(target):
    bounds = {"intensity": (0.0, 6e10)}
    return nrjax.design(lit, {"intensity": 2e10}, target, bounds=bounds, progress=False)
counted("design", lambda: found_laser(40.0), lambda: found_laser(45.0))
"""


@pytest.fixture
def run(tmp_path):
    """A command in a process of its own, with an empty cache directory of its own."""

    def one(*arguments: str, cache: Path | None = None, largest_file: int = -1) -> tuple[int, int, str]:
        environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "home"), "MPLBACKEND": "agg"}
        environment |= {"JAX_ENABLE_COMPILATION_CACHE": "true"}
        environment.pop("JAX_COMPILATION_CACHE_DIR", None)
        if cache is not None:
            environment["JAX_COMPILATION_CACHE_DIR"] = str(cache)
        limit = f"import resource; import nrjax.plot; resource.setrlimit(resource.RLIMIT_FSIZE, ({largest_file},) * 2);"
        command = [sys.executable, "-W", "error", "-c", limit * (largest_file > 0) + COUNTED, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
        assert done.returncode == (1 if largest_file > 0 else 0), done.stderr
        words = done.stdout.split()
        return int(words[-3]), int(words[-1]), done.stderr

    return one


def entries(directory: Path) -> list[Path]:
    return sorted(directory.rglob(f"*{program_cache.PROGRAM}"))


def test_a_second_process_compiles_nothing(run, tmp_path):
    missed, alike, _ = run(*SPACER)
    kept = entries(tmp_path / "home")
    assert missed == len(kept) > 0
    again, found, _ = run(*SPACER)
    assert again == 0 and found == missed + alike
    # A program whose writing was cut off is not marked as used; it is compiled again, and kept.
    broken = kept[0]
    broken.write_bytes(broken.read_bytes()[:100])
    broken.with_name(broken.name.removesuffix(program_cache.PROGRAM) + program_cache.USED).unlink()
    mended, found, error = run(*SPACER)
    assert (mended, found) == (1, missed + alike - 1) and "Error" not in error
    assert run(*SPACER)[:2] == (0, missed + alike)


@pytest.mark.long
def test_nothing_is_compiled_twice_in_one_process(tmp_path):
    """But for single operations on a few numbers, milliseconds each, that JAX keeps apart by how they came about."""
    environment = os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "true"}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    command = [sys.executable, "-c", SESSION, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    calls = [line.split() for line in done.stdout.splitlines()]
    assert len(calls) == 16 and any(len(words) > 1 for words in calls)
    for call, *programs in calls:
        for name in programs:
            operation = name.removeprefix("jit_").strip("_")
            assert operation in ("stage", "convert_element_type", "broadcast_in_dim") or hasattr(jnp, operation), call
    # The second of each kind of call compiles no operation anew that the first has compiled.
    assert sum(len(words) - 1 for words in calls[1::2]) <= 1, calls


@pytest.mark.long
def test_a_full_disk_costs_the_programs_only(run, tmp_path):
    """A limit of 8 kB on files stands for it: the command warns once, goes on until its own files do not fit, and
    leaves no half of a program."""
    cache = tmp_path / "programs"
    missed, _, error = run(*SPACER, cache=cache, largest_file=8192)
    assert error.count("warning") == 1 and "cannot be kept" in error
    used = {path.name.removesuffix(program_cache.USED) for path in cache.glob(f"*{program_cache.USED}")}
    assert used == {path.name.removesuffix(program_cache.PROGRAM) for path in entries(cache)} and len(used) < missed


@pytest.mark.long
def test_without_cache_nothing_is_kept(run, tmp_path):
    run(*SPACER, "--no-cache")
    assert entries(tmp_path) == []


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="a superuser may write anywhere")
def test_a_directory_that_cannot_be_written_is_said(run, tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    assert "compiled programs are not kept" in run(*SPACER, cache=closed)[2]


def test_a_file_in_the_place_of_the_directory_is_said(run, tmp_path):
    (tmp_path / "file").write_text("not a directory")
    assert "compiled programs are not kept" in run(*SPACER, cache=tmp_path / "file")[2]


@pytest.mark.long
def test_info_shows_and_clears(run, tmp_path, monkeypatch, capsys):
    cache = tmp_path / "programs"
    run(*SPACER, cache=cache)
    kept = len(entries(cache))
    size = sum(path.stat().st_size for path in entries(cache)) / 1e6
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(cache))
    assert main(["info"]) == 0
    assert f"{kept} compiled programs, {size:.1f} MB, in {cache}" in capsys.readouterr().out
    assert main(["info", "--clear-cache"]) == 0
    assert f"removed {kept} compiled programs" in capsys.readouterr().out and not cache.exists()
    assert main(["info", "--clear-cache"]) == 0
    assert "removed 0" in capsys.readouterr().out


def test_processors_of_two_kinds_do_not_share(monkeypatch):
    here = program_cache.default_directory()
    monkeypatch.setattr("platform.machine", lambda: "another")
    assert program_cache.default_directory() != here
    assert program_cache.default_directory().parent == here.parent
