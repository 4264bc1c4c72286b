"""Compiled programs on disk: a second process compiles nothing, and nothing that happens to the files matters."""

import os
import subprocess
import sys
from pathlib import Path

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
