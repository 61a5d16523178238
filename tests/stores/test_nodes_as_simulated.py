"""What real processes that share an extraction ask for, counted, is what benchmarks/thousand_nodes.py simulates."""

import collections
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import caches
import pytest
from s3_server import Server

from benchmarks.nodes_model import Rules, Work
from benchmarks.thousand_nodes import MENDED, simulate
from shards.mirror import LOCAL_CACHE

ROOT = Path(__file__).parents[2]
SHARDS, SHARD_S, CALL_S = 12, 0.1, 5e-5
TINY = Work(1, SHARDS, SHARD_S, sets=1, files=1, documents=2, begin_s=0.05, spread=0.0)
"""Digits without a teacher: a view set alone, which has a plan and the flags that made it beside its shards."""


@pytest.mark.slow
def test_nodes_on_a_folder_ask_for_what_is_simulated(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "benchmarks.real_nodes", str(tmp_path), "2,4", str(SHARDS), str(SHARD_S)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    for nodes, phases in zip((2, 4), json.loads(done.stdout), strict=True):
        found = phases["share"]
        simulated = simulate(replace(TINY, nodes=nodes), Rules(), CALL_S).bucket.counts
        assert len(list(tmp_path.glob(f"{nodes}/*/commits/*.json"))) == SHARDS
        for kind in ("commit", "send shard"):
            assert found[kind] == simulated[kind] == SHARDS
        # nodes that begin at once try what another has taken since they looked, and then ask once more
        for kind in ("try lease", "give lease back"):
            assert SHARDS <= found[kind] <= SHARDS + 3 * nodes and simulated[kind] <= SHARDS + 3 * nodes
        begin, finish = phases["begin"], phases["finish"]
        # a node looks for every record thrice and, where it finds one, once more with each time that it reads it
        assert begin["look for commit"] - begin.get("read commit", 0) == 3 * SHARDS * nodes
        # one node alone reads the commit records, whatever the number of nodes; the others look for the lease
        assert (finish["look for commit"], finish["read commit"]) == (4 * SHARDS, 2 * SHARDS)
        # whoever is the last removes what those that were killed left
        lease = {f"{kind} lease" for kind in ("try", "renew")} | {"list leases", "give lease back"}
        assert finish.keys() <= {"look for commit", "read commit", "list commits"} | lease
        assert 1 <= finish["try lease"] <= nodes and finish.get("list commits", 0) <= 2 * nodes
        assert found["list leases"] >= simulated["list leases"] / 2 - nodes
        for kind in ("list leases", "list commits", "look at lease"):
            assert found.get(kind, 0) <= 2 * simulated[kind] + nodes, kind


def test_a_node_asks_a_bucket_for_what_is_simulated(
    s3: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LOCAL_CACHE, str(tmp_path))
    found, take = collections.Counter[str](), s3.faults.take

    def heard(method: str, path: str) -> str | None:
        if ".sharing/" not in path.replace("%2F", "/"):  # it shares with nobody, and asks for no lease but at its end
            found[_kind(method, path)] += 1
        return take(method, path)

    monkeypatch.setattr(s3.faults, "take", heard)
    digits = ("--data", "digits", "--limit", 4 * SHARDS, "--shard_size", 4, "--view", "size=16", "--devices", "cpu")
    caches.extract("--out", s3.url, "--teacher", "none", *digits)
    simulated = simulate(TINY, MENDED).bucket.counts
    found["probe"] -= 1  # that request gives the lease of its end back: a removal does not name the file
    # documents are looked for again with each block of shards that is sent, which a loaded machine cuts otherwise
    assert found.pop("look for document") >= simulated["look for document"]
    alone = {"look for document", "read document", "look for commit", "read commit", "list commits"}
    alone |= {kind for kind in simulated if "lease" in kind}  # it shares with nobody
    assert found == {kind: number for kind, number in simulated.items() if number and kind not in alone}


def _kind(method: str, path: str) -> str:
    """What benchmarks/real_nodes.py calls a request."""
    name, _, query = path.partition("?")
    if "list-type" in query:
        return "list all"
    if ".probe" in name or "delete" in query:
        return "probe" if method in ("PUT", "POST") else "look at probe"
    what = "commit" if "/commits/" in name else "shard" if re.search("/views/v", name) else "document"
    return f"{'send' if method == 'PUT' else 'look for'} {what}".replace("send commit", "commit")
