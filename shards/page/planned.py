"""Planned: the saved plans of finished runs and of what a cache holds, each beside what then happened."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shards.bill.happened import Comparison, beside, plan_beside, saved_plan
from shards.errors import BadInput, TeacherShardsError, one_line
from shards.identity import identity_hash
from shards.page.sets import WHOLE, SetCard, short
from shards.page.trained import RUN, TrainedRun
from shards.sealed import read_object


@dataclass(frozen=True)
class Planned:
    """One plan."""

    name: str
    """Of the run, or of the view set that was extracted."""
    anchor: str
    """Where on the page that stands."""
    rows: list[tuple[str, str, str, str]]
    """(what, planned, happened, ratio)."""
    note: str = ""


def plans(viewsets: list[SetCard], runs: list[TrainedRun]) -> Iterator[Planned]:
    """The plans that lie beside caches and beside runs, as `--plan save=` puts them; one that is damaged says so."""
    for cache in dict.fromkeys(viewset.described.folder.parent for viewset in viewsets):
        yield from _of_cache(cache, [each for each in viewsets if each.described.folder.parent == cache])
    for run in runs:
        if run.summary.seconds is not None:
            yield from _of_run(run, run.summary.seconds)


def _of_cache(cache: Path, viewsets: list[SetCard]) -> Iterator[Planned]:
    """Where all that was planned is there, and whole."""
    whole = {each.name: each for each in viewsets if each.tone == WHOLE}
    whole |= {
        f"{each.name}/targets/{card.name}": card for each in viewsets for card in each.targetsets if card.tone == WHOLE
    }
    found = saved_plan({"command": "extract"}, plan_beside(cache))
    sets = found[1].get("sets") if found else None
    if isinstance(sets, list) and sets and all(isinstance(name, str) and name in whole for name in sets):
        work = {"command": "extract", "sets": sets}
        yield from _told(whole[sets[0]].name, whole[sets[0]].anchor, work, cache, [cache / name for name in sets], None)


def _of_run(run: TrainedRun, seconds: float) -> Iterator[Planned]:
    try:
        document = read_object(run.folder / RUN, "what this run read is not known")
        identity = identity_hash({name: document.get(name) for name in ("recipe", "cache")})
    except (BadInput, ValueError):
        return  # the run's own line tells
    work = {"command": "distill", "run": run.folder.absolute().name, "identity": identity}
    yield from _told(run.name, run.anchor, work, run.folder, [run.folder], seconds)


def _told(
    name: str, anchor: str, work: Mapping[str, Any], out: Path, folders: list[Path], seconds: float | None
) -> Iterator[Planned]:
    try:
        found: Comparison | None = beside(work, None, out, folders, seconds)
    except (TeacherShardsError, OSError) as error:
        yield Planned(name, anchor, [], short(one_line(error)))
        return
    if found is not None:
        yield Planned(name, anchor, found.rows, "from the first commit to the last" if found.of_commits else "")
