"""`extract --out s3://...`: the bytes of a folder, whatever was interrupted and wherever it is finished."""

import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import caches
import pytest
from caches import command, contents
from s3_server import Server

from extract.upload import Upload, _pauses
from shards.mirror import LOCAL_CACHE, mirror_of
from shards.stores import open_store

COMMITS = "/commits/"


@pytest.fixture
def flags(teacher: Path) -> tuple[str, ...]:
    """What made `pristine`, without its --out."""
    return ("--teacher", f"run:{teacher}", *caches.SMALL, "--views", "2", "--codec", "float32")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(LOCAL_CACHE, str(tmp_path / "home"))
    return tmp_path / "home"


def in_bucket(s3: Server) -> dict[str, bytes]:
    store = open_store(s3.url)
    return {name: store.get(name) for name in store.sizes()}


def test_the_bucket_holds_what_a_folder_would(
    pristine: Path, flags: tuple[str, ...], s3: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.faults.queue += [("503", "PUT", "v00-00001.tar"), ("lost", "PUT", "commits/v00-00002"), ("500", "PUT", "plan")]
    out = caches.extract("--out", s3.url, *flags).out
    assert in_bucket(s3) == contents(pristine) and s3.faults.queue == []
    assert s3.url in out and "note" not in out
    s3.faults.requests.clear()
    again = caches.extract("--out", s3.url, *flags).out
    assert "0 views to make" in again and "sent: 0 files" in again and in_bucket(s3) == contents(pristine)
    # another machine adds a teacher's target from what is there, without the source's views made again
    monkeypatch.setenv(LOCAL_CACHE, str(tmp_path / "elsewhere"))
    added = caches.extract("--out", s3.url, *flags[:-1], "float16").out
    assert "0 views made" in added and contents(pristine).items() <= in_bucket(s3).items()
    command("shards", "verify", s3.url).succeeds()


@pytest.mark.slow
def test_the_disk_that_must_hold_it_is_the_mirrors(
    pristine: Path, flags: tuple[str, ...], url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the views that a further teacher reads; of machines that share the work each makes a shard at least."""
    usage, views = shutil.disk_usage(tmp_path), sum(file.stat().st_size for file in pristine.rglob("*.tar"))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=views))
    further = ("extract", "--out", url, *flags[:-1], "float16", "--devices", "cpu")
    refused = command(*further)
    refused.refuses(f"{tmp_path}/home/", "where what goes to the bucket is made", "are needed", LOCAL_CACHE)
    command(*further, "--launch", "shared").succeeds()


@pytest.mark.slow
def test_processes_that_share_the_shards(pristine: Path, flags: tuple[str, ...], s3: Server) -> None:
    caches.extract("--out", s3.url, *[flag if flag != "cpu" else "2" for flag in flags])
    assert in_bucket(s3) == contents(pristine)


@pytest.mark.slow
def test_another_machine_goes_on_where_one_was_killed(
    pristine: Path, flags: tuple[str, ...], s3: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit record of one shard cannot be sent, and the machine vanishes while the others are there."""
    s3.faults.always.append(("500", "PUT", f"targets/{caches.targetset_of(pristine).name}{COMMITS}v01-00001"))
    words = [sys.executable, "-m", "extract", "--out", s3.url, *flags]
    process = subprocess.Popen(words, env=os.environ | {"TEACHER_SHARDS_RETRY_S": "60"})
    deadline = time.monotonic() + 120
    while len([name for name in open_store(s3.url).sizes() if COMMITS in name]) < 11:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    s3.faults.always.clear()
    assert not [name for name in in_bucket(s3) if name.endswith(("viewset.json", "targetset.json"))]
    monkeypatch.setenv(LOCAL_CACHE, str(tmp_path / "elsewhere"))
    assert "half written" in command("shards", "list", s3.url).succeeds().out
    out = caches.extract("--out", s3.url, *flags).out
    assert "0 views to make" in out and " 8 teacher forwards" not in out and "16 teacher forwards" in out
    assert in_bucket(s3) == contents(pristine)


@pytest.mark.slow
def test_what_cannot_be_sent_for_a_while_is_sent_while_the_run_goes_on(
    pristine: Path, s3: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The store refuses one shard, until the note is there and two more attempts were made."""
    monkeypatch.setenv("TEACHER_SHARDS_RETRY_S", "0.1")
    monkeypatch.setattr("extract.upload._FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr("extract.upload._MOST_PAUSE_S", 0.02)
    root, store = mirror_of(s3.url), open_store(s3.url)
    shutil.copytree(pristine, root, dirs_exist_ok=True)
    s3.faults.always.append(("403", "PUT", "views/v01-00001.tar"))
    folders = [
        root / each.relative_to(pristine) for each in (caches.viewset_of(pristine), caches.targetset_of(pristine))
    ]
    commits = {name for name in contents(pristine) if COMMITS in name}
    deadline = time.monotonic() + 60
    with Upload(s3.url, root, folders, set()) as upload:
        while len(s3.faults.refused) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        s3.faults.always.clear()
        while not commits <= store.sizes().keys():  # without `finish`
            assert time.monotonic() < deadline, "nothing is sent after an error"
            time.sleep(0.01)
    err = capsys.readouterr().err
    assert err.count("note: ") == 1 and "the run goes on: what it makes is kept on this machine until it can be" in err
    upload.finish()
    assert in_bucket(s3) == contents(pristine)


def test_attempts_to_send_become_rarer() -> None:
    assert list(itertools.islice(_pauses(), 6)) == [5, 10, 20, 40, 60, 60]


def test_a_shard_that_another_machine_sent_otherwise_is_refused(
    pristine: Path, flags: tuple[str, ...], s3: Server
) -> None:
    """As from another type of device: it is not overwritten, and no manifest appears."""
    name = f"{caches.viewset_of(pristine).name}/views/v00-00001.tar"
    theirs = contents(pristine)[name][:-1] + b"x"
    assert open_store(s3.url).create(name, theirs) is None
    found = command("extract", "--out", s3.url, *flags)
    assert found.status == 2 and f"{name}: another machine wrote other bytes" in found.err
    assert "until it can be sent" not in found.err
    there = in_bucket(s3)
    assert there[name] == theirs and not [each for each in there if each.endswith(("viewset.json", "targetset.json"))]


def test_a_commit_record_of_another_machine_is_refused(pristine: Path, flags: tuple[str, ...], s3: Server) -> None:
    caches.extract("--out", s3.url, *flags)
    name = f"{caches.viewset_of(pristine).name}/commits/v00-00001.json"
    open_store(s3.url).put(name, contents(pristine)[name].replace(b"v00-00001", b"v00-00002"), "")
    command("extract", "--out", s3.url, *flags).refuses(name, "another machine wrote other bytes", "--out")


@pytest.mark.slow
def test_a_commit_record_that_a_loss_of_power_cut_off_is_fetched_again(
    pristine: Path, flags: tuple[str, ...], s3: Server, home: Path
) -> None:
    """Files that are fetched into the mirror are not synced."""
    caches.extract("--out", s3.url, *flags)
    for name, left in (("v00-00001", 0), ("v01-00002", 100)):
        (path,) = home.glob(f"*/{caches.viewset_of(pristine).name}/commits/{name}.json")
        os.truncate(path, left)
    caches.extract("--out", s3.url, *flags)
    assert in_bucket(s3) == contents(pristine)
    (mirror,) = home.glob("*/.origin.json")
    assert contents(mirror.parent) == contents(pristine) | {mirror.name: mirror.read_bytes()}


def test_what_another_process_writes_into_the_mirror_stays(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/bucket"
    root = mirror_of(url)
    drafts = [f".partial-0123abcd-{os.getpid()}-plan.json", f".partial-0123abcd-{'0' * 32}-v00-00000.tar"]
    drafts.append(f".partial-{os.getpid()}-1-plan.json")
    for name in drafts:
        (root / name).write_bytes(b"half")
    assert mirror_of(url) == root and sorted(path.name for path in root.glob(".partial-*")) == sorted(drafts)


def test_a_store_that_ignores_conditions_has_one_writer(pristine: Path, flags: tuple[str, ...], s3: Server) -> None:
    s3.faults.ignores_conditions = True
    out = caches.extract("--out", s3.url, *flags).out
    assert "ignores If-None-Match: let no second machine write there" in out
    assert in_bucket(s3) == contents(pristine)


def test_a_bucket_that_is_not_there(flags: tuple[str, ...], s3: Server) -> None:
    command("extract", "--out", "s3://no-such-bucket/x", *flags).refuses("there is no such bucket")


def test_what_is_kept_of_a_bucket_is_no_place_to_extract_to(flags: tuple[str, ...], s3: Server, home: Path) -> None:
    """Nothing would be sent from there."""
    caches.extract("--out", s3.url, *flags)
    (mirror,) = (path.parent for path in home.glob("*/.origin.json"))
    found = caches.command("extract", "--out", mirror, *flags)
    found.refuses(f"--out {mirror}: is what this machine keeps of {s3.url}; give --out {s3.url}")


@pytest.mark.slow
def test_a_bucket_that_was_emptied_is_filled_again(
    pristine: Path, flags: tuple[str, ...], s3: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a machine that knows the commit records, and has none of the shards; then by the one that made them."""
    store = open_store(s3.url)
    for home, is_emptied in (("makes", False), ("knows", False), ("knows", True), ("makes", True)):
        for name in store.sizes() if is_emptied else ():
            store.remove(name)
        monkeypatch.setenv(LOCAL_CACHE, str(tmp_path / home))
        caches.extract("--out", s3.url, *flags)
        assert in_bucket(s3) == contents(pristine)
