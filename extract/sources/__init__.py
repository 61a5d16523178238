"""The registry of sources: what `--data` may name, and how it is opened.

A new source is one file and one line here; a new dataset of the hub is a row of the table in hub.py.
"""

from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from extract.sources.base import Document, Sample, Source
from extract.sources.caption_files import USAGE as CAPTION_FILE
from extract.sources.columns import USAGE as COLUMNS
from extract.sources.hub import DATASETS, local_folder
from extract.sources.tar_members import COMPRESSED
from extract.sources.text import USAGE as FIELDS
from extract.sources.wds import USAGE as CAPTIONS
from shards.command.ranges import COUNT
from shards.errors import BadInput, UnknownName

__all__ = ["SOURCES", "Document", "Sample", "Source", "is_of_the_hub", "open_source"]


class Entry(NamedTuple):
    """One scheme of `--data`: its module, what follows the colon ('' for nothing), whether --data_dir has a copy."""

    module: str
    argument: str
    local_copy: bool
    opener: str = "open_split"
    """The module's function of (what follows the colon, else the scheme; split; data_dir)."""


SOURCES = {
    "digits": Entry("digits", "", False),
    "folder": Entry("folder", f"PATH{CAPTION_FILE}", False),
    "text": Entry("text", f"PATH{FIELDS}", False),
    "text_files": Entry("text", "PATH", False, "open_files"),
    "parquet": Entry("parquet", f"PATH{COLUMNS}", False),
    "wds": Entry("wds", f"PATTERN{CAPTIONS}", False),
    "sentences": Entry("sentences", "PATH", False),
    "glue": Entry("glue", "TASK", True),
    "hf": Entry("hf", f"ID[:CONFIG]{COLUMNS}", True),
    "openwebtext": Entry("openwebtext", "", True),
    **{name: Entry(row.module, "", True, "open_named") for name, row in DATASETS.items()},
}


def open_source(data: str, split: str, data_dir: str | None = None, limit: int | None = None) -> Source:
    """The samples of `split` of what `--data` names (SCHEME or SCHEME:PATH), the first `limit` of them if given.

    Raises UnknownName for an unregistered scheme, SourceUnavailable for a hub out of reach, BadInput for the rest.
    """
    scheme, _, path = data.partition(":")
    if scheme not in SOURCES:
        there = Path(data).expanduser()
        if there.exists():
            raise BadInput(f"--data {data}: a path needs its scheme: write --data {_scheme_of(there)}:{data}")
        raise UnknownName("source", scheme or data, SOURCES)
    module, argument, local_copy, opener = SOURCES[scheme]
    if bool(path) != bool(argument):
        raise BadInput(f"--data {data}: write --data {scheme}{f':{argument}' if argument else ''}")
    if data_dir is not None and not local_copy:
        raise BadInput(f"--data_dir {data_dir}: --data {scheme} takes none; leave it out")
    if limit is not None:
        COUNT.check("--limit", limit)
    opened = getattr(import_module(f"extract.sources.{module}"), opener)
    source: Source = opened(path or scheme, split, data_dir)
    if not source.keys and source.documents is None:
        raise BadInput(f"--data {data}: split {source.split} holds no sample: give another --split")
    if limit is None:
        return source
    if source.documents is not None:
        return _first_documents(source, limit)
    return replace(source, keys=source.keys[:limit], unreadable=tuple(i for i in source.unreadable if i < limit))


def is_of_the_hub(data: str, data_dir: str | None) -> bool:
    """Whether opening `--data` may fetch it from the network: a dataset of the hub without a copy that is named."""
    scheme, _, path = data.partition(":")
    is_here = data_dir is not None or (path != "" and local_folder(path.partition(":")[0]) is not None)
    return SOURCES[scheme].local_copy and not is_here


_ENDINGS = (
    # tars first: img2dataset writes a table without images beside each
    ("wds", (".tar", *COMPRESSED)),
    ("parquet", (".parquet",)),
    ("hf", (".arrow",)),
    ("text", (".jsonl",)),
)


def _first_documents(source: Source, limit: int) -> Source:
    """`source` cut after `limit` documents; its revision says so, as it lists no keys that would."""
    every = source.documents
    assert every is not None

    def documents(start: int) -> Iterator[Document]:
        return islice(every(start), max(0, limit - start))

    return replace(source, documents=documents, revision=f"{source.revision}, first {limit:,}")


def _scheme_of(path: Path) -> str:
    """The scheme that most likely reads what is at `path`."""
    names = [path.name] if path.is_file() else [entry.name for entry in path.iterdir()]
    for scheme, endings in _ENDINGS:
        if any(name.endswith(endings) for name in names):
            return scheme
    return "text" if path.suffix == ".txt" else "folder"
