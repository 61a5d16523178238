"""Promise 4, commit: kill -9 at any moment leaves no torn file, and the same command ends with the same bytes."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from caches import SMALL, contents, extract, targetset_of, viewset_of
from killing import ENVIRONMENT, Interrupted, Job, flags, fresh, growing, in_another_process


def check(killed: Job, found: dict[str, Any]) -> None:
    """Nothing torn at any kill, and the files of an uninterrupted run at the end."""
    assert found["kills"] >= 2, found
    assert found["torn"] == [] and found["unreadable"] == []
    assert contents(Path(killed.cache)) == contents(Path(killed.reference))
    if killed.how == "step":
        assert found["leftovers"] > 0  # halfway through a write there was one, and at the end there is none


@pytest.mark.parametrize("name", ["time", "step", "growing", "kept"])
def test_killed_until_done_gives_the_files_of_an_uninterrupted_run(interrupted: Interrupted, name: str) -> None:
    check(*interrupted[name])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 5))
@pytest.mark.parametrize("kind", [fresh, growing])
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


def start(teacher: Path, cache: Path, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "extract", "--out", str(cache), *flags(teacher, *more)]
    return subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.mark.slow
@pytest.mark.parametrize("after_s", [6.0, 8.0, 10.0])
def test_children_that_outlive_a_killed_command_do_no_harm(teacher: Path, tmp_path: Path, after_s: float) -> None:
    """kill -9 hits the command alone; its processes may still write while the same command runs again."""
    more = ("--views", "4", "--shard_size", "2", "--devices", "2")
    extract("--out", tmp_path / "reference", *flags(teacher, *more[:-2]))
    killed = start(teacher, tmp_path / "cache", *more)
    time.sleep(after_s)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    for _ in range(3):
        resumed = start(teacher, tmp_path / "cache", *more)
        if resumed.wait() == 0:
            break
    assert resumed.returncode == 0
    assert contents(tmp_path / "cache") == contents(tmp_path / "reference")
