"""Promise 4, commit: kill -9 at any moment leaves no torn file, and the same command ends with the same bytes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from caches import DIGITS, SMALL, contents, extract, targetset_of, viewset_of

KILLING = Path(__file__).with_name("killing.py")
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(KILLING.parent.parent),
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


def killing(how: str, number: int, reference: Path, cache: Path, *flags: str) -> dict[str, Any]:
    command = [sys.executable, str(KILLING), how, str(number), str(reference), str(cache), *flags]
    run = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr
    found: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return found


def flags(teacher: Path, *more: str) -> list[str]:
    return ["--teacher", f"run:{teacher}", *DIGITS, "--shard_size", "6", "--num_workers", "2", *more]


@pytest.mark.parametrize(
    ("how", "seed"),
    [
        ("time", 0),
        ("step", 0),
        *(pytest.param(how, seed, marks=pytest.mark.slow) for how in ("time", "step") for seed in range(1, 6)),
    ],
)
def test_killed_until_done_gives_the_files_of_an_uninterrupted_run(
    teacher: Path, tmp_path: Path, how: str, seed: int
) -> None:
    reference, cache = tmp_path / "reference", tmp_path / "cache"
    arguments = flags(teacher, "--views", "2", "--target", "logits,pooled", "--codec", "topk:3,float32")
    found = killing(how, seed, reference, cache, *arguments)
    assert found["kills"] >= 4, found
    assert found["torn"] == [] and found["unreadable"] == []
    assert contents(cache) == contents(reference)
    if how == "step":
        assert found["leftovers"] > 0  # halfway through a write there was one, and at the end there is none


@pytest.mark.parametrize("how", ["step", pytest.param("time", marks=pytest.mark.slow)])
def test_a_killed_growth_leaves_what_was_there_readable(teacher: Path, tmp_path: Path, how: str) -> None:
    reference, cache = tmp_path / "reference", tmp_path / "cache"
    for out in (reference, cache):
        extract("--out", out, *flags(teacher, "--views", "1"))
    found = killing(how, 1, reference, cache, *flags(teacher, "--views", "3"))
    assert found["kills"] >= 4, found
    assert found["torn"] == [] and found["unreadable"] == []
    assert contents(cache) == contents(reference)


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
