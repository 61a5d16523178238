"""Outside images: those that a table names by path instead of holding them, relative to the table's file."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from extract.sources.row_groups import ParquetFile, nulls_of, read_column
from shards.errors import BadInput


@dataclass(frozen=True)
class OutsideImages:
    """The name and the size in bytes of each image outside (for the revision), and the rows that have no image."""

    parts: tuple[str | int, ...]
    missing: tuple[int, ...]
    notes: tuple[str, ...]


def read_outside_image(flag: str, table: Path, name: str) -> bytes:
    """The file that `table` names; BadInput where it is not there."""
    path = table.parent / name
    if not path.is_file():  # a pipe would be waited for
        raise BadInput(f"{flag}: {table.name} names {path}, which is not there: put it there")
    return path.read_bytes()


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type is text, plain or dictionary-encoded, and so names files."""
    return "string" in str(kind) and not pa.types.is_nested(kind)


def check_paths(where: str, column: str, kind: pa.DataType) -> None:
    """Raises BadInput where the field `path` of an image column of this type holds anything but text."""
    if pa.types.is_struct(kind) and kind.get_field_index("path") >= 0:
        path = kind.field("path").type
        if not is_text(path) and not pa.types.is_null(path):
            raise BadInput(f"{where}: column {column}.path holds {path}, no paths: store them as text")


def find_outside_images(flag: str, column: str, files: list[ParquetFile]) -> OutsideImages:
    """What the image column names outside of `files`, whose rows count from 0 over all; BadInput where no row has one.

    Which rows hold no bytes follows from the footers; only row groups that hold some are read, as far as needed.
    """
    parts: list[str | int] = []
    missing: list[int] = []
    where = ""
    for row, table, name in _rows_without_bytes(column, files):
        path = table.parent / name if name else None
        if path is not None and path.is_file():
            parts += [str(name), path.stat().st_size]
        else:
            where = where or (f"row {row} has neither bytes nor a path" if path is None else f"there is no {path}")
            missing.append(row)
    num_rows = sum(metadata.num_rows for _, metadata in files)
    if missing and len(missing) == num_rows:
        raise BadInput(
            f"{flag}: column {column} gives no image for any of {num_rows:,} rows ({where}): "
            "put the images where their paths say, relative to the parquet file"
        )
    note = f"{flag}: column {column} gives no image for {len(missing):,} of {num_rows:,} rows ({where})"
    return OutsideImages(tuple(parts), tuple(missing), (note,) if missing else ())


def _rows_without_bytes(column: str, files: list[ParquetFile]) -> Iterator[tuple[int, Path, str | None]]:
    """Each row that holds no image itself: its number, its file, and the path in it."""
    first = 0
    for file in files:
        path, metadata = file
        kind = metadata.schema.to_arrow_schema().field(column).type
        nulls = [] if is_text(kind) else nulls_of(file, _held(column, kind))
        for group in range(metadata.num_row_groups):
            if is_text(kind):
                names = list(enumerate(read_column(file, column, group).to_pylist()))
            else:
                # a column in which everything is null has a type of its own, and no statistics
                all_null = pa.types.is_struct(kind) and pa.types.is_null(kind.field("bytes").type)
                names = list(_names(file, column, kind, group)) if all_null or nulls[group] else []
            for offset, name in names:
                yield first + offset, path, name
            first += metadata.row_group(group).num_rows


def _held(column: str, kind: pa.DataType) -> str:
    """The leaf with the images' bytes."""
    return f"{column}.bytes" if pa.types.is_struct(kind) else column


def _names(file: ParquetFile, column: str, kind: pa.DataType, group: int) -> Iterator[tuple[int, str | None]]:
    """The rows of a row group that hold no bytes, as (offset in the group, path)."""
    without_bytes = pc.is_null(_field(read_column(file, _held(column, kind), group), "bytes")).to_pylist()
    has_path = pa.types.is_struct(kind) and kind.get_field_index("path") >= 0
    names = _field(read_column(file, f"{column}.path", group), "path").to_pylist() if has_path else None
    for offset in (offset for offset, empty in enumerate(without_bytes) if empty):
        yield offset, names[offset] if names else None


def _field(values: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    return pc.struct_field(values, name) if pa.types.is_struct(values.type) else values
