"""Views: source -> augment -> stored views, one shard at a time; or the stored views read back."""

from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field

import numpy as np
import torch

from extract.committing import commit
from extract.plan_views import ViewSetJob
from extract.same_source import check_sample, digest, recorded_digests
from shards.checked import CommittedFiles
from shards.documents import Commit
from shards.errors import BadInput
from shards.keys import positions
from shards.storage import storage_of
from shards.tar import Members
from shards.views.base import Row


@dataclass
class ViewShard:
    """One shard's views as every reader will decode them, and what is left to write of it."""

    view: int
    shard: int
    keys: list[str]
    fields: Row
    """The view codec's fields, a row a sample."""
    skipped: set[int] = field(default_factory=set)
    """Rows without a view; their fields mean nothing."""
    files: dict[str, bytes | bytearray] = field(default_factory=dict)
    """What is left to write, by the paths in the view set; empty for a shard that was read back."""
    made: bool = False
    """Not read back."""
    members: Members | None = None
    digests: list[str] = field(default_factory=list)
    """What each row's sample was; empty where the view set records none."""

    def row(self, number: int) -> Row:
        """The fields of one row."""
        return {name: rows[number, ...] for name, rows in self.fields.items()}

    def batch(self, rows: list[int]) -> dict[str, torch.Tensor]:
        """The fields of some rows."""
        return {name: torch.from_numpy(values[rows]) for name, values in self.fields.items()}


def make_shard(job: ViewSetJob, view: int, shard: int, pool: Executor, skip_errors: bool) -> ViewShard:
    """The shard made from the source: each view made, encoded, and decoded again as it will be read."""
    plan, maker, codec, storage = job.plan, job.maker, job.codec, job.storage
    read = maker.reading(job.source, storage, (view, shard))
    rows = plan.rows(shard)
    made = ViewShard(view, shard, [plan.keys[row] for row in rows], empty(codec.fields, len(rows)), made=True)
    made.digests = [""] * len(rows) if maker.records_digests else []
    recorded = recorded_digests(job, shard) if view else []

    def make(index: int) -> dict[str, bytes] | None:
        try:
            sample = read(index)
            row, facts = maker.make(sample, view)
        except BadInput as error:
            if skip_errors:
                return None
            raise BadInput(f"{error}, or leave such samples out with --on_error skip") from error
        before = recorded[index - rows.start] if recorded else ""
        check_sample(job, sample, before)
        if made.digests:
            made.digests[index - rows.start] = before or digest(sample)
        facts = {"key": sample.key, "view": view, **facts}
        if sample.label is not None:
            facts["label"] = sample.label
        return storage.store(row, made.row(index - rows.start), facts)

    contents = list(pool.map(make, rows))
    made.skipped = {row for row, content in enumerate(contents) if content is None}
    made.files, made.members = storage.pack(view, shard, made.fields, contents)
    return made


def empty(arrays: Mapping[str, tuple[str, tuple[int, ...]]], num_rows: int) -> Row:
    """Zeros for so many rows of the `arrays`: their dtypes and shapes by name."""
    return {name: np.zeros((num_rows, *shape), dtype) for name, (dtype, shape) in arrays.items()}


def read_shard(job: ViewSetJob, view: int, shard: int, pool: Executor) -> ViewShard:
    """The shard read back, verified: a second teacher, or a resumed run, needs no source."""
    checked = CommittedFiles(job.folder)
    record = checked.commit(view, shard)
    for file in record.files:
        checked(file)
    storage = storage_of(job.codec)(job.folder, job.plan, job.codec, view + 1, checked)
    rows = job.plan.rows(shard)
    keys = [job.plan.keys[row] for row in rows]
    read = ViewShard(
        view, shard, keys, empty(job.codec.fields, len(keys)), set(positions(keys, record.skipped or ()).tolist())
    )

    def fill(row: int) -> None:
        storage.read(view, [rows[row]], {name: values[row:] for name, values in read.fields.items()})

    kept = [row for row in range(len(keys)) if row not in read.skipped]
    list(map(fill, kept[:1]))  # opens and checks the shard's files, which every thread would do again
    list(pool.map(fill, kept[1:]))
    return read


def commit_shard(job: ViewSetJob, made: ViewShard) -> None:
    """The shard's files and then its commit record are on the disk; nothing of it is left to write."""
    checksums = job.storage.checksums(made.view, made.shard, made.files, made.members)
    record = Commit(
        made.view,
        made.shard,
        {},
        members=made.members,
        skipped=[made.keys[row] for row in sorted(made.skipped)],
        digests=made.digests or None,
        checksums=checksums,
    )
    commit(job.folder, record, made.files)
    made.files = {}
