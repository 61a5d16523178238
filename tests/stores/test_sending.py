"""Large uploads: a server that stands still is told from a slow line, soon."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from obstore.exceptions import BaseError
from s3_server import Server
from test_bucket import put

from shards.stores import open_store
from shards.stores.base import StoreUnavailable
from shards.stores.sending import PARTS, Sending

MB = 1_000_000


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two seconds for 3 MB, whoever sends beside it."""
    monkeypatch.setattr("shards.stores.bucket._LEAST_SILENCE_S", 2.0)
    monkeypatch.setattr("shards.stores.sending.USUAL", 25 * MB)
    monkeypatch.setattr("shards.stores.sending.SLOWEST", 1.5 * MB)
    monkeypatch.setenv("TEACHER_SHARDS_RETRY_S", "2")


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_a_server_that_stands_still_in_the_middle_of_an_upload(s3: Server) -> None:
    """Once, and then for good, with several files on their way: each is tried a few times, and all are refused."""
    store, content = open_store(s3.url), os.urandom(3 * MB)
    s3.faults.queue += [("silent", "PUT", "first"), ("silent", "PUT", "second")]
    assert store.create("first", content) is None
    put(store, "second", content)
    assert store.get("first") == content == store.get("second") and s3.faults.queue == []
    s3.faults.always.append(("silent", "PUT", ""))
    s3.faults.requests.clear()

    def refused(send: Callable[[], object]) -> None:
        with pytest.raises(StoreUnavailable, match="stands still, or the network is too slow"):
            send()

    sends = [lambda number=number: store.create(f"file-{number}", content) for number in range(3)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(refused, [*sends, lambda: put(store, "file", content)]))
    assert s3.faults.requests["PUT"] <= 4 * 4


class Line:
    """Takes what is sent, unless it `is_still`; knows what it was given: seconds of silence, parts, files at a time."""

    def __init__(self) -> None:
        self.is_still, self.given, self.at_a_time, self._now = False, list[tuple[float, int]](), 0, 0
        self._lock = threading.Lock()

    def put(self, silence_s: float, parts: int) -> None:
        with self._lock:
            self.given.append((silence_s, parts))
            self._now += 1
            self.at_a_time = max(self.at_a_time, self._now)
        with self._lock:
            self._now -= 1
        if self.is_still:
            raise BaseError("Generic S3 error: HttpError { kind: Timeout }")


def test_the_silence_that_is_allowed_follows_from_what_is_sent() -> None:
    """Of 16 files beside each other at 4 MB/s, then of one alone at 0.1 MB/s; what is small goes as it is."""
    line, sending = Line(), Sending(lambda silence_s: silence_s, 30.0)
    for num_bytes, in_parts in ((1000, True), (80 * MB, True), (80 * MB, False), (600 * MB, False)):
        sending.send(line.put, num_bytes, in_parts)
    assert line.given == [(30, PARTS), (480, PARTS), (480, PARTS), (3840, PARTS)]
    line.given, line.is_still = [], True
    for in_parts in (True, False):
        with pytest.raises(BaseError):
            sending.send(line.put, 80 * MB, in_parts)
    assert line.given == [(480, PARTS), (60, 1), (960, 1)]  # the second file does not try what was too much before
    line.given, line.is_still = [], False
    for num_bytes in (1000, 80 * MB, 80 * MB):
        sending.send(line.put, num_bytes, True)
    assert line.given == [(30, PARTS), (60, 1), (480, PARTS)]  # the line is fast again
