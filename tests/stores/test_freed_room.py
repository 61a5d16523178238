"""Machines that share an extraction into a bucket keep no shard that the bucket has: a small disk suffices."""

from pathlib import Path
from typing import Any

import caches
import pytest
from caches import command, contents
from s3_server import Server

from extract.boards import SHARING
from extract.config import ExtractConfig
from extract.launch import ray
from extract.phases import begin, planned
from extract.staging import stage
from extract.upload import Upload
from shards.errors import BadInput
from shards.identity import sha256_of
from shards.layout import place_of
from shards.mirror import LOCAL_CACHE, mirror_of, mirror_path, origin_of
from shards.stores import open_store

SHARED = ("--launch", "shared")


@pytest.fixture
def flags(teacher: Path) -> tuple[str, ...]:
    """What made `pristine`, without its --out."""
    return ("--teacher", f"run:{teacher}", *caches.SMALL, "--views", "2", "--codec", "float32")


def in_bucket(s3: Server) -> dict[str, bytes]:
    store = open_store(s3.url)
    return {name: store.get(name) for name in store.sizes()}


def kept(url: str) -> set[str]:
    """The shards' files in the mirror, by their paths in their sets; commit records are not counted."""
    root = mirror_path(url, shared=True)
    paths = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    names = {path.rpartition("/targets/")[2].partition("/")[2] for path in paths}
    return {name for name in names if not name.startswith("commits/") and place_of(name) is not None}


def test_shards_are_here_until_they_are_sent(pristine: Path, flags: tuple[str, ...], s3: Server, home: Path) -> None:
    """What is asked for again is still there."""
    caches.extract("--out", s3.url, *flags, *SHARED)
    assert in_bucket(s3) == contents(pristine) and kept(s3.url) == set()
    assert not mirror_path(s3.url).exists()  # from which a training may read now
    again = caches.extract("--out", s3.url, *flags, *SHARED).out
    assert "0 views made, 0 teacher forwards" in again and "sent: 0 files" in again


@pytest.mark.slow
def test_from_what_was_sent_a_further_target_set_and_a_further_view_are_made(
    flags: tuple[str, ...], s3: Server, home: Path
) -> None:
    """Of the views that are fetched again none stays either."""
    caches.extract("--out", s3.url, *flags, *SHARED)
    added = caches.extract("--out", s3.url, *flags[:-1], "float16", *SHARED).out
    assert "0 views made, 80 teacher forwards" in added and kept(s3.url) == set()
    command("shards", "verify", s3.url).succeeds()
    more = ("--teacher", "none", *caches.SMALL, "--views", "3")
    assert "40 views made" in caches.extract("--out", s3.url, *more).out
    caches.extract("--out", home / "folder", *flags)
    caches.extract("--out", home / "folder", *flags[:-1], "float16")
    caches.extract("--out", home / "folder", *more)
    assert in_bucket(s3) == contents(home / "folder")


def test_views_that_another_target_set_is_made_of_stay(
    pristine: Path, flags: tuple[str, ...], s3: Server, home: Path
) -> None:
    """Its command may share this machine and be about to read one."""
    viewset = caches.viewset_of(pristine).name
    open_store(s3.url).create(f"{SHARING}/{viewset}/another-0123abcd.device", b"CPU")
    caches.extract("--out", s3.url, *flags, *SHARED)
    assert kept(s3.url) == {f"views/v{view:02d}-{shard:05d}.tar" for view in range(2) for shard in range(3)}


