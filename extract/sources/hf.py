"""`hf:ID[:CONFIG]`: a dataset of the Hugging Face hub, or a local folder in one of its layouts, through `datasets`."""

from dataclasses import replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from extract.sources.base import Source, content_revision, folder_safe_name
from extract.sources.columns import ColumnChoice, find_columns, keys_from_paths, parse_columns, unlabelled_note
from extract.sources.hub import DATASETS, hub_title, local_folder
from extract.sources.label_classes import Classes, read_classes
from extract.sources.local_copy import open_local_copy
from extract.sources.outside_images import is_text
from extract.sources.splits import canonical_split
from extract.sources.through_datasets import Opened, open_dataset
from shards.errors import BadInput

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
    """A dataset that has a row in `hub.DATASETS`."""
    identifier, config, label = DATASETS[name]
    choice = ColumnChoice(f"hf:{identifier}", usual_label=label)
    return open_hub(f"--data {name}", identifier, config, split, data_dir, name, choice)


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
    data = _undecoded(flag, data.select_columns(columns.names), columns.image)
    classes = _classes(flag, opened, data, columns.label, columns.class_names)
    revision = content_revision([opened.revision, *classes.parts]) if classes.parts else opened.revision
    keys = keys_from_paths(_field(data.data.column(columns.image), "path"))

    def fetch(index: int) -> tuple[bytes | None, int | None]:
        row = data[index]
        label = classes.number(row[columns.label]) if columns.label else None
        return _image_bytes(*columns.image_of(row)), label

    return Source(
        name=name,
        revision=choice.revised(revision),
        split=canonical_split(opened.split),
        keys=keys or [f"{canonical_split(opened.split)}-{row:06d}" for row in range(len(data))],
        class_names=classes.names,
        fetch=fetch,
        notes=(*notes, *classes.notes),
    )


def _classes(
    flag: str, opened: Opened, data: "Dataset", label: str | None, declared: tuple[str, ...] | None
) -> Classes:
    """The classes of the label column, of which text is numbered by the train split."""
    if label is None:
        return Classes()

    def train_labels() -> list[Any]:
        train = next((name for name in opened.splits if canonical_split(name) == "train"), opened.split)
        return list((data if train == opened.split else opened.read(train)).data.column(label).to_pylist())

    return read_classes(flag, label, declared, data.data.column(label).to_pylist(), train_labels)


def _undecoded(flag: str, data: "Dataset", image: str) -> "Dataset":
    """`data` with its images as they are stored; BadInput where they are named by paths that lead nowhere from here."""
    from datasets import Image

    if isinstance(data.features[image], Image):
        data = data.cast_column(image, Image(decode=False))
    remedy = "only --data parquet:PATH reads images by their paths"
    column = data.data.column(image)
    if is_text(column.type):
        raise BadInput(f"{flag}: column {image} holds text: {remedy}")
    paths = _field(column, "path")
    if any(map(_is_relative, paths)):
        without_bytes = [path for path, data in zip(paths, _field(column, "bytes"), strict=True) if data is None]
        if relative := list(filter(_is_relative, without_bytes)):
            raise BadInput(f"{flag}: {len(relative):,} images are paths alone, such as {relative[0]}: {remedy}")
    return data


def _field(column: "ChunkedArray", name: str) -> list[Any]:
    """A field of a struct column, and None alone where it has none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    there = pa.types.is_struct(column.type) and column.type.get_field_index(name) >= 0
    return list(pc.struct_field(column, name).to_pylist()) if there else [None]


def _is_relative(path: str | None) -> bool:
    return bool(path) and "://" not in str(path) and not PurePath(str(path)).is_absolute()


def _image_bytes(data: bytes | None, path: str | None) -> bytes | None:
    import fsspec

    if data is not None or not path:
        return data
    with fsspec.open(path, "rb") as stream:
        return bytes(stream.read())
