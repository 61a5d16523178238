"""A cache that is damaged, half written or foreign is refused before a tensor of it is returned."""

import shutil
from pathlib import Path

import pytest
from caches import SMALL, command, contents, copied, extract, reseal_records, targetset_of, viewset_of
from spoiling import COMMIT, DOCUMENTS, OBJECT, SPOIL, TAR, distill, read_all, swap, the

from shards.errors import Damaged, Incomplete, TeacherShardsError


def test_a_cache_in_order_is_read(pristine: Path) -> None:
    read_all(pristine)


@pytest.mark.parametrize(
    ("pattern", "damage"),
    [
        (pattern, damage)
        for pattern in (TAR, COMMIT, OBJECT, *DOCUMENTS)
        for damage in SPOIL
        if pattern not in (TAR, OBJECT) or not damage.startswith("a flipped bit")  # tests/shards/test_rows.py
    ],
)
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


@pytest.mark.parametrize("damage", ["zeros", "half of it", "no file"])
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


WRITE, FINISH, REMOVE = "the extract command again to write it", "the same extract command", "python -m shards remove"
ADVICE = [
    ("plan.json", "no file", WRITE),
    ("plan.json", "a flipped bit in the middle", REMOVE),
    ("viewset.json", "no file", FINISH),
    ("targets/*/targetset.json", "no file", FINISH),
    ("targets/*/values/zarr.json", "no file", WRITE),
    ("targets/*/values/zarr.json", "nothing", REMOVE),
    (TAR, "no file", REMOVE),
    (OBJECT, "half of it", REMOVE),
]


@pytest.mark.parametrize(("pattern", "damage", "advice"), ADVICE)
def test_following_the_advice_mends_the_cache(
    cache: Path, pristine: Path, teacher: Path, pattern: str, damage: str, advice: str
) -> None:
    """Where a set must be removed first, to extract again alone would leave the damage where it is."""
    path = the(cache, pattern)
    SPOIL[damage](path)
    with pytest.raises(TeacherShardsError) as refused:
        read_all(cache)
    assert advice in str(refused.value)
    again = ("extract", "--teacher", f"run:{teacher}", "--out", cache, *SMALL, "--views", "2", "--codec", "float32")
    if advice == REMOVE:
        command(*again)
        assert command("shards", "verify", cache).status == 2
        folder = targetset_of(cache) if pattern.startswith("targets") else viewset_of(cache)
        command("shards", "remove", folder, "--yes").succeeds()
    command(*again).succeeds()
    assert contents(cache) == contents(pristine)


def test_a_cache_in_order_trains(pristine: Path, tmp_path: Path) -> None:
    """The yardstick of the refusals above: the same flags train on a cache that is whole."""
    distill(copied(pristine, tmp_path / "cache"), tmp_path / "run").succeeds()
    assert list((tmp_path / "run").glob("student.*"))
