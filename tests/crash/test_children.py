"""What ends a process of `extract --devices 2` is said once, in one line, and the same command resumes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from caches import contents, extract
from killing import ENVIRONMENT, flags
from test_orphans import LONG, children_of, linux, until


def one_line(errors: str) -> str:
    """What it says, without a traceback and without what its processes say themselves."""
    (line,) = errors.splitlines()
    return line


@pytest.mark.slow
def test_a_disk_that_takes_no_more_is_one_line(teacher: Path, tmp_path: Path) -> None:
    """The kernel refuses the write of a tar, which needs a larger file than any document."""
    words = [*flags(teacher, "--views", "2"), "--devices", "2", "--out", str(tmp_path / "cache")]
    limited = ["bash", "-c", 'ulimit -f 8; exec "$@"', "bash", sys.executable, "-m", "extract", *words]
    environment = {**ENVIRONMENT, "PYTHONDONTWRITEBYTECODE": "1"}  # which would be cut off too
    done = subprocess.run(limited, env=environment, capture_output=True, text=True, timeout=300)
    line = one_line(done.stderr)
    assert done.returncode == 2 and line.startswith(f"extract: File too large ({tmp_path}/cache"), line
    extract(*words)
    extract(*flags(teacher, "--views", "2"), "--devices", "cpu", "--out", tmp_path / "alone")
    assert contents(tmp_path / "cache") == contents(tmp_path / "alone")


@pytest.mark.slow
@linux
def test_a_process_that_is_killed_is_one_line(teacher: Path, tmp_path: Path) -> None:
    line = [sys.executable, "-m", "extract", *flags(teacher, *LONG), "--out", str(tmp_path / "cache")]
    killed = subprocess.Popen(line, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    until(lambda: len(children_of(killed.pid)) >= 2)
    for child, how in zip(children_of(killed.pid), (signal.SIGKILL, signal.SIGTERM), strict=True):
        os.kill(child, how)
    _, errors = killed.communicate(timeout=300)
    assert killed.returncode == 2
    assert one_line(errors).startswith("extract: one of the 2 processes was ended by SIGKILL"), errors
