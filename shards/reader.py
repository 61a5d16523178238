"""Reader: view sets and target sets opened for random access; every shard is verified when it is first opened."""

import threading
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from jaxtyping import Int, Int64, UInt8

from shards.command.progress import counted
from shards.documents import (
    FileRecord,
    Files,
    Plan,
    TargetSetManifest,
    ViewSetManifest,
    read_commit,
    read_targetset_manifest,
    read_viewset_manifest,
)
from shards.errors import RESTORE, BadInput, Damaged
from shards.identity import identity_hash, sha256_of_file
from shards.layout import PLAN, commit_path, inside, tar_path
from shards.mapped import MappedArray
from shards.order import draw_choice
from shards.tar import StoredTar
from shards.views import view_codec
from shards.views.base import Row
from shards.zarr_json import check_array
from shards.zarrs import ArraySpec, specs_of

_VIEWS_KEPT = 2
"""Views that stay open: a kernel maps 65,530 files a process, and ImageNet has 2,502 shards a view."""

Key = TypeVar("Key")
Value = TypeVar("Value")


def check_file(folder: Path, relative: str, record: FileRecord) -> Path:
    """The path of a file that is what its record says; Damaged if it is missing, truncated, altered or swapped."""
    path = inside(folder, relative)
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise Damaged(f"{path}: missing; {RESTORE}") from None
    if size != record.size:
        raise Damaged(f"{path}: {size} bytes, its manifest says {record.size}; {RESTORE}")
    if sha256_of_file(path) != record.sha256:
        raise Damaged(f"{path}: its SHA-256 is not the manifest's: altered or swapped; {RESTORE}")
    return path


class _StoredSet:
    """A view set or target set: its manifest, and the files that it lists, each checked when it is first asked for."""

    def __init__(self, folder: Path, manifest: ViewSetManifest | TargetSetManifest) -> None:
        self.folder = folder
        self.identity = manifest.identity
        self.num_views = manifest.num_views
        self._files: Files = manifest.files
        self._checked: set[str] = set()
        self._checking: dict[str, threading.Lock] = {}

    def checked(self, relative: str) -> Path:
        """The path of a file of this set, checked when this run first asks for it."""
        if relative not in self._checked:
            with self._checking.setdefault(relative, threading.Lock()):  # other threads check other files meanwhile
                if relative not in self._checked:
                    if relative not in self._files:
                        raise Damaged(f"{self.folder}: {relative} is in no manifest; {RESTORE}")
                    check_file(self.folder, relative, self._files[relative])
                    self._checked.add(relative)
        return self.folder / relative


class _OfLastViews(Generic[Key, Value]):
    """The tars or mapped arrays of the last few views that were read: all views would pass the kernel's limit.

    A thread that still reads from a dropped value keeps it open until it is done.
    """

    def __init__(self) -> None:
        self._views: dict[int, dict[Key, Value]] = {}
        self._lock = threading.Lock()

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


