"""Trained: the runs of a folder as the page shows them; one that cannot be read says why, and hides no other."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta, Struct

from shards.command.progress import counted
from shards.errors import BadInput, TeacherShardsError, one_line
from shards.page.curves import Points, read_curves
from shards.page.sets import DAMAGED, HALF, WHOLE, anchor_of, short
from shards.records import Count, Number
from shards.runs import ON, SUMMARY, TEACHER, find_runs, missing_files, read_evaluation, read_summary
from shards.sealed import fields_of, read_object

RUN = "run.json"
_MEASURED_ON = ("targetset", "data", "train_data")
_METRICS = ("top1", "average", "spearman", "agreement", "i2t_r1")
"""The one figure of each task that the table shows."""


class Summary(Struct, frozen=True):
    """summary.json: what the page takes of it."""

    recipe: str | None = None
    student: str | None = None
    num_parameters: Number | None = None
    seconds: Annotated[float, Meta(ge=0, le=1e12)] | None = None
    steps: Number | None = None
    teacher_forwards: Number | None = None
    best_val_loss: float | None = None
    cache: str | list[str] | None = None
    viewset: str | list[str] | None = None


class _Recipe(Struct, frozen=True):
    """run.json's recipe: what the page takes of it."""

    name: str | None = None
    student: str | None = None
    batch_size: Count | None = None


@dataclass(frozen=True)
class TrainedRun:
    """One run: what it cost, what it read and how it went."""

    name: str
    folder: Path
    tone: str
    """WHOLE, HALF or DAMAGED."""
    state: str
    summary: Summary = field(default_factory=Summary)
    batch_size: int | None = None
    """Samples a step, over all devices."""
    learnt: tuple[str, ...] = ()
    """The hashes of the target sets that it learns from."""
    reads: frozenset[str] | None = None
    """The hashes of all view sets and target sets that it read, or names of those that it was measured on; None where
    its run.json does not say."""
    reads_more: bool = False
    """Whether it was perhaps measured on others, too, which a damaged document does not tell."""
    results: dict[str, float] = field(default_factory=dict)
    """The main figure of each task that it was measured by."""
    curves: dict[str, Points] = field(default_factory=dict)

    @property
    def anchor(self) -> str:
        """Its id on the page."""
        return anchor_of("run", self.name)

    @property
    def cache(self) -> str:
        """The view set that it read, or several, with the folder of each."""
        caches, viewsets = (_listed(value) for value in (self.summary.cache, self.summary.viewset))
        return short(", ".join(f"{cache}/{viewset}" for cache, viewset in zip(caches, viewsets, strict=False)))

    @property
    def samples_seen(self) -> int | None:
        """Samples that the student was trained on, each as often as it was seen."""
        steps = self.summary.steps
        return None if steps is None or self.batch_size is None else steps * self.batch_size


def runs_in(folder: Path) -> list[TrainedRun]:
    """The runs at or below `folder`, whole, half written or damaged, by name; BadInput where there is no folder."""
    runs = [run for run in find_runs(folder) if not (run / TEACHER).is_file()]
    return [_run(run, short(run.name if run == folder else run.relative_to(folder).as_posix(), 120)) for run in runs]


def _run(folder: Path, name: str) -> TrainedRun:
    missing = missing_files(folder)
    parts: dict[str, Any] = {}
    half = f"no {', '.join(missing)}; the same distill command finishes it"
    if missing and not (folder / RUN).is_file():
        return TrainedRun(name, folder, HALF, half)
    try:
        recipe, learnt, reads = _identity(folder)
        parts = {"batch_size": recipe.batch_size, "learnt": learnt, "reads": reads}
        summary = Summary(recipe=recipe.name, student=recipe.student)
        if not missing:
            document = read_summary(folder)
            summary = fields_of(document, Summary, str(folder / SUMMARY), remedy="train it again", error=BadInput)
            evaluation = read_evaluation(folder)
            parts["results"] = dict(_results(evaluation))
            measured_on = {str(record.get(name)) for record in evaluation.values() for name in _MEASURED_ON}
            parts["reads"] = reads | measured_on
    except (TeacherShardsError, OSError) as error:
        curves = read_curves(folder / "logs").of
        return TrainedRun(name, folder, DAMAGED, short(one_line(error)), curves=curves, reads_more=True, **parts)
    logged = read_curves(folder / "logs", summary.steps)
    state = short("; ".join(filter(None, (half if missing else "", logged.damage, logged.missing))) or WHOLE)
    tone = DAMAGED if logged.damage else HALF if missing else WHOLE
    return TrainedRun(name, folder, tone, state, summary, curves=logged.of, **parts)


def _identity(folder: Path) -> tuple[_Recipe, tuple[str, ...], frozenset[str]]:
    """The recipe of a run, the target sets that it learns from, and all sets that it reads; BadInput where damaged."""
    path, remedy = folder / RUN, "what this run read is not known"
    document = read_object(path, remedy)
    recipe = document.get("recipe")
    if not isinstance(recipe, dict):
        raise BadInput(f"{path}: recipe: expected an object, found {recipe!r:.40}; {remedy}")
    fields = fields_of(recipe, _Recipe, str(path), "recipe.", remedy, BadInput)
    training, validation = document.get("cache"), document.get("validation")
    learnt = tuple(dict.fromkeys(_hashes(training, "targetsets")))
    reads = frozenset([*learnt, *_hashes(training, "viewset")])
    return fields, learnt, reads | set(_hashes(validation, "targetsets")) | set(_hashes(validation, "viewset"))


def _hashes(identity: object, name: str) -> Iterator[str]:
    """Every text in that field of `identity`, which holds one, a list of them, or a list for each of several caches."""
    waiting = [identity.get(name)] if isinstance(identity, dict) else []
    for value in waiting:
        if isinstance(value, list):
            waiting.extend(value)
        elif isinstance(value, str):
            yield value


def _results(evaluation: dict[str, dict[str, Any]]) -> Iterator[tuple[str, float]]:
    for task, record in evaluation.items():
        for metric in _METRICS:
            value = record.get(metric)
            if isinstance(value, int | float) and math.isfinite(value) and ON not in task:
                yield short(f"{task} {metric}", 40), float(value)
                break


def _listed(value: str | list[str] | None) -> list[str]:
    return [value] if isinstance(value, str) else value or []


def totals(runs: list[TrainedRun]) -> str:
    """How many runs there are, and how many of them are not whole, in words."""
    counts = [(tone, sum(run.tone == tone for run in runs)) for tone in (HALF, DAMAGED)]
    return ", ".join([counted(len(runs), "run"), *(f"{count} {tone}" for tone, count in counts if count)])
