"""Machines share views that are rendered: a further view's shard is read with the images of view 0's."""

import os
import subprocess
import sys
import time
from pathlib import Path

import caches
import pytest
from caches import contents
from s3_server import Server

from extract.boards import SHARING
from extract.leases import LEASE_S
from shards.mirror import LOCAL_CACHE
from shards.stores import open_store


@pytest.mark.slow
def test_the_target_of_a_view_that_another_made_waits_for_the_images(
    teacher: Path, s3: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another made the second view and vanished; a third one makes the first view, while this machine waits."""
    monkeypatch.setenv(LEASE_S, "60")
    view = ("--view", "crop:size=16,store=source,source_size=16", "--views", "2", "--codec", "float32")
    flags = ("--teacher", f"run:{teacher}", "--data", "digits", "--limit", "16", "--shard_size", "8", *view)
    caches.extract("--out", tmp_path / "whole", *flags, "--devices", "cpu")
    whole, store = contents(tmp_path / "whole"), open_store(s3.url)
    viewset = caches.viewset_of(tmp_path / "whole").name
    leases = {view: [f"{SHARING}/{viewset}/v{view:02d}-{shard:05d}" for shard in range(2)] for view in range(2)}
    for name in (*leases[0], *leases[1]):
        store.create(name, b"alive")
    words = [sys.executable, "-m", "extract", "--out", s3.url, *flags, "--devices", "cpu", "--launch", "shared"]
    environment = {**os.environ, LOCAL_CACHE: str(tmp_path / "other"), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while f"{viewset}/plan.json" not in store.sizes() and process.poll() is None:
        time.sleep(0.1)

    def appears(*beginnings: str) -> None:
        names = [name for name in whole if name.removeprefix(f"{viewset}/").startswith(beginnings)]
        for name in sorted(names, key=lambda name: "commits/" in name):
            assert store.create(name, whole[name]) is None

    appears("crops/c/1/", "commits/v01-")
    for name in leases[1]:
        store.remove(name)
    time.sleep(3)  # in which it might begin the second view's targets
    targets = caches.targetset_of(tmp_path / "whole").name
    appears("views/", "crops/c/0/", "commits/v00-", f"targets/{targets}/values/c/0/", f"targets/{targets}/commits/v00-")
    for name in leases[0]:
        store.remove(name)
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert "0 views made, 16 teacher forwards" in out
    assert {name: store.get(name) for name in store.sizes()} == whole
