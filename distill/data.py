"""Data: a cache as Lightning's data module; which view set and target sets a run reads, and its batches in order."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from jaxtyping import Int

from distill.recipe import Recipe
from shards.codecs import make_codec
from shards.errors import BadInput, Incomplete
from shards.identity import identity_hash
from shards.layout import TARGETSET_MANIFEST, VIEWSET_MANIFEST, targetset_folders, viewset_folders
from shards.loader import Batch, BatchLoader, in_order
from shards.order import BatchOrder, held_out
from shards.reader import TargetSet, ViewSet, check_pair

VALIDATION_SPLITS = ("validation", "val", "test")


@dataclass(frozen=True)
class Holding:
    """A view set and the target sets of it that a run learns from, with their weights in the loss."""

    viewset: ViewSet
    targetsets: list[TargetSet]
    weights: list[float]

    @property
    def num_views(self) -> int:
        """Views that the view set and every target set hold."""
        return min([self.viewset.num_views, *(targetset.num_views for targetset in self.targetsets)])

    @property
    def num_bytes(self) -> int:
        """Bytes on disk of all that is read."""
        files = [self.viewset.manifest["files"], *(targetset.manifest["files"] for targetset in self.targetsets)]
        return sum(record["size"] for records in files for record in records.values())

    def facts(self) -> dict[str, str]:
        """What picks the recipe: source, target, teacher (`none` without target sets)."""
        identity = self.viewset.identity
        first = self.targetsets[0].manifest if self.targetsets else {"target": "none", "teacher": "none"}
        return {"source": identity["source"], "target": first["target"], "teacher": first["teacher"]}

    def codecs(self) -> list[Any]:
        """Each target set's codec."""
        return [make_codec(t.manifest["codec"], t.row_shape) for t in self.targetsets]


def open_training(shards: str, targets: str | None, labels_only: bool) -> Holding:
    """What `--shards` and `--targets` name: a training view set with target sets, or without when labels are all.

    Raises BadInput where nothing or several things fit (the message lists them), Incomplete for a half-written one.
    """
    path = Path(shards)
    if (path / TARGETSET_MANIFEST).exists() or path.parent.name == "targets":
        targets, path = targets or path.name, path.parent.parent
    folders = [path] if (path / "plan.json").exists() else list(viewset_folders(path))
    folders = [folder for folder in folders if _split(folder) not in VALIDATION_SPLITS] or folders
    if not folders:
        raise BadInput(
            f"--shards {shards}: holds no view set; python -m extract --teacher ... --out {shards} makes one"
        )
    if len(folders) > 1:
        raise BadInput(f"--shards {shards}: several view sets fit; name one: {', '.join(map(str, folders))}")
    viewset = ViewSet(folders[0])
    if labels_only:
        if not viewset.labelled:
            raise BadInput(f"{folders[0]}: has no labels, which the recipe needs; distil from a teacher's target set")
        return Holding(viewset, [], [])
    chosen, weights = _choose(folders[0], targets)
    targetsets = [TargetSet(folder) for folder in chosen]
    for targetset in targetsets:
        check_pair(viewset, targetset)
    return Holding(viewset, targetsets, weights)


def _split(folder: Path) -> str:
    if not (folder / VIEWSET_MANIFEST).exists():
        raise Incomplete(f"{folder}: half written (no {VIEWSET_MANIFEST}); run the same extract command to finish it")
    return str(ViewSet(folder).identity["split"])


def _choose(viewset: Path, targets: str | None) -> tuple[list[Path], list[float]]:
    folders = list(targetset_folders(viewset))
    names = ", ".join(folder.name for folder in folders) or "none: python -m extract --teacher ... adds one"
    if targets is None:
        if len(folders) != 1:
            raise BadInput(f"--targets: {viewset} holds {names}; name one, or several as NAME=0.5,NAME=0.5")
        return folders, [1.0]
    chosen, weights = [], []
    for part in targets.split(","):
        name, _, weight = part.partition("=")
        fitting = [folder for folder in folders if name in folder.name]
        if len(fitting) != 1:
            found = "several target sets fit" if fitting else "no target set fits"
            raise BadInput(f"--targets {part}: {found}; {viewset} holds {names}")
        try:
            weights.append(float(weight or 1.0))
        except ValueError:
            raise BadInput(f"--targets {part}: expected NAME=WEIGHT with a number, found {weight!r}") from None
        chosen.append(fitting[0])
    return chosen, weights


def open_validation(training: Holding) -> Holding | None:
    """The same teachers' target sets over the cache's validation split of the same source; None where it has none."""
    wanted = training.viewset.identity
    for folder in viewset_folders(training.viewset.folder.parent):
        if folder == training.viewset.folder or not (folder / VIEWSET_MANIFEST).exists():
            continue
        viewset = ViewSet(folder)
        same = all(viewset.identity[field] == wanted[field] for field in ("source", "image_size"))
        if not same or viewset.identity["split"] not in VALIDATION_SPLITS:
            continue
        whole = [TargetSet(path) for path in targetset_folders(folder) if (path / TARGETSET_MANIFEST).exists()]
        found = [next((held for held in whole if _same_target(held, one)), None) for one in training.targetsets]
        if all(found):
            return Holding(viewset, [held for held in found if held], training.weights)
    return None


