"""Cache: what a run was trained on, and which of several stored sets it is measured against for that."""

import contextlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from evaluate.views import check_fits
from extract.modalities.base import InputSpec
from shards.cache import (
    Cache,
    ListedTargetSet,
    ListedViewSet,
    choose_viewset,
    fitting_targetsets,
    names,
    only,
    open_cache,
    prefer,
)
from shards.errors import BadInput
from shards.identity import same_but_for
from shards.listing import saved_flags
from shards.reader import TargetSet, ViewSet, check_pair
from shards.runs import read_summary

NEAR = (("viewset",), ("viewset", "codec", "precision"), ("viewset", "codec", "precision", "target"))
"""What a target set may have of its own to be like one that the run learned from, the nearest first: nothing but the
views; its codec and precision; another of the teacher's targets."""


@dataclass(frozen=True)
class TrainedOn:
    """What a run was trained on, as its cache still has it."""

    viewset: ListedViewSet
    targetsets: list[ListedTargetSet]


def trained_on(run: Path) -> TrainedOn:
    """The view set and target sets that the summary of `run` names; BadInput when they are no longer there.

    Of several view sets that trained as one the first, whose target sets are of the same teachers as the others'.
    """
    summary = read_summary(run)
    cache, name, targetsets = (summary.get(field) for field in ("cache", "viewset", "targetsets"))
    if isinstance(name, list):
        cache, name, targetsets = (
            field[0] if isinstance(field, list) and field else None for field in (cache, name, targetsets)
        )
    viewset = ListedViewSet(Path(str(cache)) / str(name))
    if not viewset.planned:
        raise BadInput(f"{run}: was trained on {viewset}, which is not here; give --data, or --shards where it is now")
    folders = [viewset.folder / "targets" / str(name) for name in targetsets or []]
    return TrainedOn(viewset, [ListedTargetSet(folder) for folder in folders])


@dataclass(frozen=True)
class Stored:
    """What lies in --shards, or else in the cache that a run was trained on."""

    run: Path
    shards: str | None
    targetset: str | None
    """--targetset, a part of a name."""
    inputs: InputSpec
    """The student's."""

    @cached_property
    def trained(self) -> TrainedOn | None:
        """What the run was trained on; None where that is no longer here."""
        with contextlib.suppress(BadInput):
            return trained_on(self.run)
        return None

    @property
    def learned_from(self) -> list[tuple[Path, dict[str, Any]]]:
        """The target sets that the run learned from, those that are whole here, and the flags that made each."""
        targetsets = self.trained.targetsets if self.trained else []
        return [(each.folder, saved_flags(each.folder)) for each in targetsets if each.whole]

    @cached_property
    def cache(self) -> Cache:
        """--shards, else the cache that the run was trained on."""
        shards = self.shards
        return open_cache(trained_on(self.run).viewset.folder.parent if shards is None else shards, "--shards")

    def viewset(self, split: str) -> ListedViewSet:
        """The view set of `split`, of the run's own source and modality where that cache has these."""
        like = (self.trained.viewset.source, self.trained.viewset.modality) if self.trained else ()
        return choose_viewset(self.cache, split, *like)

    def sets(self, split: str) -> tuple[ViewSet, TargetSet]:
        """The stored views of `split`, which fit the student, and the teacher's targets for them."""
        listed = self.viewset(split)
        viewset = ViewSet(listed.folder)
        check_fits(viewset, self.inputs)
        targetset = TargetSet(targetset_of(listed, self.targetset, self.trained).folder)
        check_pair(viewset, targetset)
        return viewset, targetset


def targetset_of(viewset: ListedViewSet, wanted: str | None, trained: TrainedOn | None) -> ListedTargetSet:
    """The target set of `viewset` that `wanted`, a part of its name, means.

    Of several the whole ones are preferred, then what the run learned from (or the same target in another codec, or
    another of its teachers' targets), then logits; BadInput with the choice when that leaves more than one.
    """
    fitting = fitting_targetsets("--targetset", viewset, wanted)
    if len(fitting) == 1:
        return fitting[0]
    fitting = prefer(fitting, lambda targetset: targetset.whole)
    if not fitting[0].whole:
        return fitting[0]  # refused by whoever opens it
    learned_from = trained.targetsets if trained else []
    identities = [targetset.identity for targetset in learned_from if targetset.whole]
    for ignored in NEAR:
        alike = (each for each in fitting for known in identities if same_but_for(each.identity, known, *ignored))
        fitting = list(dict.fromkeys(alike)) or fitting
    fitting = prefer(fitting, lambda targetset: targetset.manifest.target == "logits")
    lacks = f": {viewset} lacks what the run learned from ({names(learned_from)})" if learned_from else ""
    flag = f"--targetset{lacks}" if wanted is None else f"--targetset {wanted}"
    return only(flag, "target sets", fitting, "give a part of one name")
