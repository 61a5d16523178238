"""A cache that is damaged, half written, foreign or hostile is refused before a tensor of it is returned."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from caches import (
    NUM_SAMPLES,
    SMALL,
    command,
    contents,
    copied,
    extract,
    reseal,
    reseal_records,
    targetset_of,
    viewset_of,
)

from shards.decode import codec_of
from shards.errors import Damaged, Incomplete, TeacherShardsError
from shards.reader import TargetSet, ViewSet, check_pair

TRAINING = ("--recipe", "digits", "--student", "convnet:width=4,depth=1", "--batch_size", "8", "--max_steps", "2")


def read_all(cache: Path) -> None:
    """Everything that a training run reads."""
    folder = viewset_of(cache)
    views, targets = ViewSet(folder), TargetSet(targetset_of(cache))
    check_pair(views, targets)
    codec_of(targets)
    for view in range(views.num_views):
        for sample in views.usable.tolist():
            assert views.content(view, sample, "jpg")
        targets.read(view, views.usable)


def distill(cache: Path, run_dir: Path, *flags: str) -> Any:
    return command("distill", "--shards", cache, "--run_dir", run_dir, *TRAINING, *flags, "--devices", "cpu")


TAR, COMMIT, OBJECT = "views/v00-00001.tar", "commits/v00-00001.json", "targets/*/values/c/0/1/0"
DOCUMENTS = ("plan.json", "viewset.json", "targets/*/targetset.json", "targets/*/values/zarr.json")


def the(cache: Path, pattern: str) -> Path:
    (path,) = viewset_of(cache).glob(pattern)
    return path


def flip(path: Path, at: float) -> None:
    data = bytearray(path.read_bytes())
    data[int(at * (len(data) - 1))] ^= 0x10
    path.write_bytes(data)


def swap(path: Path, other: Path) -> None:
    held = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(held)


SPOIL: dict[str, Callable[[Path], Any]] = {
    "a flipped bit at the start": lambda path: flip(path, 0.0),
    "a flipped bit in the middle": lambda path: flip(path, 0.5),
    "a flipped bit at the end": lambda path: flip(path, 0.97),
    "half of it": lambda path: os.truncate(path, path.stat().st_size // 2),
    "one byte less": lambda path: os.truncate(path, path.stat().st_size - 3),
    "one byte more": lambda path: path.write_bytes(path.read_bytes() + b"}"),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "nothing": lambda path: os.truncate(path, 0),
    "no file": lambda path: path.unlink(),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


def test_a_cache_in_order_is_read(pristine: Path) -> None:
    read_all(pristine)


@pytest.mark.parametrize("pattern", [TAR, COMMIT, OBJECT, *DOCUMENTS])
@pytest.mark.parametrize("damage", SPOIL)
def test_a_damaged_file_is_refused(cache: Path, pattern: str, damage: str) -> None:
    path = the(cache, pattern)
    SPOIL[damage](path)
    with pytest.raises((Damaged, Incomplete, OSError)) as refused:
        read_all(cache)
    assert not isinstance(refused.value, OSError) or damage == "a folder"  # an OSError names its file too
    assert path.name in str(refused.value) or path.parent.name in str(refused.value)


@pytest.mark.parametrize(
    ("pattern", "other"),
    [
        (TAR, "views/v00-00000.tar"),
        (TAR, "views/v01-00001.tar"),
        (COMMIT, "commits/v00-00000.json"),
        (COMMIT, "commits/v01-00001.json"),
        (OBJECT, "targets/*/values/c/0/0/0"),
        (OBJECT, "targets/*/values/c/1/1/0"),
    ],
)
def test_two_swapped_files_are_refused(cache: Path, pattern: str, other: str) -> None:
    swap(the(cache, pattern), the(cache, other))
    with pytest.raises(Damaged):
        read_all(cache)


@pytest.mark.parametrize("kind", ["views", "targets"])
def test_a_swapped_shard_with_its_commit_is_refused(cache: Path, kind: str) -> None:
    """Both halves of a commit from another place fit each other; the manifest's names do not."""
    folder = viewset_of(cache) if kind == "views" else targetset_of(cache)
    swap(folder / "commits/v00-00001.json", folder / "commits/v01-00001.json")
    if kind == "views":
        swap(folder / "views/v00-00001.tar", folder / "views/v01-00001.tar")
    else:
        swap(folder / "values/c/0/1/0", folder / "values/c/1/1/0")
    with pytest.raises(Damaged):
        read_all(cache)


def test_a_stale_shard_of_another_seed_is_refused(cache: Path, tmp_path: Path) -> None:
    extract("--teacher", "none", "--out", tmp_path / "other", *SMALL, "--views", "2", "--augment", "crop:seed=5")
    for name in (TAR, COMMIT):
        shutil.copy(the(tmp_path / "other", name), the(cache, name))
    with pytest.raises(Damaged, match=r"SHA-256|bytes, its manifest says"):
        read_all(cache)


