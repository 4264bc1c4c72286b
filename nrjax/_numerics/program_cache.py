"""Compiled programs kept on disk, so that the next process starts at once. JAX is imported only where it is needed."""

import atexit
import contextlib
import hashlib
import os
import platform
import shutil
import sys
import warnings
from pathlib import Path
from typing import Final, NamedTuple

# Least recently used programs go when all take more.
LARGEST: Final = 1 << 30
PROGRAM, USED = "-cache", "-atime"
# Where those lie that are called without being traced.
READY: Final = "ready"


class Contents(NamedTuple):
    """How many compiled programs a directory holds, and their size in bytes."""

    programs: int
    size: int


def default_directory() -> Path:
    """The user's cache directory; one for each kind of processor, since programs may use what another one lacks."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("nrjax", appauthor=False)) / "programs" / _processor()


def current_directory() -> Path:
    """Where programs are kept if nothing else is said: JAX's own variable, or the user's cache directory."""
    return Path(os.environ.get("JAX_COMPILATION_CACHE_DIR") or default_directory())


def keep_compiled_programs(directory: str | os.PathLike[str] | None = None) -> Path | None:
    """Keep compiled programs on disk, so that the next process that needs one loads it instead of compiling it.

    JAX's persistent compilation cache with the settings that suit nrjax: all programs, 1 GiB at most, safe for several
    processes at a time. The larger programs of nrjax are kept whole besides, half of that at most, and called without
    being traced; not those that call a function of yours. Those of a single state are compiled in half the time, and
    the last digits of what they tell are other ones. Off until it is called; the `nrjax` command calls it.

    What is kept is code that is run when it is read: the directory must be one that only you can write to.

    **Arguments** `directory`: where; default JAX's own setting (`jax_compilation_cache_dir`) where there is one, else
    the user's cache directory. It must not be shared by processors of different kinds.

    **Returns** the directory; None, with a warning, if it cannot be written: all works, and compiles, as before.
    """
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    from . import ready_programs

    chosen = Path(directory or jax.config.values["jax_compilation_cache_dir"] or current_directory())
    try:
        chosen.mkdir(parents=True, exist_ok=True)
        _remove_unfinished(chosen)
    except OSError as error:
        warnings.warn(
            f"compiled programs are not kept: {error}. Name a directory that can be written, or leave it at that.",
            stacklevel=2,
        )
        return None
    jax.config.update("jax_compilation_cache_dir", str(chosen))
    jax.config.update("jax_compilation_cache_max_size", LARGEST)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    # JAX decides at its first program whether it keeps any.
    compilation_cache.reset_cache()
    _remove_oldest(chosen / READY)
    ready_programs.keep_in(chosen / READY)
    # A program that could not be written in full (no space left) would hinder other processes.
    atexit.register(_leave, chosen)
    return chosen


def contents(directory: Path) -> Contents:
    """What a directory of compiled programs holds."""
    paths = [*directory.glob(f"*{PROGRAM}"), *(directory / READY).glob("*")]
    sizes = [path.stat().st_size for path in paths]
    return Contents(len(sizes), sum(sizes))


def clear(directory: Path) -> None:
    """Remove a directory of compiled programs."""
    shutil.rmtree(directory, ignore_errors=True)


def _remove_unfinished(directory: Path) -> None:
    """Remove programs whose writing was cut off, which JAX would neither load nor replace: those never marked as used.

    **Raises** `OSError` if the directory cannot be written.
    """
    from filelock import FileLock

    # JAX's own lock: a program that is being written is not marked yet.
    with FileLock(directory / ".lockfile", timeout=10):
        for path in directory.glob(f"*{PROGRAM}"):
            if not path.with_name(path.name.removesuffix(PROGRAM) + USED).exists():
                path.unlink()


def _remove_oldest(directory: Path) -> None:
    """Keep the last used ready programs, of half the size that JAX's own may have."""
    found = []
    for path in directory.glob("*"):
        # Another process may be removing the same.
        with contextlib.suppress(FileNotFoundError):
            found.append((path.stat().st_mtime, path.stat().st_size, path))
    size = 0
    for _, more, path in sorted(found, reverse=True):
        size += more
        if size > LARGEST // 2:
            path.unlink(missing_ok=True)


def _leave(directory: Path) -> None:
    with contextlib.suppress(OSError):
        _remove_unfinished(directory)


def _processor() -> str:
    """A short name for a kind of processor and all that it can do."""
    told = [sys.platform, platform.machine(), platform.processor()]
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    # Linux names the abilities of every core; the first stands for all.
    told += [next((line for line in lines if line.lower().startswith(("flags", "features"))), "")]
    told += [next((line for line in lines if line.startswith("model name")), "")]
    return f"{platform.machine()}-{hashlib.sha256(' '.join(told).encode()).hexdigest()[:8]}"
