"""A cache grows by views: what is added equals what a direct extraction makes, and what was there stays."""

import json
from pathlib import Path

import pytest
from caches import SMALL, contents, extract, targetset_of, viewset_of

SAVED_FLAGS = "extract.yaml"
"""Says how a set was begun, so it says --views 1 where the cache began with one."""


def comparable(cache: Path) -> dict[str, object]:
    """Every file but the saved flags and, in the manifests, all but their record."""
    found: dict[str, object] = {}
    for name, data in contents(cache).items():
        if name.endswith(("viewset.json", "targetset.json")):
            document = json.loads(data)
            del document["sha256"], document["files"][SAVED_FLAGS]
            found[name] = document
        elif not name.endswith(SAVED_FLAGS):
            found[name] = data
    return found


@pytest.fixture(scope="module")
def direct(teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    cache = tmp_path_factory.mktemp("growth") / "direct"
    extract("--teacher", f"run:{teacher}", "--out", cache, *SMALL, "--views", "3")
    return cache


@pytest.mark.parametrize("steps", [("1", "3"), ("1", "2", "3")], ids=str)
def test_growing_equals_a_direct_extraction(
    teacher: Path, direct: Path, tmp_path: Path, steps: tuple[str, ...]
) -> None:
    before: dict[str, bytes] = {}
    for views in steps:
        done = extract("--teacher", f"run:{teacher}", "--out", tmp_path / "cache", *SMALL, "--views", views)
        added = 40 * (int(views) - sum(f"views/v{view:02d}-00000.tar" in name for view in range(9) for name in before))
        assert f"done: {added} views made, {added} teacher forwards" in done.out
        now = contents(tmp_path / "cache")
        kept = [name for name in before if not name.endswith(("set.json", "values/zarr.json"))]
        assert {name: now[name] for name in kept} == {name: before[name] for name in kept}
        before = now
    assert comparable(tmp_path / "cache") == comparable(direct)


def test_views_first_and_the_teacher_later_equals_a_direct_extraction(
    teacher: Path, direct: Path, tmp_path: Path
) -> None:
    extract("--teacher", "none", "--out", tmp_path / "cache", *SMALL)
    extract("--teacher", f"run:{teacher}", "--out", tmp_path / "cache")
    extract("--teacher", "none", "--out", tmp_path / "cache", "--views", "3")
    held = json.loads((targetset_of(tmp_path / "cache") / "targetset.json").read_bytes())
    assert held["num_views"] == 1  # the teacher has not said anything of the new views yet
    extract("--teacher", f"run:{teacher}", "--out", tmp_path / "cache")
    assert comparable(tmp_path / "cache") == comparable(direct)


def test_a_cache_never_shrinks(teacher: Path, direct: Path, tmp_path: Path) -> None:
    import shutil

    cache = Path(shutil.copytree(direct, tmp_path / "cache"))
    done = extract("--teacher", f"run:{teacher}", "--out", cache, "--views", "1")
    assert "0 views made, 0 teacher forwards" in done.out
    assert contents(cache) == contents(direct)
    assert json.loads((viewset_of(cache) / "viewset.json").read_bytes())["num_views"] == 3
