"""Happened: what an extraction took, beside the plan of it that was saved."""

from pathlib import Path
from typing import Any

from extract.phases import Work
from extract.pipeline import Counts
from shards.bill import happened
from shards.command.devices import peak_memory


def tell_planned(work: Work, cache: Path, counts: Counts, seconds: float) -> None:
    """A line, where the plan of just this work was saved beside the `cache`; what happened is noted in it."""
    extraction, made = work.extraction, {"to_make": [counts.views, counts.teacher_forwards]}
    peak = peak_memory(extraction.device) if extraction.num_processes == 1 else None
    happened.tell_planned(cache, work_of(work), made, seconds, [work.plan.views.folder], peak)


def work_of(work: Work) -> dict[str, Any]:
    """What tells the plan of this work from others."""
    plan = work.plan
    folders = [plan.views.folder, *(job.folder for job in plan.targets)]
    sets = [folder.relative_to(plan.views.folder.parent).as_posix() for folder in folders]
    return {"command": "extract", "sets": sets, "views": plan.views.asked_views}


def print_happened(work: Work, cache: Path, save: Path | None) -> bool:
    """The saved plan of what is finished in `cache` stands beside what happened, in a table; False where none is."""
    known = work_of(work)
    folders = [cache / each for each in known["sets"]]
    return happened.print_happened(known, save, cache, "all of it is made", folders, None)
