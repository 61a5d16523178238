"""Cache: which view set and which target set a run is measured against, where several may lie."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluate.runs import read_summary
from extract.sources.splits import canonical_split, choose_split
from shards.errors import BadInput
from shards.layout import PLAN, TARGETSET_MANIFEST, Plan, read_targetset_manifest, targetset_folders, viewset_folders
from shards.selection import named


@dataclass(frozen=True)
class TrainedOn:
    """What a run was trained on, as its cache still has it."""

    viewset: Path
    plan: Plan
    targetsets: list[Path]


def trained_on(run: Path) -> TrainedOn:
    """The view set and target sets that the summary of `run` names; BadInput when they are no longer there."""
    summary = read_summary(run)
    viewset = Path(str(summary.get("cache"))) / str(summary.get("viewset"))
    if not (viewset / PLAN).is_file():
        raise BadInput(f"{run}: was trained on {viewset}, which is not here; give --data, or --shards where it is now")
    names = summary.get("targetsets") or []
    return TrainedOn(viewset, Plan.read(viewset), [viewset / "targets" / str(name) for name in names])


def trained_on_if_here(run: Path) -> TrainedOn | None:
    """As `trained_on`, but None where the run has no summary or its cache is gone: for choosing alone."""
    try:
        return trained_on(run)
    except BadInput:
        return None


def find_viewset(place: Path, split: str, beside: TrainedOn | None) -> Path:
    """The view set of `split` at `place`, a cache or a view set itself.

    Where a cache holds several sources, the one that the run was trained on decides; BadInput with the choice when
    nothing does.
    """
    if (place / PLAN).is_file():
        held = Plan.read(place).identity["split"]
        if canonical_split(split) != canonical_split(held):
            raise BadInput(f"--shards {place}: is split {held}, asked for {split}; give --split {held}")
        return place
    plans = {folder: Plan.read(folder).identity for folder in viewset_folders(place)}
    if not plans:
        raise BadInput(f"--shards {place}: holds no view set; python -m extract --out {place} writes one")
    source = beside.plan.identity["source"] if beside else None
    found = [folder for folder, identity in plans.items() if identity["source"] == source] or list(plans)
    splits = {plans[folder]["split"] for folder in found}
    try:
        split = choose_split(f"--shards {place}", split, splits)
    except BadInput as error:
        more = f"or python -m extract with --split {split} --out {place} to add it"
        raise BadInput(f"{error}, {more}") from None
    found = [folder for folder in found if plans[folder]["split"] == split]
    if len(found) > 1:
        names = ", ".join(folder.name for folder in found)
        raise BadInput(f"--shards {place}: several view sets of split {split} ({names}); give --shards one of them")
    return found[0]


def find_targetset(viewset: Path, wanted: str | None, beside: TrainedOn | None) -> Path:
    """The target set of `viewset` that `wanted`, a part of its name, means.

    Of several the whole ones are preferred, then what the run learned from (or the same target in another codec, or
    another of its teachers' targets), then logits; BadInput with the choice when that leaves more than one.
    """
    folders = list(targetset_folders(viewset))
    if not folders:
        raise BadInput(f"{viewset}: holds no target set; python -m extract --teacher ... adds one")
    found = folders if wanted is None else named(folders, wanted)
    if not found:
        raise BadInput(f"--targetset {wanted}: {viewset} holds {', '.join(folder.name for folder in folders)}")
    if len(found) > 1:
        identities = {folder: identity for folder in found if (identity := _whole(folder))}
        learned_from = [identity for folder in (beside.targetsets if beside else []) if (identity := _whole(folder))]
        if not identities:
            return found[0]  # half written: refused by whoever opens it
        found = list(identities)
        for ignored in ({"viewset"}, {"viewset", "codec", "precision"}, {"viewset", "codec", "precision", "target"}):
            learned = [_without(identity, ignored) for identity in learned_from]
            found = [folder for folder in found if _without(identities[folder], ignored) in learned] or found
        found = [folder for folder in found if identities[folder]["target"] == "logits"] or found
    if len(found) > 1:
        names = ", ".join(folder.name for folder in found)
        lacks = ""
        if wanted is None and beside and beside.targetsets:
            lacks = f"lacks what the run learned from ({', '.join(one.name for one in beside.targetsets)}) and "
        raise BadInput(f"--targetset: {viewset} {lacks}holds several that fit ({names}); give a part of one name")
    return found[0]


def _without(identity: dict[str, Any], ignored: set[str]) -> dict[str, Any]:
    return {field: value for field, value in identity.items() if field not in ignored}


def _whole(targetset: Path) -> dict[str, Any] | None:
    """The identity of a target set, None while it is half written."""
    return read_targetset_manifest(targetset)["identity"] if (targetset / TARGETSET_MANIFEST).exists() else None
