"""Holes: parts of a file that take no room on the disk."""

import ctypes
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from shards.errors import BadInput

_KEEP_SIZE_AND_PUNCH = 0x01 | 0x02  # fallocate's FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE
_LIBC = ctypes.CDLL(None, use_errno=True)


def extents(path: Path) -> Iterator[tuple[int, int]]:
    """(start, end) in bytes of the parts of a sparse file that are no holes."""
    with path.open("rb", buffering=0) as file:
        end = 0
        while True:
            try:
                start = os.lseek(file.fileno(), end, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:  # no data behind
                    raise
                return
            end = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            yield start, end


def make_hole(path: Path, offset: int, size: int) -> None:
    """`size` bytes of the file take no room any more and read as zeros; BadInput on a file system without holes.

    OSError where it takes none now: a hole takes room itself on a full disk that copies on write (btrfs, zfs).
    """
    with path.open("r+b", buffering=0) as file:
        if _LIBC.fallocate(file.fileno(), _KEEP_SIZE_AND_PUNCH, ctypes.c_int64(offset), ctypes.c_int64(size)):
            number = ctypes.get_errno()
            if number not in (errno.EOPNOTSUPP, errno.ENOSYS):
                raise OSError(number, os.strerror(number), str(path))
            raise BadInput(
                f"{path}: this file system makes no holes ({os.strerror(number)}); put the local cache on another disk "
                f"(TEACHER_SHARDS_LOCAL_CACHE), such as ext4, xfs or tmpfs"
            )
