"""Leases: hints against double work. Who works on a shard leaves a note and touches it while it works.

Others take the shard once they have watched that note for LEASE_S seconds of their own monotonic clock without a
change, so no machine's time of day matters. A lease may be lost or stolen freely: two machines write the same bytes.
"""

import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from extract.boards import Board
from shards.command.sizes import seconds_in
from shards.errors import TeacherShardsError
from shards.layout import Place, place_of, shard_name

LEASE_S = "TEACHER_SHARDS_LEASE_S"
"""Seconds without a sign of life after which a shard is taken over (default: 30)."""
_TOUCHES_A_LEASE = 4
_BLOCKS_UNDER_WAY = 2
"""Blocks of shards that are sent while the next one is made."""


def lease_s() -> float:
    """Seconds without a sign of life after which a lease is another's to take; BadInput where LEASE_S is no number."""
    return seconds_in(LEASE_S, 30.0)


class Leases:
    """The shards that this process works on, and what it has seen of the others'."""

    def __init__(self, board: Board) -> None:
        self.lease_s = lease_s()
        self._board, self._mine = board, set[str]()
        self._notes: dict[str, object] = {}
        self._seen: dict[str, tuple[object, float]] = {}
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._touch, name="leases", daemon=True)
        self._sender, self._sent = ThreadPoolExecutor(1, thread_name_prefix="send"), list[Future[None]]()

    def __enter__(self) -> "Leases":
        self.look()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Waits until all that was made is sent, and gives back what was not made."""
        try:
            self._settle(0 if kind is None else len(self._sent))
        finally:
            self._sender.shutdown(cancel_futures=True)
            self._stop.set()
            self._thread.join()
            for name in sorted(self._mine):
                self._board.remove(name)

    def look(self) -> int:
        """See all leases as they are now; how many machines there are, if each has as many as this one."""
        self._notes, now = self._board.look(), time.monotonic()
        for name, state in self._notes.items():
            if name not in self._seen or self._seen[name][0] != state:
                self._seen[name] = state, now
        num_leases = sum(place_of(f"commits/{name}.json") is not None for name in self._notes.keys() | self._mine)
        return max(1, num_leases // max(1, len(self._mine)))

    def has_note(self, name: str) -> bool:
        """Whether another had this lease at the last look."""
        return name in self._notes

    def take(self, what: Place | str) -> bool:
        """Whether the shard (or what has that name) is ours now: nobody had it, or who had it gave no sign of life."""
        name = what if isinstance(what, str) else shard_name(*what)
        if name in self._notes:
            if time.monotonic() - self._seen[name][1] < self.lease_s:
                return False
            self._board.remove(name)
        if not self._board.take(name):
            return False
        with self._lock:
            self._mine.add(name)
        return True

    def committed(self, places: Iterable[Place]) -> None:
        """These shards are committed: they are sent while the next ones are made, and then given back."""
        places = list(places)
        self._sent.append(self._sender.submit(self._deliver, places))
        self._settle(_BLOCKS_UNDER_WAY)

    def _settle(self, most: int) -> None:
        """At most so many blocks are still to be sent; raises what stopped one."""
        while len(self._sent) > most:
            self._sent.pop(0).result()

    def _deliver(self, places: list[Place]) -> None:
        self._board.send(places)
        for place in places:
            name = shard_name(*place)
            with self._lock:
                self._mine.discard(name)
            self._board.remove(name)

    def _touch(self) -> None:
        while not self._stop.wait(self.lease_s / _TOUCHES_A_LEASE):
            for name in sorted(self._mine):
                with self._lock:
                    if name not in self._mine:
                        continue
                try:
                    self._board.touch(name)
                except TeacherShardsError:  # then another may take the shard, which costs double work and nothing else
                    break
