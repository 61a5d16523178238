"""Fetching: the rows of one array that lie in a bucket, read by ranges, each checked on arrival."""

import weakref
from concurrent.futures import Executor

import crc32c
import numpy as np
from jaxtyping import Int, UInt8

from shards.bucket_rows import read_rows
from shards.checked import CheckedFiles
from shards.layout import commit_path
from shards.mapped import MappedArray
from shards.ranges import Range
from shards.rows import row_checksums
from shards.spans import PAGE
from shards.zarrs import ArraySpec

_UNKNOWN, _HERE, _THERE = 0, 1, 2


class _Shards:
    """Where the shards of one array and view are, and the checksums of the rows that are in the bucket."""

    def __init__(self, spec: ArraySpec) -> None:
        self.place = np.zeros(-(-spec.num_samples // spec.shard_size), np.uint8)
        self.sums = np.zeros(spec.num_samples, np.uint32)


_known: "weakref.WeakKeyDictionary[MappedArray, _Shards]" = weakref.WeakKeyDictionary()


def fetch_rows(
    checked: CheckedFiles,
    view: int,
    array: MappedArray,
    samples: Int[np.ndarray, " count"],
    out: UInt8[np.ndarray, "count row_bytes"],
    requests: Executor | None,
) -> Int[np.ndarray, " here"]:
    """Those rows of `samples` are in `out` that are in the bucket; the positions of the others, whose shards are here.

    A shard is here where it was made here, or where it has no rows' checksums: it is fetched and hashed whole.
    """
    spec, shards = array.spec, _known.setdefault(array, _Shards(array.spec))
    numbers = samples // spec.shard_size

    def look(shard: int) -> None:
        record = checked.commit(view, shard).checksums
        rows = spec.num_rows(shard)
        sums = row_checksums(checked.folder / commit_path(view, shard), record, spec.name, rows)
        there = sums is not None and checked.by_row(spec.shard_path(view, shard))
        if sums is not None:
            shards.sums[shard * spec.shard_size :][:rows] = sums
        shards.place[shard] = _THERE if there else _HERE

    unknown = [shard for shard in np.unique(numbers).tolist() if shards.place[shard] == _UNKNOWN]
    list(map(look, unknown) if requests is None else requests.map(look, unknown))
    there = shards.place[numbers] == _THERE
    positions = np.flatnonzero(there)
    if len(positions):
        wanted = []
        for position in positions.tolist():
            shard, row = divmod(int(samples[position]), spec.shard_size)
            wanted.append(Range(spec.shard_path(view, shard), spec.row_offset(row), memoryview(out[position])))
        chosen = samples[positions]
        sums = shards.sums[chosen].tolist()
        is_small = spec.row_bytes < PAGE
        read_rows(
            checked.folder,
            view,
            chosen.tolist(),
            wanted,
            lambda number, row: crc32c.crc32c(row) == sums[number],
            checked.next_uses,
            {each.file: checked.size_of(each.file) for each in wanted} if is_small else None,
        )
    return np.flatnonzero(~there)