def test_a_target_set_of_another_view_set_is_refused(cache: Path, teacher: Path, tmp_path: Path) -> None:
    flags = ("--teacher", f"run:{teacher}", "--codec", "float32", *SMALL, "--views", "2", "--augment", "crop:seed=5")
    extract(*flags, "--out", tmp_path / "other")
    shutil.rmtree(viewset_of(cache) / "targets")
    shutil.copytree(viewset_of(tmp_path / "other") / "targets", viewset_of(cache) / "targets")
    with pytest.raises(Damaged, match="was made from view set"):
        read_all(cache)
    distill(cache, tmp_path / "run").refuses("was made from view set", "extract it again")


def test_a_plan_of_another_view_set_is_refused(cache: Path, tmp_path: Path) -> None:
    extract("--teacher", "none", "--out", tmp_path / "other", *SMALL, "--views", "2", "--augment", "crop:seed=5")
    shutil.copy(the(tmp_path / "other", "plan.json"), the(cache, "plan.json"))
    reseal_records(viewset_of(cache), "viewset.json", "plan.json")
    with pytest.raises(Damaged, match=r"plan\.json belongs to another view set"):
        read_all(cache)


@pytest.mark.parametrize("damage", ["a flipped bit in the middle", "half of it", "no file"])
@pytest.mark.parametrize("pattern", [TAR, OBJECT])
def test_distill_refuses_a_damaged_shard_in_one_line(cache: Path, tmp_path: Path, pattern: str, damage: str) -> None:
    path = the(cache, pattern)
    SPOIL[damage](path)
    refused = distill(cache, tmp_path / "run", "--max_steps", "20")
    refused.refuses(f"distill: {path}: ")
    assert not list((tmp_path / "run").glob("student.*"))


HALF = {
    "viewset.json": "viewset.json",
    "targets/*/targetset.json": "targetset.json",
}


@pytest.mark.parametrize("pattern", HALF)
def test_distill_refuses_a_half_written_cache(cache: Path, tmp_path: Path, pattern: str) -> None:
    the(cache, pattern).unlink()
    distill(cache, tmp_path / "run").refuses("half written", HALF[pattern], "run the same extract command to finish it")
    assert contents(tmp_path / "run") == {}


LINKS = ("plan.json", "viewset.json", TAR, COMMIT, "views", "commits", OBJECT, "targets/*/values", "targets")


@pytest.mark.parametrize("pattern", [*LINKS, "targets/*/targetset.json", "targets/*/values/zarr.json"])
def test_a_link_is_refused_whatever_it_leads_to(cache: Path, tmp_path: Path, pattern: str) -> None:
    path = the(cache, pattern)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Damaged, match="is a link"):
        read_all(cache)
        list(_targetsets(cache))
    refused = distill(cache, tmp_path / "run", "--max_steps", "20")
    refused.refuses("is a link", "copy the file here instead")


def _targetsets(cache: Path) -> Any:
    from shards.layout import targetset_folders

    return targetset_folders(viewset_of(cache))


@pytest.mark.parametrize("pattern", ["views", "commits", "targets", "targets/*/values", "targets/*/commits"])
def test_extract_writes_through_no_link(cache: Path, teacher: Path, tmp_path: Path, pattern: str) -> None:
    """A cache from elsewhere must not make extract write somewhere else."""
    path, elsewhere = the(cache, pattern), tmp_path / "elsewhere"
    for manifest in viewset_of(cache).rglob("*set.json"):
        manifest.unlink()
    shutil.rmtree(path)
    if pattern == "views":
        shutil.rmtree(viewset_of(cache) / "commits")  # or nothing of it would be written again
    elsewhere.mkdir()
    path.symlink_to(elsewhere)
    flags = ("--teacher", f"run:{teacher}", *SMALL, "--views", "2", "--codec", "float32")
    command("extract", *flags, "--out", cache).refuses("is a link")
    assert not any(elsewhere.iterdir())


