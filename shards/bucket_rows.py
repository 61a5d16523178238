"""Bucket rows: rows of shards that lie in a bucket, by ranges through one row cache a process, checked on arrival.

The cache lies beside the mirrors, in `.rows/NUMBER`, a folder a process: the ranks of a run have an equal share of the
bound each, and a run that resumes finds the rows of its rank.
"""

import os
import shutil
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import numpy as np
from jaxtyping import Int

from shards.command.progress import human_bytes
from shards.errors import BadInput
from shards.lock import take
from shards.mirror import LOCAL_CACHE, home, origin_of, writing_there
from shards.ranges import Range
from shards.row_cache import NEVER, RowCache, too_small
from shards.spans import Span
from shards.stores.base import Store

DEFAULT_BYTES = 50 * 10**9
"""The bound where none is given, or half of the free disk where that is less."""
ANY_VIEW = -1
"""In the place of a view's number: rows that all views share, as the images that views are rendered from."""
_FOLDER = ".rows"


@dataclass
class Bound:
    """How much of the disk the rows of all buckets may take, and this process's share of it."""

    limit_bytes: int | None = None
    """None: DEFAULT_BYTES, or half of the free disk."""
    rank: int = 0
    num_ranks: int = 1


@dataclass
class _Process:
    """The row cache of this process, opened when a row is first read."""

    bound: Bound = field(default_factory=Bound)
    home: Path | None = None
    cache: RowCache | None = None
    claim: TextIO | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def close(self) -> None:
        if self.cache is not None and self.claim is not None:
            self.cache.close()
            self.claim.close()
        self.cache = self.claim = None


_process = _Process()


def set_bound(bound: Bound) -> None:
    """Rows that are read from now on are kept within `bound`."""
    with _process.lock:
        _process.close()
        _process.bound = bound


def row_cache() -> RowCache:
    """The row cache of this process."""
    with _process.lock:
        if _process.cache is None or _process.home != home():
            _process.close()
            _process.home = home()
            _process.cache, _process.claim = _open(_process.home / _FOLDER, _process.bound)
        return _process.cache


def read_rows(
    folder: Path,
    view: int,
    samples: Sequence[int],
    wanted: Sequence[Range],
    fits: Callable[[int, memoryview], bool],
    uses: "NextUses",
    sizes: Mapping[str, int] | None = None,
) -> None:
    """Each of `wanted`, of the set in `folder` of a mirror and of that sample, is in its buffer, and fits.

    `sizes` of files, by name: in these rows are small, and come with the rest of their pages.
    Raises Damaged where the bucket's row does not fit, BadInput where the cache holds no batch.
    """
    prefix = folder.absolute().relative_to(home()).as_posix()
    of = sizes or {}
    spans = [
        Span(sys.intern(f"{prefix}/{each.file}"), each.offset, len(each.out), of.get(each.file, 0)) for each in wanted
    ]
    row_cache().read(spans, [each.out for each in wanted], uses.of(view, samples), fits)


class NextUses:
    """When rows of one view set, and of its target sets, are read next; any thread may ask."""

    def __init__(self) -> None:
        self.of_any_view = False
        """Whether somebody asks when rows of ANY_VIEW are read."""
        self._views: dict[int, Int[np.ndarray, " samples"]] = {}

    def note(self, view: int, samples: Int[np.ndarray, " count"], uses: Int[np.ndarray, " count"]) -> None:
        """`samples` (ascending) of a view are read next at `uses`."""
        known = self._views.get(view, np.empty(0, np.int64))
        if len(known) <= samples[-1]:
            longer = np.full(2 * int(samples[-1]) + 1, NEVER)
            longer[: len(known)] = known
            self._views[view] = known = longer
        known[samples] = uses

    def of(self, view: int, samples: Sequence[int]) -> list[int]:
        """When each is read next; NEVER of what nobody told."""
        known, asked = self._views.get(view, np.empty(0, np.int64)), np.asarray(samples)
        uses = np.full(len(asked), NEVER)
        told = asked < len(known)
        uses[told] = known[asked[told]]
        return uses.tolist()


class _Buckets:
    """The buckets of all mirrors as one: a name begins with the mirror's."""

    def get_range(self, name: str, offset: int, size: int) -> memoryview:
        """That part of a file."""
        mirror, _, rest = name.partition("/")
        return _origin(mirror).get_range(rest, offset, size)

    def named(self, name: str) -> str:
        """How messages call the file."""
        mirror, _, rest = name.partition("/")
        return _origin(mirror).named(rest)


def _origin(mirror: str) -> Store:
    found = origin_of(home() / mirror)
    if found is None:
        raise BadInput(f"{home() / mirror}: was removed while it was read; run the same command again")
    return found.store


def _open(folder: Path, bound: Bound) -> tuple[RowCache, TextIO]:
    with writing_there():
        folder.mkdir(parents=True, exist_ok=True)
        number, claim = _claim(folder, bound)
    try:
        return _within(folder, bound, number), claim
    except BaseException:
        claim.close()  # else the next one has another number, and finds what this folder holds to be no room
        raise


def _within(folder: Path, bound: Bound, number: int) -> RowCache:
    """The row cache in the folder of that number; BadInput where the disk has no room for it."""
    if bound.rank == 0:
        _remove_unused(folder, bound.num_ranks, number)
    state = os.statvfs(folder)
    # what the ranks of this run have; what another run holds is not free
    own = range(bound.num_ranks) if number == bound.rank else (number,)
    room = state.f_bavail * state.f_frsize + sum(_bytes_in(folder / str(each)) for each in own)
    limit = min(DEFAULT_BYTES, room // 2) if bound.limit_bytes is None else bound.limit_bytes
    if limit > room:
        raise BadInput(
            f"--read local_cache={human_bytes(limit)}: {folder.parent} has room for {human_bytes(room)}; give less, "
            f"or another disk ({LOCAL_CACHE})"
        )

    def share_too_small(limit: str, batch: str) -> str:
        share = f"half of what is free there is {limit} a process, which hold no batch of {batch}"
        return f"{folder.parent}: {share}; free some, or name another disk ({LOCAL_CACHE})"

    refusal = too_small if bound.limit_bytes else share_too_small
    return RowCache(_Buckets(), folder / str(number), limit // bound.num_ranks, refusal)


def _claim(folder: Path, bound: Bound) -> tuple[int, TextIO]:
    """The number of a folder that no other process uses, the rank where that is free, and what keeps others away."""
    number = bound.rank
    while True:
        claim = (folder / f"{number}.lock").open("w")
        try:
            take(claim.fileno(), folder)
            return number, claim
        except BlockingIOError:
            claim.close()
            number = max(number + 1, bound.num_ranks)


def _remove_unused(folder: Path, num_ranks: int, own: int) -> None:
    """Rows that were kept for more ranks than there are now are gone; they would count for nobody."""
    for path in folder.iterdir():
        if path.is_dir() and path.name.isdecimal() and int(path.name) >= num_ranks and int(path.name) != own:
            with (folder / f"{path.name}.lock").open("w") as claim:
                try:
                    take(claim.fileno(), folder)
                except BlockingIOError:  # another run's
                    continue
                shutil.rmtree(path, ignore_errors=True)


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())
