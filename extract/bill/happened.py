"""Happened: what an extraction took, beside the plan of it that was saved."""

from pathlib import Path
from typing import Any

import torch

from extract.phases import Work
from extract.pipeline import Counts
from shards.bill.happened import (
    Happened,
    commits_took,
    happened_of,
    note_happened,
    plan_beside,
    print_compared,
    saved_plan,
    written_since,
)


def tell_planned(work: Work, cache: Path, counts: Counts, seconds: float) -> None:
    """A line, where the plan of just this work was saved beside the `cache`; what happened is noted in it."""
    found = saved_plan(work_of(work), plan_beside(cache))
    if found is None or happened_of(found[1]) or (counts.views, counts.teacher_forwards) != tuple(found[1]["to_make"]):
        return
    path, plan = found
    device, alone = work.extraction.device, work.extraction.num_processes == 1
    peak = float(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" and alone else None
    happened = Happened(seconds, written_since(path, [work.plan.views.folder]), peak)
    print(f"extract: planned: {note_happened(path, plan, happened)}: {path}")


def work_of(work: Work) -> dict[str, Any]:
    """What tells the plan of this work from others."""
    plan = work.plan
    folders = [plan.views.folder, *(job.folder for job in plan.targets)]
    sets = [folder.relative_to(plan.views.folder.parent).as_posix() for folder in folders]
    return {"command": "extract", "sets": sets, "views": plan.views.asked_views}


def print_happened(work: Work, cache: Path, save: Path | None) -> bool:
    """The saved plan of what is finished in `cache` stands beside what happened, in a table; False where none is."""
    found = saved_plan(work_of(work), save, plan_beside(cache))
    if found is None:
        return False
    path, plan = found
    folders = [cache / each for each in work_of(work)["sets"]]
    happened = happened_of(plan) or Happened(commits_took(path, folders), written_since(path, folders[:1]))
    noted = "" if happened_of(plan) else "; the time is that from the first commit to the last"
    print(f"extract: plan: all of it is made; {path} beside what happened{noted}:")
    print_compared(plan, happened)
    return True
