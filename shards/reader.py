"""Reader: view sets and target sets opened for random access; all that is read is verified (`shards/checked.py`)."""

import copy
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Int, Int64, UInt8

from shards.arrays import StoredArrays
from shards.checked import CheckedFiles
from shards.documents import (
    Plan,
    TargetSetManifest,
    ViewSetManifest,
    read_targetset_manifest,
    read_viewset_manifest,
)
from shards.errors import RESTORE, Damaged
from shards.identity import identity_hash
from shards.keys import positions
from shards.layout import PLAN
from shards.storage import storage_of
from shards.storage.base import Fetched
from shards.views import view_codec
from shards.views.base import Row, ViewCodec
from shards.zarr_json import check_array
from shards.zarrs import specs_of


class _StoredSet:
    """A view set or target set: its manifest, and the files that it lists."""

    def __init__(self, folder: Path, manifest: ViewSetManifest | TargetSetManifest) -> None:
        self.folder = folder
        self.identity = manifest.identity
        self.num_views = manifest.num_views
        self.checked = CheckedFiles(folder, manifest.files)


class ViewSet(_StoredSet):
    """All views of one source, split, augmentation and seed; the fields of (view, sample) by random access."""

    def __init__(self, folder: Path, promised: ViewSetManifest | None = None) -> None:
        self.manifest = promised or read_viewset_manifest(folder)
        super().__init__(folder, self.manifest)
        self.plan = Plan.read(folder)
        self.checked(PLAN)
        if self.plan.identity != self.identity:
            raise Damaged(f"{folder}: {PLAN} belongs to another view set; {RESTORE}")
        self._read_by(view_codec(self.identity))
        self.storage.check()
        self.class_names = self.plan.class_names

    @cached_property
    def usable(self) -> Int[np.ndarray, " count"]:
        """The samples that were not skipped, as ascending indices into the plan; read-only."""
        usable = np.delete(np.arange(len(self.plan.keys)), positions(self.plan.keys, self.manifest.skipped))
        usable.flags.writeable = False
        return usable

    def _read_by(self, codec: ViewCodec) -> None:
        self.codec = codec
        self.storage = storage_of(codec)(self.folder, self.plan, codec, self.num_views, self.checked)

    def read_by(self, codec: ViewCodec) -> "ViewSet":
        """The same views with the fields of `codec`, which an input makes of this one's (`InputSpec.reads`)."""
        if codec is self.codec:
            return self
        viewset = copy.copy(self)
        viewset._read_by(codec)
        return viewset

    def usable_in(self, shard: int) -> Int[np.ndarray, " count"]:
        """Those of one shard."""
        rows = self.plan.rows(shard)
        first, end = np.searchsorted(self.usable, [rows.start, rows.stop])
        return self.usable[first:end]

    def fetch(
        self, view: int, samples: Sequence[int], labels: bool = False, requests: Executor | None = None
    ) -> Fetched | None:
        """What `read` and `labels` take of `samples`, read together; None where they read alone."""
        return self.storage.fetch(view, samples, labels, requests)

    def read(self, view: int, samples: Sequence[int], out: Row, epoch: int = 0, fetched: Fetched | None = None) -> None:
        """The fields of `samples` (ascending) are in the first rows of `out`, an array a field; any thread may.

        In another `epoch` a view that stores alternatives may show another one of them.
        """
        self.storage.read(view, samples, out, epoch, fetched)

    def rows(self, view: int, samples: Sequence[int], epoch: int = 0) -> Row:
        """The fields of `samples`, a new array (samples, ...) a field."""
        out = {name: np.empty((len(samples), *shape), dtype) for name, (dtype, shape) in self.codec.fields.items()}
        self.read(view, samples, out, epoch)
        return out

    def row(self, view: int, sample: int) -> Row:
        """The fields of one view."""
        return {name: rows[0, ...] for name, rows in self.rows(view, [sample]).items()}

    def labels(self, view: int, samples: Sequence[int], fetched: Fetched | None = None) -> Int64[np.ndarray, " count"]:
        """The class labels of `samples`, as stored beside their views."""
        return self.storage.labels(view, samples, fetched)

    @property
    def labelled(self) -> bool:
        """Whether the samples have class labels."""
        return self.class_names is not None


class TargetSet(_StoredSet):
    """One teacher's target over one view set; encoded rows of (view, sample) by random access."""

    def __init__(self, folder: Path, promised: TargetSetManifest | None = None) -> None:
        self.manifest = promised or read_targetset_manifest(folder)
        super().__init__(folder, self.manifest)
        self.row_shape = tuple(self.manifest.row_shape)
        self.num_samples = self.manifest.num_samples
        self.shard_size = self.manifest.shard_size
        if not promised and -(-self.num_samples // self.shard_size) * self.num_views > len(self.manifest.files):
            raise Damaged(f"{folder}: its manifest lists fewer files than shards; {RESTORE}")
        self.arrays = specs_of(self.manifest)
        for spec in self.arrays.values():
            check_array(folder, spec, self.num_views)
        self.stored = StoredArrays(folder, self.arrays, self.num_views, self.checked)

    @property
    def bytes_per_sample(self) -> int:
        """Stored bytes of one sample, over all arrays."""
        return sum(spec.row_bytes for spec in self.arrays.values())

    def gather(
        self,
        view: int,
        samples: Int[np.ndarray, " count"],
        out: dict[str, UInt8[np.ndarray, "count row_bytes"]],
        requests: Executor | None = None,
    ) -> None:
        """Copy the encoded rows of `samples` (strictly ascending plan indices) into `out`, one buffer an array."""
        self.stored.gather(view, samples, out, requests)

    def read(self, view: int, samples: Int[np.ndarray, " count"]) -> dict[str, np.ndarray]:
        """The encoded rows of `samples` (strictly ascending): a new array (count, *row_shape) for each stored one."""
        return self.stored.read(view, samples)


@dataclass(frozen=True)
class Component:
    """A view set and those of its target sets that are read with it; several of these may be read as one."""

    viewset: ViewSet
    targetsets: Sequence[TargetSet] = ()
    view_limit: int | None = None
    """Views that a run had when it began; later ones would change which view an epoch reads."""

    @property
    def num_views(self) -> int:
        """Views that the view set and every target set have, and that may be read."""
        views = min([self.viewset.num_views, *(targetset.num_views for targetset in self.targetsets)])
        return views if self.view_limit is None else min(views, self.view_limit)


def check_pair(viewset: ViewSet, targetset: TargetSet) -> None:
    """A target set was made from this very view set; Damaged (stale or foreign) otherwise."""
    held, asked = targetset.identity["viewset"], identity_hash(viewset.identity)
    if held != asked:
        raise Damaged(
            f"{targetset.folder}: was made from view set {held[:8]}, but lies in {asked[:8]}; "
            f"python -m shards remove {targetset.folder}, and extract it again"
        )
