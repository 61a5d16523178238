"""Row pages: the pages of sparse files that rows lie in: which are on the disk, and how many rows use each."""

import contextlib
import os
from collections.abc import Container
from pathlib import Path

import numpy as np

from shards.holes import extents, make_hole
from shards.layout import inside
from shards.spans import PAGE, Span


class RowPages:
    """Pages of the files under `root`; one thread at a time, but for `load` and `write`.

    What lets go raises OSError where the disk makes no hole now; the pages then are there still, no row's.
    """

    def __init__(self, root: Path, most: int) -> None:
        """What a process before left on the disk counts as there, as far as `most` pages allow."""
        self.root = root
        self.count = 0
        """Pages that are there, or are about to be written."""
        self._users: dict[str, np.ndarray] = {}  # by file, rows that use each page
        self._there: dict[str, np.ndarray] = {}  # by file, whether each page is on the disk
        self._paths: dict[str, str] = {}  # by file, where it was written before
        self._left: dict[str, set[str]] = {}  # by set, files of a process before
        self._find(most)

    def load(self, span: Span, out: memoryview) -> bool:
        """Whether the row is on the disk; `out` holds it then."""
        there = self._there.get(span.name)
        if there is None or len(there) < span.pages.stop or not there[span.pages].all():
            return False
        with contextlib.suppress(OSError), (self.root / span.name).open("rb", buffering=0) as file:
            return os.preadv(file.fileno(), [out], span.offset) == span.size
        return False

    def write(self, span: Span, content: memoryview) -> None:
        """What was fetched for the row lies at its place in its file; OSError where the disk takes no more."""
        descriptor, offset = self._opened(span.name), span.fetched[0]
        try:
            while content:
                written = os.pwrite(descriptor, content, offset)
                content, offset = content[written:], offset + written
        finally:
            os.close(descriptor)

    def _opened(self, name: str) -> int:
        """A descriptor of the file; that its path leads nowhere else is looked at once a process, which costs most."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW
        if (known := self._paths.get(name)) is not None:
            with contextlib.suppress(FileNotFoundError):
                return os.open(known, flags, 0o644)
        path = inside(self.root, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._paths[name] = str(path)
        return os.open(path, flags, 0o644)

    def num_lacking(self, span: Span) -> int:
        """Pages of the row that are not on the disk."""
        return int(np.count_nonzero(~self._of(span)[1][span.pages]))

    def use(self, span: Span) -> None:
        """The row's pages have a user more."""
        self._of(span)[0][span.pages] += 1

    def claim(self, span: Span) -> None:
        """The row's pages count as there: it is about to be written."""
        self.count += self.num_lacking(span)
        self._of(span)[1][span.pages] = True

    def let_go(self, span: Span) -> None:
        """The row's pages have a user less; those that have none are holes."""
        users, there = self._of(span)
        users[span.pages] -= 1
        self._punch(span.name, there, np.flatnonzero(users[span.pages] == 0) + span.pages.start)

    def let_go_left(self, but: Container[str]) -> bool:
        """Whether a file that another run left has become a hole; none of the sets `but`, which this one reads."""
        for name in [each for each in self._left if each not in but]:
            while self._left[name]:
                if self._punch_unclaimed(self._left[name].pop()):
                    return True
            del self._left[name]
        return False

    def let_go_unclaimed(self) -> bool:
        """Whether pages of a file, of no row that is known, left by a process before, have become a hole."""
        return any(map(self._punch_unclaimed, self._there))

    def let_go_all_unclaimed(self) -> None:
        """All pages of no row that is known are holes."""
        for name in self._there:
            self._punch_unclaimed(name)

    def _punch_unclaimed(self, name: str) -> bool:
        there = self._there[name]
        unclaimed = np.flatnonzero(there & (self._users[name] == 0))
        self._punch(name, there, unclaimed)
        return len(unclaimed) > 0

    def _punch(self, name: str, there: np.ndarray, pages: np.ndarray) -> None:
        are_one = len(pages) > 0 and int(pages[-1]) - int(pages[0]) == len(pages) - 1
        for run in [pages] if are_one else np.split(pages, np.flatnonzero(np.diff(pages) != 1) + 1):
            if len(run):
                with contextlib.suppress(FileNotFoundError):  # nothing of it could be written
                    make_hole(self.root / name, int(run[0]) * PAGE, len(run) * PAGE)
                self.count -= int(np.count_nonzero(there[run]))
                there[run] = False

    def _of(self, span: Span) -> tuple[np.ndarray, np.ndarray]:
        """Of the row's file, the users of each page and which pages are on the disk, up to the row's end at least."""
        for table, dtype in ((self._users, np.uint16), (self._there, np.bool_)):
            known = table.get(span.name)
            if known is None or len(known) < span.pages.stop:
                longer = np.zeros(max(span.pages.stop, 2 * (0 if known is None else len(known))), dtype)
                longer[: 0 if known is None else len(known)] = [] if known is None else known
                table[span.name] = longer
        return self._users[span.name], self._there[span.name]

    def _find(self, most: int) -> None:
        for path in self.root.rglob("*") if self.root.is_dir() else ():
            if path.is_file() and not path.is_symlink():
                name = path.relative_to(self.root).as_posix()
                there = np.zeros(-(-path.stat().st_size // PAGE), np.bool_)
                for start, end in extents(path):
                    there[start // PAGE : -(-end // PAGE)] = True
                self._left.setdefault(set_of(name), set()).add(name)
                self._there[name], self._users[name] = there, np.zeros(len(there), np.uint16)
                self.count += int(np.count_nonzero(there))
                if self.count > most:
                    with contextlib.suppress(OSError):
                        self._punch(name, there, np.flatnonzero(there)[most - self.count :])


def set_of(name: str) -> str:
    """The cache and the view set that a file is of."""
    return "/".join(name.split("/")[:2])
