"""Row cache: ranges of a store's files, kept on the local disk within a bound; what is read again last goes first.

The order of a run is known, so the cache keeps by it: of all rows that it has and that it has just fetched it lets go
the one whose next use is the farthest (Belady 1966, "A study of replacement algorithms for a virtual-storage computer",
the optimal rule). Where it holds a share f of the data, an epoch downloads 1 - f of it or less. Least recently used,
the usual rule, would download nearly all: in a shuffled pass the row read longest ago is as likely the next as any.

Rows lie at their own places in sparse files, and a row that is let go becomes a hole. The bound counts whole pages of
4,096 bytes: a row alone takes up to two more than its bytes, which a dense row (151,690 bytes) hardly notices. The file
system's own map of holes says after a crash what is there, and every row passes its check whenever it is read, from the
disk as from the store: what is torn or altered is fetched again.
"""

import contextlib
import heapq
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from shards.command.progress import human_bytes
from shards.errors import BadInput, Damaged
from shards.holes import extents, make_hole
from shards.layout import inside
from shards.spans import PAGE, Span, groups, num_pages

NEVER = 1 << 62
"""The next use of what is not read again."""
REQUESTS = 64
"""Ranges that are fetched at a time."""
_ATTEMPTS = 3


@runtime_checkable
class Ranges(Protocol):
    """What files are read from; a store is."""

    def get_range(self, name: str, offset: int, size: int) -> memoryview:
        """`size` bytes of a file from `offset` on; Damaged where the file ends before."""

    def named(self, name: str) -> str:
        """How messages call a file."""