@pytest.mark.slow
def test_images_that_further_views_are_read_with_stay_to_the_end(
    teacher: Path, s3: Server, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = ("--view", "crop:size=16,store=source,source_size=16", "--views", "2", "--codec", "float32")
    flags = ("--teacher", f"run:{teacher}", *caches.DIGITS, "--devices", "cpu", *view)
    left, free = list[set[str]](), Upload.free

    def noted(upload: Upload, *arguments: Any) -> None:
        free(upload, *arguments)
        left.append(kept(s3.url))

    monkeypatch.setattr(Upload, "free", noted)
    caches.extract("--out", s3.url, *flags, *SHARED)
    images = {
        f"{kind}{shard}{end}" for shard in range(3) for kind, end in (("views/v00-0000", ".tar"), ("crops/c/0/", "/0"))
    }
    assert left[-2:] == [images, set()]
    caches.extract("--out", tmp_path / "whole", *flags)
    assert in_bucket(s3) == contents(tmp_path / "whole")


def test_a_process_finds_that_another_has_sent_and_freed_its_shard(pristine: Path, url: str, s3: Server) -> None:
    """Of one machine, where the other took a lease over that showed no life."""
    viewset = caches.viewset_of(pristine)
    root = mirror_of(url, shared=True)
    here = root / viewset.name
    (here / "commits").mkdir(parents=True)
    for commit in (viewset / "commits").iterdir():
        (here / "commits" / commit.name).write_bytes(commit.read_bytes())
    Upload(url, root, [here], set()).send([(0, 0)])
    assert in_bucket(s3) == contents(pristine)
    open_store(url).put(f"{viewset.name}/views/v00-00001.tar", b"of another machine", "")
    with pytest.raises(BadInput, match=r"v00-00001.tar: another machine wrote other bytes"):
        Upload(url, root, [here], set()).send([(0, 1)])


def test_of_views_that_are_shared_no_shard_is_fetched_for_others(pristine: Path, url: str) -> None:
    """A shard brings those that are read next, and without sharing all of its view."""
    viewset = caches.viewset_of(pristine)
    stage(url, shared=True)
    mirror = origin_of(mirror_of(url, shared=True))
    assert mirror is not None
    files = {name: content for name, content in contents(viewset).items() if name.startswith("views/")}

    def bring(name: str) -> set[str]:
        mirror.bring(mirror.root / viewset.name, name, len(files[name]), sha256_of(files[name]))
        for future in [*mirror._coming.values()]:
            future.result()
        assert not mirror._coming, "what has come is forgotten"
        return kept(url)

    mirror.ahead = ()
    assert bring("views/v00-00000.tar") == {"views/v00-00000.tar"}
    mirror.ahead = {(0, 2), (1, 2)}
    assert bring("views/v00-00001.tar") == {name for name in files if name.startswith("views/v00")}
    mirror.ahead = None
    assert bring("views/v01-00000.tar") == files.keys()


@pytest.mark.slow
def test_what_a_node_of_ray_committed_before_it_vanished_is_not_made_again(
    teacher: Path, s3: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task goes to a node that began before that; further views are read with images that another node made."""
    monkeypatch.setattr(ray, "_JOBS", {})
    monkeypatch.setenv(LOCAL_CACHE, str(tmp_path / "command"))
    view = {"view": "crop:size=16,store=source,source_size=16", "views": 2, "limit": 16, "shard_size": 8}
    config = ExtractConfig(
        teacher=f"run:{teacher}", out=s3.url, data="digits", devices="cpu", codec="float32", launch="ray", **view
    )
    work = planned(config, shared=True)
    begin(work.plan, shared=True)
    work.board.send(())
    nodes = {name: dict[str, tuple[ray.Job, list[str]]]() for name in ("old", "gone")}

    def task(node: str, *place: int) -> tuple[int, int]:
        monkeypatch.setattr(ray, "_JOBS", nodes[node])
        monkeypatch.setenv(LOCAL_CACHE, str(tmp_path / node))
        counts = ray._shard(config, str(tmp_path), (place[0], place[1]), 1)
        return counts["views"], counts["teacher_forwards"]

    assert task("old", 0, 1) == (8, 8)
    assert task("gone", 0, 0) == task("gone", 1, 0) == (8, 8)
    assert task("old", 1, 0) == (0, 0)
    store, viewset = open_store(s3.url), work.plan.views.folder.name
    for name in [name for name in store.sizes() if "/targets/" in name and "v01-00000" in name]:
        store.remove(name)
    nodes["new"] = {}
    assert task("new", 1, 0) == (0, 8) and store.sizes(f"{viewset}/views/").keys()
