"""Data: a cache as Lightning's data module: its batches in order, for any number of ranks and from any step."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import lightning
import numpy as np
import torch
from jaxtyping import Int

from distill.holding import Holding
from distill.recipe import Recipe, long_enough
from distill.terms import bank_sizes
from distill.validation import validation_splits
from extract.modalities.base import InputSpec
from shards.bank import check_bank, draw_bank
from shards.command.devices import share_of_cores
from shards.draws import held_out
from shards.in_order import in_order
from shards.loader import Batch, BatchLoader, Order, Part
from shards.order import BatchOrder
from shards.reader import Component
from shards.upcoming import told


class CacheData(lightning.LightningDataModule):
    """Batches of caches: a true global shuffle for training, every held-out sample once for validation."""

    def __init__(self, training: Holding, recipe: Recipe, num_threads: int | None = None, num_devices: int = 1) -> None:
        super().__init__()
        self.training, self.recipe, self.num_threads = training, recipe, num_threads
        self.splits, self.no_split = validation_splits(training.components)
        validated = [split or own for split, own in zip(self.splits, training.components, strict=True)]
        self.validation = Holding(validated, training.weights)
        """The validation split of each component; the component itself, of which a share is held out, without one."""
        self.train_samples, self.validation_samples = [], []
        for split, component in zip(self.splits, training.components, strict=True):
            trained, held = _held_out(component, recipe.validation_fraction if split is None else 0.0)
            self.train_samples.append(trained)
            self.validation_samples.append(held if split is None else split.viewset.usable)
        order = self.order(recipe.accumulate * num_devices)  # refuses a batch that does not fit before anything starts
        self.banks = bank_sizes(recipe.losses, training.targetsets)
        for size in self.banks.values():
            check_bank(order, f"--recipe {recipe.name}: terms", size)
        self.recipe = long_enough(recipe, order.num_batches)
        self.batches: Callable[..., TrainingBatches] = TrainingBatches

    def feed(self, inputs: InputSpec) -> None:
        """The views are read as `inputs` takes them."""
        self.training = self.training.read_by(inputs, self.recipe.seed)
        self.validation = self.validation.read_by(inputs, self.recipe.seed)

    def describe_validation(self) -> str:
        """Which samples the validation loss is a mean over, and why not those of a validation split."""
        parts = []
        for samples, split, reason in zip(self.validation_samples, self.splits, self.no_split, strict=True):
            if len(samples) == 0:
                parts.append("none")
            elif split is not None:
                parts.append(f"{len(samples):,} samples of {split.viewset.folder.name}")
            else:
                share = f"{self.recipe.validation_fraction:g} of the training samples"
                parts.append(f"{len(samples):,} samples, {share} held out by key" + (f" ({reason})" if reason else ""))
        return "; ".join(parts)

    def validation_identity(self) -> dict[str, Any] | None:
        """Hashes of the validation splits that are read; None without any."""
        splits = [split for split in self.splits if split is not None]
        return Holding(splits, self.training.weights).identity() if splits else None

    def order(self, num_parts: int) -> BatchOrder:
        """The training batches, each cut into `num_parts`."""
        training, recipe = self.training, self.recipe
        cut = self.train_samples, recipe.batch_size, training.num_views, recipe.seed, num_parts, training.shares
        return BatchOrder(*cut, recipe.views_a_batch)

    def training_batches(self, world_size: int = 1, rank: int = 0) -> "TrainingBatches":
        """One rank's parts of the training batches; all ranks' together are the same for any number of them."""
        order = self.order(self.recipe.accumulate * world_size)
        banks = {self.training.targetsets[number].folder.name: size for number, size in self.banks.items()}
        batches = self.batches(order, list(range(rank, order.num_parts, world_size)), banks)
        readings = told(batches, self.training.components, self.validation.components, self.validation_samples)
        batches.loader = self._loader(self.training, readings, order.batch_size // order.num_parts, world_size, banks)
        return batches

    def validation_batches(self, world_size: int = 1, rank: int = 0) -> "ValidationBatches":
        """One rank's share of the validation batches, which hold each sample once, in order, and one component each.

        The batches are the same for any number of ranks, which take turns over them: a loss that compares the samples
        of a batch has one value. Where there are fewer batches than ranks each rank has all: the mean is the same.
        """
        recipe, most = self.recipe, max(map(len, self.validation_samples))
        size = min(max(1, recipe.batch_size // recipe.accumulate // recipe.grad_cache), most)
        orders = [in_order(samples, size, component=number) for number, samples in enumerate(self.validation_samples)]
        count = sum(-(-len(samples) // size) for samples in self.validation_samples)
        first, step = (rank, world_size) if count >= world_size else (0, 1)
        loader = self._loader(
            self.validation,
            lambda: islice(chain.from_iterable(order() for order in orders), first, None, step),
            size,
            world_size,
        )
        return ValidationBatches(loader, len(range(first, count, step)))

    def _loader(
        self, holding: Holding, order: Order, batch_size: int, world_size: int, banks: dict[str, int] | None = None
    ) -> BatchLoader:
        return BatchLoader(
            holding.components,
            order,
            batch_size,
            labels=holding.class_names is not None and self.recipe.learns_labels,
            banks=banks,
            num_threads=self.num_threads or share_of_cores(world_size),
            pin_memory=self.trainer is not None and self.trainer.strategy.root_device.type == "cuda",
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
        return self.validation_batches(*self._place()) if any(map(len, self.validation_samples)) else []

    def _place(self) -> tuple[int, int]:
        return (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """The batch on `device`; its buffers are marked busy until the copy is through."""
        return batch.to(device)


class TrainingBatches:
    """One rank's training batches; `position` counts those handed out since the run began, and is all their state."""

    loader: BatchLoader

    def __init__(self, order: BatchOrder, parts: list[int], banks: dict[str, int]) -> None:
        self.order, self.parts, self.banks = order, parts, banks
        self.position = 0

    def __len__(self) -> int:
        return self.order.num_batches * len(self.parts)

    def readings(self) -> Iterator[Part]:
        """What the batches from `position` to the end of its epoch read; the parts of one batch have the same banks."""
        number, start = divmod(self.position, len(self))
        epoch = self.order.epoch(number)
        for place in range(start, len(self)):
            batch, part = divmod(place, len(self.parts))
            if part == 0 or place == start:
                drawn = {size: draw_bank(epoch, batch, size) for size in set(self.banks.values())}
            banks = {name: drawn[size] for name, size in self.banks.items()}
            yield Part(epoch.readings(batch, self.parts[part]), banks)

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


def _held_out(component: Component, fraction: float) -> tuple[Int[np.ndarray, " count"], Int[np.ndarray, " held"]]:
    """The samples of a component that are trained on, and that share of them which is held out by key."""
    usable = component.viewset.usable
    if fraction == 0:
        return usable, usable[:0]
    held = held_out(map(component.viewset.plan.keys.__getitem__, usable), fraction)
    return usable[~held], usable[held]
