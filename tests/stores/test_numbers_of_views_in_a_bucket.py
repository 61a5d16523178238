"""Commands of different numbers of views share a bucket: the arrays announce at least what the manifest holds."""

import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import caches
import pytest
from caches import command, contents
from s3_server import Server

from extract.boards import SHARING
from extract.config import ExtractConfig
from extract.finishing import finish, finish_alone
from extract.leases import LEASE_S
from extract.phases import Work, begin, planned
from shards.mirror import LOCAL_CACHE
from shards.stores import open_store

RENDERED = "crop:size=16,store=source"
VIEWS = ("--teacher", "none", "--data", "digits", "--limit", "16", "--shard_size", "8", "--devices", "cpu")
SHARED = ("--view", RENDERED, "--launch", "shared")


@pytest.fixture
def machines(tmp_path: Path, s3: Server, monkeypatch: pytest.MonkeyPatch) -> "Machines":
    return Machines(tmp_path, s3, monkeypatch)


class Machines:
    """Machines by the number of views that they ask for, each with a mirror of its own."""

    def __init__(self, tmp_path: Path, s3: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.s3, self.monkeypatch = tmp_path, s3, monkeypatch

    def use(self, views: int) -> None:
        self.monkeypatch.setenv(LOCAL_CACHE, str(self.folder / f"machine-{views}"))

    def planned(self, views: int) -> Work:
        """It has read what the bucket holds, and written nothing yet."""
        self.use(views)
        config = ExtractConfig("none", self.s3.url, data="digits", limit=16, shard_size=8, devices="cpu")
        return planned(replace(config, view=RENDERED, views=views, launch="shared"), shared=True)

    def run(self, views: int) -> None:
        self.use(views)
        command("extract", "--out", self.s3.url, *VIEWS, *SHARED, "--views", str(views)).succeeds()

    def there(self) -> dict[str, bytes]:
        store = open_store(self.s3.url)
        return {name: store.get(name) for name in store.sizes()}

    def announced(self) -> int:
        (crops,) = [content for name, content in self.there().items() if name.endswith("crops/zarr.json")]
        return int(json.loads(crops)["shape"][0])

    def alone(self, *views: str) -> dict[str, bytes]:
        """What commands that follow each other leave in a folder."""
        out = self.folder / f"alone-{'-'.join(views)}"
        for number in views:
            command("extract", *VIEWS, "--view", RENDERED, "--views", number, "--out", out).succeeds()
        return contents(out)


@pytest.mark.slow
def test_who_planned_fewer_views_and_begins_late_takes_nothing_back(machines: Machines) -> None:
    fewer = machines.planned(2)
    machines.run(4)
    machines.use(2)
    begin(fewer.plan, shared=True)
    fewer.board.send(())
    assert machines.there() == machines.alone("4")


@pytest.mark.slow
@pytest.mark.parametrize("first", [2, 4])
def test_both_begin_at_once(machines: Machines, first: int) -> None:
    """The flags of who begins first are kept beside the views, whoever ends first."""
    works = {views: machines.planned(views) for views in (first, 6 - first)}
    for work in works.values():
        begin(work.plan, shared=True)
    for work in works.values():
        work.board.send(())
    assert machines.announced() == 4
    machines.run(2)
    assert machines.announced() == 2  # as its manifest
    machines.run(4)
    assert machines.there() == (machines.alone("4") if first == 4 else machines.alone("2", "4"))
    machines.use(first)
    command("shards", "verify", machines.s3.url).succeeds()


@pytest.mark.slow
def test_who_ends_late_with_fewer_views_takes_nothing_back(machines: Machines) -> None:
    """Also of machines that do not share the work, and so wait for nobody."""
    fewer = machines.planned(2)
    begin(fewer.plan, shared=True)
    fewer.extraction.run()
    machines.run(4)
    machines.use(2)
    finish(fewer)
    assert machines.there() == machines.alone("4")


@pytest.mark.slow
def test_who_ends_while_another_ends_waits_for_it(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that share no work: the one of fewer views is about to announce them when the other one has all it made."""
    works = {views: machines.planned(views) for views in (4, 2)}
    for views, work in works.items():
        machines.use(views)
        begin(work.plan, shared=True)
        work.board.send(())
        work.extraction.run()
    assert machines.announced() == 4
    other, upload = threading.Thread(target=lambda: finish_alone(works[4], works[4].board)), works[2].upload
    assert upload is not None
    put = upload.store.put

    def meanwhile(name: str, content: bytes, sha256: str) -> None:
        if name.endswith("crops/zarr.json") and not other.ident:
            other.start()
            other.join(1 if upload.store.sizes(f"{SHARING}/") else 60)  # it waits where a note says that one ends
        put(name, content, sha256)

    monkeypatch.setattr(upload.store, "put", meanwhile)
    monkeypatch.setenv(LEASE_S, "30")
    finish_alone(works[2], works[2].board)
    other.join()
    assert machines.there() == machines.alone("4")
    machines.use(9)
    command("shards", "verify", machines.s3.url).succeeds()


@pytest.mark.slow
def test_a_growth_that_is_not_done_yet_keeps_nobody_from_reading(machines: Machines) -> None:
    """Its arrays announce more views than the manifest, on every machine, and for whoever pulls, has."""
    machines.run(2)
    before, more = machines.alone("2"), machines.planned(4)
    begin(more.plan, shared=True)
    more.board.send(())
    assert machines.announced() == 4
    machines.use(9)
    out = command("shards", "info", machines.s3.url).succeeds().out
    assert "16 x 2" in out and f"python -m extract --teacher NAME --out {machines.s3.url}\n" in out
    command("shards", "verify", machines.s3.url).succeeds()
    command("shards", "pull", machines.s3.url, machines.folder / "pulled").succeeds()
    assert contents(machines.folder / "pulled") == before


@pytest.mark.slow
@pytest.mark.parametrize("rendered", [True, False])
def test_two_processes_at_once(machines: Machines, teacher: Path, rendered: bool) -> None:
    """Of views, and of targets too; each in a mirror of its own."""
    what = ("--teacher", f"run:{teacher}", "--view", "crop:size=16", "--codec", "float32")
    what = ("--teacher", "none", "--view", RENDERED) if rendered else what
    flags = ("--data", "digits", "--limit", "64", "--shard_size", "8", "--devices", "cpu", *what)

    def start(views: int) -> "subprocess.Popen[str]":
        home = {LOCAL_CACHE: str(machines.folder / f"machine-{views}"), "OMP_NUM_THREADS": "1"}
        words = [sys.executable, "-m", "extract", "--out", machines.s3.url, *flags, "--launch", "shared"]
        environment = {**os.environ, **home, "TEACHER_SHARDS_RETRY_S": "60"}
        return subprocess.Popen([*words, "--views", str(views)], env=environment, stderr=subprocess.PIPE, text=True)

    for process in [start(views) for views in (2, 6)]:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    made = [machines.folder / name for name in ("alone-6", "alone-2-6")]
    for out, numbers in zip(made, (("6",), ("2", "6")), strict=True):
        for number in numbers:
            caches.extract("--out", out, *flags, "--views", number)
    assert machines.there() in [contents(out) for out in made]
    command("shards", "verify", machines.s3.url).succeeds()
