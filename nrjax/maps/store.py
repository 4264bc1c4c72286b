"""Where a sweep keeps what it has computed: in memory, or in finished tiles beside the file that they become."""

import abc
import contextlib
import hashlib
import json
import math
import os
import shutil
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import filelock
import numpy as np
import xarray as xr

from .._numerics.files import atomic, lock_of, require_writable
from .blocks import Blocks
from .table import Table

Values = dict[str, np.ndarray]

# Parameters that an error names.
TOLD: Final = 3


class AbstractStore(abc.ABC):
    """The tiles of one sweep. `blocks` is how its grid is cut into them."""

    blocks: Blocks

    @abc.abstractmethod
    def finished(self, table: Table) -> xr.Dataset | None:
        """What is already there, whole. **Raises** `ValueError` if the store holds another sweep."""

    @abc.abstractmethod
    def claimed(self) -> contextlib.AbstractContextManager[None]:
        """For this process alone. **Raises** `ValueError` if another one computes for the same store."""

    @abc.abstractmethod
    def missing(self, table: Table) -> list[int]:
        """The tiles that are not there, or damaged."""

    @abc.abstractmethod
    def keep(self, index: int, values: Values) -> None:
        """Put the values of a tile's `lanes`, each of shape (points, ...), where they last."""

    @abc.abstractmethod
    def finish(self, table: Table) -> xr.Dataset:
        """The whole Dataset, once no tile is missing."""

    def begin(self, index: int) -> None:
        """Note that a tile is being computed."""
        del index

    def fail(self, index: int) -> None:
        """Note that the computation of a tile has raised an error."""
        del index

    def keep_all(self, values: Values) -> None:
        """Put the values of the whole grid, each of shape (*grid, ...), where they last."""
        for index in range(len(self.blocks)):
            region, points = self.blocks.region(index), math.prod(self.blocks.extent(index))
            self.keep(index, {name: x[region].reshape(points, *x.shape[len(region) :]) for name, x in values.items()})

    def lanes(self, index: int) -> Values:
        """The points of a tile that are to be computed: name -> values of shape (points,)."""
        return self.blocks.lanes(index)


class Memory(AbstractStore):
    """A Dataset in memory; with a file, finished tiles are kept beside it until it is written.

    Tiles are whole or not there, and checked by the sums that their zip files hold when they are read again.
    """

    def __init__(self, blocks: Blocks, target: str | os.PathLike[str] | None, fingerprint: str, resume: bool):
        self.blocks, self.fingerprint, self.resume = blocks, fingerprint, resume
        self.values: Values = {}
        self.target = None if target is None else require_writable(target)
        if self.target is not None:
            self.parts = self.target.with_name(self.target.name + ".parts")

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        if self.target is None:
            yield
            return
        with claimed(self.target):
            if not self.resume:
                shutil.rmtree(self.parts, ignore_errors=True)
            yield

    def finished(self, table: Table) -> xr.Dataset | None:
        if self.target is None or not self.resume or not self.target.exists():
            return None
        with xr.open_dataset(self.target, engine="h5netcdf") as dataset:
            if dataset.attrs.get("fingerprint") != self.fingerprint:
                raise of_other_input(self.target, differences(dataset.attrs, table.attributes))
            return dataset.load()

    def missing(self, table: Table) -> list[int]:
        del table
        missing = []
        for index in range(len(self.blocks)):
            values = self._load(index)
            if values is None:
                missing.append(index)
            else:
                self._put(index, values)
        return missing

    def keep(self, index: int, values: Values) -> None:
        if self.target is not None:
            self.parts.mkdir(exist_ok=True)
            with atomic(self._part(index)) as path, path.open("wb") as stream:
                np.savez(stream, allow_pickle=False, **values)
        self._put(index, values)

    def keep_all(self, values: Values) -> None:
        self.values = values

    def finish(self, table: Table) -> xr.Dataset:
        dataset = table.dataset(self.values)
        if self.target is not None:
            dataset.attrs["fingerprint"] = self.fingerprint
            save_dataset(dataset, self.target)
            shutil.rmtree(self.parts, ignore_errors=True)
        return dataset

    def _put(self, index: int, values: Values) -> None:
        region, extent = self.blocks.region(index), self.blocks.extent(index)
        for name, some in values.items():
            if name not in self.values:
                self.values[name] = np.empty((*self.blocks.shape, *some.shape[1:]), some.dtype)
            self.values[name][region] = some.reshape(*extent, *some.shape[1:])

    def _part(self, index: int) -> Path:
        edges = "x".join(map(str, self.blocks.edges))
        return self.parts / f"{self.fingerprint[:16]}-{edges}-{index:06d}.npz"

    def _load(self, index: int) -> Values | None:
        if self.target is None or not self._part(index).exists():
            return None
        try:
            with self._part(index).open("rb") as stream, np.load(stream) as arrays:
                return dict(arrays)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            warn_of_damage(self._part(index), error)
            return None


@contextlib.contextmanager
def claimed(target: Path) -> Iterator[None]:
    """A store for this process alone. **Raises** `ValueError` if another one computes for it."""
    lock = lock_of(target)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        raise ValueError(
            f"{target} is being computed by another process. Wait for it, or give another store."
        ) from error
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def fingerprint(digest: str, axes: dict[str, np.ndarray]) -> str:
    """What a sweep is computed from: every operation and constant of the computation, and its axes."""
    whole = hashlib.sha256(digest.encode())
    for name, values in axes.items():
        whole.update(name.encode() + values.tobytes())
    return whole.hexdigest()


def of_other_input(target: Any, why: str = "") -> ValueError:
    """What to say of a store that holds another sweep."""
    why = f" {why}" if why else ""
    return ValueError(f"{target} holds a sweep of other input.{why} Give another store, or resume=False to replace it.")


def differences(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """In which parameters, or which version of nrjax, two sweeps with these attributes differ; empty if in neither."""
    there, here = (json.loads(attributes.get("parameters", "{}")) for attributes in (stored, wanted))
    there, here = ({"nrjax_version": a.get("nrjax_version")} | b for a, b in ((stored, there), (wanted, here)))
    names = [name for name in there if name in here and there[name] != here[name]]
    told = ", ".join(f"{name} = {there[name]} (here {here[name]})" for name in names[:TOLD])
    more = f" and {len(names) - TOLD} more" if len(names) > TOLD else ""
    return f"It was computed with {told}{more}." if names else ""


def warn_of_damage(what: Any, why: Any) -> None:
    """Say that a tile cannot be read."""
    warnings.warn(f"{what} is damaged ({why}) and is computed again.", stacklevel=2)


def save_dataset(dataset: xr.Dataset, path: str | os.PathLike[str]) -> None:
    """Write a Dataset as NetCDF, whole or not at all.

    **Raises** `OSError` if the disk is full. (It is put together in memory: HDF5 itself does not survive a full disk.)
    """
    content = dataset.to_netcdf(engine="h5netcdf")
    with atomic(path) as temporary, temporary.open("wb") as stream:
        stream.write(content)
