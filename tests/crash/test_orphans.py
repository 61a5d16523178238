"""Processes end with the command that started them, however it ends, and its lock is held until they have."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from caches import command, viewset_of
from killing import ENVIRONMENT, flags

from shards.errors import BadInput
from shards.lock import locked

PATIENCE_S = 300
LONG = ("--views", "1000", "--shard_size", "1", "--devices", "2")
"""20,000 shards, which two processes need minutes for."""


def start(name: str, *arguments: str | Path) -> "subprocess.Popen[bytes]":
    line = [sys.executable, "-m", name, *map(str, arguments)]
    return subprocess.Popen(line, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def children_of(parent: int) -> list[int]:
    """Those that are commands of ours; libraries ask lscpu and others of their like."""
    numbers = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(child) for child in numbers if b"TEACHER_SHARDS_PARENT" in environment_of(child)]


def environment_of(process: str) -> bytes:
    try:
        return Path(f"/proc/{process}/environ").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def is_over(process: int) -> bool:
    """It is gone, or a zombie that nobody has asked about yet and of whose threads none ends still, with files open."""
    try:
        ends = Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].startswith("Z")
        return ends and len([*Path(f"/proc/{process}/task").iterdir()]) == 1
    except (FileNotFoundError, ProcessLookupError):
        return True


def children_of_the_killed(killed: "subprocess.Popen[bytes]", count: int, how: signal.Signals) -> list[int]:
    """The command's children, stopped before the command was told or forced to end."""
    until(lambda: len(children_of(killed.pid)) >= count)
    children = children_of(killed.pid)
    for child in children:
        os.kill(child, signal.SIGSTOP)
    killed.send_signal(how)
    assert killed.wait(PATIENCE_S) == -how
    return children


linux = pytest.mark.skipif(sys.platform != "linux", reason="children are found in /proc")


@linux
@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_children_of_extract_end_with_it_and_hold_its_lock_until_then(
    teacher: Path, tmp_path: Path, how: signal.Signals
) -> None:
    cache = tmp_path / "cache"
    children = children_of_the_killed(start("extract", "--out", cache, *flags(teacher, *LONG)), 2, how)
    assert not any(is_over(child) for child in children)
    removal = ("shards", "remove", viewset_of(cache), "--yes")
    command(*removal).refuses("another extract is writing here")
    for child in children:
        os.kill(child, signal.SIGCONT)
    until(lambda: all(is_over(child) for child in children))
    command(*removal).succeeds()
    assert not any(cache.iterdir())


@pytest.mark.slow
@linux
def test_ranks_of_distill_end_with_it(pristine: Path, tmp_path: Path) -> None:
    """The first rank alone writes and has the lock; the second would wait for it in a collective."""
    more = ("--devices", "2", "--batch_size", "8", "--max_steps", "9999")
    run = start("distill", "--shards", pristine, "--run_dir", tmp_path / "run", *more)
    until(lambda: len(children_of(run.pid)) >= 2)
    with pytest.raises(BadInput, match="taken"), locked(tmp_path / "run", "taken"):
        pass
    children = children_of_the_killed(run, 2, signal.SIGKILL)
    for child in children:
        os.kill(child, signal.SIGCONT)
    until(lambda: all(is_over(child) for child in children))
    with locked(tmp_path / "run", "taken"):
        pass
