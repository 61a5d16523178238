"""Nodes model: a discrete-event simulation of nodes that share an extraction in one bucket, request by request.

A node does what `extract/sharing.py` does, in its order: it begins in its turn, scans for shards that are neither
committed nor leased, leases some, makes, sends and commits them, gives the leases back, and finishes in its turn. Every
call that reaches the store counts as one request there (`benchmarks/real_nodes.py` counts those of real processes).
"""

import collections
import heapq
import itertools
import math
import random
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field

from benchmarks.real_nodes import KINDS

Steps = Generator[float, None, None]
"""A process: it yields the seconds until it goes on."""
CHUNK_S = 0.5
"""A row of requests is one event, as long as it takes no longer than this."""


class Clock:
    """Runs processes in the order of their times."""

    def __init__(self) -> None:
        self.now = 0.0
        self._queue: list[tuple[float, int, Steps]] = []
        self._number = itertools.count()

    def start(self, process: Steps, delay: float = 0.0) -> None:
        heapq.heappush(self._queue, (self.now + delay, next(self._number), process))

    def run(self) -> None:
        """Until every process has ended."""
        while self._queue:
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

    def ask(self, kind: str, number: int = 1) -> float:
        """Seconds that `number` requests take, one after the other."""
        request = "GET" if KINDS[kind] == "GET" else "PUT"
        self.counts[kind] += number
        self.seconds.setdefault(request, collections.Counter())[int(self.clock.now)] += number
        now, busy = self.clock.now, self._busy[request]
        wait = max(0.0, busy - now - 1)  # what one second can answer waits in no line
        self._busy[request] = max(busy, now) + number / (self.gets if request == "GET" else self.puts)
        if wait:
            tries = math.ceil(math.log2(wait / 0.1 + 1))
            self.slow_downs += tries * number
            self.gave_up += number if wait > 120 else 0
            wait = min(0.1 * (2**tries - 1), wait + 15)
        return wait + number * self.latency_s

    def ask_all(self, asked: collections.Counter[str]) -> float:
        """Seconds that all that is `asked` takes, one request after the other; nothing is left to ask then."""
        seconds = sum(self.ask(kind, number) for kind, number in asked.items())
        asked.clear()
        return seconds

    def peak(self, request: str) -> int:
        """The most requests in a second."""
        return max(self.seconds.get(request, {0: 0}).values())


@dataclass(frozen=True)
class Rules:
    """How nodes share: as the code does it now, or as it did."""

    own_start: bool = True
    """Each node scans from a place of its own; else all from the first shard."""
    lists: bool = True
    """Commit records and leases are listed, 1,000 names a request; else asked for one by one."""
    fewer_at_the_end: bool = True
    """A node takes fewer shards at a time where few are free."""
    one_finishes: bool = False
    """Who comes when the manifests are there has nothing left to do; else every node reads every commit record."""
    begins_in_turn: bool = True
    """One node opens its source and its teacher at a time, as finishing is done by one at a time."""


@dataclass(frozen=True)
class Work:
    """What is shared, and by whom."""

    nodes: int
    shards: int
    shard_s: float
    """Seconds that a node takes for a shard, in the mean; nodes and shards differ by a fifth."""
    sets: int = 2
    """View set and target sets: each shard has a commit record in each."""
    begin_s: float = 10.0
    """Seconds until a node has opened its source and loaded its teacher."""
    lease_s: float = 30.0
    block: int = 4
    life_s: float = math.inf
    """Mean seconds until a node is killed; another starts a minute later."""
    seed: int = 0
    spread: float = 0.2


@dataclass
class Told:
    """What a simulation tells."""

    bucket: Bucket
    first_s: list[float] = field(default_factory=list)
    """Of each node, from its first scan to its first lease."""
    begun_s: float = 0.0
    """When the last node had begun."""
    shared_s: float = 0.0
    """When the last shard was committed."""
    finished_s: float = 0.0
    twice: int = 0
    """Shards that were made once more than needed."""
    killed: int = 0


