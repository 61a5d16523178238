"""Disk: what a plan will write, whether it fits, and how long this disk takes for it at least."""

import os
import shutil
import tempfile
import time
from pathlib import Path

from extract.plan_targets import TargetSetJob
from extract.plan_views import ViewSetJob
from extract.store import array_specs
from extract.targets import has_tokens
from shards.command.progress import human_bytes
from shards.errors import BadInput

PROBE_FROM_BYTES = 10**9
"""Less than this is written before a measurement is of use."""
_PROBE_BYTES = 64 << 20


def announce(views: ViewSetJob, targets: list[TargetSetJob]) -> None:
    """Say what will be written and for how long at least; BadInput when the disk cannot hold it.

    To be called before the first teacher forward: a GPU can be faster than the disk that it writes to by far, and a
    user who reads what the source leaves out can still stop.
    """
    for note in views.source.notes if views.source else ():
        print(f"extract: note: {note}")
    samples = len(views.plan.keys)
    left = sum(len(views.plan.rows(shard)) for _, shard in views.missing())
    print(f"extract: {views.folder}: {samples:,} samples x {views.num_views} views, {left:,} views to make")
    needed = left * views.maker.bytes_a_view
    for job in targets:
        specs = array_specs(job, views)
        lacking = [len(views.plan.rows(shard)) for view, shard in views.places(job.num_views) if job.lacks(view, shard)]
        needed += sum(spec.object_bytes(count) for count in lacking for spec in specs)
        sizes = f"{sum(spec.row_bytes for spec in specs):,} bytes a sample"
        sizes += f", {human_bytes(sum(spec.view_bytes for spec in specs) * job.num_views)} in all"
        print(f"extract: {job.folder.name}: {sizes}, {sum(lacking):,} rows to make")
    cache = views.folder.parent
    free = shutil.disk_usage(cache).free
    if needed > free:
        dense = any(has_tokens(job.row_shape) for job in targets)
        smaller = "a smaller --codec (int4), fewer --keep_tokens" if dense else "a smaller --codec (topk:16)"
        raise BadInput(
            f"--out: about {human_bytes(needed)} are needed and {human_bytes(free)} are free; "
            f"free some, take another --out, {smaller}, fewer --views or a --limit"
        )
    if needed > PROBE_FROM_BYTES:
        rate = write_rate(cache)
        seconds = needed / rate
        unit, size = next((pair for pair in (("h", 3600), ("min", 60)) if seconds >= 2 * pair[1]), ("s", 1))
        lasting = f"{seconds / size:,.0f} {unit}"
        print(f"extract: this disk writes {human_bytes(rate)}/s: {human_bytes(needed)} take at least {lasting}")


def write_rate(folder: Path) -> float:
    """Bytes a second at which 64 MB reach the disk of `folder`, in one write and an fsync; nothing of them is left."""
    data = os.urandom(1 << 20) * (_PROBE_BYTES >> 20)  # no zeros: a file system may compress
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        start = time.perf_counter()
        file.write(data)
        os.fsync(file.fileno())
        return _PROBE_BYTES / (time.perf_counter() - start)
