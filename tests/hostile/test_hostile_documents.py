"""A cache that was made to do harm (links, paths that lead outside, absurd sizes) does none."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from caches import SMALL, command, reseal, reseal_records, targetset_of, viewset_of
from spoiling import COMMIT, OBJECT, TAR, distill, read_all, the

from shards.errors import Damaged, TeacherShardsError
from shards.reader import TargetSet, ViewSet

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
    {"codec_error": {"mse": 10**400}},
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
    {"request": ("data_dir", 5)},
    {"request": ("limit", "many")},
]


@pytest.mark.parametrize("fields", ABSURD_VIEWS, ids=str)
def test_a_view_set_whose_fields_make_no_sense_is_refused(cache: Path, tmp_path: Path, fields: dict[str, Any]) -> None:
    folder = viewset_of(cache)

    def spoil(document: dict[str, Any]) -> None:
        ((name, value),) = fields.items()
        document[name] = document[name] | {value[0]: value[1]} if isinstance(value, tuple) else value

    if "identity" in fields or "request" in fields:
        reseal(folder / "plan.json", spoil)
        reseal_records(folder, "viewset.json", "plan.json")
    reseal(folder / "viewset.json", spoil)
    with pytest.raises(TeacherShardsError):
        read_all(cache)
        ViewSet(folder).storage.content(2, 0, "jpg")
    distill(cache, tmp_path / "run", "--max_steps", "20").refuses() if fields != {"num_views": 10**9} else None


@pytest.mark.parametrize(
    "members",
    [
        {"jpg": [[0, 10**15]] * 16},
        {"jpg": [[-5, 10]] * 16},
        {"jpg": [[0, 10]] * 3},
        {"jpg": [["0", 10]] * 16},
        {"jpg": [[0]] * 16},
        {"jpg": [[0, 10]] * 15 + [[0]]},
        {"jpg": [[0, 1.5]] * 16},
        {"jpg": [[0, 10**20]] * 16},
        {"jpg": [0] * 16},
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

    from shards.views import image as images

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


NEWER = {
    "modality": lambda document: document["identity"].update(modality="audio"),
    "format": lambda document: document.update(format=2),
}


@pytest.mark.parametrize("field", NEWER)
def test_a_view_set_of_a_newer_version_is_called_that_and_not_damaged(cache: Path, tmp_path: Path, field: str) -> None:
    folder = viewset_of(cache)
    for name in ("plan.json", "viewset.json"):
        reseal(folder / name, NEWER[field])
    reseal_records(folder, "viewset.json", "plan.json")
    listed = command("shards", "list", cache).succeeds().out.splitlines()
    assert listed[1].endswith("written by a newer version of teacher-shards")
    assert "written by a newer" in command("shards", "info", folder).succeeds().out
    verified = command("shards", "verify", cache)
    assert verified.status == 2 and "damaged" not in verified.err
    assert len(verified.err.splitlines()) == 2 and "written by a newer" in verified.err.splitlines()[0]
    for words in (("view", folder, "--output", tmp_path / "a.png"), ("export", folder, "--output", tmp_path / "out")):
        command("shards", *words).refuses("written by a newer", "install that")
    distill(cache, tmp_path / "run").refuses("written by a newer", "install that")
    command("extract", "--teacher", "none", "--out", cache, *SMALL).refuses("written by a newer", "install that")
    command("shards", "remove", folder, "--yes").succeeds()
    assert not folder.exists()


def test_a_commit_record_of_a_newer_version_is_no_damage(cache: Path) -> None:
    reseal(viewset_of(cache) / "commits/v00-00001.json", lambda document: document.update(format=2))
    verified = command("shards", "verify", cache)
    assert verified.status == 2 and "written by a newer version" in verified.err.splitlines()[-1]
    assert "commits/v00-00001.json: format version 2" in verified.err and "damaged" not in verified.err
