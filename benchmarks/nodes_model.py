"""Nodes model: what a simulation of many nodes is made of: a clock, a bucket that slows down, the work, its rules."""

import collections
import heapq
import itertools
import math
from collections.abc import Generator
from dataclasses import dataclass, field

from benchmarks.real_nodes import KINDS

Steps = Generator[float, None, None]
"""A process: it yields the seconds until it goes on."""
IN_FLIGHT = 16
"""Requests that a node has under way where it needs many (`shards/stores/base.py`)."""
PAGE = 1000
"""Names that a listing gives a request."""
ROW = 25
"""Requests of a node, one after the other, that are one event."""


class Clock:
    """Runs processes in the order of their times."""

    def __init__(self) -> None:
        self.now = 0.0
        self._queue: list[tuple[float, int, Steps]] = []
        self._number = itertools.count()

    def start(self, process: Steps, delay: float = 0.0) -> None:
        heapq.heappush(self._queue, (self.now + delay, next(self._number), process))

    def run(self, until_s: float = math.inf) -> None:
        """Until every process has ended, or that time has come."""
        while self._queue and self._queue[0][0] < until_s:
            self.now, _, process = heapq.heappop(self._queue)
            for delay in itertools.islice(process, 1):
                self.start(process, delay)


@dataclass
class Bucket:
    """A bucket that answers `puts` and `gets` requests a second, and the others with 503 "slow down".

    A client repeats those as obstore does: after 0.1 s, and twice as long each time up to 15 s, for at most 120 s.
    """

    clock: Clock
    latency_s: float = 0.02
    puts: float = 3500
    """PUT, POST, COPY and DELETE a second and partition (AWS: "Best practices design patterns" of S3's user guide)."""
    gets: float = 5500
    """GET and HEAD; LIST counts among them here."""
    counts: collections.Counter[str] = field(default_factory=collections.Counter)
    seconds: dict[str, collections.Counter[int]] = field(default_factory=dict)
    """Requests by kind of request, PUT or GET, in each second."""
    slow_downs: int = 0
    gave_up: int = 0
    """Requests that were repeated for 120 s in vain; a command ends by them, and goes on when it is started again."""
    _busy: dict[str, float] = field(default_factory=lambda: {"PUT": 0.0, "GET": 0.0})

    def ask(self, kind: str, number: int = 1, in_flight: int = 1) -> float:
        """Seconds that `number` requests take, so many at a time."""
        request = "GET" if KINDS[kind] == "GET" else "PUT"
        seconds = math.ceil(number / in_flight) * self.latency_s
        self.counts[kind] += number
        for second in range(int(seconds) + 1):
            in_second = self.seconds.setdefault(request, collections.Counter())
            in_second[int(self.clock.now) + second] += number // (int(seconds) + 1)
        now, busy = self.clock.now, self._busy[request]
        wait = max(0.0, busy - now - 1)  # what one second can answer waits in no line
        self._busy[request] = max(busy, now) + number / (self.gets if request == "GET" else self.puts)
        if wait:
            tries = math.ceil(math.log2(wait / 0.1 + 1))
            self.slow_downs += tries * number
            self.gave_up += number if wait > 120 else 0
            wait = min(0.1 * (2**tries - 1), wait + 15)
        return wait + seconds

    def ask_all(self, asked: collections.Counter[str]) -> float:
        """Seconds that all that is `asked` takes, one request after the other; nothing is left to ask then."""
        seconds = sum(self.ask(kind, number) for kind, number in asked.items() if number)
        asked.clear()
        return seconds

    def peak(self, request: str) -> int:
        """The most requests in a second."""
        return max(self.seconds.get(request, {0: 0}).values())


@dataclass(frozen=True)
class Rules:
    """How nodes share; the defaults are the best for a folder."""

    own_start: bool = True
    """Each node begins at a shard of its own; else all at the first."""
    lists: bool = True
    """Commit records and leases are listed, 1,000 names a request; else asked for one by one."""
    lists_ahead: bool = False
    """The 1,000 names after those that the node did last are listed, and more where all are leased; else all names."""
    fewer_at_the_end: bool = True
    """A node takes fewer shards at a time where few are free."""
    one_finishes: bool = True
    """Who leases the manifests writes them, and the others wait; else every node reads every commit record."""
    begins_in_turn: bool = True
    """One node opens its source and its teacher at a time, as finishing is done by one at a time."""
    plan_frees: bool = True
    """Who finds the plan that the first one has written begins at once; else all in turn."""
    in_a_bucket: bool = False
    """What a node has made lies in its mirror; else all lies in one folder."""
    fetches_commits: bool = True
    """In a bucket each node fetches the commit records of the others as it sees them; else who finishes does."""
    looks_again: bool = True
    """Who has leased a shard asks once more whether it is committed: it was, since the listing, by who let it go."""
    one_beat: bool = False
    """A node renews one object for all its leases; else every lease."""
    poll_s: float = 1.5
    """Between two looks of a node that has nothing to do."""


@dataclass(frozen=True)
class Work:
    """What is shared, and by whom."""

    nodes: int
    shards: int
    shard_s: float
    """Seconds that a node takes for a shard, in the mean; nodes differ by `spread` of it, and so do shards."""
    sets: int = 2
    """View set and target sets: each shard has a commit record in each."""
    files: int = 2
    """Files that a shard has in all sets beside these records."""
    documents: int = 9
    """Files of all sets that belong to no shard, manifests left out."""
    begin_s: float = 10.0
    """Seconds until a node has opened its source and loaded its teacher."""
    lease_s: float = 30.0
    block: int = 4
    life_s: float = math.inf
    """Mean seconds until a node is killed; another starts a minute later."""
    spread: float = 0.2
    seed: int = 0


@dataclass
class Told:
    """What a simulation tells."""

    bucket: Bucket
    ideal_s: float = 0.0
    """What the nodes would take if they only made shards, none twice and none waiting for another."""
    first_s: list[float] = field(default_factory=list)
    """Of each node, from when it has begun to its first lease."""
    begun_s: float = 0.0
    """When the last node had begun."""
    shared_s: float = 0.0
    """When the last shard was committed."""
    finished_s: float = 0.0
    twice: int = 0
    """Shards that were made once more than needed."""
    killed: int = 0
