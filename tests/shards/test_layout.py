"""Layout: every sample has its place, and no path leaves the cache."""

import os
from pathlib import Path

import pytest
from caches import reseal, viewset_of
from hypothesis import given
from hypothesis import strategies as st

from shards.commit import write_sealed
from shards.errors import Damaged, Incomplete
from shards.layout import (
    Plan,
    commit_path,
    inside,
    read_commit,
    read_targetset_manifest,
    read_viewset_manifest,
    shard_name,
    tar_path,
    targetset_folders,
    targetset_name,
    viewset_folders,
    viewset_name,
)


@given(st.text(alphabet="a./\\\0-", max_size=12))
def test_a_path_stays_inside_or_is_refused(relative: str) -> None:
    root = Path("/cache/viewset")
    try:
        found = inside(root, relative)
    except Damaged:
        return
    assert found.is_relative_to(root) and found != root
    assert ".." not in found.parts


@pytest.mark.parametrize("relative", ["", "/etc/passwd", "../x", "a/../../x", "a/..", "a\\..\\x", "a\0b", "."])
def test_a_path_that_leads_outside_is_refused(tmp_path: Path, relative: str) -> None:
    with pytest.raises(Damaged, match="outside the cache"):
        inside(tmp_path, relative)


@pytest.mark.parametrize("link", ["views", "views/v00-00000.tar"])
def test_a_path_through_a_link_is_refused(tmp_path: Path, link: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "v00-00000.tar").write_bytes(b"")
    root = tmp_path / "cache"
    (root / link).parent.mkdir(parents=True, exist_ok=True)
    (root / link).symlink_to(elsewhere if link == "views" else elsewhere / "v00-00000.tar")
    with pytest.raises(Damaged, match="is a link"):
        inside(root, "views/v00-00000.tar")


def test_names_are_those_of_the_design() -> None:
    assert shard_name(0, 0) == "v00-00000" and shard_name(12, 34567) == "v12-34567"
    assert (tar_path(1, 2), commit_path(1, 2)) == ("views/v01-00002.tar", "commits/v01-00002.json")
    assert viewset_name("digits", "train", {}) == "digits-train-44136fa3"  # SHA-256 of {}
    assert targetset_name("resnet101", "logits", "topk:16", {}) == "resnet101-logits-topk16-44136fa3"


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


def test_a_cache_is_known_by_its_documents_alone(cache: Path) -> None:
    for name in ("codecs", "digits-train-00000000"):  # a package's folder, a folder that looks like a view set
        (cache / name).mkdir()
    (holding_a_plan,) = (path.parent for path in cache.glob("*/plan.json"))
    assert viewset_folders(cache) == [holding_a_plan]


def test_a_linked_view_set_is_passed_over(cache: Path) -> None:
    folder = viewset_of(cache)
    elsewhere = cache.parent / "elsewhere"
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)
    assert viewset_folders(cache) == []


def test_linked_target_sets_are_not_followed(cache: Path) -> None:
    folder = viewset_of(cache)
    (folder / "targets").rename(cache.parent / "elsewhere")
    (folder / "targets").symlink_to(cache.parent / "elsewhere")
    with pytest.raises(Damaged, match="is a link"):
        targetset_folders(folder)


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
