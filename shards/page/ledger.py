"""Ledger: what each run saved against the teacher in the loop, and what may be deleted.

A run with its teacher in the loop computes a forward for each sample of each step and each teacher; from a cache it
computes those that its summary.json tells. How long a forward takes is not recorded: the times at which a target set's
shards were committed tell it, or --teacher_rate does.
"""

from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

from shards.command.progress import counted
from shards.documents import TargetSetManifest
from shards.identity import canonical_json
from shards.page.removable import CHECKPOINT, Removable, freed, removable
from shards.page.sets import DAMAGED, WHOLE, SetCard
from shards.page.trained import TrainedRun

HEADINGS = ("run", "samples seen", "forwards saved", "hours saved", "dollars saved", "not known")
_FEWEST_COMMITS = 4
"""Of which the times between commits are taken; fewer say nothing."""


@dataclass(frozen=True)
class Entry:
    """What one run saved; None is what cannot be known, and `unknown` says why."""

    run: TrainedRun
    saved: int | None
    hours: float | None
    dollars: float | None
    unknown: str

    def row(self) -> tuple[str, ...]:
        """The cells of its line, as HEADINGS names them."""
        seen = self.run.samples_seen
        return (
            self.run.name,
            "-" if seen is None else f"{seen:,}",
            "-" if self.saved is None else f"{self.saved:,}",
            "-" if self.hours is None else f"{self.hours:,.3g}",
            "-" if self.dollars is None else f"{self.dollars:,.2f}",
            self.unknown or "-",
        )


@dataclass(frozen=True)
class Ledger:
    """The entries of all runs in their order, and what may be deleted."""

    entries: list[Entry]
    removable: list[Removable]
    partial: list[SetCard]
    """View sets and target sets that are half written or damaged; of these nobody can say what deleting them loses."""
    num_unknown: int
    """Runs that do not say all that they read, and may have read any set."""
    paid_hours: float
    """What it took to extract the target sets that runs learnt from, each once, as far as commits tell."""

    @property
    def freed(self) -> str:
        """What may be deleted, counted, and the bytes of it."""
        return freed(self.removable)

    @property
    def are_unsure(self) -> bool:
        """Whether a run that does not say what it read may have read a set that is said to be unread."""
        return self.num_unknown > 0 and any(thing.kind != CHECKPOINT for thing in self.removable)

    def summary(self) -> str:
        """One line: forwards, hours and dollars that are known to be saved, and what may go."""
        known = [entry for entry in self.entries if entry.saved is not None]
        told = f"{sum(entry.saved or 0 for entry in known):,} teacher forwards saved by {counted(len(known), 'run')}"
        hours, dollars = (sum(getattr(entry, name) or 0 for entry in known) for name in ("hours", "dollars"))
        if hours:
            told += f", about {hours:,.3g} hours and ${dollars:,.2f} where the teacher's rate is known"
        if self.paid_hours:
            told += f"; their extraction took about {self.paid_hours:,.3g} hours, once"
        return f"{told}; {self.freed}"


def ledger_of(
    viewsets: list[SetCard], runs: list[TrainedRun], dollars_per_hour: float, teacher_rate: float | None
) -> Ledger:
    """The ledger of `runs` over the sets of a cache; `teacher_rate` in forwards a second, None: as committed."""
    targetsets = [card for viewset in viewsets for card in viewset.targetsets]
    by_identity = {card.identity: card for card in targetsets if card.identity}
    learnt = {identity: by_identity[identity] for run in runs for identity in run.learnt if identity in by_identity}
    committed = {each: seconds for viewset in viewsets for each, seconds in _seconds_a_forward(viewset, learnt)}
    seconds = dict.fromkeys(learnt, 1 / teacher_rate) if teacher_rate else committed
    entries = [_entry(run, by_identity, dollars_per_hour, seconds) for run in runs]
    partial = [card for card in (*viewsets, *targetsets) if card.tone != WHOLE]
    paid = {_pass(card): (committed[each] or 0) * _num_rows(card) for each, card in learnt.items()}
    things = list(removable(viewsets, runs))
    num_unknown = sum(run.reads is None or run.reads_more for run in runs)
    return Ledger(entries, things, partial, num_unknown, sum(paid.values()) / 3600)


def _entry(
    run: TrainedRun, targetsets: dict[str, SetCard], dollars_per_hour: float, seconds: Mapping[str, float | None]
) -> Entry:
    if run.reads is None or run.samples_seen is None:
        why = "what it read" if run.reads is None else "its steps: it has no summary.json"
        return Entry(run, None, None, None, f"{DAMAGED}: {run.state}" if run.tone == DAMAGED else why)
    missing = sum(identity not in targetsets for identity in run.learnt)
    if missing:
        return Entry(run, None, None, None, f"{counted(missing, 'target set')} it read, not whole in this cache")
    teachers = {_teacher(targetsets[identity]): identity for identity in run.learnt}
    saved = run.samples_seen * len(teachers) - (run.summary.teacher_forwards or 0)
    if not teachers:
        return Entry(run, saved, 0.0, 0.0, "")
    known = [each for each in (seconds[identity] for identity in teachers.values()) if each is not None]
    if len(known) < len(teachers):
        return Entry(run, saved, None, None, "the teacher's rate: give --teacher_rate")
    hours = saved / len(teachers) * sum(known) / 3600
    return Entry(run, saved, hours, hours * dollars_per_hour, "")


def _teacher(card: SetCard) -> bytes:
    """What two targets of one teacher, which takes one forward for both, have in common."""
    manifest = card.described.manifest
    return canonical_json(manifest.identity.get("teacher")) if manifest else b""


def _pass(card: SetCard) -> tuple[bytes, str]:
    """What two targets that took one forward of one teacher have in common: the view set too."""
    manifest = card.described.manifest
    return _teacher(card), str(manifest.identity.get("viewset")) if manifest else ""


def _num_rows(card: SetCard) -> int:
    """Samples and views of a whole target set: the forwards that it took."""
    manifest = card.described.manifest
    return manifest.num_samples * manifest.num_views if isinstance(manifest, TargetSetManifest) else 0


def _seconds_a_forward(viewset: SetCard, wanted: Collection[str]) -> Iterator[tuple[str, float | None]]:
    """For each target set that is `wanted`, by its identity, the median time that a shard took over its rows.

    A shard's time begins with the last commit of the target set, or of another teacher's that was made in the same
    pass. It has the making of views in it where they were made in that pass; pauses between two commands fall out.
    None where there are few shards. Files that were copied without their times say nothing true.
    """
    made = [card for card in viewset.targetsets if card.identity]
    if not any(card.identity in wanted for card in made):
        return
    times = {card.name: _commit_times(card.described.folder) for card in made}
    for card in made:
        manifest = card.described.manifest
        if card.identity not in wanted or not isinstance(manifest, TargetSetManifest):
            continue
        own, others = times[card.name], [times[each.name] for each in made if _teacher(each) != _teacher(card)]
        between = sorted(time for of_other in others for time in of_other)
        took = [later - max([earlier, *_last_before(between, later)]) for earlier, later in pairwise(own)]
        seconds = median(took) / manifest.shard_size if len(own) >= _FEWEST_COMMITS else None
        yield str(card.identity), seconds or None


def _last_before(times: list[float], time: float) -> list[float]:
    """The last of `times`, ascending, before `time`, if there is one."""
    place = bisect_left(times, time)
    return times[place - 1 : place] if place else []


def _commit_times(folder: Path) -> list[float]:
    """When the shards of a set were committed, ascending, in seconds."""
    return sorted(path.stat().st_mtime for path in (folder / "commits").glob("v*.json"))
