"""Runs: a run that is measured is whole, and its evaluation.json keeps what was measured of it."""

import json
import re
from pathlib import Path
from typing import Any

from shards.commit import sync_folder, write_atomically
from shards.errors import BadInput
from shards.runs import CONFIG, EVALUATION, ON, TEACHER, find_runs, missing_files, read_evaluation, weights_of


def check_run(run: Path) -> None:
    """`run` holds a whole student; BadInput that says whether it is half written, or no run at all."""
    if not run.is_dir():
        raise BadInput(f"--run {run}: no such folder; python -m distill --run_dir {run} writes a run there")
    if (run / TEACHER).is_file():
        raise BadInput(f"--run {run}: holds a teacher's results; give a run, with --teacher to measure both")
    missing = [name for name in missing_files(run) if name.startswith("student.")]
    if missing and (run / CONFIG).is_file():
        raise BadInput(f"--run {run}: half written (no {', '.join(missing)}); the same distill command finishes it")
    if missing:
        near = next(find_runs(run), None)
        hint = f"a run below it is {near}" if near else "give the folder of a run that python -m distill finished"
        raise BadInput(f"--run {run}: no run (no {', '.join(missing)}); {hint}")


def merge_evaluation(run: Path, task: str, record: dict[str, Any]) -> str | None:
    """evaluation.json holds `record` under `task`, beside what else was measured of the same weights.

    What was there of other data stays, under "TASK on DATA", which is returned; so do the flags that give it again.
    """
    records, kept = read_evaluation(run), None
    if (former := records.get(task)) is not None and measured_on(former) != measured_on(record):
        kept = f"{task}{ON}{measured_on(former)}"
        records[kept] = former
        if (flags := flags_path(run, task)).exists():
            flags.replace(flags_path(run, kept))
            sync_folder(run)  # else a loss of power may leave them where the next flags are written
    records.pop(f"{task}{ON}{measured_on(record)}", None)  # measured again
    records[task] = {**record, "weights_sha256": weights_of(run)}
    write_atomically(run / EVALUATION, (json.dumps(records, indent=1, sort_keys=True) + "\n").encode())
    return kept


def measured_on(record: dict[str, Any]) -> str:
    """The data that a result is true of, in words."""
    where = f"{record.get('data')} {record.get('split')}, {record.get('num_samples')} samples"
    return f"{where}, {record['targetset']}" if "targetset" in record else where


def flags_path(run: Path, key: str) -> Path:
    """Where the flags are that give a result of evaluation.json again."""
    return run / f"evaluate-{re.sub(r'[^A-Za-z0-9.]+', '-', key)}.yaml"
