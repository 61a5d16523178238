"""Reader: view sets and target sets opened for random access; every shard is verified when it is first opened."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from jaxtyping import Int, UInt8

from shards.command.progress import counted
from shards.errors import RESTORE, BadInput, Damaged
from shards.identity import identity_hash, sha256_of_file
from shards.layout import (
    PLAN,
    Plan,
    commit_path,
    inside,
    read_commit,
    read_targetset_manifest,
    read_viewset_manifest,
    tar_path,
)
from shards.mapped import MappedArray
from shards.tar import MappedTar
from shards.zarrs import ArraySpec, specs_of
from shards.zarrs_foreign import ZarrArray, read_array_metadata

_VIEWS_MAPPED = 2
"""Views that stay mapped: a kernel maps 65,530 files a process, and ImageNet has 2,502 shards a view."""

Key = TypeVar("Key")
Value = TypeVar("Value")


def check_file(folder: Path, relative: str, record: dict[str, Any]) -> Path:
    """The path of a file that is what its record says; Damaged if it is missing, truncated, altered or swapped."""
    path = inside(folder, relative)
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise Damaged(f"{path}: missing; {RESTORE}") from None
    if size != record["size"]:
        raise Damaged(f"{path}: {size} bytes, its manifest says {record['size']}; {RESTORE}")
    if sha256_of_file(path) != record["sha256"]:
        raise Damaged(f"{path}: its SHA-256 is not the manifest's: altered or swapped; {RESTORE}")
    return path


class _StoredSet:
    """A view set or target set: its manifest, and the files that it lists, each checked when it is first asked for."""

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        self.folder, self.manifest = folder, manifest
        self.identity: dict[str, Any] = manifest["identity"]
        self.num_views: int = manifest["num_views"]
        self._checked: set[str] = set()
        self._lock = threading.Lock()

    def checked(self, relative: str) -> Path:
        """The path of a file of this set, checked when this run first asks for it."""
        if relative not in self._checked:
            with self._lock:
                if relative not in self._checked:
                    if relative not in self.manifest["files"]:
                        raise Damaged(f"{self.folder}: {relative} is in no manifest; {RESTORE}")
                    check_file(self.folder, relative, self.manifest["files"][relative])
                    self._checked.add(relative)
        return self.folder / relative


class _OfLastViews(Generic[Key, Value]):
    """What is mapped of the last few views that were read, so that many views do not pass the kernel's limit.

    A thread that still reads from what is dropped keeps it mapped until it is done.
    """

    def __init__(self) -> None:
        self._views: dict[int, dict[Key, Value]] = {}
        self._lock = threading.Lock()

    def get(self, view: int, key: Key, make: Callable[[int, Key], Value]) -> Value:
        """What is held under `key` of one view, else made now, and the view that came first dropped for it."""
        try:
            return self._views[view][key]
        except KeyError:
            with self._lock:
                if key not in self._views.get(view, {}):
                    made = make(view, key)
                    if view not in self._views and len(self._views) == _VIEWS_MAPPED:
                        del self._views[next(iter(self._views))]
                    self._views.setdefault(view, {})[key] = made
                return self._views[view][key]


class ViewSet(_StoredSet):
    """All views of one source, split, augmentation and seed; the pixels of (view, sample) by random access."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, read_viewset_manifest(folder))
        self.plan = Plan.read(folder)
        self.checked(PLAN)
        if self.plan.identity != self.identity:
            raise Damaged(f"{folder}: {PLAN} belongs to another view set; {RESTORE}")
        self.image_size: int = self.identity["image_size"]
        self.class_names = self.plan.class_names
        self._tars: _OfLastViews[int, MappedTar] = _OfLastViews()

    @property
    def usable(self) -> Int[np.ndarray, " count"]:
        """The samples that were not skipped, as indices into the plan."""
        skipped = set(self.manifest["skipped"])
        return np.array([index for index, key in enumerate(self.plan.keys) if key not in skipped], np.int64)

    def _open(self, view: int, shard: int) -> MappedTar:
        if not 0 <= view < self.num_views:
            has = counted(self.num_views, "view")
            raise BadInput(f"{self.folder}: has {has}, asked for view {view}; extract more with --views")
        path = self.checked(tar_path(view, shard))
        commit = self.checked(commit_path(view, shard))
        members = (read_commit(self.folder, view, shard) or {}).get("members") or {}
        if any(len(places) != len(self.plan.rows(shard)) for places in members.values()):
            raise Damaged(f"{commit}: is of another plan; {RESTORE}")
        return MappedTar(path, members)

    def content(self, view: int, sample: int, ending: str) -> bytes:
        """The bytes of one member (`jpg`, `png`, `json`, `cls`) of one view."""
        tar = self._tars.get(view, sample // self.plan.shard_size, self._open)
        if ending not in tar.members:
            raise BadInput(
                f"{self.folder}: its samples have no .{ending} (labels?); its endings are {', '.join(tar.members)}"
            )
        content = tar.read(sample % self.plan.shard_size, ending)
        if not content:
            what = "was skipped by extract, or its source has none"
            raise BadInput(f"{self.folder}: {self.plan.keys[sample]} has no .{ending}: it {what}")
        return content

    @property
    def labelled(self) -> bool:
        """Whether the samples have class labels."""
        return self.class_names is not None


class TargetSet(_StoredSet):
    """One teacher's target over one view set; encoded rows of (view, sample) by random access."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, read_targetset_manifest(folder))
        self.row_shape = tuple(self.manifest["row_shape"])
        self.num_samples: int = self.manifest["num_samples"]
        self.shard_size: int = self.manifest["shard_size"]
        if -(-self.num_samples // max(1, self.shard_size)) * self.num_views > len(self.manifest["files"]):
            raise Damaged(f"{folder}: its manifest lists fewer files than shards; {RESTORE}")
        self.arrays = specs_of(self.manifest)
        self._foreign: dict[str, ZarrArray] = {}
        for name, spec in self.arrays.items():
            metadata = read_array_metadata(folder, spec, self.num_views)
            if metadata is not None:
                self.checked(f"{name}/zarr.json")  # not what we would write, so it must be what the manifest lists
                self._foreign[name] = ZarrArray(folder, spec, metadata)
        self._mapped: _OfLastViews[str, MappedArray] = _OfLastViews()

    @property
    def mapped(self) -> bool:
        """Whether every array is read by mapping (uncompressed and local), not by the zarr library."""
        return not self._foreign

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
            if name in self._foreign:
                for shard in np.unique(samples // self.shard_size).tolist():
                    self.checked(spec.shard_path(view, shard))
                self._foreign[name].gather(view, samples, buffer)
                continue
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
    held: list[str] | None = targetset.manifest.get("class_names") or viewset.class_names
    return held if held is not None and targetset.row_shape == (len(held),) else None