def test_extract_empties_no_file_behind_a_link(cache: Path, teacher: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("keys")
    (cache / ".lock").unlink()
    (cache / ".lock").symlink_to(precious)
    command("extract", "--teacher", f"run:{teacher}", "--out", cache, "--codec", "float32").refuses(
        str(cache / ".lock")
    )
    assert precious.read_text() == "keys"


@pytest.mark.parametrize("name", ["../outside.tar", "/etc/passwd", "views/../../outside.tar", "C:\\outside"])
def test_a_path_that_leads_outside_is_refused(cache: Path, name: str) -> None:
    """An array's name is a folder, and the only path that a manifest chooses."""
    reseal(the(cache, "targets/*/targetset.json"), lambda document: document.update(arrays={name: ["float32", [10]]}))
    with pytest.raises(Damaged, match=r"outside the cache|no manifest|missing"):
        TargetSet(targetset_of(cache)).read(0, np.arange(3))


ABSURD_TARGETS = [
    {"num_samples": 10**15},
    {"num_samples": 10**9},
    {"num_samples": 0},
    {"num_samples": "40"},
    {"num_samples": True},
    {"num_samples": 1e9},
    {"num_views": 10**9},
    {"num_views": 0},
    {"shard_size": 10**12},
    {"shard_size": -16},
    {"row_shape": [10**12]},
    {"row_shape": "10"},
    {"row_shape": []},
    {"arrays": {}},
    {"arrays": {"values": ["float32", [10**12]]}},
    {"arrays": {"values": ["float32", [2**62, 2**62]]}},
    {"arrays": {"values": ["object", [10]]}},
    {"arrays": {"values": ["float32", [-1]]}},
    {"arrays": {"values": ["float32", "10"]}},
    {"arrays": {"values": ["float16", [10]]}},
    {"arrays": {"values": "float32"}},
    {"arrays": [["values", "float32", [10]]]},
    {"codec": "flaot32"},
    {"codec": "topk:3"},
    {"codec": 3},
    {"files": []},
    {"files": {}},
    {"files": {"values/c/0/0/0": 3}},
    {"files": {"values/c/0/0/0": {"size": -1, "sha256": "0"}}},
    {"identity": {}},
    {"identity": {"viewset": 3}},
    {"target": None},
    {"teacher": {}},
]


@pytest.mark.parametrize("fields", ABSURD_TARGETS, ids=str)
def test_a_target_set_whose_fields_make_no_sense_is_refused(
    cache: Path, tmp_path: Path, fields: dict[str, Any]
) -> None:
    """Sealed anew: nothing is allocated, divided or looked up by them before they are checked."""
    reseal(the(cache, "targets/*/targetset.json"), lambda document: document.update(fields))
    with pytest.raises(TeacherShardsError) as refused:
        read_all(cache)
    assert len(str(refused.value)) < 600
    distill(cache, tmp_path / "run").refuses()


ABSURD_VIEWS = [
    {"num_views": 10**9},
    {"num_views": None},
    {"num_samples": -1},
    {"skipped": "digit-0000"},
    {"skipped": [3]},
    {"files": None},
    {"files": {}},
    {"identity": None},
    {"identity": {"image_size": 16}},
    {"identity": ("image_size", 10**9)},
    {"identity": ("image_size", "16")},
    {"identity": ("image_format", "jpeg")},
    {"identity": ("split", None)},
]


@pytest.mark.parametrize("fields", ABSURD_VIEWS, ids=str)
def test_a_view_set_whose_fields_make_no_sense_is_refused(cache: Path, tmp_path: Path, fields: dict[str, Any]) -> None:
    folder = viewset_of(cache)

    def spoil(document: dict[str, Any]) -> None:
        ((name, value),) = fields.items()
        document[name] = document[name] | {value[0]: value[1]} if isinstance(value, tuple) else value

    if "identity" in fields:
        reseal(folder / "plan.json", spoil)
        reseal_records(folder, "viewset.json", "plan.json")
    reseal(folder / "viewset.json", spoil)
    with pytest.raises(TeacherShardsError):
        read_all(cache)
        ViewSet(folder).content(2, 0, "jpg")
    distill(cache, tmp_path / "run", "--max_steps", "20").refuses() if fields != {"num_views": 10**9} else None


@pytest.mark.parametrize(
    "members",
    [
        {"jpg": [[0, 10**15]] * 16},
        {"jpg": [[-5, 10]] * 16},
        {"jpg": [[0, 10]] * 3},
        {"jpg": [["0", 10]] * 16},
        {"jpg": [[0]] * 16},
        {"jpg": 3},
        [],
        "jpg",
        {},
    ],
    ids=str,
)
def test_a_commit_whose_places_make_no_sense_is_refused(cache: Path, members: Any) -> None:
    folder = viewset_of(cache)
    reseal(folder / COMMIT, lambda document: document.update(members=members))
    reseal_records(folder, "viewset.json", COMMIT)
    with pytest.raises(TeacherShardsError):
        read_all(cache)


def test_an_image_that_is_a_bomb_is_refused_by_its_header() -> None:
    """A few bytes that claim 60,000 x 60,000 pixels: the size is compared before anything is decoded."""
    import struct
    import zlib

    from shards import images

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    png = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    with pytest.raises(Damaged):
        images.decode(png, np.zeros((16, 16, 3), np.uint8))
    jpeg = bytearray(images.encode(np.zeros((16, 16, 3), np.uint8), images.parse_image_format("jpeg")))
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at : at + 4] = struct.pack(">HH", 60_000, 60_000)
    with pytest.raises(Damaged):
        images.decode(bytes(jpeg), np.zeros((16, 16, 3), np.uint8))


def test_a_cache_in_order_trains(pristine: Path, tmp_path: Path) -> None:
    """The yardstick of the refusals above: the same flags train on a cache that is whole."""
    distill(copied(pristine, tmp_path / "cache"), tmp_path / "run").succeeds()
    assert NUM_SAMPLES and list((tmp_path / "run").glob("student.*"))
