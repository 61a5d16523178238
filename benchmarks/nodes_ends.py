"""Nodes' ends: what a simulated node asks for before it shares an extraction and after (`nodes_sharing.py`)."""

from typing import TYPE_CHECKING

from benchmarks.nodes_model import IN_FLIGHT, PAGE, ROW, Steps

if TYPE_CHECKING:
    from benchmarks.nodes_sharing import Node

FIRST_PAUSE_S, LONGER, LOOKS_A_LEASE = 0.1, 1.5, 6
"""As in `extract/finishing.py`."""


def begin(node: "Node") -> Steps:
    """The node has opened its source and its teacher, and all documents are there."""
    work, bucket, there = node.work, node.bucket, node.sharing.num_committed
    if not node.rules.in_a_bucket:
        bucket.counts["look for commit"] += (looks := (2 + work.sets) * work.shards + 3 * there)
        bucket.counts["read commit"] += 3 * there
        seconds = work.begin_s + (looks + 3 * there) * bucket.latency_s
        yield _wait(node, seconds) + seconds
        return
    seconds = bucket.ask("probe", 3) + bucket.ask("list all", 2 * (1 + _num_files(node) // PAGE))
    seconds += bucket.ask("look at probe", 2)
    yield seconds + (bucket.ask("read document", work.documents, IN_FLIGHT) if node.sharing.begins else 0.0)
    if node.rules.fetches_commits:
        yield from fetch_commits(node)
    yield work.begin_s * node.speed
    yield bucket.ask("look for document", work.documents + work.sets - 1) + bucket.ask("probe", work.sets - 1)
    if not node.sharing.begins:
        node.sharing.begins = True
        yield bucket.ask("send document", work.documents)


def _wait(node: "Node", seconds: float) -> float:
    """Seconds until the node may begin, which takes it `seconds`."""
    sharing, now = node.sharing, node.sharing.clock.now
    if not node.rules.begins_in_turn:
        return 0.0
    if not node.rules.plan_frees:
        return sharing.in_turn(seconds) - seconds
    if sharing.planned_s is None:  # the first one, which the others wait for
        sharing.planned_s = now + seconds
        return 0.0
    return max(0.0, sharing.planned_s - now)


def finish(node: "Node") -> Steps:
    """All manifests are there, written by the node or by another."""
    if not node.rules.one_finishes:
        yield from _write_manifests(node)
        return
    sharing, bucket, pause_s = node.sharing, node.bucket, FIRST_PAUSE_S
    while True:
        yield bucket.ask("list leases")
        if sharing.writer is None:
            yield bucket.ask("read document")  # the last of them is there, or not
            if sharing.finished:
                yield bucket.ask("read document", node.work.sets - 1) + bucket.ask("list leases")
                return
            yield bucket.ask("try lease")
            if sharing.writer is None:
                break
        yield pause_s
        pause_s = min(LONGER * pause_s, node.work.lease_s / LOOKS_A_LEASE)
    sharing.writer = node.name
    yield bucket.ask("read document")
    yield from _write_manifests(node)
    yield bucket.ask("list leases") + bucket.ask("give lease back")
    sharing.finished, sharing.writer = True, None


def _write_manifests(node: "Node") -> Steps:
    work, bucket, sharing = node.work, node.bucket, node.sharing
    is_first, sharing.finishes = not sharing.finishes, True
    if not node.rules.in_a_bucket:
        records = work.shards * work.sets
        bucket.counts["look for commit"] += 4 * records  # one node at a time: no other waits for these
        bucket.counts["read commit"] += 2 * records
        yield sharing.in_turn(6 * records * bucket.latency_s)
        return
    yield bucket.ask("list commits", work.sets * (1 + sharing.num_committed // PAGE))
    yield from fetch_commits(node)
    yield bucket.ask("look for document", work.documents + work.sets)
    yield bucket.ask("send document", work.sets) if is_first else 0.0


def _num_files(node: "Node") -> int:
    return node.work.documents + node.sharing.num_committed * (node.work.sets + node.work.files)


def fetch_commits(node: "Node") -> Steps:
    """The node has the commit records of the others."""
    new, node.fetched = node.sharing.num_committed - node.fetched, node.sharing.num_committed
    for start in range(0, new * node.work.sets, IN_FLIGHT * ROW):
        yield node.bucket.ask("read commit", min(IN_FLIGHT * ROW, new * node.work.sets - start), IN_FLIGHT)
