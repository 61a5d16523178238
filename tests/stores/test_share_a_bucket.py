"""Machines share an extraction on a bucket: the bytes of one, whoever vanishes, whatever the clocks say."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import caches
import pytest
from caches import command, contents
from s3_server import Server

from extract.boards import SHARING, Board, BucketBoard
from extract.leases import LEASE_S, Leases
from extract.same_device import agreed_device
from extract.upload import Upload
from shards.command.progress import human_bytes
from shards.mirror import LOCAL_CACHE
from shards.stores import open_store

SHARED = ("--launch", "shared")


@pytest.fixture
def flags(teacher: Path) -> tuple[str, ...]:
    """What made `pristine`, without its --out."""
    return ("--teacher", f"run:{teacher}", *caches.SMALL, "--views", "2", "--codec", "float32")


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(LOCAL_CACHE, str(tmp_path / "home"))
    return tmp_path


def in_bucket(s3: Server) -> dict[str, bytes]:
    store = open_store(s3.url)
    return {name: store.get(name) for name in store.sizes()}


@pytest.mark.slow
def test_one_machine_takes_over_what_another_left(
    pristine: Path, flags: tuple[str, ...], s3: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two shards and the manifests are leased by machines that give no sign of life; a third one committed a shard."""
    monkeypatch.setenv(LEASE_S, "0.5")
    store, viewset = open_store(s3.url), caches.viewset_of(pristine).name
    for name in ("v00-00000", "v01-00002", "manifests"):
        assert store.create(f"{SHARING}/{viewset}/{name}", b"a machine that is gone") is None
    done = [f"{viewset}/views/v00-00001.tar", f"{viewset}/commits/v00-00001.json"]
    for name in done:
        assert store.create(name, contents(pristine)[name]) is None
    s3.faults.queue += [("lost", "PUT", f"{viewset}/v00-00002"), ("503", "PUT", "commits/v01-00001")]
    out = caches.extract("--out", s3.url, *flags, *SHARED).out
    assert in_bucket(s3) == contents(pristine) and s3.faults.queue == []
    assert "64 views made, 80 teacher forwards" in out


