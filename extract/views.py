"""Views: source -> augment -> stored pixels, one shard at a time; or the stored pixels read back."""

import json
from concurrent.futures import Executor
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import UInt8

from extract.augment import Box, Pixels, Uniform, draw, render
from extract.plan import ViewSetJob
from extract.same_source import check_sample, digest, recorded_digests, records_digests
from extract.sources.base import Sample
from shards import images, tar
from shards.commit import write_atomically, write_sealed
from shards.errors import BadInput
from shards.layout import commit_path, inside, read_commit, tar_path
from shards.reader import check_file


@dataclass
class ViewShard:
    """One shard's pixels as every reader will decode them, and what is left to write of it."""

    view: int
    shard: int
    keys: list[str]
    pixels: UInt8[np.ndarray, "rows size size 3"]
    skipped: set[int] = field(default_factory=set)
    """Rows without an image; their pixels mean nothing."""
    packed: bytes | None = None
    members: tar.Members = field(default_factory=dict)
    digests: list[str] = field(default_factory=list)
    """What each row's sample was; empty where the view set records none."""


def make_shard(job: ViewSetJob, view: int, shard: int, pool: Executor, skip_errors: bool) -> ViewShard:
    """The shard made from the source: each view drawn, rendered, encoded, and decoded again as it will be read."""
    source, plan = job.source, job.plan
    assert source is not None
    image_format = plan.identity["image_format"]
    member, size = images.ending(image_format), plan.identity["image_size"]
    rows = plan.rows(shard)
    made = ViewShard(view, shard, [plan.keys[row] for row in rows], np.zeros((len(rows), size, size, 3), np.uint8))
    made.digests = [""] * len(rows) if records_digests(job) else []
    recorded = recorded_digests(job, shard) if view else []

    def make(index: int) -> dict[str, bytes] | None:
        try:
            sample = source.read(index)
            box, flip = draw(job.augment, *sample.image.size, Uniform(plan.identity["seed"] or 0, sample.key, view))
            pixels = _rendered(sample, box, flip, size, job.augment.interpolation)
        except BadInput:
            if skip_errors:
                return None
            raise
        if made.digests:
            made.digests[index - rows.start] = digest(sample)
        if recorded:
            check_sample(job, sample, recorded[index - rows.start])
        content = images.encode(pixels, image_format)
        images.decode(content, made.pixels[index - rows.start])
        facts = {"key": sample.key, "view": view, "crop": list(box), "flip": flip, "size": list(sample.image.size)}
        members = {member: content}
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


def _rendered(sample: Sample, box: Box, flip: bool, size: int, interpolation: str) -> Pixels:
    try:
        return render(sample.image, box, flip, size, interpolation)
    except BadInput as error:
        raise BadInput(f"sample {sample.key}: {error}") from None


def _with_gaps(places: list[list[int]], skipped: set[int], num_rows: int) -> list[list[int]]:
    """`places` with [0, 0] at the skipped rows, so that a row number finds its member."""
    following = iter(places)
    return [[0, 0] if row in skipped else next(following) for row in range(num_rows)]


def read_shard(job: ViewSetJob, view: int, shard: int, pool: Executor) -> ViewShard:
    """The shard read back from its tar, verified: a second teacher, or a resumed run, needs no source."""
    record = read_commit(job.folder, view, shard)
    assert record is not None
    name = tar_path(view, shard)
    stored = tar.MappedTar(check_file(job.folder, name, record["files"][name]), record["members"])
    plan = job.plan
    size, member = plan.identity["image_size"], images.ending(plan.identity["image_format"])
    keys = [plan.keys[row] for row in plan.rows(shard)]
    skipped = {row for row, key in enumerate(keys) if key in set(record["skipped"])}
    read = ViewShard(view, shard, keys, np.zeros((len(keys), size, size, 3), np.uint8), skipped)

    def decode(row: int) -> None:
        if row not in skipped:
            images.decode(stored.read(row, member), read.pixels[row])

    list(pool.map(decode, range(len(keys))))
    return read


def commit_shard(job: ViewSetJob, made: ViewShard) -> None:
    """The shard's tar and then its commit record are on the disk."""
    assert made.packed is not None
    name = tar_path(made.view, made.shard)
    document = {
        "kind": "commit",
        "format": 1,
        "view": made.view,
        "shard": made.shard,
        "files": {name: write_atomically(inside(job.folder, name), made.packed)},
        "members": made.members,
        "skipped": [made.keys[row] for row in sorted(made.skipped)],
    } | ({"digests": made.digests} if made.digests else {})
    write_sealed(inside(job.folder, commit_path(made.view, made.shard)), document)
