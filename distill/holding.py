"""Holding: which view sets and target sets of caches a run reads, for training and for validation."""

import math
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from distill.fitting import recipe_names
from distill.named_targets import named_targets, of_recipe
from distill.recipe import TARGETS, Recipe, load_recipe
from distill.validation import same_target, validates
from extract.modalities.base import InputSpec
from shards.cache import ListedTargetSet, ListedViewSet, fitting_targetsets, only, open_cache, prefer
from shards.command.ranges import POSITIVE
from shards.decode import codec_of
from shards.errors import BadInput
from shards.identity import identity_hash, same_but_for
from shards.listing import saved_flags
from shards.mirror import out_of
from shards.promised import Promises
from shards.reader import Component, TargetSet, ViewSet, check_pair
from shards.views import modality_of

Value = TypeVar("Value")


@dataclass(frozen=True)
class Holding:
    """What a run learns from: view sets that train as one, each with the same target sets, and weights of both."""

    components: list[Component]
    """Views of one kind, and target sets of the same teachers, targets and codecs, in the same order."""
    weights: list[float]
    """Of the target sets in the loss."""
    shares: list[float] | None = None
    """The components' shares of an epoch are in proportion to these; None: to their samples."""

    @property
    def viewset(self) -> ViewSet:
        """The first view set; what the student is built from is alike in all."""
        return self.components[0].viewset

    @property
    def targetsets(self) -> Sequence[TargetSet]:
        """The target sets of the first view set; by their names a batch has its targets."""
        return self.components[0].targetsets

    @property
    def num_views(self) -> list[int]:
        """Views of each component that the run reads."""
        return [component.num_views for component in self.components]

    @property
    def class_names(self) -> list[str] | None:
        """The classes of the labels; None where a view set has none, or others."""
        names = self.viewset.class_names
        return names if all(component.viewset.class_names == names for component in self.components) else None

    def limited(self, views: int | list[int] | None) -> "Holding":
        """The same with so many views of each component, or of all, at most."""
        limits = views if isinstance(views, list) else [views] * len(self.components)
        limited = [
            replace(component, view_limit=limit) for component, limit in zip(self.components, limits, strict=True)
        ]
        return replace(self, components=limited)

    def read_by(self, inputs: InputSpec, seed: int) -> "Holding":
        """The same sets, the views read as `inputs` takes them; captions are drawn with `seed`."""
        viewsets = [each.viewset.read_by(inputs.reads(each.viewset.codec, seed)) for each in self.components]
        components = [replace(each, viewset=viewset) for each, viewset in zip(self.components, viewsets, strict=True)]
        return replace(self, components=components)

    @property
    def num_bytes(self) -> int:
        """Bytes on disk of all that is read."""
        files = [each.manifest.files for component in self.components for each in component.targetsets]
        files += [component.viewset.manifest.files for component in self.components]
        return sum(record.size for records in files for record in records.values())

    def extracted(self) -> list[dict[str, Any]]:
        """What each target set cost once, whatever number of students learn from it: teacher forwards and bytes."""
        costs = []
        for component in self.components:
            for targetset in component.targetsets:
                forwards = len(component.viewset.usable) * targetset.num_views
                size = sum(record.size for record in targetset.manifest.files.values())
                costs.append({"targetset": targetset.folder.name, "teacher_forwards": forwards, "bytes": size})
        return costs

    def facts(self) -> dict[str, str]:
        """What picks the recipe: source, modality, target, teacher (`none` without target sets)."""
        manifests = [targetset.manifest for targetset in self.targetsets]
        return {
            "source": "+".join(sorted({component.viewset.identity["source"] for component in self.components})),
            "modality": modality_of(self.viewset.identity),
            "target": "+".join(sorted({manifest.target for manifest in manifests})) or "none",
            "teacher": "+".join(sorted({manifest.teacher for manifest in manifests})) or "none",
        }

    def codecs(self) -> list[list[Any]]:
        """For each target set the codec of each component; these differ in their statistics."""
        of_components = [[codec_of(targetset) for targetset in each.targetsets] for each in self.components]
        return [list(codecs) for codecs in zip(*of_components, strict=True)]

    def identity(self) -> dict[str, Any]:
        """Hashes that name exactly what is read, a list of them where there are several components."""
        viewsets = [identity_hash(component.viewset.identity) for component in self.components]
        targetsets = [[identity_hash(each.identity) for each in component.targetsets] for component in self.components]
        shares = {} if self.shares is None else {"shares": self.shares}
        return {"viewset": sole(viewsets), "targetsets": sole(targetsets), **shares}

    def __str__(self) -> str:
        shares = [f" ({share:g})" for share in self.shares] if self.shares else [""] * len(self.components)
        folders = [str(component.viewset.folder) for component in self.components]
        return " + ".join(folder + share for folder, share in zip(folders, shares, strict=True))


