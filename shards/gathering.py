"""Gathering: the rows of one array, copied where they are in memory, else read together, and each checked."""

from concurrent.futures import Executor
from functools import partial

import numpy as np
from jaxtyping import Int, UInt8

from shards.checked import CheckedFiles
from shards.errors import RESTORE, Damaged
from shards.fetching import fetch_rows
from shards.layout import commit_path
from shards.mapped import MappedArray
from shards.ranges import Range
from shards.rows import row_checksums

_CACHED_BYTES = 4 << 20
"""Of rows that are copied and then checked."""


def gather_checked(
    checked: CheckedFiles,
    view: int,
    array: MappedArray,
    samples: Int[np.ndarray, " count"],
    out: UInt8[np.ndarray, "count row_bytes"],
    requests: Executor | None,
) -> None:
    """The rows of `samples` (strictly ascending) are in `out`.

    Damaged where one fails its checksum, or holds an index of nothing: a device would read beyond its table.
    """
    _gather_whole(checked, view, array, samples, out, requests)
    if (beyond := array.spec.beyond(out)) is not None:
        row, number = beyond
        raise Damaged(
            f"{checked.folder / array.spec.name}: sample {samples[row]} of view {view} has the number {number}, "
            f"expected numbers below {array.spec.below}; {RESTORE}"
        )


def _gather_whole(
    checked: CheckedFiles,
    view: int,
    array: MappedArray,
    samples: Int[np.ndarray, " count"],
    out: UInt8[np.ndarray, "count row_bytes"],
    requests: Executor | None,
) -> None:
    """From the bucket and from files."""
    if checked.mirrored:
        here = fetch_rows(checked, view, array, samples, out, requests)
        if len(here) < len(samples):
            if len(here):
                rows = np.empty((len(here), array.spec.row_bytes), np.uint8)
                _gather(checked, view, array, samples[here], rows, requests)
                out[here] = rows
            return
    _gather(checked, view, array, samples, out, requests)


def _gather(
    checked: CheckedFiles,
    view: int,
    array: MappedArray,
    samples: Int[np.ndarray, " count"],
    out: UInt8[np.ndarray, "count row_bytes"],
    requests: Executor | None,
) -> None:
    open_one, unopened = partial(_open, checked, view, array), array.unopened(samples)
    list(map(open_one, unopened) if requests is None else requests.map(open_one, unopened))
    always, cold = checked.check == "always", array.cold(samples)
    if len(cold):
        _read(checked, view, array, samples, cold, out, requests)
        array.check(samples, out, always)
    elif not (always or array.num_unseen):
        array.gather(samples, out)
    else:  # a checksum costs a third while its row is in the processor's cache
        step = max(1, _CACHED_BYTES // array.spec.row_bytes)
        for start in range(0, len(samples), step):
            piece = slice(start, start + step)
            array.gather(samples[piece], out[piece])
            array.check(samples[piece], out[piece], always)


def _open(checked: CheckedFiles, view: int, array: MappedArray, shard: int) -> None:
    """A shard with rows' checksums is not read now, one without is hashed whole."""
    spec = array.spec
    relative, record = spec.shard_path(view, shard), commit_path(view, shard)
    recorded = checked.commit(view, shard).checksums if record in checked.files else None
    sums = row_checksums(checked.folder / record, recorded, spec.name, spec.num_rows(shard))
    path = checked(relative) if sums is None else checked.sized(relative)
    array.open(shard, path, sums)


def _read(
    checked: CheckedFiles,
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
        ranges.append(Range(spec.shard_path(view, shard), spec.row_offset(row), memoryview(out[position])))
    checked.read(ranges, requests)
    warm = np.delete(np.arange(len(samples)), cold)
    if len(warm):
        rows = np.empty((len(warm), spec.row_bytes), np.uint8)
        array.gather(samples[warm], rows)
        out[warm] = rows
