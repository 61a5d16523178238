"""Thousand nodes: what many nodes ask of one bucket, by a simulation of what the code does (docs/thousand_nodes.md).

`python -m benchmarks.thousand_nodes` prints the page's tables, the same on every machine: nodes that share an
extraction, and nodes that distil from it by row. Nothing here waits for a bucket. What real processes ask of a folder
and of a real S3 server is counted by `tests/stores/test_nodes_as_simulated.py`, which holds the simulation to it.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from benchmarks.nodes_model import Bucket, Clock, Rules, Steps, Told, Work
from benchmarks.nodes_sharing import Sharing
from benchmarks.real_nodes import KINDS
from shards.row_cache import REQUESTS

IMAGENET = Work(nodes=1000, shards=2502, shard_s=6.2)
"""Dense rows of 197 x 768 in int8 of 1,281,167 images: 4.3 hours of one RTX 4090 (README.md), 512 images a shard."""
SHAPES = {
    "ImageNet, 1 view, 194 GB": IMAGENET,
    "ImageNet, 10 views, 1.9 TB": replace(IMAGENET, shards=25_020),
    "CC12M, 1 view, 1.9 TB": replace(IMAGENET, shards=24_220),
}
FOLDER_S, BUCKET_S = 0.002, 0.02
"""Seconds that a call on a network volume takes, and a request at a bucket."""
_IN_TURN = Rules(plan_frees=False)
_IN_A_BUCKET = {"in_a_bucket": True, "begins_in_turn": False}
FOLDER = {
    "one look a shard, in one order": replace(
        _IN_TURN, own_start=False, lists=False, fewer_at_the_end=False, one_finishes=False
    ),
    "listings, a start of its own": replace(_IN_TURN, one_finishes=False),
    "and one node alone writes the manifests": _IN_TURN,
    "and who finds the plan begins at once": Rules(),
}
_AS_SEEN = Rules(own_start=False, one_finishes=False, looks_again=False, **_IN_A_BUCKET)
_FOR_MANIFESTS = replace(_AS_SEEN, fetches_commits=False)
BUCKET = {
    "commit records fetched as they are seen": _AS_SEEN,
    "for the manifests alone": _FOR_MANIFESTS,
    "and a start of its own": (_own_start := replace(_FOR_MANIFESTS, own_start=True)),
    "and one node alone writes the manifests": (_AS_BUILT := replace(_own_start, one_finishes=True)),
    "and a look at the record after the lease": (_again := replace(_AS_BUILT, looks_again=True)),
    "and listings of the next 1,000 names": (_ahead := replace(_again, lists_ahead=True)),
    "and one renewal a node, a poll in 5 s": (MENDED := replace(_ahead, one_beat=True, poll_s=5.0)),
}


def simulate(work: Work, rules: Rules, latency_s: float = BUCKET_S) -> Told:
    """`work` done by `rules`; a folder has no limits of its own."""
    limits = {} if rules.in_a_bucket else {"puts": math.inf, "gets": math.inf}
    return Sharing(work, rules, Bucket(Clock(), latency_s, **limits)).run()


@dataclass(frozen=True)
class Distilling:
    """Nodes that each read all rows in their own order, through a row cache that has the share `held` of them."""

    nodes: int
    held: float = 0.0
    partitions: int = 1
    """Prefixes that the store has divided the cache's names into, each with its own limits."""
    rows_a_second: float = 2000
    """What a node's device takes."""
    batch_size: int = 256
    requests_a_row: int = 2
    """The target's row and the view's."""
    row_bytes: int = 151_690 + 20_300

    def simulate(self, seconds: float = 60) -> tuple[float, Bucket]:
        """Rows a second that a node gets, in the mean."""
        clock = Clock()
        bucket = Bucket(clock, BUCKET_S, gets=5500 * self.partitions)
        batches = [0]

        def node(start_s: float) -> Steps:
            yield start_s
            while True:
                asked = round(self.batch_size * self.requests_a_row * (1 - self.held))
                # what is asked for next is on its way while the device works on this batch
                waited = bucket.ask("read row", asked, REQUESTS) if asked else 0.0
                yield max(waited, self.batch_size / self.rows_a_second)
                batches[0] += 1

        for number in range(self.nodes):
            clock.start(node(number / self.nodes))
        clock.run(seconds)
        return batches[0] * self.batch_size / seconds / self.nodes, bucket


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def sharing_table(work: Work, rules: dict[str, Rules], latency_s: float) -> str:
    """How one piece of work goes by several rules."""
    head = ("rules", "begun s", "first lease s", "shared s", "of the ideal", "done s", "requests", "most PUT/s")
    head += ("most GET/s", "503", "made twice")
    return table(head, (_sharing_row(name, work, each, latency_s) for name, each in rules.items()))


