"""Documents: what is written reads back equal, and no document that is altered or makes no sense is read."""

import os
from pathlib import Path
from typing import Any

import caches
import pytest
from caches import reseal, viewset_of
from hypothesis import given
from hypothesis import strategies as st
from test_identity import documents

from shards.commit import write_sealed
from shards.documents import (
    Commit,
    Plan,
    read_commit,
    read_targetset_manifest,
    read_viewset_manifest,
)
from shards.errors import Damaged, Incomplete, NewerVersion
from shards.layout import commit_path, targetset_folders
from shards.records import FileRecord
from shards.sealed import sealed, unsealed


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sealed") / "note.json"


def complete(document: dict[str, Any]) -> dict[str, Any]:
    return {**document, "kind": "note", "format": 1}


@given(documents)
def test_a_sealed_document_reads_back_equal(scratch: Path, document: dict[str, Any]) -> None:
    scratch.write_bytes(sealed(complete(document)))
    assert unsealed(scratch, "note") == complete(document)


@given(documents, st.data())
def test_no_flipped_bit_and_no_cut_goes_unnoticed(scratch: Path, document: dict[str, Any], data: st.DataObject) -> None:
    whole = sealed(complete(document))
    spoilt = bytearray(whole)
    if data.draw(st.booleans()):
        spoilt[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del spoilt[data.draw(st.integers(0, len(whole) - 3)) :]  # the last brace and line end are no content
    scratch.write_bytes(spoilt)
    try:
        assert unsealed(scratch, "note") == complete(document)  # a flip in white space changes nothing
    except Damaged as error:
        assert str(scratch) in str(error)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[1]", "expected an object, found a list"),
        (b'{"kind": "plan"}', "SHA-256"),
        (b'{"kind": "plan", "size": NaN, "sha256": "0"}', "not JSON"),
        (b'{"a": ' * 700 + b"1" + b"}" * 700, "SHA-256"),
        (sealed({"kind": "commit", "format": 1}), "expected a plan, found 'commit'"),
        (sealed({"kind": "plan", "format": 2}), "format version 2"),
        (sealed({"kind": "plan"}), "format version None"),
    ],
)
def test_what_is_no_such_document_is_damaged(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "plan.json"
    path.write_bytes(content)
    with pytest.raises(Damaged, match=says) as refused:
        unsealed(path, "plan")
    assert str(path) in str(refused.value)


def test_a_missing_document_is_damaged(tmp_path: Path) -> None:
    with pytest.raises(Damaged, match="missing"):
        unsealed(tmp_path / "plan.json", "plan")


@given(st.integers(1, 200), st.integers(1, 50))
def test_every_sample_lies_in_just_one_shard(num_samples: int, shard_size: int) -> None:
    plan = Plan([str(index) for index in range(num_samples)], shard_size, {}, None, {})
    shards = [list(plan.rows(shard)) for shard in range(plan.num_shards)]
    assert [row for rows in shards for row in rows] == list(range(num_samples))
    assert all(len(shard) == shard_size for shard in shards[:-1]) and shards[-1]


def test_a_plan_reads_back_equal(tmp_path: Path) -> None:
    identity = {"source": "folder-a", "split": "train", "keys": "0", "num_samples": 2, "augment": {"kind": "resize"}}
    identity |= {"image_size": 8, "image_format": {"format": "png"}}
    plan = Plan(["a", "b/ü"], 512, identity, ["cat"], {"data": "folder:a", "split": "train"})
    write_sealed(tmp_path / "plan.json", plan.document())
    assert Plan.read(tmp_path) == plan


@pytest.mark.parametrize(
    "change",
    [
        {"shard_size": 0},
        {"shard_size": -1},
        {"shard_size": "16"},
        {"shard_size": True},
        {"keys": []},
        {"keys": "abc"},
        {"keys": [1]},
        {"identity": None},
        {"identity": {"source": "digits"}},
        {"class_names": 3},
        {"request": []},
    ],
)
def test_a_plan_whose_fields_make_no_sense_is_damaged(cache: Path, change: dict) -> None:
    folder = viewset_of(cache)
    reseal(folder / "plan.json", lambda document: document.update(change))
    with pytest.raises(Damaged, match=f"plan.json: .*{next(iter(change))}.* cannot be"):
        Plan.read(folder)


def test_a_swapped_commit_is_damaged(cache: Path) -> None:
    folder = viewset_of(cache)
    first, second = folder / commit_path(0, 0), folder / commit_path(0, 1)
    contents = first.read_bytes(), second.read_bytes()
    first.write_bytes(contents[1]), second.write_bytes(contents[0])
    with pytest.raises(Damaged, match="swapped"):
        read_commit(folder, 0, 0)


def test_no_commit_is_none(cache: Path) -> None:
    assert read_commit(viewset_of(cache), 7, 0) is None


def test_a_set_without_its_manifest_is_incomplete(cache: Path) -> None:
    folder = viewset_of(cache)
    (targetset,) = targetset_folders(folder)
    (folder / "viewset.json").unlink()
    (targetset / "targetset.json").unlink()
    with pytest.raises(Incomplete, match="run the same extract command"):
        read_viewset_manifest(folder)
    with pytest.raises(Incomplete, match="run the same extract command"):
        read_targetset_manifest(targetset)


def test_a_plan_is_parsed_once_until_it_changes(cache: Path) -> None:
    path = viewset_of(cache) / "plan.json"
    os.utime(path, (1, 1))
    plan = Plan.read(viewset_of(cache))
    assert Plan.read(viewset_of(cache)) is plan
    reseal(path, lambda document: document["request"].update(limit=41))
    assert Plan.read(viewset_of(cache)).request["limit"] == 41  # just now: it may change again within the same tick
    os.utime(path, (2, 2))
    changed = Plan.read(viewset_of(cache))
    assert changed.request["limit"] == 41 and Plan.read(viewset_of(cache)) is changed
    path.unlink()
    with pytest.raises(Damaged, match=r"plan\.json: missing"):
        Plan.read(viewset_of(cache))


def test_each_document_is_written_as_it_was_read(pristine_full: Path) -> None:
    """Byte for byte: a field that is None and optional is not there, one that must be there is null."""
    viewset = viewset_of(pristine_full)
    folders = [viewset, *targetset_folders(viewset)]
    written = {viewset / "plan.json": Plan.read(viewset), viewset / "viewset.json": read_viewset_manifest(viewset)}
    written |= {folder / "targetset.json": read_targetset_manifest(folder) for folder in folders[1:]}
    written |= {folder / commit_path(1, 0): read_commit(folder, 1, 0) for folder in folders}
    for path, document in written.items():
        assert document is not None
        assert path.read_bytes() == sealed(document.document())


def test_what_a_record_lacks_is_not_written() -> None:
    files = {"values/c/0/0/0": FileRecord(3, "ab")}
    document = Commit(0, 1, files, codec_error={}).document()
    assert document == {
        "kind": "commit",
        "format": 1,
        "view": 0,
        "shard": 1,
        "files": files,
        "codec_error": {},
    }
    assert b'"files": {"values/c/0/0/0":{"sha256":"ab","size":3}}' in sealed(document)


def test_a_field_of_another_version_is_left_out(cache: Path) -> None:
    folder = viewset_of(cache)
    before = read_viewset_manifest(folder)
    reseal(folder / "viewset.json", lambda document: document.update(remark="mine"))
    assert read_viewset_manifest(folder) == before


WRONG_COMMITS: dict[str, dict[str, Any]] = {
    "view": {"view": -1},
    "files": {"files": {"a": {"size": 1}}},
    "members": {"members": {"jpg": [[0, 1], [2]]}},
    "skipped": {"skipped": "digit-0000"},
    "digests": {"digests": [1]},
    "codec_error": {"codec_error": {"cosine_mean": "high"}},
    "calibration": {"calibration": 3},
}


@pytest.mark.parametrize("name", WRONG_COMMITS)
def test_the_field_that_makes_no_sense_is_named_with_what_was_expected(cache: Path, name: str) -> None:
    path = viewset_of(cache) / commit_path(0, 0)
    reseal(path, lambda document: document.update(WRONG_COMMITS[name]))
    with pytest.raises(Damaged, match=rf"^{path}: {name} cannot be .* \((expected|object missing) .*; restore it"):
        read_commit(viewset_of(cache), 0, 0)


@pytest.mark.parametrize("name", ["members", "files"])
def test_a_commit_record_of_no_views_is_refused_where_views_are_read(cache: Path, teacher: Path, name: str) -> None:
    path = viewset_of(cache) / commit_path(0, 1)
    reseal(path, lambda document: document.update({name: {} if name == "files" else None}))
    flags = ("--teacher", f"run:{teacher}", *caches.SMALL, "--views", "2", "--codec", "float16")
    caches.command("extract", *flags, "--out", cache).refuses(str(path), "no commit record of a shard of views")


@pytest.mark.parametrize("fields", [{"teacher": None}, {"precision": 32}, {"codec": "int8"}, {"viewset": ["a"]}])
def test_a_target_sets_identity_holds_what_is_looked_up_in_it(cache: Path, fields: dict[str, Any]) -> None:
    targetset = caches.targetset_of(cache)
    reseal(targetset / "targetset.json", lambda document: document["identity"].update(fields))
    with pytest.raises(Damaged, match=rf"identity\.{next(iter(fields))} cannot be"):
        read_targetset_manifest(targetset)


@pytest.mark.parametrize("fields", [{"row_shape": [1 << 15, 1 << 15]}, {"class_names": ["a"]}])
def test_fields_that_do_not_go_together_are_damage(cache: Path, fields: dict[str, Any]) -> None:
    targetset = caches.targetset_of(cache)
    reseal(targetset / "targetset.json", lambda document: document.update(fields))
    with pytest.raises(Damaged, match=r"targetset\.json: (row_shape cannot be|1 class_names cannot name)"):
        read_targetset_manifest(targetset)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"format": 2}, NewerVersion),
        ({"format": 0}, Damaged),
        ({"format": True}, Damaged),
        ({"format": "2"}, Damaged),
        ({"format": 1, "identity": ("modality", "smell")}, NewerVersion),
    ],
)
def test_a_later_version_is_told_from_damage(cache: Path, change: dict[str, Any], error: type[Damaged]) -> None:
    def spoil(document: dict[str, Any]) -> None:
        document["format"] = change["format"]
        if "identity" in change:
            name, value = change["identity"]
            document["identity"][name] = value

    reseal(viewset_of(cache) / "viewset.json", spoil)
    with pytest.raises(Damaged) as refused:
        read_viewset_manifest(viewset_of(cache))
    assert type(refused.value) is error
