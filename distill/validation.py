"""Validation: the split of a source on which a run's losses are compared, with the same teachers' targets."""

from collections.abc import Sequence
from typing import Any

from shards.cache import ListedTargetSet, ListedViewSet, list_viewsets
from shards.identity import same_but_for
from shards.reader import Component, TargetSet, ViewSet
from shards.splits import canonical_split
from shards.views import view_codec

VALIDATION_SPLITS = ("validation", "test")
"""The better one first."""


def validates(viewset: ListedViewSet) -> bool:
    """Whether its split is for validation; its plan says that also while it is half written."""
    return canonical_split(viewset.split) in VALIDATION_SPLITS


def validation_splits(training: Sequence[Component]) -> tuple[list[Component | None], list[str]]:
    """The validation split of each component, or None and why there is none.

    All are stored in one form: where one is in another codec than the training's, those in its codec are taken alone.
    """
    found = [open_validation(component) for component in training]
    splits, reasons = [split for split, _ in found], [reason for _, reason in found]
    forms = [_form(split or own) for split, own in zip(splits, training, strict=True)]
    own_form = _form(training[0])
    for number, form in enumerate(forms):
        if any(other != forms[0] for other in forms) and form != own_form:
            splits[number], reasons[number] = None, "its validation split is in another codec than the others'"
    return splits, reasons


def _form(component: Component) -> list[Any]:
    return [targetset.manifest.arrays for targetset in component.targetsets]


def open_validation(training: Component) -> tuple[Component | None, str]:
    """The same teachers' target sets over the validation split of the same source, or None and why there is none.

    Of several such splits, the first of VALIDATION_SPLITS is taken; of several codecs the training's own, else the one
    that keeps most: a loss against float32 is the yardstick by which codecs can be compared.
    """
    splits: dict[str, Component] = {}
    viewset, reason = training.viewset, ""
    for listed in list_viewsets(viewset.folder.parent):
        if listed.folder == viewset.folder or not validates(listed) or listed.source != viewset.identity["source"]:
            continue
        if view_codec(listed.identity).fields != viewset.codec.fields:
            continue  # views of another size
        if not listed.whole:
            reason = f"{listed.folder.name} is half written"
        elif (targetsets := _same_targets(listed, training)) is None:
            reason = f"{listed.folder.name} lacks the teacher's target set; extract {_flags(training, listed)} adds it"
        else:
            splits[canonical_split(listed.split)] = Component(ViewSet(listed.folder), targetsets)
    best = next((splits[split] for split in VALIDATION_SPLITS if split in splits), None)
    return best, "" if best else reason


def _flags(training: Component, listed: ListedViewSet) -> str:
    manifests = [targetset.manifest for targetset in training.targetsets]
    targets = ",".join(manifest.target for manifest in manifests)
    codecs = ",".join(manifest.codec for manifest in manifests)
    precisions = {targetset.identity["precision"] for targetset in training.targetsets} - {"float32"}
    precision = "".join(f" --precision {name}" for name in precisions)
    return f"--split {listed.split} --target {targets} --codec {codecs}{precision} with the teacher's own flags"


def same_target(listed: ListedViewSet, wanted: TargetSet) -> list[ListedTargetSet]:
    """The whole target sets of `listed` of the same teacher and target as `wanted`, in any codec."""
    whole = [each for each in listed.targetsets if each.whole]
    return [each for each in whole if same_but_for(each.identity, wanted.identity, "viewset", "codec")]


def _same_targets(listed: ListedViewSet, training: Component) -> list[TargetSet] | None:
    """The target sets of `listed` of the same teachers and targets as those of `training`; None where it lacks any."""
    targetsets = []
    for wanted in training.targetsets:
        alike = same_target(listed, wanted)
        if not alike:
            return None
        same_codec = [each for each in alike if same_but_for(each.identity, wanted.identity, "viewset")]
        opened = [TargetSet(each.folder) for each in same_codec or alike]
        targetsets.append(max(opened, key=lambda targetset: targetset.bytes_per_sample))
    return targetsets
