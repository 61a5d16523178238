"""Row cache: ranges of a store's files, kept on the local disk within a bound; what is read again last goes first.

The order of a run is known, so the cache keeps by it: of all rows that it has and that it has just fetched it lets go
the one whose next use is the farthest (Belady 1966, "A study of replacement algorithms for a virtual-storage computer",
the optimal rule). Where it holds a share f of the data, an epoch downloads 1 - f of it or less. Least recently used,
the usual rule, would download nearly all: in a shuffled pass the row read longest ago is as likely the next as any.

Rows lie at their own places in sparse files, and a row that is let go becomes a hole. The bound counts whole pages of
4,096 bytes: a row alone takes up to two more than its bytes, which a dense row (151,690 bytes) hardly notices; rows
smaller than a page are fetched and kept with their whole pages, so that their neighbours cost no request more. The file
system's own map of holes says after a crash what is there, and every row passes its check whenever it is read, from the
disk as from the store: what is torn or altered is fetched again.
"""

import contextlib
import heapq
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, runtime_checkable

from shards.command.progress import human_bytes
from shards.errors import BadInput, Damaged
from shards.row_pages import RowPages, set_of
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


def too_small(limit: str, batch: str) -> str:
    """What is said where the bound that the user gave holds no batch."""
    return f"--read local_cache: {limit} hold no batch of {batch}; give at least twice that a process"


class RowCache:
    """Rows of `store`, of which at most `limit_bytes` lie under the folder `root`; one process, any thread."""

    def __init__(
        self, store: Ranges, root: Path, limit_bytes: int, refusal: Callable[[str, str], str] = too_small
    ) -> None:
        """`refusal`: what is said where a batch is larger, by both sizes."""
        self.store, self.limit_bytes, self._refusal = store, limit_bytes, refusal
        self.downloaded_bytes = 0
        """Fetched from the store since the cache was opened."""
        self._next: dict[Span, int] = {}
        self._farthest: list[tuple[int, Span]] = []  # (-next use, row), with entries that are out of date
        self._read_sets: set[str] = set()
        self._writing: set[Span] = set()
        self._most = limit_bytes // PAGE
        """Pages that are kept: fewer than the bound allows where the disk took no more."""
        self._is_full = False
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(REQUESTS, thread_name_prefix="fetch")
        self._pages = RowPages(root, self._most)

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
            raise BadInput(self._refusal(human_bytes(self.limit_bytes), human_bytes(needed)))
        with self._lock:
            self._read_sets |= {set_of(span.name) for span in spans}
        missing = [n for n, out in enumerate(outs) if not (self._pages.load(spans[n], out) and fits(n, out))]
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
            start = spans[group[0]].fetched[0]
            size = max(spans[number].fetched[1] for number in group) - start
            content = self.store.get_range(spans[group[0]].name, start, size)
            wrong = []
            for number in group:
                span = spans[number]
                outs[number][:] = content[span.offset - start :][: span.size]
                if fits(number, outs[number]):
                    first, last = span.fetched
                    self._keep(span, content[first - start : last - start], next_uses[number])
                else:
                    wrong.append(number)
            return size, wrong

        done = list(self._pool.map(one, groups(missing, spans)))
        with self._lock:
            self.downloaded_bytes += sum(size for size, _ in done)
        return [number for _, wrong in done for number in wrong]

    def _keep(self, span: Span, content: memoryview, next_use: int) -> None:
        """What was fetched for the row is on the disk, unless all there is read before, or the disk takes no more."""
        with self._lock:
            while self._pages.count + self._pages.num_lacking(span) > self._most:
                try:
                    if not self._let_go(next_use):
                        return
                except OSError:  # no hole can be made now: what takes the room keeps it, and the row is not kept
                    return
            if span in self._writing:
                return
            self._writing.add(span)
            # its pages are taken now, but it cannot be let go before it is written: its room would be lost sight of
            self._use(span)
            self._next.pop(span, None)  # another has kept it meanwhile; nobody lets it go before it is written
            self._pages.claim(span)
        try:
            self._pages.write(span, content)
        except OSError as error:
            self._keep_less(span, error)
            return
        with self._lock:
            self._writing.remove(span)
            self._expect(span, next_use)

    def _keep_less(self, span: Span, error: OSError) -> None:
        """The row, which could not be written, is let go, and the cache keeps no more than it has; it is said once."""
        with self._lock:
            self._writing.remove(span)
            with contextlib.suppress(OSError):  # the disk is so full that it makes no hole; what is read is checked
                self._pages.let_go(span)
            self._most = min(self._most, self._pages.count)
            if not self._is_full:
                self._is_full = True
                print(
                    f"note: {self._pages.root}: {error.strerror}: no more rows are kept there than now, and others are "
                    f"fetched whenever they are read; free some, or name another disk (TEACHER_SHARDS_LOCAL_CACHE)",
                    file=sys.stderr,
                )

    def _use(self, span: Span) -> None:
        """The row's pages have a user more, unless it is one of them already."""
        if span not in self._next:
            self._pages.use(span)

    def _expect(self, span: Span, next_use: int) -> None:
        """A row that is on the disk is read next at `next_use`."""
        self._next[span] = next_use
        heapq.heappush(self._farthest, (-next_use, span))
        if len(self._farthest) > 2 * len(self._next) + 1024:
            self._farthest = [(-use, each) for each, use in self._next.items()]
            heapq.heapify(self._farthest)

    def _let_go(self, before: int) -> bool:
        """Whether a row whose next use is after `before`, the farthest of all, has become a hole."""
        if self._pages.let_go_left(self._read_sets):
            return True
        while self._farthest:
            farthest, span = self._farthest[0]
            if self._next.get(span) != -farthest:
                heapq.heappop(self._farthest)  # out of date
            elif -farthest <= before:
                return False
            else:
                heapq.heappop(self._farthest)
                del self._next[span]
                self._pages.let_go(span)
                return True
        return self._pages.let_go_unclaimed()

    def let_go_unclaimed(self) -> None:
        """What a process before left, and this one has not read yet, goes before all else: it will not be read."""
        with self._lock, contextlib.suppress(OSError):
            self._pages.let_go_all_unclaimed()
