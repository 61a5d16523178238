"""Ledger: what each run saved against the teacher in the loop, and which sets no run has read.

A run with its teacher in the loop computes a forward for each sample of each step and each teacher; from a cache it
computes those that its summary.json tells. How long a forward takes is not recorded: the times at which a target set's
shards were committed tell it, or --teacher_rate does.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

from shards.command.progress import counted, human_bytes
from shards.documents import TargetSetManifest
from shards.identity import canonical_json
from shards.page.sets import WHOLE, SetCard
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
    """The entries of all runs in their order, the sets that no run has read, and what deleting these frees."""

    entries: list[Entry]
    unread: list[SetCard]
    num_unknown: int
    """Runs that do not say what they read, and may have read any set."""

    @property
    def saved(self) -> list[int | None]:
        """Teacher forwards that each run saved."""
        return [entry.saved for entry in self.entries]

    @property
    def freed(self) -> str:
        """Bytes of the sets that no run has read."""
        return human_bytes(sum(card.described.num_bytes for card in self.unread))

    def summary(self) -> str:
        """One line: forwards, hours and dollars that are known to be saved, and what may go."""
        known = [entry for entry in self.entries if entry.saved is not None]
        told = f"{sum(entry.saved or 0 for entry in known):,} teacher forwards saved by {counted(len(known), 'run')}"
        hours, dollars = (sum(getattr(entry, name) or 0 for entry in known) for name in ("hours", "dollars"))
        told += f", about {hours:,.3g} hours and ${dollars:,.2f} where the teacher's rate is known" if hours else ""
        return f"{told}; {counted(len(self.unread), 'target set')} that no run has read, {self.freed}"


def ledger_of(
    viewsets: list[SetCard], runs: list[TrainedRun], dollars_per_hour: float, teacher_rate: float | None
) -> Ledger:
    """The ledger of `runs` over the sets of a cache; `teacher_rate` in forwards a second, None: as committed."""
    targetsets = [card for viewset in viewsets for card in viewset.targetsets]
    by_identity = {card.identity: card for card in targetsets if card.identity}
    entries = [_entry(run, by_identity, dollars_per_hour, teacher_rate) for run in runs]
    read = {one for run in runs for one in run.reads or ()}
    whole = [card for card in targetsets if card.tone == WHOLE]
    unread = [card for card in whole if card.identity not in read and card.name not in read]
    return Ledger(entries, unread, sum(run.reads is None for run in runs))


def _entry(
    run: TrainedRun, targetsets: dict[str, SetCard], dollars_per_hour: float, teacher_rate: float | None
) -> Entry:
    if run.reads is None or run.samples_seen is None:
        why = "what it read" if run.reads is None else "its steps: it has no summary.json"
        return Entry(run, None, None, None, why)
    missing = sum(identity not in targetsets for identity in run.learnt)
    if missing:
        return Entry(run, None, None, None, f"{counted(missing, 'target set')} it read, not whole in this cache")
    teachers = {_teacher(card): card for card in (targetsets[identity] for identity in run.learnt)}
    saved = run.samples_seen * len(teachers) - (run.summary.teacher_forwards or 0)
    if not teachers:
        return Entry(run, saved, 0.0, 0.0, "")
    seconds = [1 / teacher_rate if teacher_rate else seconds_a_forward(card) for card in teachers.values()]
    known = [each for each in seconds if each is not None]
    if len(known) < len(seconds):
        return Entry(run, saved, None, None, "the teacher's rate: give --teacher_rate")
    hours = saved / len(teachers) * sum(known) / 3600
    return Entry(run, saved, hours, hours * dollars_per_hour, "")


def _teacher(card: SetCard) -> bytes:
    """What two targets of one teacher, which takes one forward for both, have in common."""
    manifest = card.described.manifest
    return canonical_json(manifest.identity.get("teacher")) if manifest else b""


def seconds_a_forward(card: SetCard) -> float | None:
    """The median time between the commits of two shards over a shard's rows; None where there are few shards.

    It has the making of views in it where they were made in the same pass; pauses between two commands fall out. Files
    that were copied without their times say nothing true.
    """
    manifest = card.described.manifest
    times = sorted(_commit_times(card.described.folder))
    if not isinstance(manifest, TargetSetManifest) or len(times) < _FEWEST_COMMITS:
        return None
    gap = median(later - earlier for earlier, later in pairwise(times))
    return gap / manifest.shard_size or None


def _commit_times(folder: Path) -> Iterator[float]:
    for path in (folder / "commits").glob("v*.json"):
        yield path.stat().st_mtime
