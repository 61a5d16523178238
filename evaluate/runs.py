"""Runs: the folders that `distill` leaves, and what was measured of each (evaluation.json)."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shards.commit import write_atomically
from shards.errors import BadInput

CONFIG = "config.yaml"
STUDENT = "student.json"
SUMMARY = "summary.json"
EVALUATION = "evaluation.json"
_MAX_BYTES = 16 << 20


def missing_files(run: Path) -> list[str]:
    """What a whole run has and the folder `run` has not; all of it where `run` is no run."""
    return [name for name in (CONFIG, STUDENT, "student.safetensors", SUMMARY) if not (run / name).is_file()]


def check_run(run: Path) -> None:
    """`run` holds a whole student; BadInput that says whether it is half written, or no run at all."""
    if not run.is_dir():
        raise BadInput(f"--run {run}: no such folder; python -m distill --run_dir {run} writes a run there")
    missing = [name for name in missing_files(run) if name.startswith("student.")]
    if missing and (run / CONFIG).is_file():
        raise BadInput(f"--run {run}: half written (no {', '.join(missing)}); the same distill command finishes it")
    if missing:
        near = next(find_runs(run), None)
        hint = f"a run below it is {near}" if near else "give the folder of a run that python -m distill finished"
        raise BadInput(f"--run {run}: no run (no {', '.join(missing)}); {hint}")


def find_runs(folder: Path) -> Iterator[Path]:
    """The runs at or below `folder`, whole or half written; links, caches and runs' own folders are left out."""
    if not folder.is_dir():
        raise BadInput(f"--runs {folder}: no such folder; give a folder that holds runs of python -m distill")
    for parent, folders, files in os.walk(folder):
        if {CONFIG, STUDENT} & set(files):
            yield Path(parent)
            folders.clear()
        elif "plan.json" in files:
            folders.clear()
        folders.sort()


def read_document(path: Path, remedy: str) -> dict[str, Any]:
    """The JSON object at `path`; BadInput, with `remedy`, when it is missing or none."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise BadInput(f"{path}: larger than {_MAX_BYTES} bytes, which no {path.name} is; {remedy}")
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise BadInput(f"{path}: missing; {remedy}") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}); {remedy}") from None
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path}: not JSON ({error}); {remedy}") from None
    if not isinstance(document, dict):
        raise BadInput(f"{path}: expected an object, found a {type(document).__name__}; {remedy}")
    return document


def read_summary(run: Path) -> dict[str, Any]:
    """What training cost and what it read: summary.json, which `distill` writes last."""
    path = run / SUMMARY
    return read_document(path, "the run is half written: run the same distill command, or give --data or --shards")


def weights_of(run: Path) -> str:
    """The SHA-256 of the student's weights, as its student.json gives it."""
    student = read_document(run / STUDENT, "run the same distill command to finish the run")
    weights = student.get("weights")
    return str(weights.get("sha256")) if isinstance(weights, dict) else "unknown"


def read_evaluation(run: Path) -> dict[str, dict[str, Any]]:
    """What was measured, a record a task; records of other weights than the run's present ones are left out."""
    path = run / EVALUATION
    if not path.exists():
        return {}
    weights = weights_of(run)
    held = read_document(path, "remove it and evaluate again")
    for task, record in held.items():
        if not isinstance(record, dict):
            raise BadInput(f"{path}: {task}: expected a record, found {record!r:.40}; remove it and evaluate again")
    return {task: record for task, record in held.items() if record.get("weights_sha256") == weights}


def merge_evaluation(run: Path, task: str, record: dict[str, Any]) -> Path:
    """evaluation.json holds `record` under `task`, beside what else was measured of the same weights; its path."""
    path = run / EVALUATION
    merged = {**read_evaluation(run), task: {**record, "weights_sha256": weights_of(run)}}
    write_atomically(path, (json.dumps(merged, indent=1, sort_keys=True) + "\n").encode())
    return path