class ViewSet(_StoredSet):
    """All views of one source, split, augmentation and seed; the fields of (view, sample) by random access."""

    def __init__(self, folder: Path) -> None:
        self.manifest = read_viewset_manifest(folder)
        super().__init__(folder, self.manifest)
        self.plan = Plan.read(folder)
        self.checked(PLAN)
        if self.plan.identity != self.identity:
            raise Damaged(f"{folder}: {PLAN} belongs to another view set; {RESTORE}")
        self.codec = view_codec(self.identity)
        self.class_names = self.plan.class_names
        self._tars: _OfLastViews[int, StoredTar] = _OfLastViews()

    @cached_property
    def usable(self) -> Int[np.ndarray, " count"]:
        """The samples that were not skipped, as ascending indices into the plan; read-only."""
        skipped = set(self.manifest.skipped)
        usable = np.array([index for index, key in enumerate(self.plan.keys) if key not in skipped], np.int64)
        usable.flags.writeable = False
        return usable

    def usable_in(self, shard: int) -> Int[np.ndarray, " count"]:
        """Those of one shard."""
        rows = self.plan.rows(shard)
        first, end = np.searchsorted(self.usable, [rows.start, rows.stop])
        return self.usable[first:end]

    def _open(self, view: int, shard: int) -> StoredTar:
        if not 0 <= view < self.num_views:
            has = counted(self.num_views, "view")
            raise BadInput(f"{self.folder}: has {has}, asked for view {view}; extract more with --views")
        path = self.checked(tar_path(view, shard))
        commit = self.checked(commit_path(view, shard))
        record = read_commit(self.folder, view, shard)
        members = (record and record.members) or {}
        if any(len(places) != len(self.plan.rows(shard)) for places in members.values()):
            raise Damaged(f"{commit}: is of another plan; {RESTORE}")
        return StoredTar(path, members)

    def content(self, view: int, sample: int, ending: str) -> bytes:
        """The bytes of one member (`jpg`, `png`, `json`, `cls`) of one view."""
        tar = self._tars.get(view, sample // self.plan.shard_size, self._open)
        if ending not in tar.endings:
            raise BadInput(
                f"{self.folder}: its samples have no .{ending} (labels?); its endings are {', '.join(tar.endings)}"
            )
        content = tar.read(sample % self.plan.shard_size, ending)
        if not content:
            what = "was skipped by extract, or its source has none"
            raise BadInput(f"{self.folder}: {self.plan.keys[sample]} has no .{ending}: it {what}")
        return content

    def read(self, view: int, samples: Sequence[int], out: Row, epoch: int = 0) -> None:
        """Decode the fields of `samples` into the first rows of `out`, an array a field; any thread may.

        In another `epoch` a view that stores alternatives may show another one of them.
        """
        for position, sample in enumerate(samples):
            members = {ending: self.content(view, sample, ending) for ending in self.codec.endings}
            choice = draw_choice(self.plan.keys[sample], epoch) if self.codec.has_alternatives else 0
            self.codec.decode(members, {name: rows[position, ...] for name, rows in out.items()}, choice)

    def rows(self, view: int, samples: Sequence[int], epoch: int = 0) -> Row:
        """The fields of `samples`, a new array (samples, ...) a field."""
        out = {name: np.empty((len(samples), *shape), dtype) for name, (dtype, shape) in self.codec.fields.items()}
        self.read(view, samples, out, epoch)
        return out

    def labels(self, view: int, samples: Sequence[int]) -> Int64[np.ndarray, " count"]:
        """The class labels of `samples`, as stored beside their views."""
        return np.array([int(self.content(view, sample, "cls")) for sample in samples], np.int64)

    @property
    def labelled(self) -> bool:
        """Whether the samples have class labels."""
        return self.class_names is not None


class TargetSet(_StoredSet):
    """One teacher's target over one view set; encoded rows of (view, sample) by random access."""

    def __init__(self, folder: Path) -> None:
        self.manifest = read_targetset_manifest(folder)
        super().__init__(folder, self.manifest)
        self.row_shape = tuple(self.manifest.row_shape)
        self.num_samples = self.manifest.num_samples
        self.shard_size = self.manifest.shard_size
        if -(-self.num_samples // self.shard_size) * self.num_views > len(self.manifest.files):
            raise Damaged(f"{folder}: its manifest lists fewer files than shards; {RESTORE}")
        self.arrays = specs_of(self.manifest)
        for spec in self.arrays.values():
            check_array(folder, spec, self.num_views)
        self._mapped: _OfLastViews[str, MappedArray] = _OfLastViews()

    @property
    def bytes_per_sample(self) -> int:
        """Stored bytes of one sample, over all arrays."""
        return sum(spec.row_bytes for spec in self.arrays.values())

    def gather(
        self, view: int, samples: Int[np.ndarray, " count"], out: dict[str, UInt8[np.ndarray, "count row_bytes"]]
    ) -> None:
        """Copy the encoded rows of `samples` (strictly ascending plan indices) into `out`, one buffer an array."""
        if len(samples) == 0:
            return
        if samples[0] < 0 or samples[-1] >= self.num_samples or not 0 <= view < self.num_views:
            raise BadInput(f"{self.folder}: view {view} of samples {samples[0]} to {samples[-1]} is not in it")
        for name, buffer in out.items():
            spec = self.arrays[name]
            array = self._mapped.get(view, name, self._map)
            for shard in array.unopened(samples):
                array.open(shard, self.checked(spec.shard_path(view, shard)))
            array.gather(samples, buffer)

    def read(self, view: int, samples: Int[np.ndarray, " count"]) -> dict[str, np.ndarray]:
        """The encoded rows of `samples` (strictly ascending): a new array (count, *row_shape) for each stored one."""
        out = {name: np.empty((len(samples), spec.row_bytes), np.uint8) for name, spec in self.arrays.items()}
        self.gather(view, samples, out)
        return {name: typed(out[name], spec) for name, spec in self.arrays.items()}

    def _map(self, _view: int, name: str) -> MappedArray:
        return MappedArray(self.arrays[name])


def typed(buffer: UInt8[np.ndarray, "count row_bytes"], spec: ArraySpec) -> np.ndarray:
    """`buffer` seen as the array's own type and shape, without a copy."""
    return buffer.view(spec.dtype).reshape(len(buffer), *spec.row_shape)


def check_pair(viewset: ViewSet, targetset: TargetSet) -> None:
    """A target set was made from this very view set; Damaged (stale or foreign) otherwise."""
    held, asked = targetset.identity["viewset"], identity_hash(viewset.identity)
    if held != asked:
        raise Damaged(
            f"{targetset.folder}: was made from view set {held[:8]}, but lies in {asked[:8]}; "
            f"python -m shards remove {targetset.folder}, and extract it again"
        )


def logit_names(viewset: ViewSet, targetset: TargetSet) -> list[str] | None:
    """The names of the classes that a target set's logits are for: the teacher's own, else the view set's as many."""
    names = targetset.manifest.class_names or viewset.class_names
    return names if names is not None and targetset.row_shape == (len(names),) else None
