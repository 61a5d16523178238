"""Checked: files of a set whose bytes are checked before they are used, whole ones by SHA-256 and rows by crc32c.

A shard whose commit record has the rows' checksums is not read before its first row is wanted: each row is checked as
it arrives. A shard without them, of a cache of before, is hashed whole when it is first opened.
"""

import threading
from pathlib import Path

from shards.documents import Commit, read_commit
from shards.errors import RESTORE, BadInput, Damaged
from shards.layout import commit_path, inside
from shards.mirror import origin_of
from shards.ranges import FolderRanges
from shards.records import FileRecord, Files, check_file, check_size


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

    def sized(self, relative: str) -> Path:
        """The path of a file whose rows are checked one by one; Damaged where its size is not the manifest's.

        A mirror of a bucket may hold a part of the file alone: there it is fetched and checked whole.
        """
        if origin_of(self.folder) is not None:
            return self(relative)
        return check_size(self.folder, relative, self._record(relative))

    def commit(self, view: int, shard: int) -> Commit:
        """The commit record of one shard; Damaged where it is not what the manifest says."""
        path = self(commit_path(view, shard))
        record = read_commit(self.folder, view, shard)
        if record is None:
            raise Damaged(f"{path}: missing; {RESTORE}")
        return record

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


CHECKS = ("always", "once")


def parse_read(flag: str | None) -> str:
    """What `--read check=VALUE` says, `always` where it was not given; BadInput for what is no setting of it."""
    check = "always"
    for setting in flag.split(",") if flag else ():
        name, _, value = setting.partition("=")
        if name != "check" or value not in CHECKS:
            raise BadInput(f"--read {setting}: expected check=always or check=once")
        check = value
    return check
