"""Views: source -> augment -> stored views, one shard at a time; or the stored views read back."""

import json
from concurrent.futures import Executor
from dataclasses import dataclass, field

import numpy as np

from extract.plan_views import ViewSetJob
from extract.same_source import check_sample, digest, recorded_digests, records_digests
from shards import tar
from shards.commit import write_atomically, write_sealed
from shards.documents import Commit, read_commit
from shards.errors import RESTORE, BadInput, Damaged
from shards.layout import commit_path, inside, tar_path
from shards.reader import check_file
from shards.views.base import Row, ViewCodec


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
    packed: bytes | None = None
    members: tar.Members = field(default_factory=dict)
    digests: list[str] = field(default_factory=list)
    """What each row's sample was; empty where the view set records none."""

    def row(self, number: int) -> Row:
        """The fields of one row."""
        return {name: rows[number, ...] for name, rows in self.fields.items()}


def make_shard(job: ViewSetJob, view: int, shard: int, pool: Executor, skip_errors: bool) -> ViewShard:
    """The shard made from the source: each view made, encoded, and decoded again as it will be read."""
    source, plan, maker, codec = job.source, job.plan, job.maker, job.maker.codec
    assert source is not None
    rows = plan.rows(shard)
    made = ViewShard(view, shard, [plan.keys[row] for row in rows], _empty(codec, len(rows)))
    made.digests = [""] * len(rows) if records_digests(job) else []
    recorded = recorded_digests(job, shard) if view else []

    def make(index: int) -> dict[str, bytes] | None:
        try:
            sample = source.read(index)
            row, facts = maker.make(sample, view)
        except BadInput as error:
            if skip_errors:
                return None
            raise BadInput(f"{error}, or leave such samples out with --on_error skip") from error
        if made.digests:
            made.digests[index - rows.start] = digest(sample)
        if recorded:
            check_sample(job, sample, recorded[index - rows.start])
        members = codec.encode(row)
        codec.decode(members, made.row(index - rows.start))
        facts = {"key": sample.key, "view": view, **facts}
        if sample.label is not None:
            facts["label"] = sample.label
            members["cls"] = str(sample.label).encode()
        return members | {"json": json.dumps(facts, sort_keys=True).encode()}

    contents = list(pool.map(make, rows))
    made.skipped = {row for row, content in enumerate(contents) if content is None}
    kept = [(key, content) for key, content in zip(made.keys, contents, strict=True) if content is not None]
    made.packed, members = tar.pack(kept)
    made.members = {ending: _with_gaps(places, made.skipped, len(rows)) for ending, places in members.items()}
    return made


def _empty(codec: ViewCodec, num_rows: int) -> Row:
    return {name: np.zeros((num_rows, *shape), dtype) for name, (dtype, shape) in codec.fields.items()}


def _with_gaps(places: list[tuple[int, int]], skipped: set[int], num_rows: int) -> list[tuple[int, int]]:
    """`places` with NO_MEMBER at the skipped rows, so that a row number finds its member."""
    following = iter(places)
    return [tar.NO_MEMBER if row in skipped else next(following) for row in range(num_rows)]


def read_shard(job: ViewSetJob, view: int, shard: int, pool: Executor) -> ViewShard:
    """The shard read back from its tar, verified: a second teacher, or a resumed run, needs no source."""
    record, name = read_commit(job.folder, view, shard), tar_path(view, shard)
    assert record is not None
    if record.members is None or name not in record.files:
        raise Damaged(f"{job.folder / commit_path(view, shard)}: is no commit record of a shard of views; {RESTORE}")
    stored = tar.StoredTar(check_file(job.folder, name, record.files[name]), record.members)
    plan, codec = job.plan, job.maker.codec
    keys = [plan.keys[row] for row in plan.rows(shard)]
    skipped_keys = set(record.skipped or ())
    skipped = {row for row, key in enumerate(keys) if key in skipped_keys}
    read = ViewShard(view, shard, keys, _empty(codec, len(keys)), skipped)

    def decode(row: int) -> None:
        if row not in skipped:
            codec.decode({ending: stored.read(row, ending) for ending in codec.endings}, read.row(row))

    list(pool.map(decode, range(len(keys))))
    return read


def commit_shard(job: ViewSetJob, made: ViewShard) -> None:
    """The shard's tar and then its commit record are on the disk."""
    assert made.packed is not None
    name = tar_path(made.view, made.shard)
    record = Commit(
        made.view,
        made.shard,
        {name: write_atomically(inside(job.folder, name), made.packed)},
        members=made.members,
        skipped=[made.keys[row] for row in sorted(made.skipped)],
        digests=made.digests or None,
    )
    write_sealed(inside(job.folder, commit_path(made.view, made.shard)), record.document())
