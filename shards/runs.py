"""Runs: the folders that `distill` leaves, read as their documents alone: what training cost, and what was measured."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shards.errors import BadInput
from shards.sealed import read_object

CONFIG = "config.yaml"
STUDENT = "student.json"
SUMMARY = "summary.json"
TEACHER = "teacher.json"
"""In a folder of a teacher's results, which is no run: whose they are."""
EVALUATION = "evaluation.json"
ON = " on "
"""Between the task and the data, in the key of a result that one of other data followed."""


def missing_files(run: Path) -> list[str]:
    """What a whole run has and the folder `run` has not; all of it where `run` is no run, nothing of a teacher's."""
    if (run / TEACHER).is_file():
        return []
    return [name for name in (CONFIG, STUDENT, "student.safetensors", SUMMARY) if not (run / name).is_file()]


def find_runs(folder: Path) -> Iterator[Path]:
    """The runs, whole or half written, and the teachers' results at or below `folder`, without links and caches."""
    if not folder.is_dir():
        raise BadInput(f"--runs {folder}: no such folder; give a folder that holds runs of python -m distill")
    for parent, folders, files in os.walk(folder):
        if {CONFIG, STUDENT, TEACHER} & set(files):
            yield Path(parent)
            folders.clear()
        elif "plan.json" in files and "commits" in folders:  # a view set
            folders.clear()
        folders.sort()


def read_summary(run: Path) -> dict[str, Any]:
    """What training cost and what it read: summary.json, which `distill` writes last; of a teacher its name."""
    if (run / TEACHER).is_file():
        return {"student": f"{read_object(run / TEACHER, 'remove it and evaluate again').get('name')} (teacher)"}
    path = run / SUMMARY
    return read_object(path, "the run is half written: run the same distill command, or give --data or --shards")


def weights_of(run: Path) -> str:
    """The SHA-256 of the student's or the teacher's weights, as the folder's document gives it."""
    document = TEACHER if (run / TEACHER).is_file() else STUDENT
    student = read_object(run / document, "run the same distill command to finish the run")
    weights = student.get("weights")
    return str(weights.get("sha256")) if isinstance(weights, dict) else "unknown"


def read_evaluation(run: Path) -> dict[str, dict[str, Any]]:
    """What was measured, a record a task; records of other weights than the run's present ones are left out."""
    path = run / EVALUATION
    if not path.exists():
        return {}
    weights = weights_of(run)
    records = read_object(path, "remove it and evaluate again")
    for task, record in records.items():
        if not isinstance(record, dict):
            raise BadInput(f"{path}: {task}: expected a record, found {record!r:.40}; remove it and evaluate again")
    return {task: record for task, record in records.items() if record.get("weights_sha256") == weights}
