"""`parquet:PATH`: parquet files read in place, so the data needs no second copy on the disk."""

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from extract.sources.base import Content, Source
from extract.sources.captions import caption_texts
from extract.sources.columns import (
    ColumnChoice,
    Columns,
    find_columns,
    keys_from_paths,
    parse_columns,
    unlabelled_note,
)
from extract.sources.documents import text_source
from extract.sources.grouping import pairs_of_rows
from extract.sources.labels import Labels, column_labels
from extract.sources.naming import content_revision, folder_safe_name, tar_safe_key
from extract.sources.outside_images import check_paths, find_outside_images, is_text, read_outside_image
from extract.sources.parquet_footer import read_footer
from extract.sources.row_groups import (
    ParquetFile,
    RowGroups,
    open_file,
    read_column,
    stream_column,
    values_of,
)
from extract.sources.splits import find_files, pick_split
from extract.sources.table_texts import row_documents
from shards.errors import BadInput


def open_split(path: str, split: str, data_dir: str | None) -> Source:
    """The rows of the files of one split, in the order of the files' names (see `open_parquet`)."""
    pattern, choice = parse_columns("parquet", path)
    return open_parquet(f"--data parquet:{path}", pattern, split, choice)


def open_parquet(flag: str, path: str, split: str, choice: ColumnChoice) -> Source:
    """A file, folder or pattern of parquet files; the revision covers each file's name, size and footer.

    It covers the images outside of the files by name and size, the chosen columns, and the classes of labels that are
    no whole numbers. A key is the stem of the image's own path where every row of the split has one and all differ,
    else the file's name and the row in it. Row counts come from the footers; no image is read before it is asked for.
    """
    root, every_file = find_files(flag, path, ".parquet")
    chosen, files, train = pick_split(flag, root, every_file, split)
    opened = [open_file(file) for file in files]
    columns, notes = _columns_of_all(flag, opened, choice)
    names = [file.relative_to(root).with_suffix("").as_posix() for file in files]
    name = folder_safe_name(f"parquet-{root.resolve().name}")
    labels = _labels(flag, columns, opened, train)
    if columns.is_text:
        pieces = [(file, 0, file[1].num_rows) for file in opened]
        revision = choice.revised(_revision(names, files, labels.parts))
        documents = partial(row_documents, flag, pieces, columns.content, labels)
        return text_source(name, revision, chosen, documents, labels.names, (*notes, *labels.notes))
    row_keys = (
        tar_safe_key(f"{name}-{row:06d}")
        for name, (_, metadata) in zip(names, opened, strict=True)
        for row in range(metadata.num_rows)
    )
    outside = find_outside_images(flag, columns.content, opened)
    rows = RowGroups(opened, [columns.content, *([columns.captions] if columns.captions else [])])

    def fetch(index: int) -> Content:
        file, row = rows.row(index)
        data, path = columns.image_of(row)
        if data is None and path:
            data = read_outside_image(flag, file, path)
        return Content(data, labels.of(index), caption_texts(row.get(columns.captions or "")))

    source = Source(
        name=name,
        revision=choice.revised(_revision(names, files, (*outside.parts, *labels.parts))),
        split=chosen,
        keys=keys_from_paths(_paths(opened, columns.content) or [None]) or list(row_keys),
        class_names=labels.names,
        fetch=fetch,
        notes=(*notes, *labels.notes, *outside.notes),
        unreadable=outside.missing,
    )
    if columns.captions is None:
        return source
    where = f"{flag}: column {columns.captions}"
    arrays = (array for file in opened for array in stream_column(file, str(columns.captions), 0))
    captions = (caption_texts(value) for array in arrays for value in values_of(array, where))
    paths = _paths(opened, columns.content)
    images = paths if _are_paths(opened, columns.content) else None
    if choice.group:
        images = [value for file in opened for value in read_column(file, choice.group).to_pylist()]
    return pairs_of_rows(source, where, choice.captions is not None, captions, images, paths or ())


def _revision(names: list[str], files: list[Path], others: Iterable[str | int]) -> str:
    parts: list[str | int | bytes] = []
    for name, file in zip(names, files, strict=True):
        parts += [name, file.stat().st_size, read_footer(file)]
    return content_revision([*parts, *others])


def _columns_of_all(flag: str, files: list[ParquetFile], choice: ColumnChoice) -> tuple[Columns, tuple[str, ...]]:
    """The columns, which must be alike in every file, and what the user must know of them."""
    columns: Columns | None = None
    notes: tuple[str, ...] = ()
    for file in files:
        where, features = f"{flag}: {file[0].name}", _features(file)
        of_file = find_columns(where, features, choice, partial(_first_texts, file))
        check_paths(where, of_file.content, file[1].schema.to_arrow_schema().field(of_file.content).type)
        if columns is None:
            columns, notes = of_file, unlabelled_note(where, features, of_file, choice)
        elif of_file != columns:
            first = files[0][0].name
            raise BadInput(f"{flag}: {file[0].name} and {first} differ in image column, label column or classes")
    assert columns is not None
    return columns, notes


def _features(file: ParquetFile) -> dict[str, Any]:
    from datasets import Features

    return dict(Features.from_arrow_schema(file[1].schema.to_arrow_schema()))


def _first_texts(file: ParquetFile, column: str) -> list[str | None]:
    first = next(stream_column(file, column, 0), None)
    values = [] if first is None else first.cast(pa.large_binary()).to_pylist()
    return [None if value is None else value.decode(errors="replace") for value in values]


def _labels(flag: str, columns: Columns, files: list[ParquetFile], train: list[Path]) -> Labels:
    """The labels of the rows, of which text is numbered by the files of the train split."""
    label = columns.label or ""

    def values(of: Iterable[ParquetFile]) -> Iterator[Any]:
        for file in of:
            if label not in file[1].schema.to_arrow_schema().names:
                raise BadInput(f"{flag}: {file[0].name} has no column {label}, which numbers the classes: add it")
            yield from read_column(file, label).to_pylist()

    return column_labels(
        flag, columns.label, columns.class_names, lambda: values(files), lambda: values(map(open_file, train))
    )


def _paths(files: list[ParquetFile], image: str) -> list[str | None] | None:
    """The images' own paths, read without the images; None where they have none."""
    paths: list[str | None] = []
    for file in files:
        kind = file[1].schema.to_arrow_schema().field(image).type
        if is_text(kind):
            paths += read_column(file, image).to_pylist()
        elif pa.types.is_struct(kind) and kind.get_field_index("path") >= 0:
            paths += pc.struct_field(read_column(file, f"{image}.path"), "path").to_pylist()
        else:
            return None
    return paths


def _are_paths(files: list[ParquetFile], image: str) -> bool:
    """Whether an image is nothing but the path of a file, so that a path that comes up again is the same image."""
    return all(is_text(file[1].schema.to_arrow_schema().field(image).type) for file in files)
