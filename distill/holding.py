"""Holding: which view set and target sets of a cache a run reads, for training and for validation."""

import math
from dataclasses import dataclass, replace
from typing import Any

from distill.recipe import TARGETS, Recipe, load_recipe, recipe_names
from extract.modalities.base import InputSpec
from shards.cache import ListedTargetSet, ListedViewSet, fitting_targetsets, list_viewsets, only, open_cache, prefer
from shards.command.ranges import POSITIVE
from shards.decode import codec_of
from shards.errors import BadInput
from shards.identity import identity_hash, same_but_for
from shards.reader import TargetSet, ViewSet, check_pair
from shards.splits import canonical_split
from shards.views import modality_of, view_codec

VALIDATION_SPLITS = ("validation", "test")
"""The better one first."""


@dataclass(frozen=True)
class Holding:
    """A view set and the target sets of it that a run learns from, with their weights in the loss."""

    viewset: ViewSet
    targetsets: list[TargetSet]
    weights: list[float]
    view_limit: int | None = None
    """Views that the run had when it began; later ones would change which view an epoch reads."""

    @property
    def num_views(self) -> int:
        """Views that the view set and every target set have, and that the run may read."""
        views = min([self.viewset.num_views, *(targetset.num_views for targetset in self.targetsets)])
        return views if self.view_limit is None else min(views, self.view_limit)

    def read_by(self, inputs: InputSpec, seed: int) -> "Holding":
        """The same sets, the views read as `inputs` takes them; captions are drawn with `seed`."""
        return replace(self, viewset=self.viewset.read_by(inputs.reads(self.viewset.codec, seed)))

    @property
    def num_bytes(self) -> int:
        """Bytes on disk of all that is read."""
        files = [self.viewset.manifest.files, *(targetset.manifest.files for targetset in self.targetsets)]
        return sum(record.size for records in files for record in records.values())

    def extracted(self) -> list[dict[str, Any]]:
        """What each target set cost once, whatever number of students learn from it: teacher forwards and bytes."""
        costs = []
        for targetset in self.targetsets:
            forwards = len(self.viewset.usable) * targetset.num_views
            size = sum(record.size for record in targetset.manifest.files.values())
            costs.append({"targetset": targetset.folder.name, "teacher_forwards": forwards, "bytes": size})
        return costs

    def facts(self) -> dict[str, str]:
        """What picks the recipe: source, modality, target, teacher (`none` without target sets)."""
        identity = self.viewset.identity
        manifests = [targetset.manifest for targetset in self.targetsets]
        return {
            "source": identity["source"],
            "modality": modality_of(identity),
            "target": "+".join(sorted({manifest.target for manifest in manifests})) or "none",
            "teacher": "+".join(sorted({manifest.teacher for manifest in manifests})) or "none",
        }

    def codecs(self) -> list[Any]:
        """Each target set's codec."""
        return [codec_of(targetset) for targetset in self.targetsets]

    def identity(self) -> dict[str, Any]:
        """Hashes that name exactly what is read."""
        targetsets = [identity_hash(targetset.identity) for targetset in self.targetsets]
        return {"viewset": identity_hash(self.viewset.identity), "targetsets": targetsets}


def open_training(shards: str, targets: str | None, labels_only: bool, recipe: Recipe | None = None) -> Holding:
    """What `--shards` and `--targets` name: a training view set with target sets, or without when labels are all.

    Of several target sets that `targets` leaves open, those that `recipe` (or any recipe) is for are meant.

    Raises BadInput where nothing or several things fit (the message lists them), Incomplete for a half-written one.
    """
    cache = open_cache(shards, "--shards")
    listed = only(cache.name, "view sets", prefer(cache.viewsets, lambda viewset: not _validates(viewset)))
    viewset = ViewSet(listed.folder)
    targets = targets if targets is not None or listed.named is None else listed.named.name
    if labels_only or (targets is None and viewset.labelled and not listed.targetsets):
        if targets is not None:
            raise BadInput(f"--targets {targets}: the recipe learns from the labels alone; leave --targets out")
        if not viewset.labelled and (recipe is None or recipe.learns_labels):
            raise BadInput(f"{listed}: has no labels, which the recipe needs; distil from a teacher's target set")
        return Holding(viewset, [], [])
    weights = _for_recipe(listed, recipe) if targets is None else _as_named(listed, targets)
    targetsets = [TargetSet(targetset.folder) for targetset in weights]
    for targetset in targetsets:
        check_pair(viewset, targetset)
    return Holding(viewset, targetsets, list(weights.values()))


