"""How a sweep lies on a disk as Zarr: its variables, and a ledger of its tiles. Imports nothing that computes."""

import dataclasses
import hashlib
import time
from pathlib import Path
from typing import Any, Final

import filelock
import numpy as np

from .._numerics.files import lock_of

MISSING, RUNNING, DONE, FAILED = range(4)
STATES: Final = ("missing", "running", "done", "failed")
# The group of the ledger, and its arrays: the state of every tile, a digest of its values, when it was finished.
LEDGER: Final = "tiles"
GROWING: Final = ".growing"


@dataclasses.dataclass(frozen=True)
class Status:
    """How far a sweep has come.

    - `done`, `failed`, `running`, `tiles`: numbers of tiles. `points`: of the grid.
    - `active`: whether a process works on it now; without one, tiles that ran are lost.
    - `seconds_left`: by the rate of the present run; None where there is none.
    - `interrupted`: tiles that ran when their process ended.
    """

    done: int
    failed: int
    running: int
    tiles: int
    points: int
    active: bool
    seconds_left: float | None
    interrupted: int = 0

    def __str__(self) -> str:
        words = [
            f"{self.done} of {self.tiles} tiles done ({100 * self.done / self.tiles:.1f} % of {self.points} points)"
        ]
        words += [f"{n} {name}" for name, n in (("failed", self.failed), ("running", self.running)) if n]
        if self.interrupted:
            words.append(f"{self.interrupted} interrupted")
        if self.done < self.tiles:
            if not self.active:
                words.append("nothing works on it: run the same sweep again to go on")
            elif self.seconds_left is not None:
                words.append(f"about {_spoken(self.seconds_left)} left")
        return ", ".join(words)


def open_group(path: Path, mode: Any = "r") -> Any:
    """The Zarr group of a sweep. **Raises** `ValueError` for a folder that is none."""
    import zarr

    if not path.exists():
        raise ValueError(f"{path} does not exist. Give the .zarr store of a sweep.")
    try:
        group = zarr.open_group(path, mode=mode, use_consolidated=False)
        group[LEDGER]
    except (KeyError, OSError, ValueError) as error:
        raise ValueError(f"{path} is no store of a sweep. Give another name, or move it away.") from error
    return group


def status(store: str | Path) -> Status:
    """How far the sweep in a .zarr store has come.

    **Raises** `ValueError` if there is no such store.
    """
    path = Path(store).resolve()
    if path.suffix == ".nc":
        raise ValueError(f"{store}: a map in one file has no tiles to tell of. Sweep with a store named *.zarr.")
    growing = path.with_name(path.name + GROWING)
    active = _is_locked(path)
    path = growing if growing.exists() else path
    group = open_group(path)
    ledger = {name: array[:] for name, array in group[LEDGER].arrays()}
    count = np.bincount(ledger["state"].ravel(), minlength=len(STATES))
    left = None
    begun = float(group[LEDGER].attrs["begun"])
    of_this_run = ledger["finished"] > begun
    if active and of_this_run.any():
        each = (time.time() - begun) / int(of_this_run.sum())
        left = each * int(count.sum() - count[DONE])
    return Status(
        done=int(count[DONE]),
        failed=int(count[FAILED]),
        running=int(count[RUNNING]) if active else 0,
        tiles=int(count.sum()),
        points=int(np.prod(group.attrs["shape"], dtype=float)),
        active=active,
        seconds_left=left,
        interrupted=0 if active else int(count[RUNNING]),
    )


def digest_of(values: dict[str, np.ndarray]) -> int:
    """A number that tells whether the values of a tile are those that were written; never zero."""
    digest = hashlib.blake2b(digest_size=8)
    for name in sorted(values):
        digest.update(name.encode() + np.ascontiguousarray(values[name]).tobytes())
    return int.from_bytes(digest.digest(), "big") or 1


def _is_locked(path: Path) -> bool:
    lock = lock_of(path)
    if not Path(lock.lock_file).exists():
        return False
    try:
        with lock:
            return False
    except (filelock.Timeout, OSError):
        return True


def _spoken(seconds: float) -> str:
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
