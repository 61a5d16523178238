"""Reader: view sets and target sets opened for random access; every shard is verified when it is first opened."""

import threading
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Int, UInt8

from shards.errors import BadInput, Damaged
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
from shards.zarrs import ArraySpec
from shards.zarrs_foreign import ZarrArray, read_array_metadata

_VIEWS_MAPPED = 2
"""Views that stay mapped: a kernel maps 65,530 files a process, and ImageNet has 2,502 shards a view."""

Check = Literal["hash", "size"]
"""What opening a shard compares with the manifest: its SHA-256, or (after `shards verify`) its name and size alone."""


def check_file(folder: Path, relative: str, record: dict[str, Any], check: Check = "hash") -> Path:
    """The path of a file that is what its record says; Damaged if it is missing, truncated, altered or swapped."""
    path = inside(folder, relative)
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise Damaged(f"{path}: missing; restore it, or remove its set and extract again") from None
    if size != record["size"]:
        raise Damaged(f"{path}: {size} bytes, its manifest says {record['size']}; restore it or extract again")
    if check == "hash" and sha256_of_file(path) != record["sha256"]:
        raise Damaged(f"{path}: its SHA-256 is not the manifest's: altered or swapped; restore it or extract again")
    return path


class ViewSet:
    """All views of one source, split, augmentation and seed; the pixels of (view, sample) by random access."""

    def __init__(self, folder: Path, check: Check = "hash") -> None:
        self.folder, self.check = folder, check
        self.manifest = read_viewset_manifest(folder)
        if PLAN not in self.manifest["files"]:
            raise Damaged(f"{folder}: {PLAN} is in no manifest; restore it or extract again")
        check_file(folder, PLAN, self.manifest["files"][PLAN])
        self.plan = Plan.read(folder)
        if self.plan.identity != self.manifest["identity"]:
            raise Damaged(f"{folder}: plan.json belongs to another view set; restore it or extract again")
        self.identity: dict[str, Any] = self.manifest["identity"]
        self.num_views: int = self.manifest["num_views"]
        self.image_size: int = self.identity["image_size"]
        self.class_names = self.plan.class_names
        self._tars: dict[tuple[int, int], MappedTar] = {}
        self._lock = threading.Lock()

    @property
    def usable(self) -> Int[np.ndarray, " count"]:
        """The samples that were not skipped, as indices into the plan."""
        skipped = set(self.manifest["skipped"])
        return np.array([index for index, key in enumerate(self.plan.keys) if key not in skipped], np.int64)

    def tar(self, view: int, shard: int) -> MappedTar:
        """One shard's tar, verified when this run first opens it."""
        if (view, shard) not in self._tars:
            with self._lock:
                if (view, shard) not in self._tars:
                    self._tars[view, shard] = self._open(view, shard)
        return self._tars[view, shard]

    def _open(self, view: int, shard: int) -> MappedTar:
        if not 0 <= view < self.num_views:
            raise BadInput(
                f"{self.folder}: has {self.num_views} views, asked for view {view}; extract more with --views"
            )
        name, held = tar_path(view, shard), self.manifest["files"]
        if name not in held or commit_path(view, shard) not in held:
            raise Damaged(f"{self.folder}: {name} or its commit is in no manifest; restore it or extract again")
        check_file(self.folder, commit_path(view, shard), held[commit_path(view, shard)])
        record = read_commit(self.folder, view, shard)
        num_rows = len(self.plan.rows(shard))
        if record is None or any(len(places) != num_rows for places in record.get("members", {}).values()):
            raise Damaged(f"{self.folder}: the commit of {name} is of another plan; restore it or extract again")
        return MappedTar(check_file(self.folder, name, held[name], self.check), record.get("members", {}))

    def content(self, view: int, sample: int, ending: str) -> bytes:
        """The bytes of one member (`jpg`, `png`, `json`, `cls`) of one view."""
        tar = self.tar(view, sample // self.plan.shard_size)
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


class TargetSet:
    """One teacher's target over one view set; encoded rows of (view, sample) by random access."""

    def __init__(self, folder: Path, check: Check = "hash") -> None:
        self.folder, self.check = folder, check
        self.manifest = read_targetset_manifest(folder)
        self.identity: dict[str, Any] = self.manifest["identity"]
        self.num_views: int = self.manifest["num_views"]
        self.row_shape = tuple(self.manifest["row_shape"])
        num_samples, self.shard_size = self.manifest["num_samples"], self.manifest["shard_size"]
        self.num_samples: int = num_samples
        if -(-num_samples // max(1, self.shard_size)) * self.num_views > len(self.manifest["files"]):
            raise Damaged(f"{folder}: its manifest lists fewer files than shards; restore it or extract again")
        self._checked: set[str] = set()
        self._lock = threading.Lock()
        self.arrays: dict[str, ArraySpec] = {}
        self._foreign: dict[str, ZarrArray] = {}
        for name, (dtype, row_shape) in self.manifest["arrays"].items():
            spec = ArraySpec(name, dtype, tuple(row_shape), num_samples, self.shard_size)
            self.arrays[name] = spec
            metadata = read_array_metadata(folder, spec, self.num_views)
            if metadata is not None:
                self.checked(f"{name}/zarr.json")  # not what we would write, so it must be what the manifest lists
                self._foreign[name] = ZarrArray(folder, spec, metadata)
        self._arrays: dict[tuple[str, int], MappedArray] = {}

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
            array = self._array(name, view)
            for shard in array.unopened(samples):
                array.open(shard, self.checked(spec.shard_path(view, shard)))
            array.gather(samples, buffer)

    def read(self, view: int, samples: Int[np.ndarray, " count"]) -> dict[str, np.ndarray]:
        """The encoded rows of `samples` (strictly ascending): a new array (count, *row_shape) for each stored one."""
        out = {name: np.empty((len(samples), spec.row_bytes), np.uint8) for name, spec in self.arrays.items()}
        self.gather(view, samples, out)
        return {name: typed(out[name], spec) for name, spec in self.arrays.items()}

    def _array(self, name: str, view: int) -> MappedArray:
        found = self._arrays.get((name, view))
        if found is None:
            with self._lock:
                if (name, view) not in self._arrays:
                    others = dict.fromkeys(one for _, one in self._arrays if one != view)
                    dropped = [*others][: 1 - _VIEWS_MAPPED]
                    self._arrays = {key: array for key, array in self._arrays.items() if key[1] not in dropped}
                    self._arrays[name, view] = MappedArray(self.arrays[name])
                found = self._arrays[name, view]
        return found

    def checked(self, relative: str) -> Path:
        """The path of a file of this set, checked when this run first asks for it."""
        if relative not in self._checked:
            with self._lock:
                if relative not in self._checked:
                    if relative not in self.manifest["files"]:
                        raise Damaged(f"{self.folder}: {relative} is in no manifest; extract again")
                    check_file(self.folder, relative, self.manifest["files"][relative], self.check)
                    self._checked.add(relative)
        return self.folder / relative


def typed(buffer: UInt8[np.ndarray, "count row_bytes"], spec: ArraySpec) -> np.ndarray:
    """`buffer` seen as the array's own type and shape, without a copy."""
    return buffer.view(spec.dtype).reshape(len(buffer), *spec.row_shape)


def check_pair(viewset: ViewSet, targetset: TargetSet) -> None:
    """A target set was made from this very view set; Damaged (stale or foreign) otherwise."""
    held, asked = targetset.identity["viewset"], identity_hash(viewset.identity)
    if held != asked:
        raise Damaged(
            f"{targetset.folder}: was made from view set {held[:8]}, but lies in {asked[:8]}; extract it again"
        )
