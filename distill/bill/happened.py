"""Happened: what a training took, beside the plan of it that was saved."""

from pathlib import Path
from typing import Any

import torch

from distill.data import CacheData
from distill.folder import SUMMARY, decisive
from distill.recipe import Recipe
from shards.bill import happened
from shards.command.devices import peak_memory
from shards.identity import identity_hash
from shards.sealed import read_object


def tell_planned(run_dir: Path, work: dict[str, Any], summary: dict[str, Any], device: torch.device) -> None:
    """A line, where the plan of this `work` was saved beside the run's folder; what happened is noted in it."""
    peak = peak_memory(device)
    happened.tell_planned(run_dir, work, {"steps": summary["steps"]}, summary["seconds"], [run_dir], peak)


def work_of(run_dir: Path, recipe: Recipe, data: CacheData) -> dict[str, Any]:
    """What tells the plan of this run from others."""
    run = identity_hash({"recipe": decisive(recipe), "cache": data.training.identity()})
    return {"command": "distill", "run": run_dir.absolute().name, "identity": run}


def print_happened(run_dir: Path, work: dict[str, Any], save: Path | None) -> bool:
    """The saved plan of a run that is finished stands beside what happened, in a table; False where none is."""
    if not (run_dir / SUMMARY).exists():
        return False
    seconds = float(read_object(run_dir / SUMMARY, "give another --run_dir")["seconds"])
    return happened.print_happened(work, save, run_dir, f"{run_dir} is finished", [run_dir], seconds)
