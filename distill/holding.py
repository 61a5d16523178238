"""Holding: which view set and target sets of a cache a run reads, for training and for validation."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.recipe import Recipe, load_recipe, recipe_names
from shards.command.ranges import POSITIVE
from shards.decode import codec_of
from shards.errors import BadInput
from shards.identity import identity_hash
from shards.layout import PLAN, TARGETSET_MANIFEST, VIEWSET_MANIFEST, Plan, targetset_folders, viewset_folders
from shards.reader import TargetSet, ViewSet, check_pair
from shards.selection import named
from shards.views import modality_of, view_codec

VALIDATION_SPLITS = ("validation", "val", "test")


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
        """Views that the view set and every target set hold, and that the run may read."""
        views = min([self.viewset.num_views, *(targetset.num_views for targetset in self.targetsets)])
        return views if self.view_limit is None else min(views, self.view_limit)

    @property
    def num_bytes(self) -> int:
        """Bytes on disk of all that is read."""
        files = [self.viewset.manifest["files"], *(targetset.manifest["files"] for targetset in self.targetsets)]
        return sum(record["size"] for records in files for record in records.values())

    def extracted(self) -> list[dict[str, Any]]:
        """What each target set cost once, whatever number of students learn from it: teacher forwards and bytes."""
        usable = len(self.viewset.usable)
        return [
            {
                "targetset": targetset.folder.name,
                "teacher_forwards": usable * targetset.num_views,
                "bytes": sum(record["size"] for record in targetset.manifest["files"].values()),
            }
            for targetset in self.targetsets
        ]

    def facts(self) -> dict[str, str]:
        """What picks the recipe: source, modality, target, teacher (`none` without target sets)."""
        identity = self.viewset.identity
        held = [targetset.manifest for targetset in self.targetsets] or [{"target": "none", "teacher": "none"}]
        joined = {name: "+".join(sorted({manifest[name] for manifest in held})) for name in ("target", "teacher")}
        return {"source": identity["source"], "modality": modality_of(identity), **joined}

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
    path = Path(shards)
    if path.parent.name == "targets" and (path.parent.parent / PLAN).exists():
        targets, path = targets or path.name, path.parent.parent
    folders = [path] if (path / PLAN).exists() else list(viewset_folders(path))
    folders = [folder for folder in folders if _split(folder) not in VALIDATION_SPLITS] or folders
    if not folders:
        raise BadInput(
            f"--shards {shards}: holds no view set; python -m extract --teacher ... --out {shards} makes one"
        )
    if len(folders) > 1:
        raise BadInput(f"--shards {shards}: several view sets fit; name one: {', '.join(map(str, folders))}")
    viewset = ViewSet(folders[0])
    if labels_only or (targets is None and viewset.labelled and not list(targetset_folders(folders[0]))):
        if targets is not None:
            raise BadInput(f"--targets {targets}: the recipe learns from the labels alone; leave --targets out")
        if not viewset.labelled:
            raise BadInput(f"{folders[0]}: has no labels, which the recipe needs; distil from a teacher's target set")
        return Holding(viewset, [], [])
    chosen, weights = _choose(folders[0], targets, recipe)
    targetsets = [TargetSet(folder) for folder in chosen]
    for targetset in targetsets:
        check_pair(viewset, targetset)
    return Holding(viewset, targetsets, weights)


def _split(viewset: Path) -> str:
    # the plan, as it is written first: a half-written validation split does not keep a whole training one from use
    return str(Plan.read(viewset).identity["split"])


def _choose(viewset: Path, targets: str | None, recipe: Recipe | None) -> tuple[list[Path], list[float]]:
    folders = list(targetset_folders(viewset))
    names = ", ".join(folder.name for folder in folders) or "no target set: python -m extract --teacher ... adds one"
    if targets is None:
        whole = [folder for folder in folders if (folder / TARGETSET_MANIFEST).exists()]
        if len(folders) > 1:
            recipes = [recipe] if recipe and recipe.fits else [load_recipe(name) for name in recipe_names()]
            kinds = {folder: TargetSet(folder).manifest["target"] for folder in whole}
            folders = [folder for folder, kind in kinds.items() if any(one.is_for(kind) for one in recipes)] or folders
        if len(folders) > 1:
            raise BadInput(f"--targets: {viewset} holds {names}; name one, or several as NAME=0.5,NAME=0.5")
        if not folders:
            raise BadInput(f"--targets: {viewset} holds {names}")
        return folders, [1.0]
    chosen: list[Path] = []
    weights: list[float] = []
    for part in targets.split(","):
        name, equals, number = part.partition("=")
        fitting = named(folders, name) if name else []
        if len(fitting) != 1:
            found = "several target sets fit" if fitting else "no target set fits"
            raise BadInput(f"--targets {part}: {found}; {viewset} holds {names}")
        if fitting[0] in chosen:
            raise BadInput(f"--targets {targets}: names {fitting[0].name} twice; add the weights up")
        chosen.append(fitting[0])
        weights.append(_weight(part, number) if equals else 1.0)
    return chosen, weights


def _weight(part: str, number: str) -> float:
    try:
        weight = float(number)
    except ValueError:
        weight = math.nan
    if not POSITIVE.holds(weight):
        raise BadInput(f"--targets {part}: expected NAME=WEIGHT with a number above 0, found {number!r}")
    return weight


def open_validation(training: Holding) -> tuple[Holding | None, str]:
    """The same teachers' target sets over the validation split of the same source, or None and why there is none.

    Of several such splits, the first of VALIDATION_SPLITS is taken; of several codecs the training's own, else the one
    that keeps most: a loss against float32 is the yardstick by which codecs can be compared.
    """
    found: dict[str, Holding] = {}
    reason = ""
    for folder in viewset_folders(training.viewset.folder.parent):
        identity, wanted = Plan.read(folder).identity, training.viewset.identity
        same = identity["source"] == wanted["source"] and view_codec(identity).fields == training.viewset.codec.fields
        if folder == training.viewset.folder or not same or identity["split"] not in VALIDATION_SPLITS:
            continue
        if not (folder / VIEWSET_MANIFEST).exists():
            reason = f"{folder.name} is half written"
        elif (targetsets := _same_targets(folder, training)) is None:
            reason = f"{folder.name} lacks the teacher's target set; extract {_flags(training, identity)} adds it"
        else:
            found[identity["split"]] = Holding(ViewSet(folder), targetsets, training.weights)
    best = next((found[split] for split in VALIDATION_SPLITS if split in found), None)
    return best, "" if best else reason


def _flags(training: Holding, identity: dict[str, Any]) -> str:
    held = [targetset.manifest for targetset in training.targetsets]
    targets, codecs = (",".join(manifest[name] for manifest in held) for name in ("target", "codec"))
    precisions = {targetset.identity["precision"] for targetset in training.targetsets} - {"float32"}
    precision = "".join(f" --precision {name}" for name in precisions)
    return f"--split {identity['split']} --target {targets} --codec {codecs}{precision} with the teacher's own flags"


def _same_targets(viewset: Path, training: Holding) -> list[TargetSet] | None:
    whole = [TargetSet(path) for path in targetset_folders(viewset) if (path / TARGETSET_MANIFEST).exists()]
    whole.sort(key=lambda held: -held.bytes_per_sample)
    found: list[TargetSet] = []
    for one in training.targetsets:
        alike = [held for held in whole if _same_but_for(held, one, "viewset", "codec")]
        found += [held for held in alike if _same_but_for(held, one, "viewset")][:1] or alike[:1]
    return found if len(found) == len(training.targetsets) else None


def _same_but_for(one: TargetSet, other: TargetSet, *fields: str) -> bool:
    ignored = dict.fromkeys(fields)
    return {**one.identity, **ignored} == {**other.identity, **ignored}
