"""Real nodes: what commands that share an extraction (`--launch shared`) ask of their folder, counted by kind.

Each node is a process that runs the whole command; making a shard takes `shard_s` seconds longer than it does, so that
the work sleeps and nodes do not wait for cores. A count is of calls that reach the file system, each named after the
request that it would be at a bucket. `python -m benchmarks.real_nodes FOLDER 2,4 SHARDS SHARD_S` prints those of two
and of four nodes as JSON.
In place of FOLDER a bucket's URL may stand, where the server counts; each node then has a local cache of its own.
"""

import collections
import contextlib
import json
import multiprocessing
import os
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from shards.mirror import LOCAL_CACHE
from shards.stores import is_url

KINDS = {
    "try lease": "PUT",
    "renew lease": "PUT",
    "look at lease": "GET",
    "give lease back": "DELETE",
    "list leases": "GET",
    "look for commit": "GET",
    "read commit": "GET",
    "commit": "PUT",
    "list commits": "GET",
    "send shard": "PUT",
    "probe": "PUT",
    "look at probe": "GET",
    "list all": "GET",
    "read document": "GET",
    "look for document": "GET",
    "send document": "PUT",
    "read row": "GET",
}
"""What nodes ask for, each with the kind of its request: PUT, DELETE, or GET (and HEAD, LIST)."""
ROWS_A_SHARD = 4


def count(out: str, nodes: int, shards: int, shard_s: float) -> dict[str, dict[str, int]]:
    """Calls of all nodes together, by phase (begin, share, finish) and kind."""
    from extract.__main__ import main

    context, counts = multiprocessing.get_context("fork"), collections.defaultdict[str, collections.Counter[str]]
    total = counts(collections.Counter)
    queue = context.SimpleQueue()
    flags = ["--teacher", "none", "--data", "digits", "--view", "size=16", "--devices", "cpu"]
    flags += ["--limit", str(ROWS_A_SHARD * shards), "--shard_size", str(ROWS_A_SHARD)]
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        main([*flags, "--out", folder])  # all is imported before the processes part, which then begin at once
    flags += ["--out", out, *([] if is_url(out) and nodes == 1 else ["--launch", "shared"])]
    nodes_of_all = [(partial(main, flags), shard_s, f"{os.getpid()}-{number}", queue) for number in range(nodes)]
    processes = [context.Process(target=_node, args=each) for each in nodes_of_all]
    for process in processes:
        process.start()
    for _ in processes:
        for phase, found in json.loads(queue.get()).items():
            total[phase] += collections.Counter(found)
    for process in processes:
        process.join()
    return {phase: dict(sorted(found.items())) for phase, found in total.items()}


def _node(command: Any, shard_s: float, name: str, queue: Any) -> None:
    """Runs the command, and puts what it counted into `queue`; what it prints goes nowhere."""
    from extract import pipeline, sharing

    counter = _Counter()
    run_shared, make_shard = sharing.run_shared, pipeline.make_shard

    def slow(*arguments: Any) -> Any:
        time.sleep(shard_s)
        return make_shard(*arguments)

    def share(*arguments: Any) -> Any:
        counter.phase = "share"
        counts = run_shared(*arguments)
        counter.phase = "finish"
        return counts

    os.environ[LOCAL_CACHE] = str(Path(tempfile.gettempdir(), f"local-cache-{name}"))
    pipeline.make_shard, sharing.run_shared = slow, share  # type: ignore[assignment]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    try:
        with counter:
            command()
    finally:
        queue.put(json.dumps(counter.counts))


class _Counter:
    """Counts this process's calls by what they are, while the block runs."""

    def __init__(self) -> None:
        self.phase = "begin"
        self.counts: dict[str, dict[str, int]] = {"begin": {}, "share": {}, "finish": {}}
        self._on = False
        self._stat = os.stat

    def __enter__(self) -> "_Counter":
        self._on = True
        sys.addaudithook(self._heard)
        os.stat = self._stats  # type: ignore[assignment]
        return self

    def __exit__(self, *_: object) -> None:
        self._on = False

    def _stats(self, path: Any, *arguments: Any, **named: Any) -> os.stat_result:
        """Python announces every call but this one."""
        if self._on and named.get("follow_symlinks", True):  # whether a path is a link is asked of folders alone
            self._add({"lease": "look at lease", "commit": "look for commit"}.get(_what(path)))
        return self._stat(path, *arguments, **named)

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._on:
            return
        if event == "open":
            creates = bool(arguments[2] & os.O_EXCL)
            self._add({"lease": "try lease" if creates else None, "commit": "read commit"}.get(_what(arguments[0])))
        elif event in ("os.listdir", "os.scandir"):
            name = Path(os.fspath(arguments[0])) if isinstance(arguments[0], (str, os.PathLike)) else Path()
            self._add("list commits" if name.name == "commits" else "list leases" if _what(name / "x") else None)
        elif event in _EVENTS:
            what, place = _EVENTS[event]
            self._add(what.get(_what(arguments[place])))

    def _add(self, kind: str | None) -> None:
        if kind is not None:
            counts = self.counts[self.phase]
            counts[kind] = counts.get(kind, 0) + 1


_EVENTS: dict[str, tuple[dict[str | None, str], int]] = {
    "os.utime": ({"lease": "renew lease"}, 0),
    "os.remove": ({"lease": "give lease back"}, 0),
    "os.link": ({"commit": "commit", "shard": "send shard"}, 1),
    "os.rename": ({"shard": "send shard"}, 1),
}
"""Of each of Python's audit events what it means, by what its path is, and which argument is the path."""


def _what(path: Any) -> str | None:
    if not isinstance(path, (str, os.PathLike)):
        return None
    path = Path(os.fspath(path))
    if path.name.startswith("."):
        return None
    if path.parent.parent.name == ".sharing":
        return "lease"
    return {"commits": "commit", "views": "shard"}.get(path.parent.name)


if __name__ == "__main__":
    place, several, num_shards, seconds = sys.argv[1:5]
    numbers = several.split(",")
    print(json.dumps([count(f"{place}/{each}", int(each), int(num_shards), float(seconds)) for each in numbers]))
