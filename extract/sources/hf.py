"""`hf:ID[:CONFIG]`: a dataset of the Hugging Face hub, or a local folder in one of its layouts, through `datasets`."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from extract.sources.base import Source, content_revision, folder_safe_name
from extract.sources.columns import find_columns, keys_from_paths
from extract.sources.hub import hub_errors, hub_title, local_folder
from extract.sources.local_copy import open_local_copy
from extract.sources.parquet import read_footer
from extract.sources.splits import canonical_split, choose_split
from shards.errors import BadInput

_HUB_TIMEOUT_S = 10


def open_split(path: str, split: str, data_dir: str | None) -> Source:
    """The dataset ID, in its configuration CONFIG where it has several (see `open_hub`)."""
    identifier, config = path, None
    if ":" in path and local_folder(path) is None:
        identifier, _, config = path.rpartition(":")
    if "/" not in identifier and local_folder(identifier) is None:
        # `datasets` would take a bare `json` or `imagefolder` for whatever lies in the current folder
        raise BadInput(
            f"--data hf:{path}: {identifier!r} is no folder here; write a hub's dataset as ORG/NAME[:CONFIG]"
        )
    name = folder_safe_name(hub_title(identifier) + (f"-{config}" if config else ""))
    return open_hub(f"--data hf:{path}", identifier, split, data_dir, name=name, config=config)


def open_hub(
    flag: str,
    identifier: str,
    split: str,
    data_dir: str | None,
    *,
    name: str,
    config: str | None = None,
    label_column: str | None = None,
) -> Source:
    """One split of a dataset on the hub, of a local folder that `datasets` can read, or of the copy in `data_dir`.

    The revision is the hub's commit; for a local folder it covers the name and size of each of the split's files (and
    a parquet file's footer). A key is the stem of the image's path where each has one and all differ, else SPLIT-ROW.
    Offline, what `datasets` downloaded before is used (it says so); else SourceUnavailable says what helps.
    """
    if data_dir is not None:
        return replace(open_local_copy(data_dir, split, label_column), name=name)
    with _readable_errors(flag, identifier):
        builder = _builder(identifier, config)
        files = builder.config.data_files
        chosen = choose_split(flag, split, [str(each) for each in files or builder.info.splits or ()])
        builder.download_and_prepare()
        data = builder.as_dataset(split=chosen)
    columns = find_columns(flag, data.features, label_column)
    data = _undecoded(data.select_columns(columns.names), columns.image)
    keys = keys_from_paths(_paths(data.data.column(columns.image)))

    def fetch(index: int) -> tuple[bytes | None, int | None]:
        image, label = columns.split(data[index])
        return _image_bytes(image), label

    return Source(
        name=name,
        revision=_files_revision(folder, files[chosen]) if (folder := local_folder(identifier)) else str(builder.hash),
        split=canonical_split(chosen),
        keys=keys or [f"{canonical_split(chosen)}-{row:06d}" for row in range(len(data))],
        class_names=columns.classes(flag, lambda label: data.data.column(label).to_pylist()),
        fetch=fetch,
    )


def _builder(identifier: str, config: str | None) -> Any:
    from datasets import config as settings
    from datasets import load_dataset_builder
    from huggingface_hub import HfApi
    from huggingface_hub.errors import OfflineModeIsEnabled
    from huggingface_hub.utils import httpx

    if folder := local_folder(identifier):
        return load_dataset_builder(str(folder), config)
    try:
        # one quick question first: offline, `datasets` itself would retry for half a minute
        commit = HfApi(endpoint=settings.HF_ENDPOINT).dataset_info(identifier, timeout=_HUB_TIMEOUT_S).sha
    except (httpx.TransportError, OfflineModeIsEnabled):
        was_offline, settings.HF_HUB_OFFLINE = settings.HF_HUB_OFFLINE, True
        try:
            return load_dataset_builder(identifier, config)
        finally:
            settings.HF_HUB_OFFLINE = was_offline
    return load_dataset_builder(identifier, config, revision=commit)


@contextmanager
def _readable_errors(flag: str, identifier: str) -> Iterator[None]:
    """Turns what `datasets` and the hub raise into one line that says what helps."""
    from datasets.exceptions import DatasetNotFoundError, DatasetsError

    remedy = "give a local copy (--data_dir FOLDER, or --data parquet:PATH)"
    try:
        with hub_errors(flag, f"datasets/{identifier}", remedy, not_found=(DatasetNotFoundError,)):
            yield
    except (DatasetsError, ValueError, FileNotFoundError) as error:
        raise BadInput(
            f"{flag}: `datasets` cannot open it ({error.__cause__ or error}): "
            f"give a hub's ORG/NAME[:CONFIG], or a folder that load_dataset reads; or {remedy}"
        ) from error


def _undecoded(data: Any, image: str) -> Any:
    from datasets import Image

    return data.cast_column(image, Image(decode=False)) if isinstance(data.features[image], Image) else data


def _paths(column: Any) -> list[str | None]:
    import pyarrow.compute as pc

    return pc.struct_field(column, "path").to_pylist() if column.type.get_field_index("path") >= 0 else [None]


def _image_bytes(image: dict[str, Any]) -> bytes | None:
    import fsspec

    if image.get("bytes") is not None or not image.get("path"):
        return image.get("bytes")
    with fsspec.open(image["path"], "rb") as stream:
        return stream.read()


def _files_revision(root: Path, files: Iterable[str]) -> str:
    parts: list[str | int | bytes] = []
    for file in sorted(map(Path, files)):
        name = file.relative_to(root).as_posix()
        parts += [name, file.stat().st_size, read_footer(file) if file.suffix == ".parquet" else b""]
    return content_revision(parts)
