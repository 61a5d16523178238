"""`hf:ID[:CONFIG]`: a dataset of the Hugging Face hub, or a local folder in one of its layouts, through `datasets`."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from extract.sources.base import Content, Document, Source
from extract.sources.captions import caption_texts
from extract.sources.columns import ColumnChoice, Columns, find_columns, keys_from_paths, parse_columns, unlabelled_note
from extract.sources.documents import text_source
from extract.sources.grouping import pairs_of_rows
from extract.sources.hub import DATASETS, hub_title, local_folder
from extract.sources.labels import Labels, column_labels
from extract.sources.local_copy import open_local_copy
from extract.sources.naming import content_revision, folder_safe_name
from extract.sources.outside_images import is_text
from extract.sources.table_texts import array_documents
from extract.sources.through_datasets import Opened, open_dataset
from shards.command.progress import counted
from shards.errors import BadInput
from shards.splits import canonical_split

_STREAMED_ROWS = 256

if TYPE_CHECKING:
    from datasets import Dataset
    from pyarrow import ChunkedArray


def open_split(path: str, split: str, data_dir: str | None) -> Source:
    """The dataset ID, in its configuration CONFIG where it has several (see `open_hub`)."""
    table, choice = parse_columns("hf", path)
    identifier, config = table, None
    if ":" in table and local_folder(table) is None:
        identifier, _, config = table.rpartition(":")
    if "/" not in identifier and local_folder(identifier) is None:
        # `datasets` would take a bare `json` or `imagefolder` for whatever lies in the current folder
        raise BadInput(
            f"--data hf:{path}: {identifier!r} is no folder here; write a hub's dataset as ORG/NAME[:CONFIG]"
        )
    name = folder_safe_name(hub_title(identifier) + (f"-{config}" if config else ""))
    return open_hub(f"--data hf:{path}", identifier, config, split, data_dir, name, choice)


def open_named(name: str, split: str, data_dir: str | None) -> Source:
    """A dataset that has a row in `hub.DATASETS`; it has no captions but those that the row names."""
    row = DATASETS[name]
    identifier = row.identifier.format(split=canonical_split(split))
    choice = ColumnChoice(f"hf:{identifier}", usual_captions=row.captions or "", usual_label=row.label)
    return open_hub(f"--data {name}", identifier, None, split, data_dir, name, choice)


def open_hub(
    flag: str,
    identifier: str,
    config: str | None,
    split: str,
    data_dir: str | None,
    name: str,
    choice: ColumnChoice,
) -> Source:
    """One split of a dataset on the hub, of a local folder that `datasets` can read, or of the copy in `data_dir`.

    The revision is the hub's commit; for a local folder it covers the name and size of each of the split's files (and
    a parquet file's footer). A key is the stem of the image's path where each has one and all differ, else SPLIT-ROW.
    Offline, what `datasets` downloaded before is used (it says so); else SourceUnavailable says what helps.
    """
    if data_dir is not None:
        return replace(open_local_copy(data_dir, split, choice), name=name)
    opened = open_dataset(flag, identifier, config, split)
    data = opened.read(opened.split)
    columns = find_columns(flag, data.features, choice, lambda column: ())
    notes = (*opened.notes, *unlabelled_note(flag, data.features, columns, choice))
    labels = _labels(flag, opened, data, columns)
    revision = content_revision([opened.revision, *labels.parts]) if labels.parts else opened.revision
    if columns.is_text:
        documents = partial(_documents, flag, data.select_columns([columns.content]), labels)
        split, revision = canonical_split(opened.split), choice.revised(revision)
        return text_source(name, revision, split, documents, labels.names, (*notes, *labels.notes))
    images = _undecoded(data.select_columns([columns.content]), columns.content)
    captions = data.data.column(columns.captions) if columns.captions else None
    paths = _paths(images.data.column(columns.content))
    unreadable = _check_images(flag, columns.content, images.data.column(columns.content), paths)
    keys = keys_from_paths(paths)

    def fetch(index: int) -> Content:
        texts = () if captions is None else caption_texts(captions[index].as_py())
        return Content(_image_bytes(*columns.image_of(images[index])), labels.of(index), texts)

    source = Source(
        name=name,
        revision=choice.revised(revision),
        split=canonical_split(opened.split),
        keys=keys or [f"{canonical_split(opened.split)}-{row:06d}" for row in range(len(images))],
        class_names=labels.names,
        fetch=fetch,
        notes=(*notes, *labels.notes, *_unlabelled_folders_note(flag, columns, choice, paths)),
        unreadable=unreadable,
    )
    if captions is None:
        return source
    stored = (caption_texts(value) for chunk in captions.chunks for value in chunk.to_pylist())
    grouped = data.data.column(choice.group).to_pylist() if choice.group else None
    where, known = f"{flag}: column {columns.captions}", paths if len(paths) == len(images) else ()
    return pairs_of_rows(source, where, choice.captions is not None, stored, grouped, known)


def _documents(flag: str, texts: "Dataset", labels: Labels, start: int) -> Iterator[Document]:
    rows = texts.with_format("arrow")
    for first in range(start, len(rows), _STREAMED_ROWS):
        table = rows[first : first + _STREAMED_ROWS]
        yield from array_documents(f"{flag}: row", table.column(0), first, first, labels)


def _labels(flag: str, opened: Opened, data: "Dataset", columns: Columns) -> Labels:
    """The labels of the rows, of which text is numbered by the train split."""
    train = next((name for name in opened.splits if canonical_split(name) == "train"), opened.split)

    def values(of: "Dataset") -> list[Any]:
        return list(of.data.column(columns.label).to_pylist())

    return column_labels(
        flag,
        columns.label,
        columns.class_names,
        lambda: values(data),
        lambda: values(data if train == opened.split else opened.read(train)),
    )


def _unlabelled_folders_note(
    flag: str, columns: Columns, choice: ColumnChoice, paths: list[str | None]
) -> tuple[str, ...]:
    """A line for the user where images lie in several folders, of which `datasets` makes no classes."""
    folders = {PurePath(path).parent for path in paths if path}
    if columns.label is not None or choice.label is not None or len(folders) < 2:
        return ()
    return (f"{flag}: no labels: `datasets` makes no classes of the {len(folders):,} folders; --data folder:PATH does",)


def _undecoded(data: "Dataset", image: str) -> "Dataset":
    from datasets import Image

    return data.cast_column(image, Image(decode=False)) if isinstance(data.features[image], Image) else data


def _paths(images: "ChunkedArray") -> list[str | None]:
    """Each image's own path; None alone where images have none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    there = pa.types.is_struct(images.type) and images.type.get_field_index("path") >= 0
    return list(pc.struct_field(images, "path").to_pylist()) if there else [None]


def _check_images(flag: str, column: str, images: "ChunkedArray", paths: list[str | None]) -> tuple[int, ...]:
    """The rows that hold no image; BadInput where a row holds nothing but a path that leads nowhere from here."""
    import pyarrow as pa
    import pyarrow.compute as pc

    remedy = "only --data parquet:PATH reads images by their paths"
    if is_text(images.type):
        raise BadInput(f"{flag}: column {column} holds text: {remedy}")
    # which rows are null is told without a look at the bytes
    stored = pc.struct_field(images, "bytes") if pa.types.is_struct(images.type) else images
    empty = [row for row, is_null in enumerate(pc.is_null(stored).to_pylist()) if is_null]
    names = {row: paths[row] if len(paths) == len(images) else None for row in empty}
    if relative := [name for name in names.values() if _is_relative(name)]:
        raise BadInput(f"{flag}: {counted(len(relative), 'image')} are paths alone, such as {relative[0]}: {remedy}")
    return tuple(row for row, name in names.items() if not name)


def _is_relative(path: str | None) -> bool:
    return bool(path) and "://" not in str(path) and not PurePath(str(path)).is_absolute()


def _image_bytes(data: bytes | None, path: str | None) -> bytes | None:
    import fsspec

    if data is not None or not path:
        return data
    with fsspec.open(path, "rb") as stream:
        return bytes(stream.read())
