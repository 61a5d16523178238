"""Records: what a file of a set must be, and the counts that documents hold."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from shards.errors import RESTORE, Damaged
from shards.identity import sha256_of, sha256_of_file
from shards.layout import inside
from shards.mirror import origin_of

MAX_COUNT = 1 << 40

Count = Annotated[int, Meta(ge=1, le=MAX_COUNT)]
Number = Annotated[int, Meta(ge=0, le=MAX_COUNT)]


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
    """The path of a file that is what its record says; Damaged if it is missing, truncated, altered or swapped.

    In a mirror of a store such a file is fetched again.
    """
    return _checked(folder, relative, record, _problem)


def check_size(folder: Path, relative: str, record: FileRecord) -> Path:
    """The path of a file that is as large as its record says; Damaged if it is missing, or truncated.

    In a mirror of a store such a file is fetched again.
    """
    return _checked(folder, relative, record, _size_problem)


def is_whole(folder: Path, relative: str, record: FileRecord) -> bool:
    """Whether a file is what its record says; Damaged where its path leads through a link."""
    return _problem(inside(folder, relative), record) is None


def _checked(
    folder: Path, relative: str, record: FileRecord, problem_of: Callable[[Path, FileRecord], str | None]
) -> Path:
    path = inside(folder, relative)
    problem = problem_of(path, record)
    if problem and (mirror := origin_of(folder)) is not None:
        mirror.bring(folder, relative, record.size, record.sha256)
    elif problem:
        raise Damaged(f"{path}: {problem}; {RESTORE}")
    return path


def _size_problem(path: Path, record: FileRecord) -> str | None:
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return "missing"
    return None if size == record.size else f"{size} bytes, its manifest says {record.size}"


def _problem(path: Path, record: FileRecord) -> str | None:
    if problem := _size_problem(path, record):
        return problem
    return None if sha256_of_file(path) == record.sha256 else "its SHA-256 is not the manifest's: altered or swapped"
