"""Files: an entry of a set's table, and what must be true of a file's content beyond its SHA-256."""

import os
import re
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from shards.documents import FileRecord, read_commit
from shards.errors import RESTORE, Damaged, one_line
from shards.layout import inside
from shards.reader import check_file
from shards.tar import NO_MEMBER, listing
from shards.verify.findings import Findings
from shards.zarrs import ArraySpec, failing_chunks

Place = tuple[int, int]
"""View and shard."""
Check = Callable[[Path], None]
"""Raises Damaged where the content of the file is not as it must be."""
_SHARD_FILE = re.compile(r"(?:views/v(\d+)-(\d+)\.tar|commits/v(\d+)-(\d+)\.json|[^/]+/c/(\d+)/(\d+)(?:/0)*)")


@dataclass(frozen=True)
class Entry:
    """A file that must be there: its size and SHA-256, and what else must be true of it."""

    record: FileRecord
    check: Check | None = None


Table = dict[str, Entry]
"""All files of a set, by their paths relative to its folder."""


def damage_of(folder: Path, relative: str, entry: Entry) -> str | None:
    """What is wrong with one file of a table, in one line; None for nothing."""
    try:
        path = check_file(folder, relative, entry.record)
        if entry.check is not None:
            entry.check(path)
    except Damaged as error:
        return one_line(error)
    except OSError as error:  # a bad sector is damage too, and the other files still want reading
        return f"{folder / relative}: cannot be read ({error.strerror}); {RESTORE}"
    return None


def check_tar(path: Path, folder: Path, place: Place, keys: list[str]) -> None:
    """The tar's own headers name the plan's `keys`, where the shard's commit record says that their members are."""
    commit = read_commit(folder, *place)  # only now: the places of a million members take a gigabyte
    if commit is None:
        return  # which is damage of its own
    try:
        listed = listing(path.read_bytes())
    except (tarfile.TarError, Damaged) as error:
        raise Damaged(f"{path}: its tar headers are not in order ({error}); {RESTORE}") from None
    skipped, members = set(commit.skipped or ()), commit.members or {}
    wanted = {
        f"{key}.{ending}": place
        for ending, places in members.items()
        for key, place in zip(keys, places, strict=False)
        if key not in skipped and place != NO_MEMBER
    }
    stored = {name: (offset, size) for name, offset, size in listed}
    wrong = [name for name in wanted | stored if wanted.get(name) != stored.get(name)]
    if wrong:
        first = f"{wrong[0]} is at {stored.get(wrong[0])}, expected {wanted.get(wrong[0])}"
        raise Damaged(
            f"{path}: its members are not those of the plan and the commit record ({len(wrong)} differ): {first} "
            f"(offset, size); {RESTORE}"
        )
    if len(listed) != len(stored) or any(len(places) != len(keys) for places in members.values()):
        raise Damaged(f"{path}: names a member twice, or its commit record is of another plan; {RESTORE}")


def check_object(path: Path, spec: ArraySpec, num_rows: int) -> None:
    """The shard object's index and every inner chunk pass their crc32c."""
    if failing := failing_chunks(path, spec, num_rows):
        raise Damaged(f"{path}: inner chunk {failing[0]} fails its crc32c ({len(failing)} do); {RESTORE}")


def walk(folder: Path, findings: Findings, skip: str) -> Iterator[str]:
    """The plain files under `folder`, relative to it, without following links, which are damage."""

    def unreadable(error: OSError) -> None:
        path = error.filename
        findings.add(Path(path), f"{path}: cannot be read ({error.strerror}); mend its permissions")

    for parent, folders, files in os.walk(folder, onerror=unreadable):
        if Path(parent) == folder and skip in folders and not (folder / skip).is_symlink():
            folders.remove(skip)
        for name in (*folders, *files):
            relative = (Path(parent) / name).relative_to(folder).as_posix()
            try:
                if inside(folder, relative).is_file():
                    yield relative
            except Damaged as error:
                findings.add(folder / relative, error)


def place_of(relative: str) -> Place | None:
    """The view and shard of a file, by its name; None for a file of no shard."""
    match = _SHARD_FILE.fullmatch(relative)
    if match is None:
        return None
    view, shard = (int(group) for group in match.groups() if group is not None)
    return view, shard
