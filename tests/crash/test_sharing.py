"""Several commands share an extraction on one folder: the same bytes as of one, also where one is killed."""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import caches
import pytest
import torch
from caches import SMALL, command, copied, targetset_of, viewset_of

from extract import committing
from extract.__main__ import main as extract
from extract.boards import SHARING, Board
from extract.committing import commit
from extract.leases import LEASE_S, Leases
from shards.__main__ import main as python_m_shards
from shards.command.devices import device_type
from shards.documents import Commit, read_commit
from shards.errors import BadInput
from shards.lock import locked, tells_that_it_tidies, writing
from shards.reader import TargetSet

VIEWS = ("--teacher", "none", "--data", "digits", "--limit", "32", "--view", "size=16", "--shard_size", "4")
SHARED = ("--devices", "cpu", "--launch", "shared")


def contents(cache: Path) -> dict[str, bytes]:
    return {path.relative_to(cache).as_posix(): path.read_bytes() for path in cache.rglob("*") if path.is_file()}


def check_that_the_living_keep_theirs(other: Leases) -> None:
    """Of two leases (0, 0) is touched and stays, and (0, 1) is taken over."""
    taken = {(0, 0): False, (0, 1): False}
    until = time.monotonic() + 30
    while not taken[0, 1] and time.monotonic() < until:
        assert other.look() == 2  # leases of others, and none of its own
        taken = {place: gone or other.take(place) for place, gone in taken.items()}
        time.sleep(0.05)
    assert taken == {(0, 0): False, (0, 1): True}


def start(cache: Path, *flags: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, LEASE_S: "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "extract", *VIEWS, *flags, "--out", str(cache)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE)


def end(process: subprocess.Popen[bytes]) -> None:
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors.decode()


@pytest.mark.parametrize("clock", [0, 2**32])
def test_a_lease_that_changes_stays_and_one_that_does_not_is_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: int
) -> None:
    """Whatever the time of day of its holder: decades behind, or years ahead."""
    monkeypatch.setenv(LEASE_S, "0.5")
    views = tmp_path / "views"
    dead = Leases(Board(views))  # never entered: it gives no sign of life
    with Leases(Board(views)) as alive, Leases(Board(views)) as other:
        assert alive.take((0, 0)) and dead.take((0, 1))
        os.utime(tmp_path / SHARING / "views/v00-00001", (clock, clock))
        check_that_the_living_keep_theirs(other)


def test_other_bytes_under_the_same_shard_are_refused_and_the_first_stay(tmp_path: Path) -> None:
    record = Commit(0, 0, {})
    commit(tmp_path, record, {"values/c/0/0": b"first"})
    commit(tmp_path, record, {"values/c/0/0": b"first"})
    with pytest.raises(BadInput, match="another machine wrote other bytes"):
        commit(tmp_path, record, {"values/c/0/0": b"other"})
    assert (tmp_path / "values/c/0/0").read_bytes() == b"first"
    assert read_commit(tmp_path, 0, 0) is not None
    assert not list(tmp_path.rglob(".partial-*"))


def test_the_loser_of_a_race_never_replaces_the_files_of_the_winner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The winner commits between the loser's look at the commit record and its first file."""
    there = committing.create

    def winner_first(path: Path, data: bytes) -> bytes | None:
        monkeypatch.setattr(committing, "create", there)
        commit(tmp_path, Commit(0, 0, {}, device="NVIDIA H100"), {"values/c/0/0": b"winner"})
        return there(path, data)

    monkeypatch.setattr(committing, "create", winner_first)
    with pytest.raises(BadInput, match=r"values/c/0/0: another machine wrote other bytes there than CPU AVX2 computes"):
        commit(tmp_path, Commit(0, 0, {}, device="CPU AVX2"), {"values/c/0/0": b"loser"})
    assert (tmp_path / "values/c/0/0").read_bytes() == b"winner"
    record = read_commit(tmp_path, 0, 0)
    assert record is not None and record.device == "NVIDIA H100"
    with pytest.raises(
        BadInput, match=r"v00-00000.json: another machine .*, which has NVIDIA H100; give another --out"
    ):
        commit(tmp_path, Commit(0, 0, {}, device="CPU AVX2"), {"values/c/0/0": b"loser"})


def test_what_a_killed_run_left_uncommitted_is_made_anew_where_nobody_shares(
    pristine: Path, teacher: Path, tmp_path: Path
) -> None:
    """Also if it is of other bytes, as by an earlier version of a library; where machines share, it is refused."""
    cache = copied(pristine, tmp_path / "cache")
    targets = targetset_of(cache)
    for name in ("targetset.json", "commits/v01-00001.json"):
        (targets / name).unlink()
    (targets / "values/c/1/1/0").write_bytes(b"of another version")
    flags = ("--teacher", f"run:{teacher}", *SMALL, "--views", "2", "--codec", "float32", "--out", cache)
    command("extract", *flags, "--launch", "shared").refuses("values/c/1/1/0", "run once with --launch local")
    command("extract", *flags).succeeds()
    assert {name: data for name, data in caches.contents(cache).items() if SHARING not in name} == caches.contents(
        pristine
    )
    device = device_type(torch.device("cpu"))
    assert TargetSet(targets).manifest.devices == [device]
    assert f"computed on {device} arrays" in " ".join(command("shards", "info", targets).succeeds().out.split())


