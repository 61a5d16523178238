"""Nodes sharing: a discrete-event simulation of nodes that share an extraction, request by request.

A node does what `extract/sharing.py` does, in its order: it begins, looks for shards that are neither committed nor
leased, leases some, makes, sends and commits them, gives the leases back, and finishes. Every call that reaches the
store counts as one request there (`benchmarks/real_nodes.py` counts those of real processes).
"""

import collections
import itertools
import math
import random
from collections.abc import Generator

import numpy as np

from benchmarks.nodes_ends import begin, fetch_commits, finish
from benchmarks.nodes_model import PAGE, ROW, Bucket, Rules, Steps, Told, Work

Shards = np.ndarray
WATCHED = 16
"""As in `extract/sharing.py`."""
_FREE, _LEASED, _COMMITTED = range(3)


class Sharing:
    """One simulation."""

    def __init__(self, work: Work, rules: Rules, bucket: Bucket) -> None:
        self.work, self.rules, self.bucket, self.clock = work, rules, bucket, bucket.clock
        self.told = Told(bucket)
        self.random = random.Random(work.seed)
        self.states, self.num_committed, self.num_leased = bytearray(work.shards), 0, 0
        self.state = np.frombuffer(self.states, np.uint8)
        """The same memory: of each shard, whether it is free, leased or committed."""
        self.holder, self.changed_s = [-1] * work.shards, np.zeros(work.shards)
        """Who has leased each shard, and when the lease was last renewed."""
        self.turn_s, self.begins = 0.0, False
        self.planned_s: float | None = None
        """When the first node has written the plan."""
        self.writer: int | None = None
        """Who has the lease on the manifests."""
        self.finishes, self.finished = False, False
        self._names = itertools.count()

    def run(self) -> Told:
        """All nodes from their start to their end."""
        speeds = [self.start() for _ in range(self.work.nodes)]
        self.told.ideal_s = self.work.shards * self.work.shard_s / sum(1 / speed for speed in speeds)
        self.clock.run()
        return self.told

    def start(self, delay: float = 0.0) -> float:
        """One node more, from `delay` on; the share of `shard_s` that it takes."""
        node = Node(self, next(self._names))
        self.clock.start(node.life(), delay)
        return node.speed

    def in_turn(self, seconds: float) -> float:
        """Seconds until what takes `seconds` is done, which one node does at a time."""
        self.turn_s = max(self.turn_s, self.clock.now) + seconds
        return self.turn_s - self.clock.now


