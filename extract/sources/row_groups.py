"""Parquet files: footers, columns, and rows read in place by row group, of which the last used are kept."""

import bisect
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from extract.sources.parquet_footer import null_counts, read_footer
from shards.errors import BadInput

_KEPT_BYTES = 512 << 20  # of decoded row groups; a Hugging Face file has some 10 to 100 MB a group
_STREAMED_ROWS = 256

ParquetFile = tuple[Path, pq.FileMetaData]


def open_file(file: Path) -> ParquetFile:
    """The file with what its footer says; BadInput when it is no parquet file, or two of its columns have one name."""
    with _readable(file):
        metadata = pq.read_metadata(file)
        check_names(metadata.schema.to_arrow_schema().names)
        return file, metadata


def check_names(names: Sequence[str]) -> None:
    """Raises ArrowInvalid for a name that two columns have: which of them is meant nobody can say."""
    if twice := [name for name, number in Counter(names).items() if number > 1]:
        raise pa.ArrowInvalid(f"two of its columns are called {twice[0]:.200}: rename one")


def read_column(file: ParquetFile, column: str, group: int | None = None) -> pa.ChunkedArray:
    """One column of a file, or of one of its row groups; of a struct, 'image.path' reads that field alone."""
    path, metadata = file
    with _readable(path), pq.ParquetFile(path, metadata=metadata) as opened:
        table = opened.read if group is None else partial(opened.read_row_group, group)
        values = table(columns=[column], use_threads=False).column(0)
        values.validate(full=True)  # that texts are UTF-8, at which the reader does not look
        _check_rows(len(values), (metadata if group is None else metadata.row_group(group)).num_rows)
        return values


def nulls_of(file: ParquetFile, leaf: str) -> list[int]:
    """How many rows of each row group have nothing in the column `leaf`, as the footer says; 0 where it does not.

    Raises BadInput where the footer makes no sense: asked for such a column, pyarrow ends the process.
    """
    path, metadata = file
    leaves = [metadata.schema.column(number) for number in range(metadata.num_columns)]
    for number, each in enumerate(leaves):
        if each.path == leaf:
            with _readable(path):
                return null_counts(read_footer(path), number, each.physical_type)
    return [0] * metadata.num_row_groups


def stream_column(file: ParquetFile, column: str, start: int) -> Iterator[pa.Array]:
    """One column's rows from `start` on, a few at a time."""
    path, metadata = file
    ends = list(accumulate(metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)))
    first = bisect.bisect_right(ends, start)
    skipped = start - (ends[first - 1] if first else 0)
    with _readable(path), pq.ParquetFile(path, metadata=metadata) as opened:
        groups = range(first, len(ends))
        for batch in opened.iter_batches(_STREAMED_ROWS, row_groups=groups, columns=[column], use_threads=False):
            yield batch.column(0)[skipped:]
            skipped = max(0, skipped - len(batch))


def values_of(array: pa.Array, where: str) -> list[Any]:
    """The rows as Python values; BadInput, which begins with `where`, where a text is not UTF-8."""
    try:
        return list(array.to_pylist())
    except UnicodeDecodeError as error:
        raise BadInput(f"{where} is not UTF-8 ({error.reason}): convert it") from None


@dataclass
class _Group:
    """One row group; the lock lets one thread decode while those that want the same rows wait."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    table: pa.Table | None = None


class RowGroups:
    """Rows by their index over all files, from decoded row groups of which the last used are kept (512 MB in all)."""

    def __init__(self, files: list[ParquetFile], columns: list[str]) -> None:
        self._columns = columns
        self._places = [(*file, group) for file in files for group in range(file[1].num_row_groups)]
        groups = [metadata.row_group(group) for _, metadata, group in self._places]
        self._sizes_bytes = [group.total_byte_size for group in groups]
        self._ends = list(accumulate(group.num_rows for group in groups))
        self._lock = threading.Lock()
        self._kept: OrderedDict[int, _Group] = OrderedDict()
        self._kept_bytes = 0

    def row(self, index: int) -> tuple[Path, dict[str, Any]]:
        """One row's file, and its columns as Python values; BadInput when the file cannot be decoded there."""
        place = bisect.bisect_right(self._ends, index)
        table = self._table(place)
        offset = index - (self._ends[place] - table.num_rows)
        file = self._places[place][0]
        with _readable(file):
            return file, {name: table.column(name)[offset].as_py() for name in self._columns}

    def _table(self, place: int) -> pa.Table:
        with self._lock:
            if place not in self._kept:
                self._kept[place] = _Group()
                self._kept_bytes += self._sizes_bytes[place]
            group = self._kept[place]
            self._kept.move_to_end(place)
            while self._kept_bytes > _KEPT_BYTES and len(self._kept) > 1:
                self._kept_bytes -= self._sizes_bytes[self._kept.popitem(last=False)[0]]
        with group.lock:
            if group.table is None:
                file, metadata, number = self._places[place]
                # a reader of its own: one reader is not promised to serve two threads
                with _readable(file), pq.ParquetFile(file, metadata=metadata) as opened:
                    table = opened.read_row_group(number, columns=self._columns, use_threads=False)
                    _check_rows(table.num_rows, metadata.row_group(number).num_rows)
                    group.table = table
            return group.table


def _check_rows(found: int, expected: int) -> None:
    """Columns may be of other lengths than the footer says, at which the reader does not look."""
    if found != expected:
        raise pa.ArrowInvalid(f"{found:,} rows, where its footer says {expected:,}")


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        raise BadInput(f"{file} cannot be read as parquet ({error}): fetch it again") from error