@pytest.mark.slow
def test_what_others_commit_meanwhile_is_not_made_again(
    pristine: Path, flags: tuple[str, ...], s3: Server, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All shards and the manifests are leased; while the machine waits, all appear."""
    monkeypatch.setenv(LEASE_S, "60")
    store, viewset = open_store(s3.url), caches.viewset_of(pristine).name
    names = [name for name in contents(pristine) if not name.endswith("set.json")]
    leases = [f"{SHARING}/{viewset}/v{view:02d}-{shard:05d}" for view in range(2) for shard in range(3)]
    for name in (*leases, f"{SHARING}/{viewset}/manifests"):
        store.create(name, b"alive")
    words = [sys.executable, "-m", "extract", "--out", s3.url, *flags, *SHARED]
    environment = {**os.environ, LOCAL_CACHE: str(machine / "other"), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True)
    while f"{viewset}/plan.json" not in store.sizes() and process.poll() is None:
        time.sleep(0.1)
    for name in sorted(names, key=lambda name: "/commits/" in name):
        store.create(name, contents(pristine)[name])
    targets = caches.targetset_of(pristine).name
    for name in (f"{viewset}/viewset.json", f"{viewset}/targets/{targets}/targetset.json"):
        assert store.create(name, contents(pristine)[name]) is None  # the machine waits for who writes them
    for name in (*leases[-2:], f"{SHARING}/{viewset}/manifests"):
        store.remove(name)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0 and "0 views made, 0 teacher forwards" in out
    assert in_bucket(s3) == contents(pristine)


@pytest.mark.slow
@pytest.mark.parametrize("launch", [SHARED, ()])
def test_what_all_processes_of_a_command_sent_is_told(
    pristine: Path, flags: tuple[str, ...], s3: Server, launch: tuple[str, ...]
) -> None:
    """Of a command with two processes, which send their own shards where machines share them."""
    out = caches.extract("--out", s3.url, *[flag if flag != "cpu" else "2" for flag in flags], *launch).out
    there = in_bucket(s3)
    size = human_bytes(sum(map(len, there.values())))
    assert there == contents(pristine) and f"extract: sent: {len(there)} files, {size}: {s3.url}" in out


def test_the_living_keep_their_leases(s3: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LEASE_S, "0.5")

    def board() -> BucketBoard:
        return BucketBoard(tmp_path / "views", Upload(s3.url, tmp_path, [], set()))

    dead = Leases(board())
    with Leases(board()) as alive, Leases(board()) as other:
        assert alive.take((0, 0)) and dead.take((0, 1))
        assert not other.take((0, 0))
        taken = {(0, 0): False, (0, 1): False}
        until = time.monotonic() + 30
        while not taken[0, 1] and time.monotonic() < until:
            assert other.look() == 2  # leases of others, and none of its own
            taken = {place: gone or other.take(place) for place, gone in taken.items()}
            time.sleep(0.05)
        assert taken == {(0, 0): False, (0, 1): True}


@pytest.mark.slow
def test_another_type_of_device_is_refused_while_it_lives(
    pristine: Path, flags: tuple[str, ...], s3: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once it is dead, what it committed nothing of is made here, and its leases on further views stay behind."""
    monkeypatch.setenv(LEASE_S, "1")
    viewset, targets = caches.viewset_of(pristine).name, caches.targetset_of(pristine).name
    board = BucketBoard(tmp_path / viewset, Upload(s3.url, tmp_path, [], set()), "NVIDIA H100")
    assert board.first(f"{targets}.device", b"NVIDIA H100") == b"NVIDIA H100" and board.take("v07-00000")
    ended = threading.Event()

    def touch() -> None:
        while not ended.wait(0.05):
            board.touch("v07-00000")

    thread = threading.Thread(target=touch)
    thread.start()
    try:
        found = command("extract", "--out", s3.url, *flags, *SHARED)
    finally:
        ended.set()
        thread.join()
    found.refuses(f"{targets} is being made on NVIDIA H100, and this machine has CPU")
    assert in_bucket(s3).keys() == {f"{SHARING}/{viewset}/{name}" for name in (f"{targets}.device", "v07-00000")}
    command("extract", "--out", s3.url, *flags, *SHARED).succeeds()
    there = in_bucket(s3)
    assert {name: there[name] for name in there if not name.startswith(SHARING)} == contents(pristine)
    command("shards", "verify", s3.url).succeeds()  # the notes are no part of the cache


@pytest.mark.slow
@pytest.mark.parametrize("in_a_bucket", [False, True])
def test_of_two_types_that_find_the_note_of_the_dead_one_goes_on(
    in_a_bucket: bool, s3: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one still watches the dead when the first one has followed them."""
    monkeypatch.setenv(LEASE_S, "2")

    def board(device: str) -> Board:
        upload = Upload(s3.url, tmp_path, [], set())
        return BucketBoard(tmp_path / "views", upload, device) if in_a_bucket else Board(tmp_path / "views", device)

    board("dead").look()
    assert board("dead").first("some.device", b"dead") == b"dead"
    found = list[str]()

    def second() -> None:
        time.sleep(1)
        found.append(agreed_device(board("second"), "some", "second"))

    thread = threading.Thread(target=second)
    thread.start()
    assert agreed_device(board("first"), "some", "first") == "first"
    with Leases(board("first")) as leases:
        assert leases.take((0, 0))
        thread.join()
        assert agreed_device(board("first"), "some", "first") == "first"  # as it asks before its first shard
    assert found == ["first"]


def test_who_comes_back_while_another_type_follows_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It touches its lease when the other one has stopped to watch, and writes its note."""
    monkeypatch.setenv(LEASE_S, "0.2")
    back = Board(tmp_path / "views", "back")
    back.look()
    assert back.first("some.device", b"back") == b"back" and back.take("v00-00000")

    class Following(Board):
        def first(self, name: str, content: bytes) -> bytes:
            if name == "some.device.1":
                back.touch("v00-00000")
            return super().first(name, content)

    assert agreed_device(Following(tmp_path / "views", "other"), "some", "other") == "back"
    assert agreed_device(back, "some", "back") == "back"


def test_other_bytes_of_a_shard_stay_and_no_manifest_appears(
    pristine: Path, flags: tuple[str, ...], s3: Server
) -> None:
    name = f"{caches.viewset_of(pristine).name}/targets/{caches.targetset_of(pristine).name}/values/c/0/1/0"
    open_store(s3.url).create(name, b"of another device")
    command("extract", "--out", s3.url, *flags, *SHARED).refuses(f"{name}: another machine wrote other bytes")
    there = in_bucket(s3)
    assert there[name] == b"of another device"
    assert not [each for each in there if each.endswith(("viewset.json", "targetset.json"))]


def test_a_store_that_ignores_conditions_is_not_shared(flags: tuple[str, ...], s3: Server) -> None:
    s3.faults.ignores_conditions = True
    command("extract", "--out", s3.url, *flags, *SHARED).refuses("ignores If-None-Match", "give --launch local")
    assert in_bucket(s3) == {}


def test_a_hub_is_not_shared(flags: tuple[str, ...]) -> None:
    command("extract", "--out", "hf://datasets/some/one", *flags, *SHARED).refuses("push")


@pytest.mark.slow
def test_three_machines_one_killed(
    pristine: Path, flags: tuple[str, ...], s3: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two have a mirror of their own, the third one shares that of the second."""
    monkeypatch.setenv("TEACHER_SHARDS_RETRY_S", "60")

    def start(home: str) -> "subprocess.Popen[str]":
        environment = {**os.environ, LOCAL_CACHE: str(tmp_path / home), LEASE_S: "2", "OMP_NUM_THREADS": "1"}
        words = [sys.executable, "-m", "extract", "--out", s3.url, *flags, *SHARED]
        return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    killed, *others = start("first"), start("second"), start("second")
    while killed.poll() is None and not [name for name in open_store(s3.url).sizes(f"{SHARING}/") if "/v0" in name]:
        time.sleep(0.01)
    killed.kill()
    killed.communicate()
    for process in others:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    assert in_bucket(s3) == contents(pristine)
    command("shards", "verify", s3.url).succeeds()
