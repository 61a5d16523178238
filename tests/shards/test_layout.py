"""Layout: every sample has its place, and no path leaves the cache."""

from pathlib import Path

import pytest
from caches import viewset_of
from hypothesis import given
from hypothesis import strategies as st

from shards.errors import Damaged
from shards.layout import (
    commit_path,
    inside,
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
    with pytest.raises(Damaged, match=r"outside the cache|can be no name in a cache"):
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
