"""Where a sweep keeps what it has computed: finished tiles beside the file that they become."""

import os
import shutil
from pathlib import Path

import numpy as np
import xarray as xr

from .._numerics.files import atomic, require_writable


class TileStore:
    """Finished tiles beside the file they will become; does nothing without a file."""

    def __init__(self, store: str | os.PathLike[str] | None, fingerprint: str | None, resume: bool):
        self.fingerprint = fingerprint or ""
        self.resume = resume
        self.target = None if store is None else require_writable(store)
        if self.target is not None:
            self.parts = self.target.with_name(self.target.name + ".parts")
            if not resume:
                shutil.rmtree(self.parts, ignore_errors=True)

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
        with np.load(self._part(index)) as arrays:
            return dict(arrays)

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
