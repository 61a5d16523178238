"""Disk: how fast the disk of a cache takes and gives, measured past the page cache in a place that is left clean."""

import math
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from shards.command.progress import human_bytes
from shards.commit import create, write_atomically
from shards.errors import BadInput

_PIECE_BYTES = 64 << 20
_MOST_PIECES = 8
_SMALL_FILES = 8


class DiskRates(NamedTuple):
    """What a disk does."""

    write: float
    """Bytes a second, hashed, in the way that shards are written, and on the disk at the end."""
    read: float
    """Bytes a second that are not in memory."""
    seconds_a_file: float
    """What a small file takes until it and its name are on the disk."""
    free: float = math.inf
    """Bytes."""

    def seconds_to_write(self, num_bytes: int | float, num_files: int | float) -> float:
        """How long so many bytes in so many files take."""
        return num_bytes / self.write + num_files * self.seconds_a_file


def probe_disk(folder: Path, seconds: int | float) -> DiskRates:
    """The rates of the disk of `folder`, in about so many seconds; what is written takes a quarter of what is free.

    BadInput where there is no room for one piece.
    """
    free = shutil.disk_usage(folder).free
    if free < 4 * _PIECE_BYTES:
        few, needed = human_bytes(free), human_bytes(4 * _PIECE_BYTES)
        raise BadInput(f"--plan: {few} are free on the disk of {folder.parent}; a probe alone takes {needed}")
    small = time.perf_counter()
    for number in range(_SMALL_FILES):
        create(folder / f"small-{number}", os.urandom(1000))
    seconds_a_file = (time.perf_counter() - small) / _SMALL_FILES
    data = os.urandom(1 << 20) * (_PIECE_BYTES >> 20)  # no zeros: a file system may compress
    most = min(_MOST_PIECES, free // 4 // _PIECE_BYTES)
    paths: list[Path] = []
    start = time.perf_counter()
    while len(paths) < most and (not paths or time.perf_counter() - start < seconds):
        paths.append(folder / f"piece-{len(paths)}")
        write_atomically(paths[-1], data)
    written = time.perf_counter() - start
    rate = len(paths) * _PIECE_BYTES / written
    read = read_rate(paths) or rate
    for path in (*folder.glob("small-*"), *paths):
        path.unlink()
    return DiskRates(rate, read, seconds_a_file, float(free))


def read_rate(paths: Sequence[Path]) -> float | None:
    """Bytes a second of some of the files, which are dropped from memory before; None where they are too few to tell.

    They are only read.
    """
    num_bytes, lasted, buffer = 0, 0.0, bytearray(1 << 22)
    for path in paths:
        if num_bytes >= _MOST_PIECES * _PIECE_BYTES:
            break
        _forget(path)
        start = time.perf_counter()
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                num_bytes += count
        lasted += time.perf_counter() - start
    return num_bytes / lasted if num_bytes >= _PIECE_BYTES else None


def _forget(path: Path) -> None:
    """What is in memory of the file, which is on the disk, is dropped where the system can."""
    if hasattr(os, "posix_fadvise"):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
