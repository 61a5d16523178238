"""`--launch slurm`: tasks of SLURM share the shards; `dry_run=true` prints the script that starts them.

A task's rank is that of its place in the job array (SLURM_ARRAY_TASK_ID), of its place in its step (SLURM_PROCID), or
of both. It says where a task begins; when its own shards are made it takes those of others, so a task that never
starts, or is preempted, costs time and nothing else.
"""

import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from extract.launch import Job
from extract.launch.shared import Shared
from extract.processes import check_rank
from shards.errors import BadInput

if TYPE_CHECKING:
    from extract.config import ExtractConfig
    from extract.pipeline import Counts

MAX_TASKS = 4_000_000
"""SLURM's own bound of an array (MaxArraySize) is 4,000,001 at most, and 1,001 unless a site says otherwise."""
DRY_RUN = "--dry_run"
_DRY = re.compile(r",dry_run=true\b|(?<=slurm:)dry_run=true,")


@dataclass(frozen=True)
class Slurm(Shared):
    """Shares the shards, each task from its own place on."""

    options: Mapping[str, str]

    @property
    def is_dry(self) -> bool:  # type: ignore[override]
        """The option dry_run=true, or the flag of before."""
        return self.options.get("dry_run") == "true"

    def check(self, config: "ExtractConfig") -> None:
        """Raises BadInput where this process is no task of SLURM, or none of its number."""
        place_among_tasks(os.environ)

    def share(self, job: Job) -> "Counts":
        """All that this task could take is committed, and the rest by others."""
        from extract.sharing import run_shared

        rank, world = place_among_tasks(os.environ)
        process, num_processes = job.extraction.rank, job.extraction.num_processes
        return run_shared(job.extraction, job.board, (rank * num_processes + process) / (world * num_processes))

    def script(self, config: "ExtractConfig", arguments: Sequence[str]) -> str:
        """An sbatch script: an array of at most `tasks` tasks, each of which runs this command."""
        tasks = self.options.get("tasks", "")
        if not (tasks.isascii() and tasks.isdecimal() and 1 <= int(tasks) <= MAX_TASKS):
            raise BadInput(
                f"--launch {config.launch}: expected a number of tasks, 1 to {MAX_TASKS:,}, as --launch slurm:tasks=8,"
                f"time=4:00:00,gpus-per-task=1 (what sbatch takes beside tasks is handed on)"
            )
        directives = {"job-name": "extract", "array": f"0-{int(tasks) - 1}", "requeue": "", "open-mode": "append"}
        directives |= {
            name.replace("_", "-"): value for name, value in self.options.items() if name not in ("tasks", "dry_run")
        }
        lines = [f"#SBATCH --{_directive(*each)}" for each in directives.items()]
        command = shlex.join([sys.executable, "-m", "extract", *_without_dry_run(arguments)])
        folder = shlex.quote(str(Path.cwd()))
        return "\n".join(["#!/bin/bash", *lines, "set -eu", f"cd -- {folder}", f"exec {command}"])


def make(options: Mapping[str, str]) -> Slurm:
    """The launcher of SLURM's tasks; which options sbatch takes is its own to say."""
    return Slurm(options)


def place_among_tasks(environment: Mapping[str, str]) -> tuple[int, int]:
    """The rank of this task and the number of tasks; BadInput where SLURM started none, or no such one."""
    array, step = "SLURM_ARRAY_TASK_ID" in environment, "SLURM_PROCID" in environment
    if not array and not step:
        raise BadInput(
            "--launch slurm: this is no task of SLURM (neither SLURM_ARRAY_TASK_ID nor SLURM_PROCID is set); print the "
            "script with --launch slurm:tasks=N,dry_run=true > extract.sh, then sbatch extract.sh"
        )
    rank, world = 0, 1
    if array:
        first, stride = _number(environment, "MIN", "0"), _number(environment, "STEP", "1")
        last = _number(environment, "MAX", str(first))
        world = max(_number(environment, "COUNT", "1"), (last - first) // max(stride, 1) + 1)  # --array=3,7 has gaps
        task = _number(environment, "ID")
        rank, rest = divmod(task - first, max(stride, 1))
        check_rank(f"SLURM_ARRAY_TASK_ID={task}", -1 if rest else rank, world)
    if step:
        process, processes = _number(environment, "SLURM_PROCID"), _number(environment, "SLURM_NTASKS", "1")
        check_rank(f"SLURM_PROCID={process}", process, processes)
        rank, world = rank * processes + process, world * processes
    return rank, world


def _number(environment: Mapping[str, str], name: str, default: str = "") -> int:
    name = name if name.startswith("SLURM_") else f"SLURM_ARRAY_TASK_{name}"
    text = environment.get(name, default)
    if not (text.isascii() and text.isdecimal()):
        raise BadInput(f"--launch slurm: {name}={text!r}: expected a number, as SLURM sets it in a task")
    return int(text)


def _directive(name: str, value: str) -> str:
    """One option of sbatch, quoted as sbatch itself reads it."""
    if not re.fullmatch(r"[a-zA-Z][a-zA-Z0-9-]*", name) or not value.isprintable():
        raise BadInput(f"--launch slurm: {name}={value!r}: expected an option of sbatch, as partition=gpu")
    return f"{name}={shlex.quote(value)}" if value else name


def _without_dry_run(arguments: Sequence[str]) -> list[str]:
    """The command line of a task: the same, without the flag, or the option, that prints the script."""
    kept: list[str] = []
    for number, word in enumerate(arguments):
        value = number > 0 and arguments[number - 1] == DRY_RUN and word in ("true", "false", "null")
        if not (value or word.partition("=")[0] == DRY_RUN):
            kept.append(_DRY.sub("", word))
    has_config = any(word.partition("=")[0] == "--config" for word in arguments)
    return [*kept, DRY_RUN, "false"] if has_config else kept  # the file may ask for a dry run too
