"""Sharing: commands on several machines work on one cache, without a coordinator.

What is done is what has a commit record, created only if absent. Leases keep two machines from the same shard.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

from extract.boards import SHARING, Board
from extract.leases import Leases
from extract.pipeline import Counts, Extraction
from extract.same_device import check_device
from shards.errors import BadInput
from shards.layout import Place, commit_path
from shards.lock import locked

_BLOCK = 4
"""Shards that are taken at a time: the next one's views are made while the teacher works on one."""
_POLLS_A_LEASE = 20
_FIRST_PAUSE_S, _MOST_PAUSE_S = 0.1, 1.0
"""Between two looks of a command that waits for its turn."""


def run_shared(extraction: Extraction, board: Board, begin_at: float = 0) -> Counts:
    """Every shard of `extraction` is committed when this returns, by this process or by another.

    This one begins at the share `begin_at` of each view's shards, so that processes seldom meet.
    """
    total, num_shards = Counts(), extraction.views.plan.num_shards
    first = int(begin_at * num_shards)
    # in each view, for the first one tells whether the source is still the same
    places = sorted(extraction.views.places(), key=lambda place: (place[0], (place[1] - first) % num_shards))
    with Leases(board) as leases, ThreadPoolExecutor(1, thread_name_prefix="take") as ahead:
        taken, left, is_checked = list[Place](), places, False
        while taken or left:
            # while the teacher works on the block before
            following = ahead.submit(_take, extraction, board, leases, left, bool(taken))
            if taken:
                if not is_checked:  # until now no lease has told others that this type of device is at work
                    check_device(board, extraction)
                    is_checked = True
                counts = replace(extraction, places=taken).run()
                total = Counts(**{name: n + getattr(counts, name) for name, n in asdict(total).items()})
                leases.committed(taken)
            taken, left = following.result()
    return total


def _take(
    extraction: Extraction, board: Board, leases: Leases, left: list[Place], is_busy: bool
) -> tuple[list[Place], list[Place]]:
    """Some places that are ours now, and those that are still to be made by anybody.

    Where few are left for each machine, nobody takes one before it can begin; where all are taken, it waits a little.
    """
    most = min(_BLOCK, len(left) // (2 * leases.look()))
    most = max(most, 0 if is_busy else 1)
    board.see_commits()
    taken, waiting, left = list[Place](), list[Place](), _uncommitted(extraction, left)
    needs_first = extraction.views.storage.needs_first
    unmade = {shard for view, shard in left if view == 0 and not board.has((view, shard))} if needs_first else set()
    for number, place in enumerate(left):
        if len(taken) == most:
            waiting += left[number:]
            break
        if not board.has(place):
            can_begin = place[0] == 0 or place[1] not in unmade
            (taken if can_begin and leases.take(place) else waiting).append(place)
    board.bring([*taken, *((0, shard) for _, shard in taken if needs_first)])
    if waiting and not taken and not is_busy:
        time.sleep(leases.lease_s / _POLLS_A_LEASE)
    return taken, waiting


def _uncommitted(extraction: Extraction, places: list[Place]) -> list[Place]:
    """Those of `places` that lack something: a listing a set, where a look at each record would be many requests."""
    jobs = [job for part in extraction.parts for job in part.targets]
    folders = [extraction.views.folder, *(job.folder for job in jobs)]
    views, *targets = [_names_in((folder / commit_path(0, 0)).parent) for folder in folders]

    def lacks(place: Place) -> bool:
        name = Path(commit_path(*place)).name
        of_jobs = zip(jobs, targets, strict=True)
        return name not in views or any(place[0] < job.num_views and name not in names for job, names in of_jobs)

    return [place for place in places if lacks(place)]


def _names_in(folder: Path) -> set[str]:
    try:
        return {path.name for path in folder.iterdir()}
    except FileNotFoundError:  # nothing is committed yet
        return set()


@contextlib.contextmanager
def turn(cache: Path, is_needless: Callable[[], bool] = lambda: False) -> Iterator[bool]:
    """One of the commands that share `cache` begins or finishes at a time; the others wait here.

    Gives whether this one has the turn: it has not, and goes on at once, where that `is_needless` now.
    """
    pause_s = _FIRST_PAUSE_S
    while True:
        if is_needless():
            yield False
            return
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(locked(cache / SHARING / "turn", ""))
            except BadInput:
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, _MOST_PAUSE_S)
                continue
            yield True
            return
