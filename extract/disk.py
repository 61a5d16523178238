"""Disk: what a plan will write, whether it fits, and how long this disk takes for it at least."""

import contextlib
import math
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from extract.plan_targets import TargetSetJob
from extract.plan_views import ViewSetJob
from extract.store import array_specs
from extract.targets import has_tokens
from shards.codecs import make_codec
from shards.command.progress import human_bytes
from shards.documents import read_commit
from shards.errors import BadInput
from shards.layout import inside
from shards.mirror import LOCAL_CACHE, origin_of

PROBE_FROM_BYTES = 10**9
"""Less than this is written before a measurement would have told anything."""
KEPT = (32, 16, 8)
"""Tokens a view that the messages offer for --keep_tokens, of masked views as many as are masked."""
SMALLER_CODECS = ("int8", "int4", "topk:16", "sample:12")
_PROBE_BYTES = 64 << 20


def announce(views: ViewSetJob, targets: list[TargetSetJob], shared: bool = False) -> None:
    """Say what will be written and for how long at least; BadInput when the disk cannot hold it.

    Of a cache in a bucket the disk is the mirror's, which holds what is read of it too; where the work is `shared`,
    each machine's holds the shards that it makes, at least one.

    To be called before the first teacher forward: a GPU can be faster than the disk that it writes to by far, and a
    user who reads what the source leaves out can still stop.
    """
    for note in views.source.notes if views.source else ():
        print(f"extract: note: {note}")
    samples = len(views.plan.keys)
    missing = [(view, len(views.plan.rows(shard))) for view, shard in views.missing()]
    left, new = sum(count for _, count in missing), sum(count for view, count in missing if view == 0)
    print(f"extract: {views.folder}: {samples:,} samples x {views.num_views} views, {left:,} views to make")
    needed = of_views = left * views.maker.bytes_a_view + new * views.maker.bytes_a_sample
    masked = views.maker.codec.num_masked
    offers = (masked,) if masked else KEPT
    to_make: list[tuple[TargetSetJob, int]] = []
    to_read: set[tuple[int, int]] = set()
    for job in targets:
        specs = array_specs(job, views)
        places = [place for place in views.places(job.num_views) if job.lacks(*place)]
        lacking = [len(views.plan.rows(shard)) for _, shard in places]
        to_read.update(places)
        to_make.append((job, sum(lacking)))
        needed += sum(spec.object_bytes(count) for count in lacking for spec in specs)
        whole = sum(spec.view_bytes for spec in specs) * job.num_views
        shape = " x ".join(map(str, (f"{samples:,}", *job.row_shape)))
        sizes = f"{sum(spec.row_bytes for spec in specs):,} bytes a sample, {human_bytes(whole)} in all"
        print(f"extract: {job.folder.name}: {shape} {job.codec.name}: {sizes}, {sum(lacking):,} rows to make")
        fewer = samples * job.num_views * _row_bytes(job, keep=offers[0])
        if PROBE_FROM_BYTES < whole > fewer:
            print(f"extract: {job.folder.name}: with --keep_tokens {offers[0]}: {human_bytes(fewer)} in all")
    cache, disk, other = views.folder.parent, "--out", "take another --out"
    if origin_of(cache) is not None:
        disk, other = f"{cache}, where what goes to the bucket is made", f"name another disk ({LOCAL_CACHE})"
        other = other if shared else f"give --launch shared, which keeps no shard that is sent, {other}"
        needed += _bytes_to_fetch(views, to_read)
        if shared:  # the others make theirs
            needed = math.ceil(needed / max(1, len(missing), len(to_read)))
    free = shutil.disk_usage(cache).free
    if needed > free:
        flags = _fitting(to_make, free - of_views, offers)
        fitting = " or ".join(flags) or "no codec and no --keep_tokens makes it fit"
        kept = f"; the corpus's tokens stay in {views.scratch} for the next command" if views.scratch.exists() else ""
        raise BadInput(
            f"{disk}: about {human_bytes(needed)} are needed and {human_bytes(free)} are free: {fitting}; else free "
            f"some, {other}, fewer --views, or a --limit to {free / needed:.1%} of the samples{kept}"
        )
    if needed > PROBE_FROM_BYTES:
        rate = write_rate(cache)
        seconds = needed / rate
        unit, size = next((pair for pair in (("h", 3600), ("min", 60)) if seconds >= 2 * pair[1]), ("s", 1))
        lasting = f"{seconds / size:,.0f} {unit}"
        print(f"extract: this disk writes {human_bytes(rate)}/s: {human_bytes(needed)} take at least {lasting}")


def _bytes_to_fetch(views: ViewSetJob, places: Iterable[tuple[int, int]]) -> int:
    """Bytes of committed views that rows are to be made of and that the mirror does not hold yet."""
    records = [record for place in places if (record := read_commit(views.folder, *place)) is not None]
    files = {name: entry.size for record in records for name, entry in record.files.items()}
    return sum(size for name, size in files.items() if not inside(views.folder, name).exists())


def _fitting(to_make: list[tuple[TargetSetJob, int]], room: float, offers: Sequence[int]) -> Iterator[str]:
    """The flags with each of which the rows to make take less than `room` bytes, the mildest of a kind."""
    for keep in offers:
        if any(has_tokens(job.row_shape) for job, _ in to_make) and (
            sum(rows * _row_bytes(job, keep=keep) for job, rows in to_make) < room
        ):
            yield f"--keep_tokens {keep}"
            break
    for codec in SMALLER_CODECS:
        with contextlib.suppress(BadInput):  # no codec of such rows
            if sum(rows * _row_bytes(job, codec) for job, rows in to_make) < room:
                yield f"--codec {codec}"
                break


def _row_bytes(job: TargetSetJob, codec: str | None = None, keep: int | None = None) -> int:
    """Bytes of a sample's row in another codec, or with no more than `keep` tokens."""
    tokens = [each for each in (keep, job.keep_tokens) if each is not None and each < job.row_shape[0]]
    kept = min(tokens, default=None) if has_tokens(job.row_shape) else None
    arrays = make_codec(codec or job.codec.name, job.row_shape, kept).arrays().values()
    return sum(math.prod(shape) * np.dtype(dtype).itemsize for dtype, shape in arrays)


def write_rate(folder: Path) -> float:
    """Bytes a second at which 64 MB reach the disk of `folder`, in one write and an fsync; nothing of them is left."""
    data = os.urandom(1 << 20) * (_PROBE_BYTES >> 20)  # no zeros: a file system may compress
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        start = time.perf_counter()
        file.write(data)
        os.fsync(file.fileno())
        return _PROBE_BYTES / (time.perf_counter() - start)
