"""Tar: a view set's shards as WebDataset files, written reproducibly and read by offset, never extracted."""

import functools
import io
import os
import resource
import tarfile
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import crc32c
import numpy as np
from jaxtyping import Int64

from shards.errors import RESTORE, Damaged
from shards.rows import check_row

MAX_MEMBER_BYTES = 64 << 20
TAR_ERRORS = (tarfile.TarError, ValueError, OverflowError, EOFError, MemoryError)
"""What `tarfile` raises on headers that make no sense: a size that no offset, or no memory, holds."""
_BLOCK = tarfile.BLOCKSIZE

Members = dict[str, list[tuple[int, int]]]
"""For each ending (jpg, json, cls) the (offset, size) of each row's member, in bytes from the start of the tar."""
NO_MEMBER = (0, 0)
"""Where a row has no such member: a sample without a label, or one that was skipped."""


def pack(samples: Iterable[tuple[str, dict[str, bytes]]]) -> tuple[bytes, Members]:
    """A tar of (key, {ending: content}) and where each member lies in it; equal input gives equal bytes.

    The times are the integer 0: a float would add an extended header of 1 kB to every member (and the clock).
    """
    buffer = io.BytesIO()
    members: Members = {}
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for row, (key, contents) in enumerate(samples):
            for ending, content in contents.items():
                header = tarfile.TarInfo(f"{key}.{ending}")
                header.size, header.mtime, header.mode = len(content), 0, 0o644
                tar.addfile(header, io.BytesIO(content))
                padded = -(-len(content) // _BLOCK) * _BLOCK
                places = members.setdefault(ending, [NO_MEMBER] * row)
                places.append((buffer.tell() - padded, len(content)))
            for places in members.values():
                places.extend([NO_MEMBER] * (row + 1 - len(places)))
    return buffer.getvalue(), members


def headers(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The header of each member in turn; the archive keeps none of them, as a million take a gigabyte."""
    while (header := archive.next()) is not None:
        archive.members.clear()  # type: ignore[attr-defined]
        yield header


def listing(tar: Path | bytes, most: int | None = None) -> list[tuple[str, int, int]]:
    """(name, offset, size) of each member of a file or of its content, read from the tar's own headers.

    Raises Damaged for anything but plain files, and for more members than `most`.
    """
    members: list[tuple[str, int, int]] = []
    try:
        with (
            tar.open("rb") if isinstance(tar, Path) else io.BytesIO(tar) as stream,
            tarfile.open(fileobj=stream, mode="r:") as archive,
        ):
            for header in headers(archive):
                if not header.isreg():
                    raise Damaged(f"member {header.name!r} is no plain file")
                if len(members) == most:
                    raise Damaged(f"it has more than {most} members")
                members.append((header.name, header.offset_data, header.size))
    except TAR_ERRORS as error:
        raise Damaged(f"it is no tar ({error})") from None
    return members


class StoredTar:
    """One tar on the disk; `read` gives a member's bytes with one positioned read, from any number of threads.

    Not mapped: a mapping made by Python keeps a descriptor, and ImageNet has 2,502 tars a view where a process may
    have 256 to 1,024 files open. A page that is not in memory would also stop every thread that holds the lock.
    """

    def __init__(
        self,
        path: Path,
        members: Members,
        checksums: Mapping[str, np.ndarray | None] | None = None,
        size_there: int | None = None,
    ) -> None:
        """`checksums` of each row's member by ending; None: the tar was checked as a whole.

        With `size_there`, its bytes in a bucket, it is not here and cannot be read, but its members' places are known.
        """
        self.path, self._checksums, self.is_here = path, checksums, size_there is None
        size = size_there
        if size is None:
            status = path.stat()
            size, self._version = status.st_size, _version(status)
        if size == 0:
            raise Damaged(f"{path}: is empty; {RESTORE}")
        self._file: OpenFile | None = None
        self._places: dict[str, Int64[np.ndarray, "rows 2"]] = {}
        for ending, places in members.items():
            array = np.array(places, np.int64).reshape(-1, 2)  # a list of tuples takes ten times the memory
            offsets, sizes = array.T
            inside = (offsets >= 0) & (sizes >= 0) & (sizes <= MAX_MEMBER_BYTES) & (offsets <= size - sizes)
            if not inside.all():
                offset, size = array[~inside][0].tolist()
                raise Damaged(f"{path}: its commit record puts a .{ending} at {offset}+{size}, outside the file")
            self._places[ending] = array

    @property
    def endings(self) -> list[str]:
        """What members the tar has: jpg, json, cls."""
        return list(self._places)

    @property
    def checked_by_row(self) -> bool:
        """Whether each member is checked when it is read."""
        return self._checksums is not None

    def place(self, row: int, ending: str) -> tuple[int, int]:
        """The offset and size of one row's member."""
        offset, size = self._places[ending][row].tolist()
        return offset, size

    def fits(self, row: int, ending: str, content: memoryview) -> bool:
        """Whether `content` is what was written as this member."""
        sums = None if self._checksums is None else self._checksums[ending]
        return sums is None or crc32c.crc32c(content) == int(sums[row])

    def check(self, row: int, ending: str, content: bytes | bytearray) -> None:
        """Damaged where `content` is not what was written as this member."""
        sums = None if self._checksums is None else self._checksums[ending]
        if sums is not None:
            check_row(f"{self.path}: row {row}: its .{ending}", content, int(sums[row]))

    def read(self, row: int, ending: str) -> bytes:
        """The content of one row's member; empty where the row has none."""
        offset, size = self.place(row, ending)
        file = self._file or self._opened()
        content = os.pread(file.descriptor, size, offset)
        if len(content) != size:
            raise Damaged(f"{self.path}: was cut off while it was read; {RESTORE}")
        self.check(row, ending, content)
        return content

    def _opened(self) -> "OpenFile":
        with _OPENING:
            file = self._file
            if file is None:
                file = self._file = OpenFile(self.path)
                if _version(os.fstat(file.descriptor)) != self._version:
                    raise Damaged(f"{self.path}: was replaced by another file after it had been checked; run again")
                _OPEN.append(weakref.ref(self))
                while len(_OPEN) > most_open():
                    oldest = _OPEN.popleft()()
                    if oldest is not None:
                        oldest._file = None
        return file


class OpenFile:
    """A descriptor, closed when the last thread that reads from it is done: its number may belong to another then."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        if hasattr(self, "descriptor"):
            close(self.descriptor)  # at the end of the process the module has no names any more


_OPEN: deque["weakref.ref[StoredTar]"] = deque()
"""The tars of this process that have a descriptor, those opened first at the left."""
_OPENING = threading.Lock()


@functools.cache
def most_open() -> int:
    """Tars open at a time: a quarter of the files that the process may have open."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(8, min(limit, 1 << 14) // 4) if limit != resource.RLIM_INFINITY else 1 << 12


def _version(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_ino, status.st_size, status.st_mtime_ns)
