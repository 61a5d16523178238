"""Through `datasets`: one split of a folder that `save_to_disk` wrote, of another folder, or of a hub's repository."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from extract.photo import IMAGE_SUFFIXES
from extract.sources.hub import hub_errors, local_folder
from extract.sources.parquet_footer import read_footer
from extract.sources.saved_to_disk import left_aside, saved_splits
from extract.sources.splits import files_revision
from extract.sources.taken_files import check_taken, files_below, unlisted_note
from shards.errors import BadInput
from shards.splits import choose_split

if TYPE_CHECKING:
    from datasets import Dataset

_HUB_TIMEOUT_S = 10


class Opened(NamedTuple):
    """One split as `datasets` reads it, by the data's own name, and how to read another."""

    split: str
    splits: list[str]
    read: "Callable[[str], Dataset]"
    revision: str
    notes: tuple[str, ...]


def open_dataset(flag: str, identifier: str, config: str | None, split: str) -> Opened:
    """The split that `split` means of a folder here or of a repository of the hub; one line where that fails."""
    folder = local_folder(identifier)
    with _readable_errors(flag, identifier):
        opened = _open_saved(flag, folder, split) if folder else None
        opened = opened or _open_with_builder(flag, identifier, config, split)

    def read(name: str) -> "Dataset":
        with _readable_errors(flag, identifier):
            return opened.read(name)

    return opened._replace(read=read)


def _open_saved(flag: str, folder: Path, asked: str) -> Opened | None:
    """The split that `asked` means of what `save_to_disk` wrote into `folder`; None where it wrote nothing."""
    from datasets import Dataset

    splits = saved_splits(flag, folder)
    if not splits:
        return None
    split = choose_split(flag, asked, splits)

    def read(name: str) -> Dataset:
        try:
            return Dataset.load_from_disk(str(splits[name].folder), keep_in_memory=False).with_format(None)
        except (AttributeError, KeyError, TypeError) as error:  # what `datasets` raises on documents of another form
            raise BadInput(f"{flag}: {splits[name].folder} is damaged ({error}): save the dataset again") from error

    revision = _revision(folder, splits[split].files)
    return Opened(split, list(splits), read, revision, left_aside(flag, splits[split]))


def _open_with_builder(flag: str, identifier: str, config: str | None, asked: str) -> Opened:
    """The split that `asked` means as `datasets` tells it, from what lies in a folder here or on the hub."""
    folder = local_folder(identifier)
    builder, there, declared = _folder_builder(folder, config) if folder else _hub_builder(identifier, config)
    files = builder.config.data_files
    splits = [str(each) for each in files or builder.info.splits or ()]
    split = choose_split(flag, asked, splits)
    taken = {str(name): [_relative(file, folder) for file in listed] for name, listed in (files or {}).items()}
    notes: tuple[str, ...] = ()
    if taken and not declared:
        remedy = _remedy(identifier, folder, taken[split])
        notes = check_taken(flag, taken, split, there, remedy, may_be_renamed=folder is not None)
    builder.download_and_prepare()
    notes += unlisted_note(flag, taken.get(split, []), builder.info.splits[split].num_examples)
    revision = _revision(folder, map(Path, files[split])) if folder else str(builder.hash)
    return Opened(split, splits, lambda name: builder.as_dataset(split=name), revision, notes)


def _remedy(identifier: str, folder: Path | None, names: list[str]) -> str:
    """What reads the files `names` by splits that it does not guess."""
    suffix = Path(names[0]).suffix.lower()
    scheme = "folder" if suffix in IMAGE_SUFFIXES else "parquet"
    if folder is None:
        return f"hf download {identifier} --repo-type dataset --local-dir FOLDER, then write --data {scheme}:FOLDER"
    if suffix in IMAGE_SUFFIXES or suffix == ".parquet":
        return f"write --data {scheme}:{identifier}"
    return "rename it, or say in a README.md's `configs` which files are which split"


def _folder_builder(folder: Path, config: str | None) -> tuple[Any, list[str], bool]:
    """The builder of a local folder, the files there, and whether a card in it declares which files are which split."""
    from datasets import load_dataset_builder
    from huggingface_hub import metadata_load

    card = folder / "README.md"
    declared = card.is_file() and "configs" in (metadata_load(card) or {})
    return load_dataset_builder(str(folder), config), files_below(folder), declared


def _hub_builder(identifier: str, config: str | None) -> tuple[Any, list[str], bool]:
    """As `_folder_builder`, of a repository of the hub; offline, of what was downloaded before, with no files known."""
    from datasets import config as settings
    from datasets import load_dataset_builder
    from huggingface_hub import HfApi
    from huggingface_hub.errors import OfflineModeIsEnabled
    from huggingface_hub.utils import httpx

    try:
        # one quick question first: offline, `datasets` itself would retry for half a minute
        told = HfApi(endpoint=settings.HF_ENDPOINT).dataset_info(identifier, timeout=_HUB_TIMEOUT_S)
    except (httpx.TransportError, OfflineModeIsEnabled):
        was_offline, settings.HF_HUB_OFFLINE = settings.HF_HUB_OFFLINE, True
        try:
            return load_dataset_builder(identifier, config), [], True
        finally:
            settings.HF_HUB_OFFLINE = was_offline
    there = [file.rfilename for file in told.siblings or ()]
    declared = told.card_data is not None and "configs" in told.card_data
    return load_dataset_builder(identifier, config, revision=told.sha), there, declared


@contextmanager
def _readable_errors(flag: str, identifier: str) -> Iterator[None]:
    """Turns what `datasets` and the hub raise into one line that says what helps."""
    import yaml
    from datasets.exceptions import DatasetNotFoundError, DatasetsError

    remedy = "give a local copy (--data_dir FOLDER, or --data parquet:PATH)"
    try:
        with hub_errors(flag, f"datasets/{identifier}", remedy, not_found=(DatasetNotFoundError,)):
            yield
    except (DatasetsError, ValueError, FileNotFoundError, yaml.YAMLError) as error:
        raise BadInput(
            f"{flag}: `datasets` cannot open it ({error.__cause__ or error}): "
            f"give a hub's ORG/NAME[:CONFIG], or a folder that load_dataset reads; or {remedy}"
        ) from error


def _relative(file: str, folder: Path | None) -> str:
    """A file's name below its local folder, or below the root of its repository (hf://datasets/ORG/NAME@COMMIT/FILE)."""
    return Path(file).relative_to(folder).as_posix() if folder else file.partition("@")[2].partition("/")[2]


def _revision(root: Path, files: Iterable[Path]) -> str:
    return files_revision(root, sorted(files), lambda file: read_footer(file) if file.suffix == ".parquet" else b"")