class Sharing:
    """One simulation."""

    def __init__(self, work: Work, rules: Rules, bucket: Bucket) -> None:
        self.work, self.rules, self.bucket, self.clock = work, rules, bucket, bucket.clock
        self.told = Told(bucket)
        self.random = random.Random(work.seed)
        self.committed = bytearray(work.shards)
        self.leases: dict[int, list[int]] = {}
        """By shard, its holder and the number of its renewals."""
        self.turn_s, self.finishes = 0.0, False
        self._names = itertools.count()

    def run(self) -> Told:
        """All nodes from their start to their end."""
        for _ in range(self.work.nodes):
            self._start()
        self.clock.run()
        return self.told

    def _start(self, delay: float = 0.0) -> None:
        self.clock.start(_Node(self, next(self._names)).life(), delay)

    def in_turn(self, seconds: float) -> float:
        """Seconds until what takes `seconds` is done, which one node does at a time."""
        self.turn_s = max(self.turn_s, self.clock.now) + seconds
        return self.turn_s - self.clock.now


class _Node:
    def __init__(self, sharing: Sharing, name: int) -> None:
        self.sharing, self.name, self.clock, self.bucket = sharing, name, sharing.clock, sharing.bucket
        work, chance = sharing.work, sharing.random
        self.speed = chance.uniform(1 - work.spread, 1 + work.spread)
        self.dies_at = self.clock.now + (chance.expovariate(1 / work.life_s) if work.life_s < math.inf else math.inf)
        self.mine: set[int] = set()
        self.seen: dict[int, tuple[tuple[int, ...], float]] = {}
        self.sharing_now = True

    def life(self) -> Steps:
        """Begin, share, finish; or vanish in between, and be replaced."""
        sharing, work = self.sharing, self.sharing.work
        yield sharing.in_turn(work.begin_s) if sharing.rules.begins_in_turn else work.begin_s
        sharing.told.begun_s = max(sharing.told.begun_s, self.clock.now)
        self.clock.start(self._renew(), work.lease_s / 6)
        for delay in self._share():
            if self.clock.now + delay >= self.dies_at:
                sharing.told.killed += 1
                sharing._start(max(0.0, self.dies_at - self.clock.now) + 60)
                self.sharing_now = False
                return
            yield delay
        self.sharing_now = False
        many = 0 if sharing.rules.one_finishes and sharing.finishes else work.shards * work.sets
        sharing.finishes = True
        self.bucket.counts["look for commit"] += 4 * many  # one node at a time: no other waits for these
        self.bucket.counts["read commit"] += 2 * many
        yield sharing.in_turn(6 * many * self.bucket.latency_s)
        sharing.told.finished_s = max(sharing.told.finished_s, self.clock.now)

    def _renew(self) -> Steps:
        while self.sharing_now and self.clock.now < self.dies_at:
            yield self.bucket.ask("renew lease", len(self.mine)) if self.mine else 0.0
            for shard in self.mine:
                if (lease := self.sharing.leases.get(shard)) and lease[0] == self.name:
                    lease[1] += 1
            yield self.sharing.work.lease_s / 6

    def _share(self) -> Steps:
        sharing, work, rules, started = self.sharing, self.sharing.work, self.sharing.rules, self.clock.now
        left = list(range(work.shards))
        if rules.own_start:
            first = sharing.random.randrange(work.shards)
            left = left[first:] + left[:first]
        is_first = True
        while left:
            taken: list[int] = []
            yield from (self._listed if rules.lists else self._scanned)(left, taken, is_first)
            if taken:
                if is_first:
                    sharing.told.first_s.append(self.clock.now - started)
                is_first = False
                yield from self._make(taken)
            elif left:
                yield work.lease_s / 20

    def _scanned(self, left: list[int], taken: list[int], _: bool) -> Steps:
        """Every shard that is not committed is asked for, and tried, until a block is taken."""
        work, committed = self.sharing.work, self.sharing.committed
        waiting, number = list[int](), -1
        asked = collections.Counter[str]()
        targets, most = work.sets - 1, CHUNK_S / self.bucket.latency_s
        num_asked = 0
        for number, shard in enumerate(left):  # noqa: B007
            if committed[shard]:
                asked["look for commit"] += 1 + targets
                asked["read commit"] += targets
                num_asked += 1 + 2 * targets
            else:
                asked["look for commit"] += max(1, targets)
                num_asked += max(1, targets) + 2
                (taken if self._take(shard, asked) else waiting).append(shard)
                if len(taken) == work.block:
                    break
            if num_asked > most:
                yield self.bucket.ask_all(asked)
                num_asked = 0
        left[:] = waiting + left[number + 1 :]
        yield self.bucket.ask_all(asked)

    def _listed(self, left: list[int], taken: list[int], is_first: bool) -> Steps:
        """The names of commit records and leases are listed; what neither has is tried."""
        sharing, work = self.sharing, self.sharing.work
        yield self.bucket.ask("list commits", work.sets * (1 + sum(sharing.committed) // 1000))
        left[:] = [shard for shard in left if not sharing.committed[shard]]
        if not left:
            return
        yield self.bucket.ask("list leases", 1 + len(sharing.leases) // 1000)
        alive = {shard for shard in sharing.leases if not self._is_stale(shard)}
        free = [shard for shard in left if shard not in alive]
        most = work.block
        if sharing.rules.fewer_at_the_end:
            most = 1 if is_first else min(most, 1 + len(free) // (1 + len(alive)))
        asked = collections.Counter[str]()
        for number, shard in enumerate(free, 1):
            if sharing.committed[shard]:
                continue
            asked["look for commit"] += max(1, work.sets - 1)
            if self._take(shard, asked):
                taken.append(shard)
                if len(taken) == most:
                    break
            if number % 16 == 0:
                yield self.bucket.ask_all(asked)
        left[:] = [shard for shard in left if shard not in taken]
        yield self.bucket.ask_all(asked)

    def _take(self, shard: int, asked: collections.Counter[str]) -> bool:
        """Whether the shard is ours; what is asked for is added to `asked`."""
        leases = self.sharing.leases
        asked["try lease"] += 1
        if shard in leases:
            asked["look at lease"] += 1
            if not self._is_stale(shard):
                return False
            asked["give lease back"] += 1
            asked["try lease"] += 1
        leases[shard] = [self.name, 0]
        self.mine.add(shard)
        return True

    def _is_stale(self, shard: int) -> bool:
        """Whether the lease was seen unchanged for long enough; what is seen now is remembered."""
        mark, now = tuple(self.sharing.leases[shard]), self.clock.now
        if self.seen.get(shard, (None,))[0] != mark:
            self.seen[shard] = mark, now
        return now - self.seen[shard][1] >= self.sharing.work.lease_s

    def _make(self, taken: Iterable[int]) -> Steps:
        """The shards are made, sent and committed, and their leases given back."""
        sharing, work = self.sharing, self.sharing.work
        taken = list(taken)
        for shard in taken:
            yield work.shard_s * self.speed * sharing.random.uniform(1 - work.spread, 1 + work.spread)
            if sharing.committed[shard]:
                sharing.told.twice += 1
            debt = self.bucket.ask("look for commit", 3 * work.sets) + self.bucket.ask("send shard", work.sets)
            debt += self.bucket.ask("commit", work.sets)
            yield debt
            sharing.committed[shard] = 1
            sharing.told.shared_s = max(sharing.told.shared_s, self.clock.now)
        for shard in taken:
            self.mine.discard(shard)
            if (lease := sharing.leases.get(shard)) and lease[0] == self.name:
                del sharing.leases[shard]
        yield self.bucket.ask("give lease back", len(taken))
