"""Arrays: the zarr arrays of a set, gathered by row from shard objects that are checked when they are first read."""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from jaxtyping import Int, UInt8

from shards.checked import CheckedFiles
from shards.errors import BadInput
from shards.layout import commit_path
from shards.mapped import MappedArray
from shards.ranges import Range
from shards.rows import row_checksums
from shards.zarrs import ArraySpec

_VIEWS_KEPT = 2
"""Views that stay open: a kernel maps 65,530 files a process, and ImageNet has 2,502 shards a view."""

Key = TypeVar("Key")
Value = TypeVar("Value")


class LastViews(Generic[Key, Value]):
    """The tars or mapped arrays of the last few views that were read: all views would pass the kernel's limit.

    A thread that still reads from a dropped value keeps it open until it is done.
    """

    def __init__(self) -> None:
        self._views: dict[int, dict[Key, Value]] = {}
        self._lock = threading.Lock()

    def keys(self, view: int) -> set[Key]:
        """What is there of one view."""
        return set(self._views.get(view, ()))

    def get(self, view: int, key: Key, make: Callable[[int, Key], Value]) -> Value:
        """The value under `key` of one view, else made now, and the view that came first dropped for it."""
        try:
            return self._views[view][key]
        except KeyError:
            made = make(view, key)  # without the lock: another thread makes another value meanwhile
            with self._lock:
                if view not in self._views and len(self._views) == _VIEWS_KEPT:
                    del self._views[next(iter(self._views))]
                return self._views.setdefault(view, {}).setdefault(key, made)


class StoredArrays:
    """Arrays of one set; any number of threads may read."""

    def __init__(self, folder: Path, specs: Mapping[str, ArraySpec], num_views: int, checked: CheckedFiles):
        """`checked` has the shard objects and commit records as a manifest says that they are; Damaged else."""
        self.folder, self.specs, self.num_views, self.checked = folder, specs, num_views, checked
        self._mapped: LastViews[str, MappedArray] = LastViews()

    def gather(
        self,
        view: int,
        samples: Int[np.ndarray, " count"],
        out: Mapping[str, UInt8[np.ndarray, "count row_bytes"]],
        requests: Executor | None = None,
    ) -> None:
        """Copy the rows of `samples` (strictly ascending plan indices) into `out`, one buffer an array.

        Rows that are in memory are copied from there; the others are read together, by `requests`.
        """
        if len(samples) == 0:
            return
        for name, buffer in out.items():
            spec = self.specs[name]
            if samples[0] < 0 or samples[-1] >= spec.num_samples or not 0 <= view < self.num_views:
                raise BadInput(f"{self.folder}: view {view} of samples {samples[0]} to {samples[-1]} is not in it")
            array = self._mapped.get(view, name, self._map)
            open_one, unopened = partial(self._open, view, array), array.unopened(samples)
            list(map(open_one, unopened) if requests is None else requests.map(open_one, unopened))
            cold = array.cold(samples)
            if len(cold) == 0:
                array.gather(samples, buffer)
            else:
                self._read(view, array, samples, cold, buffer, requests)
            array.check(samples, buffer, self.checked.check == "always")

    def _open(self, view: int, array: MappedArray, shard: int) -> None:
        spec = array.spec
        relative, record = spec.shard_path(view, shard), commit_path(view, shard)
        recorded = self.checked.commit(view, shard).checksums if record in self.checked.files else None
        sums = row_checksums(self.folder / record, recorded, spec.name, spec.num_rows(shard))
        path = self.checked(relative) if sums is None else self.checked.sized(relative)
        array.open(shard, path, sums)

    def _read(
        self,
        view: int,
        array: MappedArray,
        samples: Int[np.ndarray, " count"],
        cold: Int[np.ndarray, " cold"],
        out: UInt8[np.ndarray, "count row_bytes"],
        requests: Executor | None,
    ) -> None:
        """The rows at the positions `cold` by requests, the others from memory."""
        spec, ranges = array.spec, []
        for position in cold.tolist():
            shard, row = divmod(int(samples[position]), spec.shard_size)
            place = spec.shard_path(view, shard), spec.row_offset(row)
            ranges.append(Range(*place, memoryview(out[position])))
        self.checked.read(ranges, requests)
        warm = np.delete(np.arange(len(samples)), cold)
        if len(warm):
            rows = np.empty((len(warm), spec.row_bytes), np.uint8)
            array.gather(samples[warm], rows)
            out[warm] = rows

    def read(self, view: int, samples: Int[np.ndarray, " count"]) -> dict[str, np.ndarray]:
        """The rows of `samples` (strictly ascending): a new array (count, *row_shape) for each stored one."""
        out = {name: np.empty((len(samples), spec.row_bytes), np.uint8) for name, spec in self.specs.items()}
        self.gather(view, samples, out)
        return {name: typed(out[name], spec) for name, spec in self.specs.items()}

    def _map(self, _view: int, name: str) -> MappedArray:
        return MappedArray(self.specs[name])


def typed(buffer: UInt8[np.ndarray, "count row_bytes"], spec: ArraySpec) -> np.ndarray:
    """`buffer` seen as the array's own type and shape, without a copy."""
    return buffer.view(spec.dtype).reshape(len(buffer), *spec.row_shape)
