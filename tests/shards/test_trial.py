"""The temporary folder of a plan: gone after its end, whatever ended it, and never taken from a plan that runs."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from shards.bill.trial import remove_stale_trials, trial_folder

WORKS = """
import signal, sys, time
from pathlib import Path
from shards.bill.trial import trial_folder
from shards.command.run import run_command

signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background commands ignore

def main(_):
    with trial_folder(Path(sys.argv[1])) as folder:
        (folder / "piece").write_bytes(b"some")
        print("works", flush=True)
        time.sleep(60)

run_command(main, "extract", [])
"""


def begun(out: Path) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", WORKS, str(out)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "works\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_plan_that_is_ended_leaves_nothing(number: signal.Signals, tmp_path: Path) -> None:
    process = begun(tmp_path / "cache")
    process.send_signal(number)
    assert process.wait(30) == 130 and list(tmp_path.iterdir()) == []
    process.communicate()


def test_what_a_sigkill_leaves_goes_with_the_next_command(tmp_path: Path) -> None:
    killed, works = begun(tmp_path / "cache"), begun(tmp_path / "cache")
    assert len(trials := list(tmp_path.glob(".plan-*"))) == 2
    killed.kill()
    killed.communicate()
    try:
        remove_stale_trials(tmp_path / "cache")
        (left,) = tmp_path.glob(".plan-*")
        assert left in trials and (left / "piece").exists()  # of the plan that works
        with trial_folder(tmp_path / "cache") as folder:
            assert {folder, left} == set(tmp_path.iterdir())
    finally:
        works.kill()
        works.communicate()
    with trial_folder(tmp_path / "cache") as folder:
        assert list(tmp_path.iterdir()) == [folder]
    assert list(tmp_path.iterdir()) == []


def test_folders_of_the_user_stay(tmp_path: Path) -> None:
    """Whatever they are called: a trial has its plan's lock file."""
    for name in (".plan-mine", ".plan-0123456789ab"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes.txt").write_text("mine")
    remove_stale_trials(tmp_path / "cache")
    assert len([*tmp_path.glob("*/notes.txt")]) == 2
