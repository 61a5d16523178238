"""Commands of different numbers of views on one cache: the arrays announce at least what the manifest holds."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from caches import command, contents, targetset_of, viewset_of

from extract.config import ExtractConfig
from extract.finishing import finish
from extract.phases import Work, begin, has_begun, planned
from shards.zarrs import metadata_bytes

VIEWS = ("--teacher", "none", "--data", "digits", "--limit", "16", "--shard_size", "8", "--devices", "cpu")
RENDERED = ("--view", "crop:size=16,store=source")


def announced(path: Path) -> int:
    return int(json.loads(path.read_text())["shape"][0])


def announce(path: Path, views: int) -> None:
    """As extract writes it that begins so many views."""
    metadata = json.loads(path.read_text())
    path.write_bytes(metadata_bytes(metadata | {"shape": [views, *metadata["shape"][1:]]}))


def work(cache: Path, views: int) -> Work:
    """Of a command that shares the cache."""
    config = ExtractConfig("none", str(cache), data="digits", limit=16, shard_size=8, devices="cpu", launch="shared")
    return planned(replace(config, view=RENDERED[1], views=views), True)


def test_who_asks_for_fewer_views_leaves_what_another_has_announced(tmp_path: Path) -> None:
    """One begins four views; one of two begins, works and ends before the first one ends."""
    cache = tmp_path / "cache"
    more = work(cache, 4)
    begin(more.plan, shared=True)
    crops, fewer = viewset_of(cache) / "crops/zarr.json", work(cache, 2)
    assert has_begun(fewer.plan)
    begin(fewer.plan, shared=True)
    assert announced(crops) == 4 and has_begun(more.plan)
    shared = ("--launch", "shared", "--out", cache)
    command("extract", *VIEWS, *RENDERED, *shared, "--views", "2").succeeds()
    assert announced(crops) == 2  # as its manifest
    command("extract", *VIEWS, *RENDERED, *shared, "--views", "4").succeeds()
    announce(crops, 2)
    finish(more)
    command("extract", *VIEWS, *RENDERED, "--views", "4", "--out", tmp_path / "alone").succeeds()
    assert contents(viewset_of(cache)) == contents(viewset_of(tmp_path / "alone"))


def test_it_is_the_same_for_targets(tmp_path: Path, teacher: Path) -> None:
    command("extract", *VIEWS, "--view", "crop:size=16", "--views", "3", "--out", tmp_path).succeeds()
    flags = ("--teacher", f"run:{teacher}", "--devices", "cpu", "--out", tmp_path)
    command("extract", *flags).succeeds()
    values, before = targetset_of(tmp_path) / "values/zarr.json", contents(tmp_path)
    (targetset_of(tmp_path) / "targetset.json").unlink()
    for views in (2, 7):  # fewer as an earlier version left it, and more of a growth that was given up
        announce(values, views)
        command("extract", *flags).succeeds()
        assert contents(tmp_path) == before
        (targetset_of(tmp_path) / "targetset.json").unlink()


@pytest.mark.parametrize("rendered", [True, False])
def test_verify_tells_a_growth_that_was_cut_off_from_damage(tmp_path: Path, teacher: Path, rendered: bool) -> None:
    flags = RENDERED if rendered else ("--view", "crop:size=16")
    command("extract", *VIEWS, *flags, "--views", "2", "--out", tmp_path).succeeds()
    if not rendered:
        command("extract", "--teacher", f"run:{teacher}", "--devices", "cpu", "--out", tmp_path).succeeds()
    path = viewset_of(tmp_path) / "crops/zarr.json" if rendered else targetset_of(tmp_path) / "values/zarr.json"
    announce(path, 5)
    grown = command("shards", "verify", tmp_path).succeeds()
    assert "a growth by views was cut off; the same extract command finishes it" in grown.out + grown.err
    announce(path, 1)
    damaged = command("shards", "verify", tmp_path)
    assert damaged.status != 0
    assert "announces 1 views, its manifest 2; type the extract command of it again" in damaged.out + damaged.err
