"""`shards push` and `pull`: a cache goes through a bucket and comes back the same, whatever happens on the way."""

import os
import shutil
import time
from pathlib import Path

import caches
import pytest
from caches import command, contents
from s3_server import Server

from shards.mirror import LOCAL_CACHE, mirror_of
from shards.stores import open_store

MANIFESTS = ("viewset.json", "targetset.json")


@pytest.fixture
def pushed(pristine: Path, s3: Server) -> str:
    """The URL of `pristine` in a bucket."""
    command("shards", "push", pristine, s3.url).succeeds()
    return s3.url


def test_a_cache_comes_back_the_same(pristine: Path, pushed: str, s3: Server, tmp_path: Path) -> None:
    assert {name: open_store(pushed).get(name) for name in open_store(pushed).sizes()} == contents(pristine)
    out = command("shards", "pull", pushed, tmp_path / "new").succeeds().out
    assert contents(tmp_path / "new") == contents(pristine)
    assert "2 sets" in out and "0 there already" in out
    command("shards", "verify", tmp_path / "new").succeeds()


def test_what_is_there_is_not_sent_again(pristine: Path, pushed: str, s3: Server, tmp_path: Path) -> None:
    s3.faults.requests.clear()
    command("shards", "push", pristine, pushed).succeeds()
    assert s3.faults.requests["PUT"] == 0
    command("shards", "pull", pushed, tmp_path / "new").succeeds()
    s3.faults.bytes_out = 0
    whole = sum(map(len, contents(pristine).values()))
    command("shards", "pull", pushed, tmp_path / "new").succeeds()
    assert s3.faults.bytes_out < whole / 2  # the listing and the manifests
    assert contents(tmp_path / "new") == contents(pristine)


