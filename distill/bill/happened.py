"""Happened: what a training took, beside the plan of it that was saved."""

from pathlib import Path
from typing import Any

import torch

from distill.data import CacheData
from distill.folder import SUMMARY, decisive
from distill.recipe import Recipe
from shards.bill.happened import (
    Happened,
    happened_of,
    note_happened,
    plan_beside,
    print_compared,
    saved_plan,
    written_since,
)
from shards.identity import identity_hash
from shards.sealed import read_object


def tell_planned(run_dir: Path, work: dict[str, Any], summary: dict[str, Any]) -> None:
    """A line, where the plan of this `work` was saved beside the run's folder; what happened is noted in it."""
    found = saved_plan(work, plan_beside(run_dir))
    if found is None or happened_of(found[1]) or summary["steps"] != found[1]["steps"]:
        return
    path, plan = found
    peak = float(torch.cuda.max_memory_allocated()) if torch.cuda.is_initialized() else None
    happened = Happened(summary["seconds"], written_since(path, [run_dir]), peak)
    print(f"distill: planned: {note_happened(path, plan, happened)}: {path}")


def work_of(run_dir: Path, recipe: Recipe, data: CacheData) -> dict[str, Any]:
    """What tells the plan of this run from others."""
    run = identity_hash({"recipe": decisive(recipe), "cache": data.training.identity()})
    return {"command": "distill", "run": run_dir.absolute().name, "identity": run}


def print_happened(run_dir: Path, work: dict[str, Any], save: Path | None) -> bool:
    """The saved plan of a run that is finished stands beside what happened, in a table; False where none is."""
    found = saved_plan(work, save, plan_beside(run_dir)) if (run_dir / SUMMARY).exists() else None
    if found is None:
        return False
    path, plan = found
    seconds = float(read_object(run_dir / SUMMARY, "give another --run_dir")["seconds"])
    print(f"distill: plan: {run_dir} is finished; {path} beside what happened:")
    print_compared(plan, happened_of(plan) or Happened(seconds, written_since(path, [run_dir])))
    return True