def _sharing_row(name: str, work: Work, rules: Rules, latency_s: float) -> Sequence[object]:
    told = simulate(work, rules, latency_s)
    bucket = told.bucket
    share = told.ideal_s / (told.shared_s - (0 if rules.begins_in_turn else work.begin_s))
    times = told.begun_s, max(told.first_s), told.shared_s
    asked = bucket.counts.total(), bucket.peak("PUT"), bucket.peak("GET"), bucket.slow_downs, told.twice
    return (name, *map(_number, times), f"{share:.2f}", _number(told.finished_s), *(f"{number:,}" for number in asked))


def shapes_table() -> str:
    """How the mended rules go for every shape and number of nodes."""
    head = ("work", "nodes", "ideal s", "shared s", "of the ideal", "requests a shard", "most PUT/s", "most GET/s")

    def rows() -> Iterator[Sequence[object]]:
        for name, work in SHAPES.items():
            for nodes in (1, 10, 100, 1000):
                told = simulate(replace(work, nodes=nodes), MENDED)
                ideal, shared = told.ideal_s, told.shared_s - work.begin_s
                asked = f"{told.bucket.counts.total() / work.shards:.0f}"
                peaks = (f"{told.bucket.peak(kind):,}" for kind in ("PUT", "GET"))
                yield name, nodes, _number(ideal), _number(shared), f"{ideal / shared:.2f}", asked, *peaks

    return table(head, rows())


def kills_table() -> str:
    """How often nodes may vanish."""
    head = ("a node lives", "killed", "shared s", "over none killed", "made twice", "requests a shard")
    work, lives = SHAPES["ImageNet, 10 views, 1.9 TB"], (math.inf, 36_000, 3600, 600, 150)

    def rows() -> Iterator[Sequence[object]]:
        usual = simulate(work, MENDED).shared_s - work.begin_s
        for life_s in lives:
            told = simulate(replace(work, life_s=life_s), MENDED)
            shared, asked = told.shared_s - work.begin_s, told.bucket.counts.total() / work.shards
            lived = "for ever" if life_s == math.inf else f"{life_s / 60:,.0f} min"
            yield lived, told.killed, _number(shared), f"{shared / usual:.2f}", told.twice, f"{asked:.0f}"

    return table(head, rows())


def kinds_table() -> str:
    """What a thousand nodes ask for."""
    rules = {"as built": _AS_BUILT, "mended": MENDED}
    counts = {name: simulate(IMAGENET, each).bucket.counts for name, each in rules.items()}
    kinds = [kind for kind in KINDS if any(kind in each for each in counts.values())]
    rows = ((kind, KINDS[kind], *(f"{each[kind]:,}" for each in counts.values())) for kind in kinds)
    return table(("request", "counts as", *counts), rows)


def distilling_table() -> str:
    """How fast rows come where many nodes read them one by one."""
    head = ("nodes", "rows held", "partitions", "GET/s asked for", "rows/s a node", "of 2,000", "GB/s in all")

    def rows() -> Iterator[Sequence[object]]:
        for nodes, held, partitions in _READERS:
            each = Distilling(nodes, held, partitions)
            rate, _ = each.simulate()
            asked = nodes * each.rows_a_second * each.requests_a_row * (1 - held)
            gigabytes = nodes * rate * (1 - held) * each.row_bytes / 1e9
            share = f"{rate / each.rows_a_second:.3f}"
            yield nodes, held, partitions, f"{asked:,.0f}", _number(rate), share, _number(gigabytes)

    return table(head, rows())


_READERS = [(1, 0, 1), (2, 0, 1), (4, 0, 1), (10, 0, 1), (10, 0.5, 1), (10, 0.9, 1), (100, 0, 1), (100, 0, 100)]
_READERS += [(1000, 0, 1), (1000, 0, 1000), (1000, 0.99, 10)]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    print(sharing_table(IMAGENET, FOLDER, FOLDER_S), sharing_table(IMAGENET, BUCKET, BUCKET_S), sep="\n\n", end="\n\n")
    print(kinds_table(), shapes_table(), kills_table(), distilling_table(), sep="\n\n")
