"""Checked: files of a set whose bytes are checked before they are used, whole ones by SHA-256 and rows by crc32c.

A shard whose commit record has the rows' checksums is not read before its first row is wanted: each row is checked as
it arrives. A shard without them, of a cache of before, is hashed whole when it is first opened.
"""

import threading
from functools import cached_property
from pathlib import Path

from shards.bucket_rows import NextUses
from shards.documents import Commit, read_commit
from shards.errors import RESTORE, Damaged
from shards.identity import sha256_of
from shards.layout import commit_path, inside, place_of
from shards.mirror import origin_of
from shards.ranges import FolderRanges
from shards.records import FileRecord, Files, check_file, check_size, record_of


class CheckedFiles:
    """The files that a manifest lists, each checked when a run first asks for it; any thread may.

    An object of its own, which storages share with their set: a method of the set would keep the set, and the files
    that it has open, until the garbage collector runs.
    """

    def __init__(self, folder: Path, files: Files) -> None:
        self.folder, self.files = folder, files
        self.check = "always"
        """Rows with checksums: `always`, or `once` where a row that was read before is believed to be the same."""
        self.read = FolderRanges(folder)
        """Fills buffers with ranges of files."""
        self.next_uses = NextUses()
        """When rows come again that are fetched from a bucket."""
        self._checked: set[str] = set()
        self._checking: dict[str, threading.Lock] = {}

    def __call__(self, relative: str) -> Path:
        """The path of a file; Damaged where it is not what the manifest says."""
        if relative not in self._checked:
            with self._checking.setdefault(relative, threading.Lock()):  # other threads check other files meanwhile
                if relative not in self._checked:
                    check_file(self.folder, relative, self._record(relative))
                    self._checked.add(relative)
        return self.folder / relative

    @cached_property
    def mirrored(self) -> bool:
        """Whether the folder is a mirror of a cache in a bucket."""
        return origin_of(self.folder) is not None

    def by_row(self, relative: str) -> bool:
        """Whether the rows of a file, which have checksums, are fetched from a bucket one by one: it is not here."""
        return self.mirrored and not (self.folder / relative).exists()

    def sized(self, relative: str) -> Path:
        """The path of a file whose rows are checked one by one; Damaged where its size is not the manifest's.

        In a mirror of a bucket it is checked whole: one that is damaged there is fetched again.
        """
        if self.mirrored:
            return self(relative)
        return check_size(self.folder, relative, self._record(relative))

    def size_of(self, relative: str) -> int:
        """Bytes of a file, as the manifest says."""
        return self._record(relative).size

    def commit(self, view: int, shard: int) -> Commit:
        """The commit record of one shard; Damaged where it is not what the manifest says."""
        relative = commit_path(view, shard)
        record = read_commit(self.folder, view, shard, self._content(relative))
        if record is None:
            raise Damaged(f"{self.folder / relative}: missing; {RESTORE}")
        return record

    def _content(self, relative: str) -> bytes | None:
        """What a file holds, read once and checked; Damaged where it is not what the manifest says."""
        record = self._record(relative)
        content = check_size(self.folder, relative, record).read_bytes()
        if sha256_of(content) != record.sha256:  # which says so, and fetches the file again in a mirror
            content = check_file(self.folder, relative, record).read_bytes()
        return content

    def _record(self, relative: str) -> FileRecord:
        if relative not in self.files:
            raise Damaged(f"{self.folder}: {relative} is in no manifest; {RESTORE}")
        return self.files[relative]


class UncheckedFiles(CheckedFiles):
    """The files of a set that is being written, and has no manifest yet: as they are."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, {})

    def __call__(self, relative: str) -> Path:
        """The path of a file inside the set."""
        return inside(self.folder, relative)

    sized = __call__

    def _content(self, relative: str) -> bytes | None:
        return None


class CommittedFiles(CheckedFiles):
    """The files of a set that may have no manifest yet, each as the commit record of its shard says that it is."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, {})

    def commit(self, view: int, shard: int) -> Commit:
        """The commit record of one shard of views; Damaged where it is none."""
        record = super().commit(view, shard)
        if not record.files:
            path = self.folder / commit_path(view, shard)
            raise Damaged(f"{path}: is no commit record of a shard of views; {RESTORE}")
        return record

    def _record(self, relative: str) -> FileRecord:
        if relative not in self.files and (place := place_of(relative)) is not None:
            name = commit_path(*place)
            if (record := read_commit(self.folder, *place)) is not None:
                self.files |= record.files | {name: record_of((self.folder / name).read_bytes())}
        return super()._record(relative)
