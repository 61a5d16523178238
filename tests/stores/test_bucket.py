"""A bucket keeps the contract of a store, whatever fails on the way."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from s3_server import Server

from shards.errors import BadInput, Damaged, UnknownName
from shards.stores import is_url, open_store
from shards.stores.base import Store, StoreUnavailable


def put(store: Store, name: str, content: bytes) -> None:
    store.put(name, content, hashlib.sha256(content).hexdigest())


@pytest.fixture(params=["s3", "file"])
def store(request: pytest.FixtureRequest, s3: Server, tmp_path: Path) -> Store:
    """The same contract for a bucket and for a folder."""
    return open_store(s3.url if request.param == "s3" else f"file://{tmp_path}/store")


def test_what_is_put_is_read_back(store: Store) -> None:
    large = os.urandom(12 << 20)  # in parts
    put(store, "set/large", large)
    put(store, "set/small", b"small")
    put(store, "other", b"")
    assert store.sizes() == {"other": 0, "set/large": len(large), "set/small": 5}
    assert store.sizes("set/") == {"set/large": len(large), "set/small": 5}
    assert store.get("set/large") == large and store.get("other") == b""
    assert bytes(store.get_range("set/large", 7 << 20, 1000)) == large[7 << 20 :][:1000]
    put(store, "set/small", b"changed")
    assert store.get("set/small") == b"changed"
    store.remove("set/small")
    store.remove("set/small")
    with pytest.raises(Damaged, match="set/small: missing"):
        store.get("set/small")
    with pytest.raises(Damaged, match="half uploaded"):
        store.get_range("set/large", len(large) - 10, 20)


def test_one_of_many_creates(store: Store) -> None:
    assert store.creates_only_if_absent()
    store.create(".probe-of-a-command-that-was-killed", b"first")
    assert not [name for name in store.sizes() if "probe" in name]
    contents = [str(number).encode() for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        before = list(pool.map(lambda content: store.create("commit", content), contents))
    (winner,) = [content for content, was in zip(contents, before, strict=True) if was is None]
    assert store.get("commit") == winner
    assert {was for was in before if was is not None} == {winner}
    assert set(store.sizes()) == {"commit"}  # the probe left nothing


def test_a_repeated_request_is_not_beaten_by_itself(s3: Server) -> None:
    store = open_store(s3.url)
    s3.faults.queue.append(("lost", "PUT", "commit"))
    assert store.create("commit", b"mine") is None
    assert s3.faults.requests["PUT"] == 2 and store.create("commit", b"other") == b"mine"


def test_a_file_that_was_in_the_way_for_a_moment_is_no_damage(s3: Server) -> None:
    """Another gives its lease back between the refused request and the look at who has it."""
    store = open_store(s3.url)
    s3.faults.queue.append(("taken", "PUT", "lease"))
    assert store.create("lease", b"mine") is None and store.get("lease") == b"mine"
    s3.faults.always.append(("taken", "PUT", "lease"))
    store.remove("lease")
    with pytest.raises(StoreUnavailable, match="lease: says that it is there, and is not"):
        store.create("lease", b"mine")


def test_a_folder_is_made_with_its_first_file_and_goes_with_its_last(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}/new/store")
    assert store.sizes() == {} and store.versions("set/") == {} and not store.holds("set/file", 1, "")
    with pytest.raises(Damaged, match="set/file: missing"):
        store.get_range("set/file", 0, 1)
    store.remove("set/file")
    assert store.creates_only_if_absent() and list(tmp_path.iterdir()) == []
    put(store, "set/file", b"1")
    assert (tmp_path / "new/store/set/file").read_bytes() == b"1"
    half = tmp_path / "new/store/set/.partial-1-other"  # of a command that was killed
    half.write_bytes(b"")
    assert store.sizes() == {"set/file": 1} and list(store.versions("set/")) == ["set/file"]
    half.unlink()
    store.remove("set/file")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "own").mkdir()
    assert open_store(f"file://{tmp_path}/own").creates_only_if_absent() and (tmp_path / "own").is_dir()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreUnavailable, match="give a folder that can be written"):
        put(open_store(f"file://{tmp_path}/file/store"), "set/file", b"1")


@pytest.mark.parametrize(
    "url", ["file://cache", "file://", "s3://", "s3://a bucket/x", "gs://a:b/x", "s3://bucket/a?b", "s3://bucket/a#b"]
)
def test_a_url_that_is_no_place_or_another_one_is_refused(url: str) -> None:
    with pytest.raises(BadInput, match="give"):
        open_store(url)


@pytest.mark.parametrize("address", ["nonsense", "http://", "ftp://host", "http://a host", "http://host:port"])
def test_an_address_that_is_none_is_refused(address: str, s3: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    with pytest.raises(BadInput, match=f"AWS_ENDPOINT_URL {address}: expected the address of a server"):
        open_store(s3.url)


def test_azure_without_an_account_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AZURE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", "a token")
    with pytest.raises(BadInput, match=r"az://box/x: cannot be asked .*; set AZURE_STORAGE_ACCOUNT_NAME"):
        open_store("az://box/x")


def test_a_store_that_ignores_conditions_is_noticed(s3: Server) -> None:
    s3.faults.ignores_conditions = True
    store = open_store(s3.url)
    assert not store.creates_only_if_absent()
    assert store.sizes() == {}


@pytest.mark.parametrize(
    ("kind", "words"),
    [("403", "AWS_ACCESS_KEY_ID"), ("skew", "clock is wrong"), ("503", "SlowDown")],
)
def test_what_stays_is_one_line(s3: Server, kind: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEACHER_SHARDS_RETRY_S", "0.5")
    s3.faults.always += [(kind, method, "") for method in ("GET", "PUT")]
    store = open_store(s3.url)
    for call in (store.sizes, lambda: store.get("file"), lambda: put(store, "file", b"x")):
        with pytest.raises(StoreUnavailable, match=words) as error:
            call()
        assert "\n" not in str(error.value) and str(error.value).startswith(f"s3://{s3.bucket}: ")


def test_a_refused_range_is_not_taken_for_a_short_file(s3: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of the answer to a range behind the end, 416, may stand in a name."""
    monkeypatch.setenv("TEACHER_SHARDS_RETRY_S", "0.5")
    store = open_store(s3.url)
    put(store, "views/v00-00416.tar", bytes(1000))
    with pytest.raises(Damaged, match="half uploaded"):
        store.get_range("views/v00-00416.tar", 2000, 10)
    s3.faults.always.append(("503", "GET", ""))
    with pytest.raises(StoreUnavailable):
        store.get_range("views/v00-00416.tar", 0, 10)