class Node:
    """A machine: begins, shares and finishes."""

    def __init__(self, sharing: Sharing, name: int) -> None:
        self.sharing, self.name, self.clock, self.bucket = sharing, name, sharing.clock, sharing.bucket
        self.work, self.rules = sharing.work, sharing.rules
        work, chance = sharing.work, sharing.random
        self.speed = chance.uniform(1 - work.spread, 1 + work.spread)
        self.lives_s = chance.expovariate(1 / work.life_s) if work.life_s < math.inf else math.inf
        self.mine: set[int] = set()
        self.since_s = 0.0
        """Since when it watches the others' leases."""
        self.fetched = 0
        self.shares = True
        self.most = 1 if sharing.rules.fewer_at_the_end else work.block

    def life(self) -> Steps:
        """Begin, share, finish; or vanish in between, and be replaced."""
        told, dies_at = self.sharing.told, self.clock.now + self.lives_s
        yield from begin(self)
        told.begun_s, self.since_s = max(told.begun_s, self.clock.now), self.clock.now
        self.clock.start(self._renew(), self.work.lease_s / 6)
        for delay in self._share():
            if self.clock.now + delay >= dies_at:
                told.killed += 1
                self.shares = False
                self.sharing.start(max(0.0, dies_at - self.clock.now) + 60)
                return
            yield delay
        self.shares = False
        yield from finish(self)
        told.finished_s = max(told.finished_s, self.clock.now)

    def _renew(self) -> Steps:
        while self.shares:
            yield self.bucket.ask("renew lease", 1 if self.rules.one_beat else len(self.mine)) if self.mine else 0.0
            for shard in self.mine:
                if self.sharing.holder[shard] == self.name:
                    self.sharing.changed_s[shard] = self.clock.now
            yield self.work.lease_s / 6

    def _share(self) -> Steps:
        work, started = self.work, [self.clock.now]
        left = np.arange(work.shards)
        if self.rules.own_start:
            left = np.roll(left, self.sharing.random.randrange(work.shards))
        while len(left):
            taken: list[int] = []
            left = yield from (self._listed if self.rules.lists else self._scanned)(left, taken)
            if taken:
                self.sharing.told.first_s += [self.clock.now - started.pop()] if started else []
                yield from self._make(taken)
            elif len(left):
                yield self.rules.poll_s

    def _scanned(self, left: Shards, taken: list[int]) -> Generator[float, None, Shards]:
        """Every shard that is not committed is asked for, and tried, until a block is taken; those that are left."""
        states, targets, num_asked = self.sharing.states, self.work.sets - 1, 0
        waiting, number, asked = list[int](), -1, collections.Counter[str]()
        for number, shard in enumerate(map(int, left)):  # noqa: B007
            if states[shard] == _COMMITTED:
                asked["look for commit"] += 1 + targets
                asked["read commit"] += targets
                num_asked += 1 + 2 * targets
            else:
                asked["look for commit"] += max(1, targets)
                num_asked += max(1, targets) + 2
                (taken if self._take(shard, asked) else waiting).append(shard)
                if len(taken) == self.work.block:
                    break
            if num_asked > ROW:
                yield self.bucket.ask_all(asked)
                num_asked = 0
        yield self.bucket.ask_all(asked)
        return np.concatenate([np.array(waiting, np.int64), left[number + 1 :]])

    def _listed(self, left: Shards, taken: list[int]) -> Generator[float, None, Shards]:
        """Leases and commit records are listed; what has neither is tried, and some leases looked at."""
        if self.rules.lists_ahead:  # a page at a time; the next where all in it are leased
            for _ in range(0, len(left), PAGE):
                ahead = yield from self._listed_page(left[:PAGE], taken, 1, 1)
                left = np.concatenate([left[PAGE:], ahead]) if not taken else np.concatenate([ahead, left[PAGE:]])
                if taken:
                    break
            return left
        sharing = self.sharing
        pages = 1 + sharing.num_leased // PAGE, 1 + sharing.num_committed // PAGE
        return (yield from self._listed_page(left, taken, *pages))

    def _listed_page(
        self, left: Shards, taken: list[int], lease_pages: int, commit_pages: int
    ) -> Generator[float, None, Shards]:
        sharing, rules, asked = self.sharing, self.rules, collections.Counter[str]()
        yield self.bucket.ask("list leases", lease_pages)
        is_leased = sharing.state == _LEASED
        yield self.bucket.ask("list commits", self.work.sets * commit_pages)
        left = left[sharing.state[left] != _COMMITTED]
        if rules.in_a_bucket and rules.fetches_commits:
            yield from fetch_commits(self)
        leased, free = left[is_leased[left]], left[~is_leased[left]]
        watched = leased[:WATCHED] if len(free) else leased
        if not rules.in_a_bucket:  # there the listing tells
            asked["look at lease"] += len(watched)
        stale = watched[self._are_stale(watched)]
        for number, shard in enumerate(map(int, itertools.chain(stale, free)), 1):
            if self._take(shard, asked):
                taken.append(shard)
                if len(taken) == self.most:
                    break
            if number % ROW == 0:
                yield self.bucket.ask_all(asked)
        if rules.fewer_at_the_end:
            self.most = min(self.work.block, 1 + len(free) // (1 + len(leased)))
        yield self.bucket.ask_all(asked)
        return left

    def _take(self, shard: int, asked: collections.Counter[str]) -> bool:
        """Whether the shard is ours; what is asked for is added to `asked`."""
        sharing = self.sharing
        asked["try lease"] += 1
        if sharing.states[shard] == _LEASED:
            asked["look at lease"] += 2 if self.rules.in_a_bucket else 1
            if not self._are_stale(np.array([shard]))[0]:
                return False
            asked["give lease back"] += 1
            asked["try lease"] += 1
        if self.rules.looks_again:
            asked["look for commit"] += 1
            if sharing.states[shard] == _COMMITTED:
                asked["give lease back"] += 1
                return False
        if sharing.states[shard] == _FREE:
            sharing.states[shard] = _LEASED
            sharing.num_leased += 1
        sharing.holder[shard], sharing.changed_s[shard] = self.name, self.clock.now
        self.mine.add(shard)
        return True

    def _are_stale(self, shards: Shards) -> np.ndarray:
        """Whether each lease was not renewed for long enough while this node watched."""
        watched_s = self.clock.now - np.maximum(self.sharing.changed_s[shards], self.since_s)
        return watched_s >= self.work.lease_s

    def _make(self, taken: list[int]) -> Steps:
        """The shards are made, sent and committed, and their leases given back."""
        sharing, work = self.sharing, self.work
        for shard in taken:
            yield work.shard_s * self.speed * sharing.random.uniform(1 - work.spread, 1 + work.spread)
            kinds = {"send shard": work.files, "commit": work.sets}
            kinds |= {} if self.rules.in_a_bucket else {"look for commit": max(3, 2 * work.sets) - 1}
            yield self.bucket.ask_all(collections.Counter(kinds))
            if sharing.states[shard] == _COMMITTED:
                sharing.told.twice += 1
            else:
                sharing.states[shard] = _COMMITTED
                sharing.num_committed += 1
                sharing.num_leased -= 1
            self.fetched += 1  # its own records are there
            sharing.told.shared_s = max(sharing.told.shared_s, self.clock.now)
        self.mine.clear()
        yield self.bucket.ask("give lease back", len(taken))
