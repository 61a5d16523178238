"""Damaged logs on the page: a run says what of its metrics.csv cannot be read, and keeps what can; no page is lost."""

import json
import subprocess
import sys
from pathlib import Path

import caches
import pytest
from trained_runs import Parsed, again, write_page

from shards.page.curves import read_curves
from shards.page.trained import TrainedRun, runs_in

HEAD = "epoch,step,train_loss\n"
GOOD = f"{HEAD}0,9,4.0\n0,19,nan\n0,29,3.0\n"


@pytest.fixture
def runs(trained: Path, tmp_path: Path) -> Path:
    return caches.copied(trained, tmp_path / "runs")


def logged(runs: Path, *attempts: bytes) -> TrainedRun:
    """The run after its attempts logged this."""
    for number, content in enumerate(attempts):
        folder = runs / f"first/logs/version_{number}"
        folder.mkdir(exist_ok=True)
        (folder / "metrics.csv").write_bytes(content)
    (run,) = runs_in(runs)
    return run


def test_a_log_that_was_cut_off_and_begun_again_is_one_curve(runs: Path) -> None:
    run = logged(runs, f"{GOOD}0,39".encode(), f"{HEAD}0,29,2.0\n0,39,1.0\n".encode())
    steps, losses = run.curves["train_loss"]
    assert steps.tolist() == [9, 29, 39] and losses.tolist() == [4.0, 2.0, 1.0]
    assert run.tone == "whole"  # the later attempt has all that was cut off


@pytest.mark.parametrize(
    ("content", "reason", "points"),
    [
        (f"{GOOD}0,3\n0,39,2.5\n0,49,2,2\n".encode(), "2 lines cut off or with other columns", 3),
        (f"{GOOD}0,39,red\n".encode(), "cannot be read (In CSV column", 0),
        (bytes(range(256)) * 9, "cannot be read (", 0),
        (bytes(4096), "its last line is cut off", 0),
        (b"\0\n" * 4096, "does not name the columns of a log", 0),
        (b"", "its last line is cut off", 0),
        (b"step,step,train_loss\n1,1,1\n", "does not name the columns of a log", 0),
        (b"<html>\n", "does not name the columns of a log", 0),
        (f"{HEAD}0,\0,1\n".encode(), "cannot be read (In CSV column", 0),
        (f'{HEAD}"0,1,1\n'.encode(), "", 0),
    ],
)
def test_what_cannot_be_read_is_said(runs: Path, content: bytes, reason: str, points: int) -> None:
    run = logged(runs, content)
    assert run.tone == "damaged" and "version_0/metrics.csv: " in run.state and reason in run.state
    assert len(run.curves.get("train_loss", ([],))[0]) == points and run.summary.steps


def steps(*logged: int) -> str:
    return HEAD + "".join(f"0,{step},2.5\n" for step in logged)


@pytest.mark.parametrize(
    ("attempts", "num_steps", "lacks"),
    [
        ([f"{steps(9, 19, 29)}0,39,2."], 39, ""),
        ([f"{steps(9, 19, 29)}0,39,2."], 40, "no train_loss between steps 29 and 39 ("),
        ([f"{steps(9, 19, 29)}0,39", steps(39, 49)], 52, ""),
        ([f"{steps(9, 19, 29)}0,39", steps(49, 59)], 60, "no train_loss between steps 29 and 49 ("),
        (["", steps(9, 19)], 20, ""),
        ([f"{steps(21)}0,43", steps(65)], 66, "no train_loss between steps 21 and 65 ("),
        (["", steps(39, 49, 59)], 60, "no train_loss between steps 0 and 39 ("),
    ],
)
def test_a_finished_run_lacks_only_what_no_attempt_measured_whole(
    runs: Path, attempts: list[str], num_steps: int, lacks: str
) -> None:
    """A kill cuts off a line, the same command resumes and finishes: the run is whole, and says what is not there."""
    summary = runs / "first/summary.json"
    summary.write_text(json.dumps(json.loads(summary.read_text()) | {"steps": num_steps}))
    run = logged(runs, *map(str.encode, attempts))
    assert run.tone == "whole" and (lacks in run.state if lacks else run.state == "whole")


def test_a_run_that_is_training_may_be_writing_its_last_line(runs: Path) -> None:
    (runs / "first/summary.json").unlink()
    run = logged(runs, f"{steps(9, 19)}0,29,2.".encode())
    assert run.tone == "half written" and run.state.endswith("the same distill command finishes it") and run.curves
    run = logged(runs, f"{GOOD}0,39,red\n".encode())
    assert run.tone == "damaged" and "the same distill command finishes it" in run.state


def test_a_log_is_read_without_threads_that_may_outlive_python(runs: Path) -> None:
    """Threads of pyarrow's that hold Python's objects, as the log and `skip`, may abort a command as Python ends."""
    count = "len(os.listdir('/proc/self/task'))"
    lines = "import os; from pathlib import Path; from pyarrow import csv; from shards.page.curves import read_curves"
    read = f"read_curves(Path({str(runs / 'first/logs')!r}))"
    code = f"{lines}; before = {count}; assert {read}.of; print({count} - before)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(told.stdout) <= 1  # which reads ahead, of a buffer of its own


def test_other_attempts_and_other_runs_are_drawn(full: Path, runs: Path) -> None:
    again(runs / "first", "fine")
    broken = runs / "first/logs"
    (broken / "version_1").mkdir()
    (broken / "version_1/metrics.csv").write_bytes(b"\x89PNG\n")
    assert read_curves(broken).of.keys() == {"train_loss", "val_loss", "val_agreement"}
    parsed = Parsed(write_page(full, "--runs", runs, "--num", "1"))
    assert "version_1/metrics.csv: cannot be read" in parsed.text and "2 runs, 1 damaged" in parsed.text
    assert len([path for path in parsed.of("path") if "data-run" in path]) == 6