def test_a_bucket_that_is_not_there(s3: Server) -> None:
    store = open_store("s3://no-such-bucket/caches")
    for call in (store.sizes, lambda: store.get("file"), lambda: put(store, "file", b"x")):
        with pytest.raises(StoreUnavailable, match="no-such-bucket: there is no such bucket"):
            call()


def test_a_server_that_is_not_there(s3: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("TEACHER_SHARDS_RETRY_S", "0.2")
    with pytest.raises(StoreUnavailable, match="cannot be reached; check AWS_ENDPOINT_URL"):
        open_store(s3.url).sizes()


def test_credentials_are_absent(s3: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(StoreUnavailable, match="no credentials here; set AWS_ACCESS_KEY_ID"):
        open_store(s3.url).sizes()


def test_credentials_and_endpoint_of_a_profile(s3: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name)
    (tmp_path / "absent").write_text(
        "[default]\naws_access_key_id = wrong\n"
        f"[profile mine]\nregion = eu-west-1\nendpoint_url = {s3.endpoint}\n"
        "[mine]\naws_access_key_id = key\naws_secret_access_key = secret\n"
    )
    monkeypatch.setenv("AWS_PROFILE", "mine")
    put(open_store(s3.url), "file", b"content")
    monkeypatch.setenv("AWS_PROFILE", "typo")
    with pytest.raises(BadInput, match="AWS_PROFILE typo: no such profile"):
        open_store(s3.url)


def test_what_is_no_store() -> None:
    assert not is_url("cache/x") and not is_url("/s3/x") and is_url("s3://x")
    with pytest.raises(UnknownName, match="s4"):
        open_store("s4://bucket/x")
    for name in ("a,b", "a?b", "a#b", "seed=1", "seed=0.5/"):
        with pytest.raises(BadInput, match=r"may have , \? or #|does not end in =NUMBER"):
            open_store(f"s3://bucket/{name}")
    for name in ("s3:///x", "s3:"):  # the second is what is left of s3://
        with pytest.raises(BadInput, match="names no bucket"):
            open_store(name)
