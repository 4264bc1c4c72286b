"""Where a sweep keeps what it has computed: finished tiles beside the file that they become."""

import contextlib
import os
import shutil
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

import filelock
import numpy as np
import xarray as xr

from .._numerics.files import atomic, require_writable


class TileStore:
    """Finished tiles beside the file they will become; does nothing without a file.

    Tiles are whole or not there, and checked by the sums that their zip files hold when they are read again.
    """

    def __init__(self, store: str | os.PathLike[str] | None, fingerprint: str | None, resume: bool):
        self.fingerprint = fingerprint or ""
        self.resume = resume
        self.target = None if store is None else require_writable(store)
        if self.target is not None:
            self.parts = self.target.with_name(self.target.name + ".parts")

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """For this process alone. **Raises** `ValueError` if another one computes for the same file."""
        if self.target is None:
            yield
            return
        lock = filelock.FileLock(self.target.with_name(self.target.name + ".lock"), timeout=0)
        try:
            lock.acquire()
        except filelock.Timeout as error:
            raise ValueError(
                f"{self.target} is being computed by another process. Wait for it, or give another store."
            ) from error
        try:
            if not self.resume:
                shutil.rmtree(self.parts, ignore_errors=True)
            yield
        finally:
            Path(lock.lock_file).unlink(missing_ok=True)
            lock.release()

    def finished(self) -> xr.Dataset | None:
        if self.target is None or not self.resume or not self.target.exists():
            return None
        with xr.open_dataset(self.target, engine="h5netcdf") as dataset:
            if dataset.attrs.get("fingerprint") != self.fingerprint:
                raise ValueError(
                    f"{self.target} holds a sweep of other input. Give another store, or resume=False to replace it."
                )
            return dataset.load()

    def _part(self, index: int) -> Path:
        return self.parts / f"{self.fingerprint[:16]}-{index:06d}.npz"

    def load(self, index: int) -> dict[str, np.ndarray] | None:
        if self.target is None or not self._part(index).exists():
            return None
        try:
            with self._part(index).open("rb") as stream, np.load(stream) as arrays:
                return dict(arrays)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            warnings.warn(f"{self._part(index)} is damaged ({error}) and is computed again.", stacklevel=2)
            return None

    def save(self, index: int, result: dict[str, np.ndarray]) -> None:
        if self.target is not None:
            self.parts.mkdir(exist_ok=True)
            with atomic(self._part(index)) as path, path.open("wb") as stream:
                np.savez(stream, allow_pickle=False, **result)

    def finish(self, dataset: xr.Dataset) -> None:
        if self.target is not None:
            save_dataset(dataset, self.target)
            shutil.rmtree(self.parts, ignore_errors=True)


def save_dataset(dataset: xr.Dataset, path: str | os.PathLike[str]) -> None:
    """Write a Dataset as NetCDF, whole or not at all.

    **Raises** `OSError` if the disk is full. (It is put together in memory: HDF5 itself does not survive a full disk.)
    """
    content = dataset.to_netcdf(engine="h5netcdf")
    with atomic(path) as temporary, temporary.open("wb") as stream:
        stream.write(content)