def _same_target(one: TargetSet, other: TargetSet) -> bool:
    ignored = {"viewset": None}
    return {**one.identity, **ignored} == {**other.identity, **ignored}


class CacheData(lightning.LightningDataModule):
    """Batches of a cache: a true global shuffle for training, every held-out sample once for validation."""

    def __init__(self, training: Holding, recipe: Recipe, num_threads: int | None) -> None:
        super().__init__()
        self.training, self.validation = training, open_validation(training)
        self.recipe, self.num_threads = recipe, num_threads
        usable = training.viewset.usable
        self.train_samples, self.validation_samples = usable, usable[:0]
        if self.validation is not None:
            self.validation_samples = self.validation.viewset.usable
        elif recipe.validation_fraction > 0:
            held = held_out([training.viewset.plan.keys[index] for index in usable], recipe.validation_fraction)
            self.train_samples, self.validation_samples = usable[~held], usable[held]
        self.order(num_parts=recipe.accumulate)  # refuses a batch that does not fit before anything starts

    def order(self, num_parts: int) -> BatchOrder:
        """The training batches, each cut into `num_parts`."""
        recipe = self.recipe
        return BatchOrder(self.train_samples, recipe.batch_size, self.training.num_views, recipe.seed, num_parts)

    def _loader(self, holding: Holding, selection: Any, batch_size: int) -> BatchLoader:
        world = self.trainer.world_size if self.trainer else 1
        threads = self.num_threads or max(1, len(os.sched_getaffinity(0)) // world)
        labels = holding.viewset.labelled and self.recipe.label_weight > 0
        on_gpu = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        return BatchLoader(
            holding.viewset,
            holding.targetsets,
            selection,
            batch_size,
            labels=labels,
            num_threads=threads,
            pin_memory=on_gpu,
        )

    def train_dataloader(self) -> "TrainingBatches":
        """This rank's parts of the training batches, resumable at any of them."""
        world, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        order = self.order(self.recipe.accumulate * world)
        mine = [part * world + rank for part in range(self.recipe.accumulate)]
        batches = TrainingBatches(order, mine)
        batches.loader = self._loader(self.training, batches.selection, order.batch_size // order.num_parts)
        return batches

    def val_dataloader(self) -> "ValidationBatches | list[Any]":
        """Every validation sample once, shared between the ranks; an empty list without any."""
        world, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        samples = self.validation_samples[rank::world]
        if len(samples) == 0:
            return []
        size = min(max(1, self.recipe.batch_size // world // self.recipe.accumulate), len(samples))
        loader = self._loader(self.validation or self.training, in_order(samples, size), size)
        return ValidationBatches(loader, -(-len(samples) // size))

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """The batch on `device`; its buffers are marked busy until the copy is through."""
        if device.type != "cuda":
            return batch
        moved = Batch(
            batch.view,
            batch.samples,
            batch.images.to(device, non_blocking=True),
            None if batch.labels is None else batch.labels.to(device, non_blocking=True),
            [{name: x.to(device, non_blocking=True) for name, x in arrays.items()} for arrays in batch.targets],
        )
        batch.copied = torch.cuda.Event()
        batch.copied.record()
        return moved


class TrainingBatches:
    """One rank's training batches; `position` counts those handed out since the run began, and is all its state."""

    loader: BatchLoader

    def __init__(self, order: BatchOrder, parts: list[int]) -> None:
        self.order, self.parts = order, parts
        self.position = 0

    def __len__(self) -> int:
        return self.order.num_batches * len(self.parts)

    def selection(self) -> Iterator[tuple[int, Int[np.ndarray, " count"]]]:
        """The batches from `position` to the end of its epoch."""
        epoch, start = divmod(self.position, len(self))
        batches = self.order.epoch(epoch)[:, self.parts].reshape(len(self), -1)
        for samples in batches[start:]:
            yield self.order.view(epoch), samples

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.loader:
            self.position += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """What Lightning's checkpoint keeps of it."""
        return {"position": self.position, "batch_size": self.order.batch_size, "samples": len(self.order.samples)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after the last batch that the checkpointed run was given."""
        self.position = state["position"]


@dataclass
class ValidationBatches:
    """The validation batches, of a known number."""

    loader: BatchLoader
    count: int

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.loader)


def cache_identity(holding: Holding) -> dict[str, Any]:
    """Hashes that name exactly what a run learnt from."""
    return {
        "viewset": identity_hash(holding.viewset.identity),
        "targetsets": [identity_hash(targetset.identity) for targetset in holding.targetsets],
    }
