"""Running a command: what `| head`, which has read enough, makes of it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shards.command.run import run_command

ROOT = Path(__file__).parents[2]


def unread(*words: str | Path, stderr_too: bool = False) -> subprocess.CompletedProcess[str]:
    """`python -m WORDS` with its output in a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    error = subprocess.STDOUT if stderr_too else subprocess.PIPE
    try:
        command = [sys.executable, "-m", *map(str, words)]
        return subprocess.run(command, stdout=writing, stderr=error, env=environment, text=True, timeout=300)
    finally:
        os.close(writing)


@pytest.mark.parametrize("words", [("shards", "list"), ("shards", "info"), ("shards", "verify")])
def test_a_command_whose_output_nobody_reads_stops_in_silence(pristine: Path, words: tuple[str, ...]) -> None:
    done = unread(*words, pristine)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("words", [("extract", "--help"), ("evaluate", "--print_config"), ("shards", "--help")])
def test_so_does_what_is_printed_before_a_command_begins(words: tuple[str, ...]) -> None:
    done = unread(*words)
    assert done.returncode in (0, 141) and done.stderr == ""  # argparse itself passes over what it cannot print


def test_and_a_mistake_that_nobody_reads(tmp_path: Path) -> None:
    assert unread("shards", "list", tmp_path, stderr_too=True).returncode == 141


def test_a_broken_pipe_to_another_process_is_no_silence() -> None:
    def main(arguments: list[str] | None) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    with pytest.raises(BrokenPipeError):
        run_command(main, "distill", [])
