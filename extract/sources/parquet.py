"""`parquet:PATH`: parquet files read in place by row group, so the data needs no second copy on the disk."""

import bisect
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from extract.sources.base import Source, content_revision, folder_safe_name, tar_safe_key
from extract.sources.columns import Columns, find_columns, keys_from_paths
from extract.sources.splits import find_files, pick_split
from shards.errors import BadInput

_KEPT_BYTES = 512 << 20  # of decoded row groups; a Hugging Face file has some 10 to 100 MB a group


def open_split(path: str, split: str, data_dir: str | None) -> Source:
    """The rows of the files of one split, in the order of the files' names (see `open_parquet`)."""
    return open_parquet(f"--data parquet:{path}", path, split)


def open_parquet(flag: str, path: str, split: str, label_column: str | None = None) -> Source:
    """A file, folder or pattern of parquet files; the revision covers each file's name, size and footer.

    A key is the stem of the image's own path where every row of the split has one and all differ, else the file's
    name and the row in it. Row counts come from the footers; no image is read before it is asked for.
    """
    root, files = find_files(flag, path, ".parquet")
    chosen, files = pick_split(flag, root, files, split)
    opened = [(file, _metadata(file)) for file in files]
    of_files = [_columns(flag, file, metadata, label_column) for file, metadata in opened]
    columns = of_files[0]
    if odd := next((file for file, found in zip(files, of_files, strict=True) if found != columns), None):
        raise BadInput(f"{flag}: {odd.name} and {files[0].name} differ in image column, label column or classes")
    names = [file.relative_to(root).with_suffix("").as_posix() for file in files]
    revision = content_revision(
        part for name, file in zip(names, files, strict=True) for part in (name, file.stat().st_size, read_footer(file))
    )
    row_keys = (
        tar_safe_key(f"{name}-{row:06d}")
        for name, (_, metadata) in zip(names, opened, strict=True)
        for row in range(metadata.num_rows)
    )
    rows = RowGroups(opened, columns.names)

    def values(column: str) -> Iterator[int | None]:
        for each in opened:
            yield from _column(*each, column).to_pylist()

    def fetch(index: int) -> tuple[bytes | None, int | None]:
        image, label = columns.split(rows.row(index))
        return image.get("bytes"), label

    return Source(
        name=folder_safe_name(f"parquet-{root.resolve().name}"),
        revision=revision,
        split=chosen,
        keys=_stem_keys(opened, columns.image) or list(row_keys),
        class_names=columns.classes(flag, values),
        fetch=fetch,
    )


def read_footer(file: Path) -> bytes:
    """A parquet file's metadata as stored: schema, and each column chunk's offset, size and statistics."""
    with file.open("rb") as stream:
        stream.seek(-8, 2)
        length = int.from_bytes(stream.read(4), "little")
        stream.seek(-8 - length, 2)
        return stream.read(length)


@dataclass
class _Group:
    """One row group; the lock lets one thread decode while those that want the same rows wait."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    table: pa.Table | None = None


class RowGroups:
    """Rows by their index over all files, from decoded row groups of which the last used are kept (512 MB in all)."""

    def __init__(self, files: list[tuple[Path, pq.FileMetaData]], columns: list[str]) -> None:
        self._columns = columns
        self._places = [(*file, group) for file in files for group in range(file[1].num_row_groups)]
        groups = [metadata.row_group(group) for _, metadata, group in self._places]
        self._sizes_bytes = [group.total_byte_size for group in groups]
        self._ends = list(accumulate(group.num_rows for group in groups))
        self._lock = threading.Lock()
        self._kept: OrderedDict[int, _Group] = OrderedDict()
        self._kept_bytes = 0

    def row(self, index: int) -> dict[str, Any]:
        """One row's columns as Python values; raises BadInput when the file cannot be decoded there."""
        place = bisect.bisect_right(self._ends, index)
        table = self._table(place)
        offset = index - (self._ends[place] - table.num_rows)
        return {name: table.column(name)[offset].as_py() for name in self._columns}

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
                with _readable_errors(file), pq.ParquetFile(file, metadata=metadata) as opened:
                    group.table = opened.read_row_group(number, columns=self._columns, use_threads=False)
            return group.table


@contextmanager
def _readable_errors(file: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise BadInput(f"{file} cannot be read as parquet ({error}): fetch it again") from error


def _metadata(file: Path) -> pq.FileMetaData:
    with _readable_errors(file):
        return pq.read_metadata(file)


def _columns(flag: str, file: Path, metadata: pq.FileMetaData, label_column: str | None) -> Columns:
    from datasets import Features

    features = Features.from_arrow_schema(metadata.schema.to_arrow_schema())
    return find_columns(f"{flag}: {file.name}", features, label_column)


def _column(file: Path, metadata: pq.FileMetaData, column: str) -> pa.ChunkedArray:
    """One column of a file; of a struct, 'image.path' reads that field alone."""
    with _readable_errors(file), pq.ParquetFile(file, metadata=metadata) as opened:
        return opened.read(columns=[column], use_threads=False).column(0)


def _stem_keys(opened: list[tuple[Path, pq.FileMetaData]], image: str) -> list[str] | None:
    """Keys from the images' own paths, read without the images; None where they do not serve."""
    paths: list[str | None] = []
    for file, metadata in opened:
        if metadata.schema.to_arrow_schema().field(image).type.get_field_index("path") < 0:
            return None
        found = pc.struct_field(_column(file, metadata, f"{image}.path"), "path")
        if found.null_count:
            return None
        paths += found.to_pylist()
    return keys_from_paths(paths)
