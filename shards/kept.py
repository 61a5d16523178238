"""Kept: what files say, parsed once a process as long as they do not change."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

Parsed = TypeVar("Parsed")

_SETTLED_NS = 2 * 10**9
"""A file that changed less than this ago may change again and keep its time, whose steps are milliseconds."""


class Kept(Generic[Parsed]):
    """What was parsed of the last files: `few` however large, more while all sizes together are at most `most`."""

    def __init__(self, size: Callable[[Parsed], int], few: int, most: int) -> None:
        self._size, self._few, self._most = size, few, most
        self._kept: dict[tuple[object, ...], Parsed] = {}
        """By path, inode, size and time of change."""

    def read(self, path: Path, parse: Callable[[], Parsed]) -> Parsed:
        """What `parse` makes of the file; it is called too where there is none, to say what is missing."""
        status = path.stat() if path.exists() else None
        if status is None or time.time_ns() - status.st_mtime_ns < _SETTLED_NS:
            return parse()
        version = (path, status.st_ino, status.st_size, status.st_mtime_ns)
        if (parsed := self._kept.get(version)) is None:
            parsed = parse()
            while len(self._kept) >= self._few and sum(map(self._size, (parsed, *self._kept.values()))) > self._most:
                self._kept.pop(next(iter(self._kept)), None)  # the oldest
            self._kept[version] = parsed
        return parsed
