"""`python -m shards verify`: every kind of damage done to a real cache is found, named and told on one line."""

import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import caches
import pytest

from shards.identity import sha256_of

OBJECT = "values/c/0/1/0"


def verify(*flags: str | Path) -> caches.Outcome:
    return caches.command("shards", "verify", *flags)


def flip(path: Path, position: int = 100) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def reseal_shard(folder: Path, manifest: str, name: str, view: int = 0, shard: int = 1) -> None:
    """Commit record and manifest vouch for what the file `name` holds now, as a forger would have it."""
    data, commit = (folder / name).read_bytes(), f"commits/v{view:02d}-{shard:05d}.json"
    record = {"size": len(data), "sha256": sha256_of(data)}
    caches.reseal(folder / commit, lambda document: document["files"].update({name: record}))
    caches.reseal_records(folder, manifest, name, commit)


def swap(one: Path, other: Path) -> None:
    held = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(held)


def link(path: Path, elsewhere: Path) -> None:
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def test_a_whole_cache_is_whole(pristine: Path) -> None:
    found = verify(pristine).succeeds()
    num_files = sum(1 for name in caches.contents(pristine) if not name.endswith(("viewset.json", "targetset.json")))
    assert f"whole: {num_files} files of 2 sets" in found.out
    assert found.err == ""
    assert verify(caches.viewset_of(pristine), "--num_workers", "1").succeeds()
    assert "files of 1 set," in verify(caches.targetset_of(pristine)).succeeds().out


DAMAGE: dict[str, tuple[Callable[[Path, Path], object], str, str]] = {
    # what is done to (view set, target set), and what the one line about it holds
    "tar truncated": (lambda v, t: _cut(v / "views/v00-00001.tar"), "v00-00001.tar", "bytes, its manifest says"),
    "tar altered": (lambda v, t: flip(v / "views/v00-00001.tar"), "v00-00001.tar", "altered or swapped"),
    "tar missing": (lambda v, t: (v / "views/v01-00000.tar").unlink(), "v01-00000.tar", "missing"),
    "object altered": (lambda v, t: flip(t / OBJECT), OBJECT, "altered or swapped"),
    "object missing": (lambda v, t: (t / OBJECT).unlink(), OBJECT, "missing"),
    "object empty": (lambda v, t: (t / OBJECT).write_bytes(b""), OBJECT, "0 bytes, its manifest says"),
    "commit missing": (lambda v, t: (t / "commits/v01-00002.json").unlink(), "v01-00002.json", "missing"),
    "commit altered": (lambda v, t: _edit(v / "commits/v01-00002.json", "[]", "[1]"), "v01-00002.json", "was altered"),
    "manifest altered": (lambda v, t: _edit(v / "viewset.json", "digits", "digit"), "viewset.json", "was altered"),
    "manifest no JSON": (lambda v, t: (t / "targetset.json").write_text("{"), "targetset.json", "not JSON"),
    "flags altered": (lambda v, t: flip(t / "extract.yaml", 3), "extract.yaml", "altered or swapped"),
    "zarr.json altered": (lambda v, t: _edit(t / "values/zarr.json", "float32", "float16"), "zarr.json", "data_type"),
    "zarr.json missing": (
        lambda v, t: (t / "values/zarr.json").unlink(),
        "values/zarr.json",
        "missing; run the extract command",
    ),
    "zarr.json codecs": (lambda v, t: _edit(t / "values/zarr.json", "crc32c", "pickle"), "zarr.json", "re-written"),
    "group altered": (lambda v, t: flip(t / "zarr.json", 4), "zarr.json", "altered or swapped"),
    "link to a tar": (lambda v, t: link(v / "views/v00-00000.tar", v.parents[1] / "tar"), "v00-00000.tar", "is a link"),
    "link to a folder": (lambda v, t: link(t / "values/c/1", v.parents[1] / "c"), "values/c/1", "is a link"),
    "foreign view": (lambda v, t: (v / "views/v00-00009.tar").touch(), "v00-00009.tar", "a foreign file"),
    "foreign file": (lambda v, t: (v / "views/notes.txt").touch(), "notes.txt", "a foreign file"),
    "foreign commit": (lambda v, t: (v / "commits/x.json").touch(), "x.json", "a foreign file"),
    "foreign object": (lambda v, t: _put(t / "values/c/0/7/0"), "0/7/0", "foreign"),
    "foreign array": (lambda v, t: shutil.copytree(t / "values", t / "more"), "more/", "a foreign file"),
    "foreign in targets": (lambda v, t: (v / "targets/x").touch(), "targets/x", "is no target set"),
    "renamed": (lambda v, t: t.rename(t.parent / "better-teacher-logits-float32-0a0a0a0a"), "0a0a0a0a", "renamed"),
}


def _put(path: Path) -> None:
    path.parent.mkdir()
    path.touch()


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-512])


def _edit(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new))


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_found_and_named(cache: Path, kind: str) -> None:
    damage, *words = DAMAGE[kind]
    damage(caches.viewset_of(cache), caches.targetset_of(cache))
    found = verify(cache)
    assert found.status == 2 and found.out == ""
    lines = [line for line in found.err.splitlines() if all(word in line for word in words)]
    assert lines, found.err
    assert "Traceback" not in found.err and "damaged: " in found.err.splitlines()[-1]
    if kind != "foreign array":  # which is one line for each of its files
        assert len(found.err.splitlines()) == 2, found.err


