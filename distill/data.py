"""Data: a cache as Lightning's data module: its batches in order, for any number of ranks and from any step."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import lightning
import torch

from distill.holding import Holding, open_validation
from distill.recipe import Recipe, long_enough
from extract.modalities.base import InputSpec
from shards.command.devices import share_of_cores
from shards.errors import BadInput
from shards.loader import Batch, BatchLoader, Order, Reading, in_order
from shards.order import BatchOrder, held_out


class CacheData(lightning.LightningDataModule):
    """Batches of a cache: a true global shuffle for training, every held-out sample once for validation."""

    def __init__(self, training: Holding, recipe: Recipe, num_threads: int | None = None, num_devices: int = 1) -> None:
        super().__init__()
        self.training, self.recipe, self.num_threads = training, recipe, num_threads
        self.validation, self.no_validation = open_validation(training)
        usable = training.viewset.usable
        self.train_samples, self.validation_samples = usable, usable[:0]
        if self.validation is not None:
            self.validation_samples = self.validation.viewset.usable
        elif recipe.validation_fraction > 0:
            held = held_out(map(training.viewset.plan.keys.__getitem__, usable), recipe.validation_fraction)
            self.train_samples, self.validation_samples = usable[~held], usable[held]
        order = self.order(recipe.accumulate * num_devices)  # refuses a batch that does not fit before anything starts
        self.recipe = long_enough(recipe, order.num_batches)
        if 0 < len(self.validation_samples) < num_devices:
            found = f"{len(self.validation_samples)} validation samples cannot be shared by {num_devices} devices"
            raise BadInput(f"--devices: {found}; take fewer devices, or a larger validation_fraction in the recipe")

    def feed(self, inputs: InputSpec) -> None:
        """The views are read as `inputs` takes them."""
        self.training = self.training.read_by(inputs, self.recipe.seed)
        self.validation = self.validation and self.validation.read_by(inputs, self.recipe.seed)

    def describe_validation(self) -> str:
        """Which samples the validation loss is a mean over, and why not those of a validation split."""
        if len(self.validation_samples) == 0:
            return "none"
        count = f"{len(self.validation_samples):,} samples"
        if self.validation is not None:
            return f"{count} of {self.validation.viewset.folder.name}"
        share = f"{self.recipe.validation_fraction:g} of the training samples"
        return f"{count}, {share} held out by key" + (f" ({self.no_validation})" if self.no_validation else "")

    def order(self, num_parts: int) -> BatchOrder:
        """The training batches, each cut into `num_parts`."""
        recipe = self.recipe
        return BatchOrder(self.train_samples, recipe.batch_size, self.training.num_views, recipe.seed, num_parts)

    def training_batches(self, world_size: int = 1, rank: int = 0) -> "TrainingBatches":
        """One rank's parts of the training batches; all ranks' together are the same for any number of them."""
        order = self.order(self.recipe.accumulate * world_size)
        batches = TrainingBatches(order, [part * world_size + rank for part in range(self.recipe.accumulate)])
        size = order.batch_size // order.num_parts
        batches.loader = self._loader(self.training, batches.readings, size, world_size)
        return batches

    def validation_batches(self, world_size: int = 1, rank: int = 0) -> "ValidationBatches":
        """One rank's share of the validation samples, each once, in order."""
        samples = self.validation_samples[rank::world_size]
        size = min(max(1, self.recipe.batch_size // world_size // self.recipe.accumulate), len(samples))
        loader = self._loader(self.validation or self.training, in_order(samples, size), size, world_size)
        return ValidationBatches(loader, -(-len(samples) // size))

    def _loader(self, holding: Holding, order: Order, batch_size: int, world_size: int) -> BatchLoader:
        threads = self.num_threads or share_of_cores(world_size)
        labels = holding.viewset.labelled and self.recipe.learns_labels
        on_gpu = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        return BatchLoader(
            holding.viewset,
            holding.targetsets,
            order,
            batch_size,
            labels=labels,
            num_threads=threads,
            pin_memory=on_gpu,
        )

    def train_dataloader(self) -> "TrainingBatches":
        """Lightning's hook: this rank's training batches, from the step that a checkpoint resumed.

        Lightning would restore a loader's own state too, but not from a checkpoint at the end of an epoch.
        """
        batches = self.training_batches(*self._place())
        if self.trainer:
            batches.position = self.trainer.global_step * self.recipe.accumulate
        return batches

    def val_dataloader(self) -> "ValidationBatches | list[Any]":
        """Lightning's hook: this rank's validation batches; an empty list without any."""
        return self.validation_batches(*self._place()) if len(self.validation_samples) else []

    def _place(self) -> tuple[int, int]:
        return (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """The batch on `device`; its buffers are marked busy until the copy is through."""
        return batch.to(device)


class TrainingBatches:
    """One rank's training batches; `position` counts those handed out since the run began, and is all their state."""

    loader: BatchLoader

    def __init__(self, order: BatchOrder, parts: list[int]) -> None:
        self.order, self.parts = order, parts
        self.position = 0

    def __len__(self) -> int:
        return self.order.num_batches * len(self.parts)

    def readings(self) -> Iterator[Reading]:
        """The batches from `position` to the end of its epoch."""
        epoch, start = divmod(self.position, len(self))
        batches = self.order.epoch(epoch)[:, self.parts].reshape(len(self), -1)
        for samples in batches[start:]:
            yield Reading(samples, self.order.view(epoch), epoch)

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.loader:
            self.position += 1
            yield batch


@dataclass
class ValidationBatches:
    """The validation batches, of a known number."""

    loader: BatchLoader
    count: int

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.loader)
