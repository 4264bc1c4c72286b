"""Sweeps too large for the memory, kept tile by tile as Zarr: one chunk of every variable for each tile."""

import contextlib
import os
import shutil
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr

from .._numerics.files import require_place
from .blocks import Blocks
from .store import AbstractStore, Values, claimed, differences, of_other_input, warn_of_damage
from .table import Table
from .zarr_layout import DONE, FAILED, GROWING, LEDGER, MISSING, RUNNING, digest_of, open_group

# Values of an axis that differ by less, in units of the rounding of the largest, are the same.
SAME_VALUE: Final = 8.0
# Seconds between two writings of the times at which tiles were finished.
TIMES_EVERY_S: Final = 1.0


class ZarrStore(AbstractStore):
    """A sweep in a folder of Zarr.

    Beside the variables lies a ledger: of every tile its state, a digest of its values, and the time when it was
    finished. A tile counts as done when its digest fits what can be read; all others are computed again.
    """

    def __init__(
        self,
        target: Path,
        blocks: Blocks,
        digest: str,
        resume: bool,
        older: "_Older | None" = None,
        goes_on: bool = True,
    ):
        self.target, self.blocks, self.digest, self.resume, self.older = target, blocks, digest, resume, older
        # Whether what has been begun, if anything, is of this sweep.
        self.goes_on = goes_on
        # Tiles that cannot be read, once they have been looked for.
        self.damaged: list[int] | None = None
        # When the ledger was written first, and when its times were last.
        self.begun = self.noted = float("inf")
        # Variables that are open for writing.
        self.arrays: dict[str, Any] = {}
        # Where tiles are written: beside a store that grows, which stays as it was until all are there.
        self.path = target if older is None else target.with_name(target.name + GROWING)

    @classmethod
    def of(
        cls,
        store: str | os.PathLike[str],
        axes: dict[str, np.ndarray],
        tile: int,
        digest: str,
        resume: bool,
        attributes: dict[str, Any],
        grows: bool = True,
    ) -> "ZarrStore":
        """The store for a sweep over `axes`: what is there if it fits, one that grows from it, or a new one.

        **Arguments** `digest`: of what is computed, whatever the axes. `attributes`: of its Dataset. `grows`: whether
        points can be added.

        **Raises** `ValueError` if the place holds another sweep, or no sweep at all.
        """
        target = require_place(store)
        if not target.exists():
            return cls(target, Blocks.of(axes, tile), digest, resume)
        group = open_group(target)
        if not resume:
            return cls(target, Blocks.of(axes, tile), digest, resume)
        if group.attrs.get("computation") != digest:
            raise of_other_input(target, differences(group.attrs, attributes))
        stored = _axes_of(group)
        if list(stored) != list(axes):
            raise of_other_input(target, f"Its axes are {', '.join(stored)}.")
        if all(np.array_equal(stored[name], axes[name]) for name in axes):
            return cls(target, Blocks(stored, tuple(group.attrs["edges"])), digest, resume)
        if not grows:
            raise of_other_input(target, "Refined maps do not grow.")
        axes = {name: _snapped(target, name, values, stored[name]) for name, values in axes.items()}
        own = Blocks(stored, tuple(group.attrs["edges"]))
        older = _Older(target, own, axes)
        blocks = Blocks.of(axes, tile)
        growing, goes_on = target.with_name(target.name + GROWING), False
        if growing.exists():
            begun = open_group(growing)
            theirs = _axes_of(begun)
            goes_on = begun.attrs.get("computation") == digest
            goes_on = goes_on and all(np.array_equal(theirs[name], axes[name]) for name in axes)
            if goes_on:
                blocks = Blocks(theirs, tuple(begun.attrs["edges"]))
        return cls(target, blocks, digest, resume, older, goes_on)

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        with claimed(self.target):
            if not self.resume:
                for path in (self.target, self.target.with_name(self.target.name + GROWING)):
                    shutil.rmtree(path, ignore_errors=True)
            elif not self.goes_on:
                shutil.rmtree(self.path, ignore_errors=True)
            yield

    def finished(self, table: Table) -> xr.Dataset | None:
        if self.older is not None or not self.resume or not self.target.exists():
            return None
        group = open_group(self.target)
        if not bool((group[LEDGER]["state"][:] == DONE).all()):
            return None
        self.damaged = self._damaged(group)
        return None if self.damaged else self._opened(table)

    def missing(self, table: Table) -> list[int]:
        if self.path.exists():
            group = open_group(self.path, "r+")
        else:
            group = self._create(table)
        self.table, self.group, ledger = table, group, group[LEDGER]
        ledger.attrs["begun"] = time.time()
        self.columns = {name: ledger[name] for name in ("digest", "finished", "state")}
        self.digests, self.times, self.state = (column[:].ravel() for column in self.columns.values())
        self.state[self._damaged(group) if self.damaged is None else self.damaged] = MISSING
        self.state[self.state != DONE] = MISSING
        if self.older is not None:
            self.older.require_whole(self._damaged)
            for index in np.flatnonzero(self.state == MISSING):
                if self.older.mask(self.blocks, int(index)).all():
                    self.keep(int(index), {})
        self._note()
        return [int(index) for index in np.flatnonzero(self.state == MISSING)]

    def lanes(self, index: int) -> Values:
        lanes = self.blocks.lanes(index)
        if self.older is None:
            return lanes
        new = ~self.older.mask(self.blocks, index)
        return {name: values[new] for name, values in lanes.items()}

    def begin(self, index: int) -> None:
        self.state[index] = RUNNING

    def fail(self, index: int) -> None:
        self.state[index] = FAILED
        self._note()

    def keep(self, index: int, values: Values) -> None:
        if self.older is not None:
            values = self.older.joined(self.blocks, index, values)
        region, extent = self.blocks.region(index), self.blocks.extent(index)
        for name, some in values.items():
            self._array(name, some)[region] = some.reshape(*extent, *some.shape[1:])
        self.state[index], self.digests[index], self.times[index] = DONE, digest_of(values), time.time()
        self._note()

    def finish(self, table: Table) -> xr.Dataset:
        import zarr

        # For the other programs that read it.
        with warnings.catch_warnings(category=UserWarning, action="ignore"):
            zarr.consolidate_metadata(self.path)
        if self.older is not None:
            aside = self.target.with_name(self.target.name + ".old")
            os.replace(self.target, aside)
            os.replace(self.path, self.target)
            shutil.rmtree(aside, ignore_errors=True)
        return self._opened(table)

    def _opened(self, table: Table) -> xr.Dataset:
        """The Dataset, whose numbers are read where they are used."""
        dataset = xr.open_zarr(self.target, consolidated=False, chunks=None)
        return table.dataset({str(name): variable.variable for name, variable in dataset.data_vars.items()})

    def _create(self, table: Table) -> Any:
        import zarr

        # Under another name until it is whole.
        fresh = self.path.with_name(self.path.name + ".new")
        shutil.rmtree(fresh, ignore_errors=True)
        group = zarr.open_group(
            fresh,
            mode="w",
            attributes=_plain(table.attributes)
            | {"computation": self.digest, "shape": list(self.blocks.shape), "edges": list(self.blocks.edges)},
        )
        for name, values in self.blocks.axes.items():
            array = group.create_array(
                name,
                shape=values.shape,
                dtype=values.dtype,
                dimension_names=[name],
                attributes=_plain(table.axis_attributes(name)),
            )
            array[:] = values
        ledger = group.create_group(LEDGER, attributes={"begun": time.time(), "states": "missing running done failed"})
        dimensions = [f"{name}_tile" for name in self.blocks.axes]
        for name, dtype in (("state", "int8"), ("digest", "uint64"), ("finished", "float64")):
            ledger.create_array(name, shape=self.blocks.counts, dtype=dtype, dimension_names=dimensions, fill_value=0)
        os.replace(fresh, self.path)
        return open_group(self.path, "r+")

    def _array(self, name: str, some: np.ndarray) -> Any:
        """The array of a variable over the whole grid, made when its first values come; opened once."""
        if name in self.arrays:
            return self.arrays[name]
        if name not in self.group:
            from zarr.codecs import BloscCodec, Crc32cCodec

            extra = some.shape[1:]
            dimensions, attributes = self.table.described(name, len(self.blocks.shape) + len(extra))
            self.group.create_array(
                name,
                shape=(*self.blocks.shape, *extra),
                chunks=(*self.blocks.edges, *extra),
                dtype=some.dtype,
                dimension_names=dimensions,
                attributes=_plain(attributes),
                fill_value=_nothing(some.dtype),
                compressors=[BloscCodec(cname="lz4", clevel=1, shuffle="shuffle"), Crc32cCodec()],
            )
        self.arrays[name] = self.group[name]
        return self.arrays[name]

    def _note(self) -> None:
        """Write the ledger. The times, of which only the rate is read: always at first and at the end, between once in
        a while."""
        kept, now = {"digest": self.digests, "finished": self.times, "state": self.state}, time.monotonic()
        self.begun = min(self.begun, now)
        between = now - self.begun > TIMES_EVERY_S and (self.state != DONE).any()
        if between and now - self.noted < TIMES_EVERY_S:
            del kept["finished"]
        else:
            self.noted = now
        for name, values in kept.items():
            self.columns[name][...] = values.reshape(self.blocks.counts)

    def _damaged(self, group: Any, blocks: Blocks | None = None) -> list[int]:
        """Tiles that count as done and are not what was written, with a warning for each."""
        blocks = self.blocks if blocks is None else blocks
        state, digests = group[LEDGER]["state"][:].ravel(), group[LEDGER]["digest"][:].ravel()
        damaged = []
        for index in map(int, np.flatnonzero(state == DONE)):
            try:
                values = _read(group, blocks, index)
                why = "" if digest_of(values) == digests[index] else "its values are not those that were written"
            except (OSError, ValueError, RuntimeError, KeyError) as error:
                why = f"{error}"
            if why:
                warn_of_damage(f"tile {index} of {self.target}", why)
                damaged.append(index)
        return damaged