def sole(values: Sequence[Value]) -> Value | list[Value]:
    """The value of the only component as documents have it, or the list of all components' values."""
    return values[0] if len(values) == 1 else list(values)


def open_training(
    shards: str,
    targets: str | None,
    labels_only: bool,
    recipe: Recipe | None = None,
    promises: Promises | None = None,
) -> Holding:
    """What `--shards` and `--targets` name: training view sets with target sets, or without when labels are all.

    `shards` is one path, or several as PATH,PATH or PATH=SHARE,PATH=SHARE. Of several target sets that `targets` leaves
    open, those that `recipe` (or any recipe) is for are meant. Sets that are promised count as whole.

    Raises BadInput where nothing or several things fit (the message lists them), Incomplete for a half-written one.
    """
    parts = [(shards, None)] if Path(shards).exists() else [_share_of(shards, part) for part in shards.split(",")]
    shares = [share for _, share in parts if share is not None]
    if len(shares) not in (0, len(parts)):
        raise BadInput(f"--shards {shards}: expected a share for each set, or for none; found {len(shares)}")
    listed = []
    for path, _ in parts:
        cache = open_cache(path, "--shards", promises)
        training = prefer(cache.viewsets, lambda viewset: not validates(viewset))
        listed.append(only(cache.name, "view sets", training, "name one, or several as PATH,PATH"))
    if twice := [each for each, count in Counter(each.folder.resolve() for each in listed).items() if count > 1]:
        raise BadInput(f"--shards {shards}: names {twice[0]} twice; add the shares up")
    first, weights = _open_first(listed[0], targets, labels_only, recipe)
    return Holding([first, *(_like(first, each) for each in listed[1:])], weights, shares or None)


def _share_of(shards: str, part: str) -> tuple[str, float | None]:
    """The path and the share of one part of `shards`; None where it has none."""
    path, equals, number = part.rpartition("=")
    if not equals or "/" in number or Path(part).exists():
        return part, None
    return path, _weight(f"--shards {part}", "PATH=SHARE", number)


def _weight(flag: str, form: str, number: str) -> float:
    try:
        weight = float(number)
    except ValueError:
        weight = math.nan
    if not POSITIVE.holds(weight):
        raise BadInput(f"{flag}: expected {form} with a number above 0, found {number!r}")
    return weight


def _open_first(
    listed: ListedViewSet, targets: str | None, labels_only: bool, recipe: Recipe | None
) -> tuple[Component, list[float]]:
    """A view set with the target sets that are meant, and their weights."""
    viewset = ViewSet(listed.folder, listed.promises.viewsets.get(listed.folder.name))
    targets = targets if targets is not None or listed.named is None else listed.named.name
    if labels_only or (targets is None and viewset.labelled and not listed.targetsets):
        if targets is not None:
            raise BadInput(f"--targets {targets}: the recipe learns from the labels alone; leave --targets out")
        if not viewset.labelled and (recipe is None or recipe.learns_labels):
            raise BadInput(f"{listed}: has no labels, which the recipe needs; distil from a teacher's target set")
        return Component(viewset), []
    weights = _for_recipe(listed, recipe) if targets is None else _as_named(listed, targets)
    targetsets = [TargetSet(targetset.folder, targetset.promised) for targetset in weights]
    for targetset in targetsets:
        check_pair(viewset, targetset)
    return Component(viewset, targetsets), list(weights.values())