def test_all_damage_is_listed_each_on_its_line(cache: Path) -> None:
    viewset, targetset = caches.viewset_of(cache), caches.targetset_of(cache)
    flip(viewset / "views/v00-00000.tar")
    (viewset / "views/v01-00002.tar").unlink()
    swap(targetset / "values/c/0/0/0", targetset / "values/c/1/0/0")
    (targetset / "commits/readme").touch()
    found = verify(cache)
    assert found.status == 2
    *lines, closing = found.err.splitlines()
    assert len(lines) == 5 and "damaged: 5 found" in closing
    for name in ("v00-00000.tar", "v01-00002.tar", "values/c/0/0/0", "values/c/1/0/0", "commits/readme"):
        assert sum(name in line for line in lines) == 1, (name, lines)


def test_swapped_target_sets_are_found_by_their_names(full: Path) -> None:
    one, other = caches.targetset_of(full, "float32"), caches.targetset_of(full, "pooled")
    name = one.name
    one.rename(one.parent / "aside")
    other.rename(one.parent / name)
    (one.parent / "aside").rename(other)
    found = verify(full)
    assert found.status == 2 and found.err.count("renamed or swapped") == 2


def test_a_missing_plan_hides_nothing_else(cache: Path) -> None:
    viewset = caches.viewset_of(cache)
    (viewset / "plan.json").unlink()
    flip(viewset / "views/v00-00000.tar")
    found = verify(cache)
    assert found.status == 2
    assert "plan.json: missing" in found.err and "v00-00000.tar" in found.err


def test_a_target_set_of_another_view_set(cache: Path, teacher: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    caches.extract(
        "--teacher", f"run:{teacher}", "--out", other, *caches.SMALL, "--augment", "crop:seed=1", "--codec", "float32"
    )
    shutil.copytree(caches.targetset_of(other), caches.viewset_of(cache) / "targets" / caches.targetset_of(other).name)
    found = verify(cache)
    assert found.status == 2 and "was made from another view set" in found.err


def test_a_stale_shard_with_its_own_valid_commit(cache: Path, tmp_path: Path) -> None:
    """Shard and commit record of another seed, each whole in itself: only the manifest tells."""
    other = tmp_path / "other"
    caches.extract("--teacher", "none", "--out", other, *caches.SMALL, "--augment", "crop:seed=1")
    for name in ("views/v00-00001.tar", "commits/v00-00001.json"):
        shutil.copy(caches.viewset_of(other) / name, caches.viewset_of(cache) / name)
    found = verify(cache)
    assert found.status == 2
    assert any("v00-00001.tar: is stale" in line for line in found.err.splitlines()), found.err


def test_half_written_says_what_finishes_it_and_that_does(cache: Path, pristine: Path) -> None:
    viewset, targetset = caches.viewset_of(cache), caches.targetset_of(cache)
    for name in ("targetset.json", "commits/v01-00002.json", "values/c/1/2/0", "commits/v01-00001.json"):
        (targetset / name).unlink()
    (targetset / "values/.partial-17-0").write_bytes(b"torn")
    found = verify(cache)
    assert found.status == 2 and found.out == ""
    assert "half written, 4 of 6 shards" in found.err and "what is committed is whole" in found.err
    assert "left by a killed extract" in found.err and "1 file of uncommitted shards" in found.err
    (line,) = (line for line in found.err.splitlines() if "half written, 4" in line)
    command = shlex.split(line.partition("; python -m extract ")[2].removesuffix(" finishes it"))
    caches.extract(*command)
    assert caches.contents(cache) == caches.contents(pristine)
    verify(cache).succeeds()

    (viewset / "viewset.json").unlink()
    (viewset / "commits/v01-00002.json").unlink()
    flip(viewset / "views/v00-00000.tar")
    found = verify(cache)
    assert "half written, 5 of 6 shards" in found.err and "v00-00000.tar" in found.err  # committed shards are verified
    assert "damaged: 1 found" in found.err.splitlines()[-1]


def test_a_growth_that_was_cut_off_is_no_damage(cache: Path, teacher: Path) -> None:
    viewset, targetset = caches.viewset_of(cache), caches.targetset_of(cache)
    manifests = [viewset / "viewset.json", targetset / "targetset.json"]
    before = [path.read_bytes() for path in manifests]
    grow = ("--teacher", f"run:{teacher}", "--out", cache, *caches.SMALL, "--views", "3", "--codec", "float32")
    caches.extract(*grow)
    grown = caches.contents(cache)
    for path, content in zip(manifests, before, strict=True):  # as kill -9 before the manifests leaves it
        path.write_bytes(content)
    (targetset / "commits/v02-00002.json").unlink()
    found = verify(cache).succeeds()
    assert "note: " in found.err and "3 shards beyond its 2 views" in found.err and "2 shards beyond" in found.err
    assert "growth by views was cut off" in found.err and "1 file of uncommitted shards" in found.err
    caches.extract(*grow)
    assert caches.contents(cache) == grown
    assert verify(cache).succeeds().err == ""

    for path, content in zip(manifests, before, strict=True):
        path.write_bytes(content)
    flip(viewset / "views/v02-00001.tar")  # a committed shard of the growth is held to its commit record
    assert "v02-00001.tar" in verify(cache).err


def test_a_stranger_beside_the_manifest_is_a_note(cache: Path) -> None:
    (caches.viewset_of(cache) / "README.txt").touch()
    assert "README.txt: is no part of the cache" in verify(cache).succeeds().err


@pytest.mark.parametrize("flags", [["--recompute", "-1"], ["--num_workers", "0"], ["--teacher", "resnet18"]])
def test_flags_that_make_no_sense(pristine: Path, flags: list[str]) -> None:
    verify(pristine, *flags).refuses(flags[0])