def test_a_cut_off_push_shows_no_set_and_is_resumed(
    pristine: Path, s3: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEACHER_SHARDS_RETRY_S", "0.2")
    s3.faults.always.append(("500", "PUT", "views/v01-00001.tar"))
    command("shards", "push", pristine, s3.url).refuses("InternalError", "run the same command again")
    sizes = open_store(s3.url).sizes()
    assert sizes and not [name for name in sizes if name.endswith(MANIFESTS)]
    command("shards", "pull", s3.url, tmp_path / "new").refuses("holds no view set")
    assert not (tmp_path / "new").exists()
    s3.faults.always.clear()
    out = command("shards", "push", pristine, s3.url).succeeds().out
    assert f"{len(sizes)} there already" in out
    command("shards", "pull", s3.url, tmp_path / "new").succeeds()
    assert contents(tmp_path / "new") == contents(pristine)


def test_a_cut_off_pull_is_no_set_and_is_resumed(
    pristine: Path, pushed: str, s3: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEACHER_SHARDS_RETRY_S", "0.2")
    s3.faults.always.append(("500", "GET", "views/v01-00001.tar"))
    command("shards", "pull", pushed, tmp_path / "new").refuses("InternalError")
    assert not list((tmp_path / "new").rglob("viewset.json"))
    s3.faults.always.clear()
    caches.viewset_of(tmp_path / "new").joinpath("views/.partial-1-v00-00000.tar").write_bytes(b"half")  # of a kill
    command("shards", "pull", pushed, tmp_path / "new").succeeds()
    assert contents(tmp_path / "new") == contents(pristine)


def test_wrong_bytes_are_fetched_again_and_then_refused(
    pristine: Path, pushed: str, s3: Server, tmp_path: Path
) -> None:
    s3.faults.queue += [("wrong", "GET", "views/v00-00000.tar"), ("wrong", "GET", "views/v01-00001.tar")]
    command("shards", "pull", pushed, tmp_path / "new").succeeds()
    assert contents(tmp_path / "new") == contents(pristine) and s3.faults.queue == []
    s3.faults.always.append(("wrong", "GET", "views/v00-00000.tar"))
    command("shards", "pull", pushed, tmp_path / "other").refuses("v00-00000.tar: its SHA-256 is not the manifest's")
    s3.faults.always[:] = [("wrong", "GET", "viewset.json")]
    command("shards", "pull", pushed, tmp_path / "third").refuses(f"{pushed}/", "viewset.json")


def test_half_uploaded_and_missing_objects_are_named(pristine: Path, pushed: str, tmp_path: Path) -> None:
    store, viewset = open_store(pushed), caches.viewset_of(pristine).name
    tar = f"{viewset}/views/v00-00000.tar"
    store.put(tar, store.get(tar)[:-512], "")
    command("shards", "pull", pushed, tmp_path / "new").refuses(tar, "half uploaded", "push")
    store.remove(tar)
    command("shards", "pull", pushed, tmp_path / "new").refuses(tar, "missing", "push")
    manifest = f"{viewset}/viewset.json"
    store.put(manifest, store.get(manifest)[:-512], "")
    for words in (("pull", pushed, tmp_path / "new"), ("push", pristine, pushed)):
        cut = command("shards", *words)
        cut.refuses(f"{pushed}/{manifest}: not JSON", "remove it with your store's", f"shards push CACHE {pushed}")
        assert "shards remove" not in cut.err
    store.remove(manifest)
    command("shards", "push", pristine, pushed).succeeds()
    command("shards", "pull", pushed, tmp_path / "new").succeeds()
    assert contents(tmp_path / "new") == contents(pristine)


def test_damage_here_is_not_sent(cache: Path, s3: Server) -> None:
    tar = caches.viewset_of(cache) / "views/v00-00001.tar"
    data = bytearray(tar.read_bytes())
    data[1000] ^= 1
    tar.write_bytes(data)
    command("shards", "push", cache, s3.url).refuses("v00-00001.tar: is not what its manifest says")
    assert not [name for name in open_store(s3.url).sizes() if name.endswith(MANIFESTS)]
    (caches.viewset_of(cache) / "viewset.json").unlink()
    command("shards", "push", cache, s3.url).refuses("half written", "extract")


def test_another_set_of_the_same_name_is_refused(cache: Path, pushed: str, s3: Server, tmp_path: Path) -> None:
    """As from another type of device: the same identity, other bytes."""
    targetset = caches.targetset_of(cache)
    name = "logits/c/0/0/0" if (targetset / "logits").is_dir() else "values/c/0/0/0"
    data = bytearray((targetset / name).read_bytes())
    data[0] ^= 1
    (targetset / name).write_bytes(data)
    caches.reseal_records(targetset, "targetset.json", name)
    before = {each: open_store(pushed).get(each) for each in open_store(pushed).sizes()}
    command("shards", "push", cache, pushed).refuses("another set of the same name", name)
    assert {each: open_store(pushed).get(each) for each in before} == before
    here = contents(cache)
    command("shards", "pull", pushed, cache).refuses("another set of the same name", name)
    assert contents(cache) == here


def test_a_grown_cache_is_pushed_and_pulled_over_the_former(
    cache: Path, teacher: Path, pushed: str, tmp_path: Path
) -> None:
    command("shards", "pull", pushed, tmp_path / "new").succeeds()
    caches.extract("--teacher", f"run:{teacher}", "--out", cache, *caches.SMALL, "--views", "3", "--codec", "float32")
    command("shards", "pull", pushed, cache).refuses("has more views already")  # it would shrink again
    command("shards", "push", cache, pushed).succeeds()
    command("shards", "push", tmp_path / "new", pushed).refuses("has more views already")
    command("shards", "pull", pushed, tmp_path / "new").succeeds()
    assert contents(tmp_path / "new") == contents(cache)


def test_one_set_alone(pristine: Path, s3: Server, tmp_path: Path) -> None:
    command("shards", "push", caches.targetset_of(pristine), s3.url).succeeds()
    command("shards", "pull", s3.url, tmp_path / "new").succeeds()
    assert contents(tmp_path / "new") == contents(pristine)  # the view set comes with it
    shutil.rmtree(tmp_path / "new")


def test_places_the_wrong_way_round(pristine: Path, s3: Server) -> None:
    command("shards", "push", s3.url, pristine).refuses("push cache/ s3://BUCKET/FOLDER")
    command("shards", "pull", pristine, s3.url).refuses("pull s3://BUCKET/FOLDER cache/")
    command("shards", "push", pristine).refuses("expected two places")


def test_half_a_file_that_another_process_writes_into_a_mirror_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose number means nothing here, as where machines share a home; after a day it is of one that was killed."""
    monkeypatch.setenv(LOCAL_CACHE, str(tmp_path))
    root = mirror_of("s3://bucket/cache")
    drafts = [root / "set" / name for name in (".partial-0123abcd-1-living", ".partial-99999999-1-killed")]
    drafts[0].parent.mkdir()
    for draft in drafts:
        draft.write_bytes(b"half")
    past = time.time() - 2 * 24 * 3600
    os.utime(drafts[1], (past, past))
    mirror_of("s3://bucket/cache")
    assert [draft.exists() for draft in drafts] == [True, False]