def _like(first: Component, listed: ListedViewSet) -> Component:
    """The views of `listed` with its target sets of the same teachers, targets and codecs as those of `first`.

    Raises BadInput where the views are of another kind, or a target set lacks.
    """
    viewset = ViewSet(listed.folder)
    kinds = [(each.codec.modality, each.codec.fields, each.codec.vocabulary) for each in (first.viewset, viewset)]
    if kinds[0] != kinds[1]:
        number = next(number for number, (one, other) in enumerate(zip(*kinds, strict=True)) if one != other)
        has, wanted = (f"{('views of', 'fields', 'vocabulary')[number]} {kind[number]}" for kind in reversed(kinds))
        raise BadInput(
            f"--shards {listed}: has {has}, {first.viewset.folder} has {wanted}; extract both with the same --view"
        )
    if not first.targetsets and viewset.class_names != first.viewset.class_names:
        raise BadInput(f"--shards {listed}: its samples have other classes than {first.viewset.folder}, or none")
    targetsets = []
    for targetset in first.targetsets:
        alike = same_target(listed, targetset)
        fitting = [each for each in alike if same_but_for(each.identity, targetset.identity, "viewset")]
        if not fitting:
            manifest = targetset.manifest
            lacks = f"{manifest.target} of {manifest.teacher} as {manifest.codec}, which {first.viewset.folder} has"
            raise BadInput(f"--shards {listed}: lacks {lacks}; {_command(targetset, listed)} adds it")
        targetsets.append(TargetSet(fitting[0].folder))
        check_pair(viewset, targetsets[-1])
    return Component(viewset, targetsets)


def _command(targetset: TargetSet, listed: ListedViewSet) -> str:
    """The command that extracts the target of `targetset` over the views of `listed`."""
    saved, manifest = saved_flags(targetset.folder), targetset.manifest
    flags = {name: saved.get(name) for name in ("teacher", "weights", "keep_tokens", "precision")}
    if key := saved.get("weights_key"):
        flags["weights"] = f"{flags['weights'] or ''}:key={key}"
    flags |= {"target": manifest.target, "codec": manifest.codec, "out": out_of(listed.folder.parent), **listed.request}
    words = [word for name, value in flags.items() if value is not None for word in (f"--{name}", str(value))]
    return f"python -m extract {shlex.join(words)}"


def _for_recipe(viewset: ListedViewSet, recipe: Recipe | None) -> dict[ListedTargetSet, float]:
    """The only target set of `viewset`, or of several the whole one that `recipe` (or any recipe) is for.
    All whole ones for a recipe whose student reads them.
    """
    if recipe is not None and len(named_targets(recipe)) > 1:
        return dict.fromkeys(of_recipe(viewset, recipe), 1.0)
    targetsets = fitting_targetsets("--targets", viewset, None)
    if recipe is not None and recipe.reads == TARGETS:
        return dict.fromkeys((each for each in targetsets if each.whole), 1.0)
    if len(targetsets) > 1:
        recipes = [recipe] if recipe and recipe.fits else [load_recipe(name) for name in recipe_names()]
        whole = [each for each in targetsets if each.whole]
        suited = [each for each in whole if any(fit.is_for(each.manifest.target) for fit in recipes)]
        targetsets = suited or targetsets
        held = sorted(each.manifest.target for each in suited)
        if suited and any(held == sorted(named_targets(fit)) for fit in recipes):
            return dict.fromkeys(suited, 1.0)
    return {only("--targets", "target sets", targetsets, "name one, or several as NAME=0.5,NAME=0.5"): 1.0}


def _as_named(viewset: ListedViewSet, targets: str) -> dict[ListedTargetSet, float]:
    """The target sets that `targets` names, NAME or NAME=WEIGHT each, with their weights."""
    weights: dict[ListedTargetSet, float] = {}
    for part in targets.split(","):
        name, equals, number = part.partition("=")
        targetset = only(f"--targets {part}", "target sets", fitting_targetsets("--targets", viewset, name))
        if targetset in weights:
            raise BadInput(f"--targets {targets}: names {targetset} twice; add the weights up")
        weights[targetset] = _weight(f"--targets {part}", "NAME=WEIGHT", number) if equals else 1.0
    return weights