class RowCache:
    """Rows of `store`, of which at most `limit_bytes` lie under the folder `root`; one process, any thread."""

    def __init__(self, store: Ranges, root: Path, limit_bytes: int) -> None:
        self.store, self.root, self.limit_bytes = store, root, limit_bytes
        self.downloaded_bytes = 0
        """Fetched from the store since the cache was opened."""
        self._next: dict[Span, int] = {}
        self._farthest: list[tuple[int, Span]] = []  # (-next use, row), with entries that are out of date
        self._users: dict[str, np.ndarray] = {}  # by file, rows that use each page
        self._there: dict[str, np.ndarray] = {}  # by file, whether each page is on the disk
        self._left: dict[str, set[str]] = {}  # by set, files of a process before
        self._read_sets: set[str] = set()
        self._writing: set[Span] = set()
        self._num_pages = 0
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(REQUESTS, thread_name_prefix="fetch")
        self._find_pages()

    def close(self) -> None:
        """No thread of it is left; the rows stay on the disk."""
        self._pool.shutdown()

    def read(
        self,
        spans: Sequence[Span],
        outs: Sequence[memoryview],
        next_uses: Sequence[int],
        fits: Callable[[int, memoryview], bool],
    ) -> None:
        """Fill `outs` with the rows of `spans`, a batch, each of which `fits` by its number.

        `next_uses` say when each is read next, in any unit that grows. Raises BadInput where the batch is larger than
        the cache, Damaged where a row of the store does not fit after three fetches.
        """
        needed = PAGE * num_pages(spans)
        if needed > self.limit_bytes:
            limit, batch = human_bytes(self.limit_bytes), human_bytes(needed)
            raise BadInput(f"--read local_cache: {limit} hold no batch of {batch}; give at least twice that a process")
        with self._lock:
            self._read_sets |= {_set_of(span.name) for span in spans}
        missing = [n for n, out in enumerate(outs) if not (self._load(spans[n], out) and fits(n, out))]
        with self._lock:
            for number in set(range(len(spans))) - set(missing):
                if spans[number] not in self._writing:  # whoever writes it will expect it
                    self._use(spans[number])  # it may have been left by a process before
                    self._expect(spans[number], next_uses[number])
        for _ in range(_ATTEMPTS):
            if missing:
                missing = self._fetch(missing, spans, outs, next_uses, fits)
        if missing:
            span = spans[missing[0]]
            raise Damaged(
                f"{self.store.named(span.name)}: the row at {span.offset}+{span.size} fails its checksum after "
                f"{_ATTEMPTS} fetches; push the cache again from a whole copy"
            )

    def _load(self, span: Span, out: memoryview) -> bool:
        """Whether the row is on the disk; `out` holds it then."""
        there = self._there.get(span.name)
        if there is None or len(there) < span.pages.stop or not there[span.pages].all():
            return False
        with contextlib.suppress(FileNotFoundError), (self.root / span.name).open("rb", buffering=0) as file:
            return os.preadv(file.fileno(), [out], span.offset) == span.size
        return False

    def _fetch(
        self,
        missing: list[int],
        spans: Sequence[Span],
        outs: Sequence[memoryview],
        next_uses: Sequence[int],
        fits: Callable[[int, memoryview], bool],
    ) -> list[int]:
        """Fetch the rows whose numbers are `missing`, neighbours in one request; those that do not fit come back.

        Each thread checks and keeps what it fetched, while others wait for the store.
        """

        def one(group: list[int]) -> tuple[int, list[int]]:
            first, last = spans[group[0]], spans[group[-1]]
            size = last.offset + last.size - first.offset
            content = self.store.get_range(first.name, first.offset, size)
            wrong = []
            for number in group:
                start = spans[number].offset - first.offset
                outs[number][:] = content[start : start + spans[number].size]
                if fits(number, outs[number]):
                    self._keep(spans[number], outs[number], next_uses[number])
                else:
                    wrong.append(number)
            return size, wrong

        done = list(self._pool.map(one, groups(missing, spans)))
        with self._lock:
            self.downloaded_bytes += sum(size for size, _ in done)
        return [number for _, wrong in done for number in wrong]

    def _keep(self, span: Span, content: memoryview, next_use: int) -> None:
        """The row is on the disk, unless all that is there is read before it is."""
        path = inside(self.root, span.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock:
            while (self._num_pages + self._num_lacking(span)) * PAGE > self.limit_bytes:
                if not self._let_go(next_use):
                    return
            if span in self._writing:
                return
            self._writing.add(span)
            # its pages are taken now, but it cannot be let go before it is written: its room would be lost sight of
            self._num_pages += self._num_lacking(span)
            self._use(span)
            self._next.pop(span, None)  # another has kept it meanwhile; nobody lets it go before it is written
            self._pages(span)[1][span.pages] = True
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        try:
            os.pwrite(descriptor, content, span.offset)
        finally:
            os.close(descriptor)
        with self._lock:
            self._writing.remove(span)
            self._expect(span, next_use)

    def _num_lacking(self, span: Span) -> int:
        """Pages of the row that are not on the disk."""
        return int(np.count_nonzero(~self._pages(span)[1][span.pages]))

    def _use(self, span: Span) -> None:
        """The row's pages have a user more, unless it is one of them already."""
        if span not in self._next:
            self._pages(span)[0][span.pages] += 1

    def _expect(self, span: Span, next_use: int) -> None:
        """A row that is on the disk is read next at `next_use`."""
        self._next[span] = next_use
        heapq.heappush(self._farthest, (-next_use, span))
        if len(self._farthest) > 2 * len(self._next) + 1024:
            self._farthest = [(-use, each) for each, use in self._next.items()]
            heapq.heapify(self._farthest)

    def _let_go(self, before: int) -> bool:
        """Whether a row whose next use is after `before`, the farthest of all, has become a hole."""
        for name in self._left.keys() - self._read_sets:  # what another run left, and this one does not read
            while self._left[name]:
                if self._punch_unclaimed(self._left[name].pop()):
                    return True
            del self._left[name]
        while self._farthest:
            farthest, span = self._farthest[0]
            if self._next.get(span) != -farthest:
                heapq.heappop(self._farthest)  # out of date
            elif -farthest <= before:
                return False
            else:
                heapq.heappop(self._farthest)
                del self._next[span]
                users, there = self._pages(span)
                users[span.pages] -= 1
                self._punch(span.name, there, np.flatnonzero(users[span.pages] == 0) + span.pages.start)
                return True
        return any(map(self._punch_unclaimed, self._there))

    def _punch_unclaimed(self, name: str) -> bool:
        """Whether pages of a file, of no row that is known, left by a process before, have become a hole."""
        there = self._there[name]
        unclaimed = np.flatnonzero(there & (self._users[name] == 0))
        self._punch(name, there, unclaimed)
        return len(unclaimed) > 0

    def let_go_unclaimed(self) -> None:
        """What a process before left, and this one has not read yet, goes before all else: it will not be read."""
        with self._lock:
            for name in self._there:
                self._punch_unclaimed(name)

    def _punch(self, name: str, there: np.ndarray, pages: np.ndarray) -> None:
        path = self.root / name
        for run in np.split(pages, np.flatnonzero(np.diff(pages) != 1) + 1):
            if len(run):
                make_hole(path, int(run[0]) * PAGE, len(run) * PAGE)
                self._num_pages -= int(np.count_nonzero(there[run]))
                there[run] = False

    def _pages(self, span: Span) -> tuple[np.ndarray, np.ndarray]:
        """Of the row's file, the users of each page and which pages are on the disk, up to the row's end at least."""
        for table, dtype in ((self._users, np.uint16), (self._there, np.bool_)):
            known = table.get(span.name)
            if known is None or len(known) < span.pages.stop:
                longer = np.zeros(max(span.pages.stop, 2 * (0 if known is None else len(known))), dtype)
                longer[: 0 if known is None else len(known)] = [] if known is None else known
                table[span.name] = longer
        return self._users[span.name], self._there[span.name]

    def _find_pages(self) -> None:
        """What a process before left on the disk counts as held, as far as the bound allows."""
        for path in self.root.rglob("*") if self.root.is_dir() else ():
            if path.is_file() and not path.is_symlink():
                name = path.relative_to(self.root).as_posix()
                there = np.zeros(-(-path.stat().st_size // PAGE), np.bool_)
                for start, end in extents(path):
                    there[start // PAGE : -(-end // PAGE)] = True
                self._left.setdefault(_set_of(name), set()).add(name)
                self._there[name], self._users[name] = there, np.zeros(len(there), np.uint16)
                self._num_pages += int(np.count_nonzero(there))
                beyond = self._num_pages - self.limit_bytes // PAGE
                if beyond > 0:
                    self._punch(name, there, np.flatnonzero(there)[-beyond:])


def _set_of(name: str) -> str:
    """The cache and the view set that a file is of."""
    return "/".join(name.split("/")[:2])
