"""Requests to a bucket that fail, are cut or take long: repeated while it may help, and then one line."""

import hashlib
import os

import pytest
from s3_server import Server

from shards.stores import open_store
from shards.stores.base import Store, StoreUnavailable


def put(store: Store, name: str, content: bytes) -> None:
    store.put(name, content, hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize("kind", ["500", "503", "cut"])
def test_requests_that_fail_for_the_moment_are_repeated(s3: Server, kind: str) -> None:
    store, content = open_store(s3.url), os.urandom(100_000)
    if kind != "cut":
        s3.faults.queue += [(kind, "PUT", "file")] * 2
    put(store, "file", content)
    s3.faults.queue += [(kind, "GET", "file")] * 2
    assert store.get("file") == content
    s3.faults.queue.append((kind, "GET", "file"))
    assert bytes(store.get_range("file", 10, 50_000)) == content[10:50_010]
    assert s3.faults.queue == []


@pytest.mark.parametrize("kind", ["cut", "reset"])
def test_a_connection_that_is_cut_at_any_request_is_made_again(s3: Server, kind: str) -> None:
    """In the middle of what is sent, or of the answer: then the server has done what it was asked to."""
    store, faults, content = open_store(s3.url), s3.faults, os.urandom(3_000_000)
    for method, part, call, expected in (
        ("PUT", "file", lambda: store.create("file", content), None),
        ("PUT", "file", lambda: put(store, "file", content), None),
        ("GET", "list-type", store.sizes, {"file": len(content)}),
        ("GET", "file", lambda: bytes(store.get_range("file", 5, 10)), content[5:15]),
        ("HEAD", "file", lambda: store.holds("file", 3_000_000, hashlib.sha256(content).hexdigest()), True),
        ("POST", "delete", lambda: store.remove("file"), None),
        ("GET", "list-type", store.sizes, {}),
    ):
        faults.requests.clear()
        faults.queue += [(kind, method, part)] * 2
        assert call() == expected
        assert faults.queue == [] and faults.requests[method] == 3


def test_what_fails_for_long_is_repeated_as_long_as_is_said(s3: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """More often than obstore repeats a request by itself, which is after pauses that it draws by lot."""
    monkeypatch.setattr("shards.stores.bucket._RETRIES", 2)
    monkeypatch.setenv("TEACHER_SHARDS_RETRY_S", "60")
    store = open_store(s3.url)
    put(store, "file", b"content")
    s3.faults.queue += [("503", "GET", "file")] * 8
    assert store.get("file") == b"content" and s3.faults.queue == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["cut", "reset"])
def test_a_connection_that_is_always_cut_is_one_line(s3: Server, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEACHER_SHARDS_RETRY_S", "0.5")
    store = open_store(s3.url)
    s3.faults.always += [(kind, method, "") for method in ("GET", "PUT", "POST")]
    for call in (store.sizes, lambda: put(store, "file", b"x"), lambda: store.remove("file")):
        with pytest.raises(StoreUnavailable) as error:
            call()
        assert str(error.value) == (
            f"s3://{s3.bucket}: the connection is cut again and again; check the network, then run the same command "
            f"again to go on"
        )


@pytest.mark.slow
def test_a_slow_line_takes_its_time(s3: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request of 2.4 s, of which no piece comes later than after a second: it is silent, but only while it sends."""
    monkeypatch.setattr("shards.stores.bucket._LEAST_SILENCE_S", 1.0)
    monkeypatch.setattr("shards.stores.sending.USUAL", 1_000_000)
    monkeypatch.setenv("TEACHER_SHARDS_RETRY_S", "1")
    store, content = open_store(s3.url), os.urandom(400_000)
    s3.faults.always += [("slow", "PUT", ""), ("slow", "GET", "file")]
    assert store.create("file", content) is None
    put(store, "other", content)
    assert store.get("file") == content and bytes(store.get_range("file", 0, 400_000)) == content


@pytest.mark.slow
def test_a_server_that_stands_still(s3: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, and then for good."""
    monkeypatch.setattr("shards.stores.bucket._LEAST_SILENCE_S", 1.0)
    monkeypatch.setenv("TEACHER_SHARDS_RETRY_S", "1")
    store = open_store(s3.url)
    s3.faults.queue += [("silent", "PUT", "file"), ("silent", "GET", "list-type"), ("silent", "POST", "delete")]
    assert store.create("file", b"content") is None and store.sizes() == {"file": 7}
    store.remove("file")
    assert s3.faults.queue == [] and store.sizes() == {}
    s3.faults.always += [("silent", "PUT", ""), ("silent", "GET", "")]
    for call in (store.sizes, lambda: store.create("file", b"content"), lambda: store.get("file")):
        with pytest.raises(StoreUnavailable, match="the network is too slow; set TEACHER_SHARDS_RETRY_S higher"):
            call()