class _Older:
    """A finished store that holds some of the points of a larger grid."""

    def __init__(self, path: Path, blocks: Blocks, axes: dict[str, np.ndarray]):
        self.path, self.blocks, self.group = path, blocks, open_group(path)
        # Where each value of the new axes lies on the old ones, -1 where it is new.
        self.places = {}
        for name, values in axes.items():
            old = {value: i for i, value in enumerate(blocks.axes[name].tolist())}
            self.places[name] = np.array([old.get(value, -1) for value in values.tolist()])

    def require_whole(self, damaged: Any) -> None:
        """Raise `ValueError` unless all of it is done and can be read."""
        if not bool((self.group[LEDGER]["state"][:] == DONE).all()) or damaged(self.group, self.blocks):
            raise ValueError(
                f"{self.path} is not finished, and cannot grow. Run the sweep over its own axes to the end first."
            )

    def _along(self, blocks: Blocks, index: int) -> list[np.ndarray]:
        return [self.places[name][part] for name, part in zip(blocks.axes, blocks.region(index), strict=True)]

    def mask(self, blocks: Blocks, index: int) -> np.ndarray:
        """Which points of a tile of the new grid are there, shape (points,)."""
        there = np.ones((), bool)
        for places in self._along(blocks, index):
            there = there[..., None] & (places >= 0)
        return there.reshape(-1)

    def joined(self, blocks: Blocks, index: int, new: Values) -> Values:
        """The values of a whole tile, from those that are there and the new ones."""
        mask = self.mask(blocks, index)
        if not mask.any():
            return new
        along = tuple(places[places >= 0] for places in self._along(blocks, index))
        values = {}
        for name in _variables(self.group, self.blocks):
            array = self.group[name]
            old = array.oindex[along].reshape(-1, *array.shape[len(along) :])
            values[name] = np.empty((mask.size, *old.shape[1:]), old.dtype)
            values[name][mask] = old
            if new:
                values[name][~mask] = new[name]
        return values


