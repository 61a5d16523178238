"""`python -m shards export s3://...`: the files of an export from a folder, by few requests, many of them at a time."""

import threading
from pathlib import Path

import caches
import pytest
from caches import command, contents
from s3_server import Server

from shards.bucket_rows import Bound, set_bound


class Together:
    """Holds each request for a shard until another one is there; `peak` is the most that were held at a time.

    Those for the first shards, which a table's columns are told by, are not held.
    """

    def __init__(self, s3: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        self.peak = self.requests = self._held = 0
        self._take, self._lock, self._two = s3.faults.take, threading.Lock(), threading.Event()
        monkeypatch.setattr(s3.faults, "take", self.take)

    def take(self, method: str, path: str) -> str | None:
        is_shard = method == "GET" and (path.endswith(".tar") or "/c/" in path)
        if is_shard:
            with self._lock:
                self.requests += 1
        if is_shard and not path.endswith(("00000.tar", "/0/0")):
            with self._lock:
                self._held += 1
                self.peak = max(self.peak, self._held)
                if self._held > 1:
                    self._two.set()
            self._two.wait(20)
            with self._lock:
                self._held -= 1
        return self._take(method, path)


def test_tars_of_views_and_targets(
    pristine: Path, url: str, s3: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command("shards", "export", pristine, "--output", tmp_path / "folder").succeeds()
    together = Together(s3, monkeypatch)
    command("shards", "export", url, "--output", tmp_path / "bucket").succeeds()
    assert contents(tmp_path / "bucket") == contents(tmp_path / "folder")
    # of each shard one for its tar and one for its rows: what lies beside each other is one request
    assert together.peak > 1 and together.requests == 2 * 2 * caches.NUM_SHARDS


def test_a_table_of_features(
    pristine: Path, url: str, s3: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command("shards", "export", pristine, "--output", tmp_path / "folder.parquet").succeeds()
    set_bound(Bound())
    together = Together(s3, monkeypatch)
    command("shards", "export", url, "--output", tmp_path / "bucket.parquet").succeeds()
    assert (tmp_path / "bucket.parquet").read_bytes() == (tmp_path / "folder.parquet").read_bytes()
    assert together.peak > 1 and together.requests < 2 * caches.NUM_SAMPLES
