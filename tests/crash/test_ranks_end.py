"""What ends a rank of `distill --devices 2` is said once, in one line; all end, and the same command goes on."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from killing import ENVIRONMENT
from test_children import one_line
from test_orphans import children_of, is_over, linux, until

from tests.reliability.small_disk import NoDisk, empty, fill, small_disk

WIDE = ("--student", "convnet:width=64,depth=2")
"""Its checkpoint has more than a megabyte."""


def start(cache: Path, run: Path, *more: str) -> "subprocess.Popen[str]":
    flags = ["--shards", str(cache), "--run_dir", str(run), "--devices", "2", "--batch_size", "8", *WIDE, *more]
    line = [sys.executable, "-m", "distill", *flags]
    pipes: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(line, env={**ENVIRONMENT, "CUDA_VISIBLE_DEVICES": ""}, **pipes)


def trains(cache: Path, run: Path) -> "subprocess.Popen[str]":
    """A run that has its first checkpoint and would go on for an hour."""
    training = start(cache, run, "--max_steps", "99999")
    until(lambda: (run / "checkpoints/last.ckpt").exists() or training.poll() is not None)
    return training


def ended(run: "subprocess.Popen[str]") -> tuple[int, str]:
    """Its status, and the one line that it said."""
    _, errors = run.communicate(timeout=300)
    return run.returncode, one_line(errors)


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_the_same_command_goes_on(pristine: Path, tmp_path: Path) -> None:
    """The first rank cannot write what it learnt, and the second one loses it."""
    try:
        with small_disk(tmp_path, "tmpfs", 8 << 20) as disk:
            fill(disk, 1 << 18)
            run = disk / "run"
            status, line = ended(start(pristine, run, "--max_steps", "6"))
            assert status == 2 and line.startswith("distill: No space left on device ("), line
            assert "the same command resumes" in line and not (run / "checkpoints/last.ckpt").exists()
            empty(disk)
            again = start(pristine, run, "--max_steps", "6")
            _, errors = again.communicate(timeout=300)
            assert again.returncode == 0 and (run / "summary.json").exists(), errors
            assert "Traceback" not in errors and not list(disk.rglob(".partial-*"))
    except NoDisk as error:
        pytest.skip(f"no file system may be mounted here: {error}")


@pytest.mark.slow
@linux
def test_a_rank_that_is_killed_is_one_line_and_none_lives_on(pristine: Path, tmp_path: Path) -> None:
    for which, how in ((1, signal.SIGKILL), (0, signal.SIGTERM)):
        training = trains(pristine, tmp_path / how.name)
        children = sorted(children_of(training.pid))
        os.kill(children[which], how)
        status, line = ended(training)
        assert status == 2 and line.startswith(f"distill: one of the 2 processes was ended by {how.name}"), line
        assert "the same command resumes" in line and len(children) == 2 and all(map(is_over, children))


@pytest.mark.slow
@linux
def test_a_run_of_two_ranks_that_the_shell_stops_goes_on(pristine: Path, tmp_path: Path) -> None:
    """Ctrl-Z and `fg`: the ranks, which would keep the devices busy, stop and go on with their command."""

    def stopped() -> list[bool]:
        states = (Path(f"/proc/{process}/stat").read_text().rpartition(")")[2] for process in (training.pid, *children))
        return [state.split()[0] == "T" for state in states]

    training = trains(pristine, tmp_path / "run")
    children = children_of(training.pid)
    training.send_signal(signal.SIGTSTP)
    until(lambda: all(stopped()))
    training.send_signal(signal.SIGCONT)
    until(lambda: not any(stopped()))
    training.send_signal(signal.SIGTSTP)
    until(lambda: all(stopped()))
    training.send_signal(signal.SIGTERM)  # as `kill %1` of a shell does, which lets it go on to hear that
    training.send_signal(signal.SIGCONT)
    status, line = ended(training)
    assert status == 130 and line.startswith("distill: interrupted"), line
    assert len(children) == 2 and all(map(is_over, children))


@pytest.mark.slow
@linux
def test_a_run_of_two_ranks_that_is_told_to_end_is_interrupted(pristine: Path, tmp_path: Path) -> None:
    """SIGTERM, as a system sends that shuts down; an interrupt from the terminal goes the same way."""
    training = trains(pristine, tmp_path / "run")
    children = children_of(training.pid)
    training.send_signal(signal.SIGTERM)
    status, line = ended(training)
    assert status == 130 and line.startswith("distill: interrupted"), line
    assert len(children) == 2 and all(map(is_over, children)) and not (tmp_path / "run/.lock").exists()