def _snapped(target: Path, name: str, values: np.ndarray, stored: np.ndarray) -> np.ndarray:
    """The values of an axis, those of a stored one in place of equal ones up to rounding.

    **Raises** `ValueError` if a stored value is not among them.
    """
    values = values.copy()
    unit = np.finfo(values.dtype).eps * np.abs(values).max()
    for value in stored:
        nearest = int(np.argmin(np.abs(values - value)))
        if abs(values[nearest] - value) > SAME_VALUE * unit:
            raise of_other_input(target, f"A store grows where the new axes hold its points: {name} lacks {value:g}.")
        values[nearest] = value
    return values


def _axes_of(group: Any) -> dict[str, np.ndarray]:
    """The axes of a stored grid, in their order."""
    names = group[LEDGER]["state"].metadata.dimension_names
    return {name: group[name][:] for name in (full.removesuffix("_tile") for full in names)}


def _variables(group: Any, blocks: Blocks) -> list[str]:
    return [name for name, _ in group.arrays() if name not in blocks.axes]


def _read(group: Any, blocks: Blocks, index: int) -> Values:
    region, points = blocks.region(index), int(np.prod(blocks.extent(index)))
    arrays = {name: group[name][region] for name in _variables(group, blocks)}
    return {name: x.reshape(points, *x.shape[len(region) :]) for name, x in arrays.items()}


def _nothing(dtype: np.dtype) -> Any:
    """What stands where nothing is computed yet: no number, UNRESOLVED, not valid."""
    if np.issubdtype(dtype, np.inexact):
        return np.nan
    return False if dtype == np.bool_ else -1 if np.issubdtype(dtype, np.signedinteger) else 0


def _plain(attributes: dict[str, Any]) -> dict[str, Any]:
    """Attributes as JSON has them."""
    return {name: x.tolist() if isinstance(x, np.ndarray) else x for name, x in attributes.items()}
