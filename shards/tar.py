"""Tar: a view set's shards as WebDataset files, written reproducibly and read by offset, never extracted."""

import io
import mmap
import tarfile
from collections.abc import Iterable
from pathlib import Path

from shards.errors import RESTORE, Damaged

MAX_MEMBER_BYTES = 64 << 20
_BLOCK = tarfile.BLOCKSIZE

Members = dict[str, list[list[int]]]
"""For each ending (jpg, json, cls) the [offset, size] of each row's member, in bytes from the start of the tar.

[0, 0] where a row has no such member: a sample without a label, or one that was skipped.
"""


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
                places = members.setdefault(ending, [[0, 0] for _ in range(row)])
                places.append([buffer.tell() - padded, len(content)])
            for places in members.values():
                places.extend([0, 0] for _ in range(row + 1 - len(places)))
    return buffer.getvalue(), members


def listing(data: bytes | mmap.mmap) -> list[tuple[str, int, int]]:
    """(name, offset, size) of each member, read from the tar's own headers; anything but plain files is Damaged."""
    found = []
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
            for header in tar:
                if not header.isreg():
                    raise Damaged(f"member {header.name!r} is no plain file")
                found.append((header.name, header.offset_data, header.size))
    except tarfile.TarError as error:
        raise Damaged(f"it is no tar ({error})") from None
    return found


class MappedTar:
    """One tar in memory by mapping; `read` gives a member's bytes without touching the rest."""

    def __init__(self, path: Path, members: Members) -> None:
        self.path = path
        self.members = members
        if path.stat().st_size == 0:
            raise Damaged(f"{path}: is empty; {RESTORE}")
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        for ending, places in members.items():
            for offset, size in places:
                if not (offset >= 0 and 0 <= size <= MAX_MEMBER_BYTES and offset + size <= len(self._map)):
                    raise Damaged(f"{path}: its commit record puts a .{ending} at {offset}+{size}, outside the file")

    def read(self, row: int, ending: str) -> bytes:
        """The content of one row's member."""
        offset, size = self.members[ending][row]
        return self._map[offset : offset + size]
