"""Records: what a file of a set must be, and the counts that documents hold."""

from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from shards.errors import RESTORE, Damaged
from shards.identity import sha256_of, sha256_of_file
from shards.layout import inside

_MAX_COUNT = 1 << 40

Count = Annotated[int, Meta(ge=1, le=_MAX_COUNT)]
Number = Annotated[int, Meta(ge=0, le=_MAX_COUNT)]


class FileRecord(Struct, frozen=True, gc=False):
    """What a file of a set must be: its size in bytes and its SHA-256."""

    size: Number
    sha256: str


Files = dict[str, FileRecord]
"""By the path of each file, relative to its set's folder."""


def record_of(content: bytes | bytearray | memoryview) -> FileRecord:
    """What a file that holds `content` must be."""
    return FileRecord(len(memoryview(content)), sha256_of(content))


def check_file(folder: Path, relative: str, record: FileRecord) -> Path:
    """The path of a file that is what its record says; Damaged if it is missing, truncated, altered or swapped."""
    path = check_size(folder, relative, record)
    if sha256_of_file(path) != record.sha256:
        raise Damaged(f"{path}: its SHA-256 is not the manifest's: altered or swapped; {RESTORE}")
    return path


def check_size(folder: Path, relative: str, record: FileRecord) -> Path:
    """The path of a file that is as large as its record says; Damaged if it is missing, or truncated."""
    path = inside(folder, relative)
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise Damaged(f"{path}: missing; {RESTORE}") from None
    if size != record.size:
        raise Damaged(f"{path}: {size} bytes, its manifest says {record.size}; {RESTORE}")
    return path
