"""Promise 4, commit: kill -9 at any moment leaves no torn file, and the same command ends with the same bytes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from caches import SMALL, contents, extract, targetset_of, viewset_of
from killing import Interrupted, Job, fresh, growing, in_another_process, of_rendered


def check(killed: Job, found: dict[str, Any]) -> None:
    """Nothing torn at any kill, and the files of an uninterrupted run at the end."""
    assert found["kills"] >= (10 if "--view" in killed.flags and killed.how == "step" else 2), found  # ten, of texts
    assert found["torn"] == [] and found["unreadable"] == []
    assert contents(Path(killed.cache)) == contents(Path(killed.reference))
    if killed.how == "step":
        assert found["leftovers"] > 0  # halfway through a write there was one, and at the end there is none


def test_killed_until_done_gives_the_files_of_an_uninterrupted_run(interrupted: Interrupted) -> None:
    check(*interrupted["step"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["time", "growing", "kept", "texts", "pairs"])
def test_so_do_those_of_every_kind(interrupted_too: Interrupted, name: str) -> None:
    check(*interrupted_too[name])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 5))
@pytest.mark.parametrize("kind", [fresh, growing, of_rendered])
@pytest.mark.parametrize("how", ["time", "step"])
def test_killed_at_many_more_moments(
    teacher: Path, tmp_path: Path, how: str, seed: int, kind: Callable[[Path, Path, str, int], Job]
) -> None:
    killed = kind(tmp_path / "job", teacher, how, seed)
    check(killed, *in_another_process([killed]))


def test_every_kind_of_file_counts_as_missing_until_its_commit(pristine: Path, teacher: Path, tmp_path: Path) -> None:
    """Without its record a shard is made again, whatever lies at its place."""
    import shutil

    for name in ("commits/v00-00001.json", "targets/commits"):
        cache = Path(shutil.copytree(pristine, tmp_path / name.replace("/", "-")))
        folder = targetset_of(cache) if name.startswith("targets") else viewset_of(cache)
        commit = folder / "commits/v00-00001.json"
        shard = folder / ("values/c/0/1/0" if name.startswith("targets") else "views/v00-00001.tar")
        commit.unlink()
        shard.write_bytes(shard.read_bytes()[:100])
        (folder / ("targetset.json" if name.startswith("targets") else "viewset.json")).unlink()
        extract("--teacher", f"run:{teacher}", "--out", cache, *SMALL, "--views", "2", "--codec", "float32")
        assert contents(cache) == contents(pristine)


def test_a_set_whose_removal_was_cut_off_is_made_again(pristine: Path, teacher: Path, tmp_path: Path) -> None:
    """It lost its manifest first, and then what lies beside its plan."""
    import shutil

    cache = Path(shutil.copytree(pristine, tmp_path / "cache"))
    for folder in (viewset_of(cache), targetset_of(cache)):
        for path in (*folder.glob("*set.json"), folder / "extract.yaml"):
            path.unlink()
        shutil.rmtree(folder / "commits")
    extract("--teacher", f"run:{teacher}", "--out", cache, *SMALL, "--views", "2", "--codec", "float32")
    assert contents(cache) == contents(pristine)
