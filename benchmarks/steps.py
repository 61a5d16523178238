"""Steps: training steps of the real module without Lightning, so that what is compared is data and teacher alone."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from distill.config import DistillConfig
from distill.data import CacheData
from distill.holding import open_training
from distill.recipe import FOLDER as RECIPES
from distill.recipe import Recipe, load_recipe, resolve
from shards.command.devices import share_of_cores
from shards.loader import Batch, BatchLoader


def open_cache(cache: Path | str, **changes: object) -> tuple[Recipe, CacheData]:
    """The recipe that `changes` name, with the rest of them, and the cache as it reads it, without validation."""
    config = DistillConfig(shards=str(cache), **changes)  # type: ignore[arg-type]
    recipe = replace(resolve(load_recipe(str(config.recipe)), config), validation_fraction=0.0)
    holding = open_training(str(cache), None, False)
    for component in holding.components:
        for targetset in component.targetsets:
            targetset.read(0, component.viewset.usable)  # opens and verifies every shard
    return recipe, CacheData(holding, recipe, share_of_cores())


def with_bank(recipe: str, size: int, folder: Path) -> str:
    """A file of the recipe with a bank of `size`, for caches that have fewer rows than its own bank takes."""
    path, whole = folder / f"{recipe}.yaml", (RECIPES / f"{recipe}.yaml").read_text()
    path.write_text(re.sub(r"bank: \d+", f"bank: {size}", whole))
    return str(path)


def held_batch(data: CacheData, device: torch.device) -> Batch:
    """The first batch of the cache, copied to memory of its own on `device`, read as the last student takes it."""
    return next(cache_batches(data, torch.device("cpu"))).to(device, copy=True)


def cache_batches(data: CacheData, device: torch.device) -> Iterator[Batch]:
    """The training batches of the cache on `device`, read as `distill` reads them."""
    holding, order, on_gpu = data.training, data.training_batches(), device.type == "cuda"
    options: dict[str, Any] = {"num_threads": share_of_cores(), "pin_memory": on_gpu, "banks": order.banks}
    loader = BatchLoader(holding.components, order.readings, data.recipe.batch_size, **options)
    for batch in loader:
        yield data.transfer_batch_to_device(batch, device, 0)
