"""Removable: what may be deleted and how much that frees: sets that no run has read, checkpoints of finished runs."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from shards.command.progress import counted, human_bytes
from shards.page.sets import WHOLE, SetCard
from shards.page.trained import TrainedRun

TARGET_SET, VIEW_SET, CHECKPOINT = "target set", "view set", "checkpoint"
_LAST = "checkpoints/last.ckpt"
"""In a run's folder: what it would go on from."""


@dataclass(frozen=True)
class Removable:
    """One thing that nothing here needs."""

    kind: str
    """TARGET_SET, VIEW_SET or CHECKPOINT."""
    name: str
    note: str
    """What is to be known of it beside its name, after a comma; or empty."""
    num_bytes: int
    """Of a view set without its target sets, which are things of their own."""
    removal: str
    """What to type."""
    anchor: str
    """Where on the page it, or its run, stands."""

    @property
    def size(self) -> str:
        """What deleting it frees."""
        return human_bytes(self.num_bytes)

    def line(self) -> str:
        """As a command prints it."""
        why = "a finished run keeps" if self.kind == CHECKPOINT else "no run has read"
        return f"{why} {self.name}{self.note}, {self.size}: {self.removal}"


def removable(viewsets: list[SetCard], runs: list[TrainedRun]) -> Iterator[Removable]:
    """What no run has read, and what finished runs go on without.

    Nothing that is half written or damaged: nobody can say what is lost with it. A view set only with all of its target
    sets; where a path names one of these, the others are not known.
    """
    read = {one for run in runs for one in run.reads or ()}
    for viewset in viewsets:
        unread = [card for card in viewset.targetsets if _is_unread(card, read)]
        yield from (_of_set(TARGET_SET, card) for card in unread)
        if _is_unread(viewset, read) and len(unread) == _num_targetsets(viewset.described.folder):
            yield _of_set(VIEW_SET, viewset, ", with its target sets" if unread else ", which has no target set")
    for run in runs:
        last = run.folder / _LAST
        if run.tone == WHOLE and last.is_file() and not last.is_symlink():
            command = f"rm {shlex.quote(str(last))}"
            yield Removable(CHECKPOINT, f"{run.name}/{_LAST}", "", last.stat().st_size, command, run.anchor)


def freed(things: list[Removable]) -> str:
    """How many of each kind there are, and their bytes, in words."""
    kinds = {kind: sum(thing.kind == kind for thing in things) for kind in (TARGET_SET, VIEW_SET, CHECKPOINT)}
    named = ", ".join(counted(count, kind) for kind, count in kinds.items() if count)
    size = human_bytes(sum(thing.num_bytes for thing in things))
    return f"{named} may be deleted, which frees {size}" if things else "nothing may be deleted"


def _is_unread(card: SetCard, read: set[str]) -> bool:
    return card.tone == WHOLE and card.identity not in read and card.name not in read


def _of_set(kind: str, card: SetCard, note: str = "") -> Removable:
    return Removable(kind, card.name, note, card.described.num_bytes, card.removal, card.anchor)


def _num_targetsets(viewset: Path) -> int:
    return sum(1 for _ in (viewset / "targets").glob("*"))