def test_who_shares_and_who_does_not_keep_each_other_out(tmp_path: Path) -> None:
    refused = pytest.raises(BadInput, match="--launch shared in every command")
    with writing(tmp_path, shared=True), writing(tmp_path, shared=True), refused, writing(tmp_path):
        pass
    with writing(tmp_path), pytest.raises(BadInput, match="another extract"), writing(tmp_path, shared=True):
        pass


def test_who_begins_while_another_ends_waits_for_it(tmp_path: Path) -> None:
    """The last command that shared a cache has it alone for a moment."""
    ends, ended = threading.Event(), threading.Event()

    def end() -> None:
        with locked(tmp_path, "") as lock:
            tells_that_it_tidies(lock)
            ends.set()
            ended.wait(0.3)

    thread = threading.Thread(target=end)
    thread.start()
    assert ends.wait(30)
    with writing(tmp_path, shared=True):
        thread.join()


@pytest.mark.slow
def test_who_finds_the_plan_begins_without_the_turn(tmp_path: Path) -> None:
    """Another command has the turn from the beginning to the end, and writes the plan in between."""
    alone, cache = tmp_path / "alone", tmp_path / "cache"
    command("extract", *VIEWS, "--devices", "cpu", "--out", alone).succeeds()
    (alone / ".lock").unlink(missing_ok=True)
    with locked(cache / SHARING / "turn", ""):
        waiting = start(cache, *SHARED)
        while not list(cache.glob(".lock")):  # it is there, and waits
            time.sleep(0.01)
        time.sleep(0.5)
        assert waiting.poll() is None
        viewset_of(alone).rename(cache / viewset_of(alone).name)
        end(waiting)
    assert waiting.returncode == 0


@pytest.mark.parametrize("more_views", [False, True])
def test_notes_of_who_makes_something_else_stay(
    pristine: Path, teacher: Path, tmp_path: Path, more_views: bool
) -> None:
    """Another target set's device and, while another makes more views, also that of the target set that is done."""
    cache = copied(pristine, tmp_path / "cache")
    own, board = f"{targetset_of(cache).name}.device", Board(viewset_of(cache))
    left = {"another.device", *(["v07-00000", own] if more_views else [])}
    flags = ("--teacher", f"run:{teacher}", *SMALL, "--views", "2", "--codec", "float32", "--launch", "shared")
    with writing(cache, shared=True):  # who works there still
        board.look()
        for name in (*sorted(left - {own}), "v00-00000"):
            assert board.take(name)
        command("extract", *flags, "--out", cache).succeeds()
        assert board.look().keys() == left
        board.clear()
        assert not (cache / SHARING / viewset_of(cache).name).exists()


def test_a_note_that_is_being_written_is_not_cleared_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another command clears the notes between the draft and its name; or takes away the note that was in the way."""
    board, link = Board(tmp_path / "views"), os.link

    def cleared(*paths: Path) -> None:
        Board(tmp_path / "views").clear()
        link(*paths)

    def in_the_way(*_: Path) -> None:
        monkeypatch.setattr(os, "link", link)
        raise FileExistsError

    for name, others in (("one", cleared), ("two", in_the_way)):
        monkeypatch.setattr(os, "link", others)
        assert board.first(name, b"mine") == b"mine"
        monkeypatch.setattr(os, "link", link)
        assert board.first(name, b"other") == b"mine"


def test_notes_that_are_removed_while_they_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the listing and the look at each; and all of them, as by the last command that shared the cache."""
    board, folder, listing = Board(tmp_path / "views"), tmp_path / SHARING / "views", os.scandir
    assert board.look() == {} and board.take("one") and board.take("two")

    @contextlib.contextmanager
    def one_is_removed(place: Path) -> Iterator[Iterator[os.DirEntry[str]]]:
        with listing(place) as entries:
            listed = list(entries)
        board.remove("one")
        yield iter(listed)

    def all_are_removed(place: Path) -> "os._ScandirIterator[str]":
        folder.rename(tmp_path / "removed")
        return listing(place)

    for changed, left in ((one_is_removed, {"two"}), (all_are_removed, set[str]())):
        with monkeypatch.context() as patch:
            patch.setattr(os, "scandir", changed)
            assert board.look().keys() == left
    assert not board.take("three")
    board.touch("two")
    board.remove("two")
    board.clear()
    assert board.look() == {} and board.take("three")


@pytest.mark.slow
def test_two_commands_one_killed_write_the_bytes_of_one(tmp_path: Path) -> None:
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    extract([*VIEWS, "--views", "8", "--devices", "cpu", "--out", str(alone)])
    killed, other = (start(shared, "--views", "8", *SHARED) for _ in range(2))
    while killed.poll() is None and not list(shared.glob("*/commits/*.json")):
        time.sleep(0.01)
    killed.kill()
    killed.communicate()
    end(other)
    end(start(shared, "--views", "8", *SHARED))  # finds nothing left to do
    found = {name: content for name, content in contents(shared).items() if "/.partial-" not in name}
    assert found == contents(alone)
    python_m_shards(["verify", str(shared)])
