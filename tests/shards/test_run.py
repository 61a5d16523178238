"""Running a command: what `| head`, which has read enough, makes of it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from shards.__main__ import COMMANDS
from shards.command.run import run_command

ROOT = Path(__file__).parents[2]
LOADED = ("jsonargparse", "docstring_parser", "shards.cache", "shards.listing", "shards.verify", "evaluate.ledger")
"""What the commands import, but torch: a process that ends takes longer to put it away than these need."""
WARM = """
import importlib, json, os, runpy, sys
commands, outputs, modules = json.load(sys.stdin)
for name in modules:
    importlib.import_module(name)
for words in commands:
    saying, said = os.pipe()
    child = os.fork()
    if child == 0:
        reading, writing = os.pipe()
        os.close(reading)
        for output in (1, 2):
            os.dup2(writing if output in outputs else said, output)
        os.close(said)
        sys.argv = words
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
        sys.exit(0)
    os.close(said)
    with open(saying) as pipe:
        stderr = pipe.read()
    print(json.dumps((os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), stderr)), flush=True)
"""
"""`python -m WORDS` for each command, in a fork of one process: what all of them import costs more than they."""


def unread(*commands: tuple[str | Path, ...], outputs: tuple[int, ...] = (1,), modules: tuple[str, ...] = ()) -> None:
    """Commands whose `outputs` are pipes that nobody reads end in silence, with status 141.

    What argparse prints itself may also end with 0: it passes over what it cannot print.
    """
    words = [[*map(str, command)] for command in commands]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    given = json.dumps([words, outputs, modules])
    done = subprocess.run(
        [sys.executable, "-c", WARM], input=given, capture_output=True, env=environment, text=True, timeout=300
    )
    ended = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(ended) == len(commands), done.stderr
    for command, (status, stderr) in zip(words, ended, strict=True):
        printed = {"--help", "--print_config"} & {*command}
        assert (status in (0, 141) if printed else status == 141) and stderr == "", (command, status, stderr)


@pytest.mark.slow
def test_a_command_whose_output_nobody_reads_stops_in_silence(
    pristine_full: Path, trained: Path, tmp_path: Path
) -> None:
    cache, runs = pristine_full, ("--runs", trained)
    unread(
        *(("shards", name, cache) for name in ("list", "info", "verify")),
        ("shards", "page", cache, *runs, "--output", tmp_path / "page.html"),
        ("shards", "ledger", cache, *runs),
        ("evaluate", *runs),
        ("evaluate", *runs, "--ledger", "--shards", cache),
        modules=LOADED,
    )
    assert (tmp_path / "page.html").exists()  # the work itself is done


def test_so_does_what_is_printed_before_a_command_begins() -> None:
    script = ("extract", "--teacher", "none", "--out", "x", "--launch", "slurm:tasks=2,dry_run=true")
    unread(
        script,
        *((name, "--help") for name in ("extract", "distill", "evaluate", "shards")),
        *((name, "--print_config") for name in ("extract", "distill", "evaluate")),
        *(("shards", name, "--help") for name in COMMANDS),
        modules=("jsonargparse",),
    )


def test_and_a_mistake_that_nobody_reads(tmp_path: Path) -> None:
    unread(("shards", "list", tmp_path), ("evaluate", "--runs", tmp_path / "none"), outputs=(1, 2))


def test_a_broken_pipe_to_another_process_is_no_silence() -> None:
    def main(arguments: list[str] | None) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    with pytest.raises(BrokenPipeError):
        run_command(main, "distill", [])


INTERRUPTED_WHERE_NOTHING_IS_RAISED = """
import os, signal, time
from shards.command.run import run_command
def left():
    try:
        yield
    finally:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
def main(arguments):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    iterator = left()
    next(iterator)
    del iterator  # Python passes over what its end raises
    time.sleep(60)
run_command(main, "distill")
"""


def test_an_interrupt_while_an_iterator_is_left_ends_the_command() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    line = [sys.executable, "-c", INTERRUPTED_WHERE_NOTHING_IS_RAISED]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=50)
    assert done.returncode == 130, done
    assert done.stderr.splitlines() == ["distill: interrupted; the same command resumes where it stopped"]
