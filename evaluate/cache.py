"""Cache: what a run was trained on, and which of several stored sets it is measured against for that."""

from dataclasses import dataclass
from pathlib import Path

from evaluate.runs import read_summary
from shards.cache import ListedTargetSet, ListedViewSet, fitting_targetsets, names, only, prefer
from shards.errors import BadInput
from shards.identity import same_but_for

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
