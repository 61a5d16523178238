"""Ranges: parts of files read into buffers, with so many requests in flight that the latency of each costs little.

A network volume answers each request after milliseconds, and any number at a time: one reader gets 64 MB/s of it.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

from shards.errors import RESTORE, Damaged
from shards.tar import OpenFile, most_open

IN_FLIGHT = 64
"""Requests at a time."""
MERGED_BYTES = 1 << 20
GAP_BYTES = 4096
"""Ranges of one file that lie at most so far apart are one request of at most MERGED_BYTES."""


class Range(NamedTuple):
    """Bytes of a file of a set, and where they go."""

    file: str
    """Relative to the set's folder."""
    offset: int
    out: memoryview
    """Writable bytes; as many are read."""


ReadRanges = Callable[[Sequence[Range], Executor | None], None]
"""Every range's buffer is filled when it returns; Damaged where a file ends before. Any thread may call it."""


def request_threads() -> ThreadPoolExecutor:
    """Threads that wait for IN_FLIGHT requests at a time."""
    return ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="request")


class FolderRanges:
    """The files of a folder, by positioned reads; few descriptors are open, whatever the number of files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: OrderedDict[str, OpenFile] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, ranges: Sequence[Range], requests: Executor | None = None) -> None:
        """Every range's buffer is filled, by `requests` (of its own where None); Damaged where a file ends before."""
        merged = _merged(ranges)
        if len(merged) < 2:
            for request in merged:
                self._read(request)
            return
        with nullcontext(requests) if requests is not None else request_threads() as pool:
            futures = [pool.submit(self._read, request) for request in merged]
            errors = [error for future in futures if (error := future.exception()) is not None]
        if errors:  # after the last request: none writes into a buffer that was given up
            raise errors[0]

    def read_now(self, wanted: Range) -> bool:
        """Whether the range was in memory and is in its buffer now; nothing waits for a disk."""
        if not _NO_WAIT:
            return False
        try:
            # held while it is read: another thread may open the file too, and a descriptor that is closed be another's
            file = self._file(wanted.file)
            return os.preadv(file.descriptor, [wanted.out], wanted.offset, _NO_WAIT) == len(wanted.out)
        except OSError:  # it is not in memory, or this kind of volume cannot tell
            return False

    def _read(self, request: list[Range]) -> None:
        first, buffers, at = request[0], [], request[0].offset
        for each in request:
            buffers += [memoryview(bytearray(each.offset - at)), each.out] if each.offset > at else [each.out]
            at = each.offset + len(each.out)
        file, offset = self._file(first.file), first.offset
        while buffers:
            count = os.preadv(file.descriptor, buffers, offset)
            if count == 0:
                raise Damaged(f"{self.folder / first.file}: ends before byte {at}; {RESTORE}")
            offset += count
            while buffers and count >= len(buffers[0]):
                count -= len(buffers.pop(0))
            if count:
                buffers[0] = buffers[0][count:]

    def _file(self, name: str) -> OpenFile:
        with self._lock:
            file = self._open.get(name)
            if file is not None:
                self._open.move_to_end(name)
                return file
        opened = OpenFile(self.folder / name)
        with self._lock:
            opened = self._open.setdefault(name, opened)
            while len(self._open) > max(8, most_open() // 4):
                self._open.popitem(last=False)
        return opened


_NO_WAIT = getattr(os, "RWF_NOWAIT", 0)


def _merged(ranges: Sequence[Range]) -> list[list[Range]]:
    """The ranges as requests: those that follow each other closely in a file are one."""
    requests: list[list[Range]] = []
    for each in sorted(ranges, key=lambda one: (one.file, one.offset)):
        if requests and (last := requests[-1][-1]).file == each.file:
            gap = each.offset - last.offset - len(last.out)
            whole = each.offset + len(each.out) - requests[-1][0].offset
            if 0 <= gap <= GAP_BYTES and whole <= MERGED_BYTES and len(requests[-1]) < 256:
                requests[-1].append(each)
                continue
        requests.append([each])
    return requests