def _validates(viewset: ListedViewSet) -> bool:
    """Whether its split is for validation; its plan says that also while it is half written."""
    return canonical_split(viewset.split) in VALIDATION_SPLITS


def _for_recipe(viewset: ListedViewSet, recipe: Recipe | None) -> dict[ListedTargetSet, float]:
    """The only target set of `viewset`, or of several the whole one that `recipe` (or any recipe) is for.

    All whole ones for a recipe whose student reads them.
    """
    targetsets = fitting_targetsets("--targets", viewset, None)
    if recipe is not None and recipe.reads == TARGETS:
        return dict.fromkeys((each for each in targetsets if each.whole), 1.0)
    if len(targetsets) > 1:
        recipes = [recipe] if recipe and recipe.fits else [load_recipe(name) for name in recipe_names()]
        whole = [each for each in targetsets if each.whole]
        suited = [each for each in whole if any(fit.is_for(each.manifest.target) for fit in recipes)]
        targetsets = suited or targetsets
    return {only("--targets", "target sets", targetsets, "name one, or several as NAME=0.5,NAME=0.5"): 1.0}


def _as_named(viewset: ListedViewSet, targets: str) -> dict[ListedTargetSet, float]:
    """The target sets that `targets` names, NAME or NAME=WEIGHT each, with their weights."""
    weights: dict[ListedTargetSet, float] = {}
    for part in targets.split(","):
        name, equals, number = part.partition("=")
        targetset = only(f"--targets {part}", "target sets", fitting_targetsets("--targets", viewset, name))
        if targetset in weights:
            raise BadInput(f"--targets {targets}: names {targetset} twice; add the weights up")
        try:
            weights[targetset] = float(number) if equals else 1.0
        except ValueError:
            weights[targetset] = math.nan
        if not POSITIVE.holds(weights[targetset]):
            raise BadInput(f"--targets {part}: expected NAME=WEIGHT with a number above 0, found {number!r}")
    return weights


def open_validation(training: Holding) -> tuple[Holding | None, str]:
    """The same teachers' target sets over the validation split of the same source, or None and why there is none.

    Of several such splits, the first of VALIDATION_SPLITS is taken; of several codecs the training's own, else the one
    that keeps most: a loss against float32 is the yardstick by which codecs can be compared.
    """
    holdings: dict[str, Holding] = {}
    viewset, reason = training.viewset, ""
    for listed in list_viewsets(viewset.folder.parent):
        if listed.folder == viewset.folder or not _validates(listed) or listed.source != viewset.identity["source"]:
            continue
        if view_codec(listed.identity).fields != viewset.codec.fields:
            continue  # views of another size
        if not listed.whole:
            reason = f"{listed.folder.name} is half written"
        elif (targetsets := _same_targets(listed, training)) is None:
            reason = f"{listed.folder.name} lacks the teacher's target set; extract {_flags(training, listed)} adds it"
        else:
            split = canonical_split(listed.split)
            holdings[split] = Holding(ViewSet(listed.folder), targetsets, training.weights)
    best = next((holdings[split] for split in VALIDATION_SPLITS if split in holdings), None)
    return best, "" if best else reason


def _flags(training: Holding, listed: ListedViewSet) -> str:
    manifests = [targetset.manifest for targetset in training.targetsets]
    targets = ",".join(manifest.target for manifest in manifests)
    codecs = ",".join(manifest.codec for manifest in manifests)
    precisions = {targetset.identity["precision"] for targetset in training.targetsets} - {"float32"}
    precision = "".join(f" --precision {name}" for name in precisions)
    return f"--split {listed.split} --target {targets} --codec {codecs}{precision} with the teacher's own flags"


def _same_targets(listed: ListedViewSet, training: Holding) -> list[TargetSet] | None:
    """The target sets of `listed` of the same teachers and targets as those of `training`; None where it lacks any."""
    targetsets = []
    for identity in (targetset.identity for targetset in training.targetsets):
        whole = [each for each in listed.targetsets if each.whole]
        alike = [each for each in whole if same_but_for(each.identity, identity, "viewset", "codec")]
        same_codec = [each for each in alike if same_but_for(each.identity, identity, "viewset")]
        if not alike:
            return None
        opened = [TargetSet(each.folder) for each in same_codec or alike]
        targetsets.append(max(opened, key=lambda targetset: targetset.bytes_per_sample))
    return targetsets
