"""Memory: what a training step takes, counted on tensors without values; and in how many parts it fits --max_memory.

Counted are all bytes that are live at a time: weights, gradients, AdamW's moments, the batch, what autograd keeps and
what one operation hands to the next (`shards/bill/live_bytes.py`). What a kernel takes for itself comes on top.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from distill.config import DistillConfig
from distill.data import CacheData
from distill.module import Distillation
from distill.parts import compares_samples
from distill.recipe import Recipe
from distill.trainer import is_first_process, rank
from extract.memory import cap_device, parse_cap
from extract.modalities.pair import PairInput
from extract.modalities.text import TextInput
from shards.bill.live_bytes import peak_of, without_values
from shards.codecs.features import Features
from shards.command.devices import Devices
from shards.command.progress import human_bytes
from shards.errors import BadInput
from shards.loader import Batch
from shards.order import Reading

_LEAST_NORMALISED = 8
"""Samples whose mean and variance may stand for a batch's."""


def within_memory(config: DistillConfig, module: Distillation, data: CacheData, devices: Devices) -> Recipe:
    """`module` computes a batch in the fewest parts whose step is counted to fit into --max_memory.

    The result is that of the whole batch but for rounding (`distill/parts.py`), so the run's recipe stays as it is.
    Returned is the recipe with so many parts as its `grad_cache`, for whoever counts what a step takes. BadInput where
    the student normalises over its batch, or where not even the smallest part fits.
    """
    recipe, module.most_samples = data.recipe, None
    if config.max_memory is None:
        return recipe
    cap = parse_cap(config.max_memory)
    if devices.kind == "cuda":
        cap_device(cap, devices.of(rank()))
    kind, least = ("grad_cache", recipe.grad_cache) if compares_samples(module) else ("accumulate", 1)
    batch = recipe.batch_size // len(devices.indices) // recipe.accumulate
    choices = [parts for parts in range(least, batch + 1, least) if batch % parts == 0] or [least]
    taken = cache(partial(step_bytes, module, data, batch))
    fits = 0 if taken(least) <= cap else bisect_left(choices, True, lo=1, key=lambda parts: taken(parts) <= cap)
    given = f"--max_memory {config.max_memory}"
    if fits == len(choices):
        least_bytes = human_bytes(taken(choices[-1]))
        remedy = "give more than that, a smaller --student, or --precision bfloat16"
        raise BadInput(f"{given}: a step in {choices[-1]} parts still takes {least_bytes}, counted; {remedy}")
    parts, whole = choices[fits], human_bytes(taken(least))
    if parts > least and has_batch_statistics(module):
        raise BadInput(
            f"{given}: a batch of {recipe.batch_size} takes {whole}, counted, and {recipe.student} normalises over it, "
            f"so that parts are not the whole; {_of_batch_statistics(recipe, kind, least, parts, batch // parts)}"
        )
    if is_first_process():
        cut = f"{parts} parts" if parts > 1 else "one part"
        more = f"; in {least} it were {whole}" if parts > least else ""
        print(f"distill: {given}: a batch of {batch} in {cut}: {human_bytes(taken(parts))} a step, counted{more}")
    module.most_samples = batch // parts
    return replace(recipe, grad_cache=max(parts, recipe.grad_cache))


def _of_batch_statistics(recipe: Recipe, kind: str, least: int, parts: int, part: int) -> str:
    """What to give where a student normalises over its batch, of which `part` samples fit: they must be some."""
    if part < _LEAST_NORMALISED:
        few = f"parts of {part} fit, over which nothing should be normalised"
        return f"{few}: give more memory, a smaller --student, or --precision bfloat16"
    parts_field = f"{kind}: {parts * getattr(recipe, kind) // least}"
    return f"give --batch_size {recipe.batch_size * least // parts}, which fits, or {parts_field} in a recipe"


def what_to_lower(config: DistillConfig, recipe: Recipe) -> str:
    """What helps where the device's memory is used up all the same."""
    lower = "give --max_memory 24GB, which computes a batch in parts"
    if config.max_memory is not None:
        lower = f"kernels take more than is counted: give --max_memory below {config.max_memory}"
    others = f"--batch_size below {recipe.batch_size} or a smaller --student is another run"
    return f"{lower}, and the run goes on from its last checkpoint; {others}"


def has_batch_statistics(module: Distillation) -> bool:
    """Whether the student normalises over its batch."""
    return any(isinstance(each, nn.modules.batchnorm._BatchNorm) for each in module.student.modules())


def step_bytes(module: Distillation, data: CacheData, batch: int, parts: int) -> float:
    """Bytes of a step on `batch` samples in so many parts; the module stays as it is.

    Of parts whose gradients add up two are counted, and what is held of the samples of the others.
    """
    banks = {data.training.targetsets[number].folder.name: size for number, size in data.banks.items()}
    small, most = blank_batch(module, data, banks), -(-batch // parts)
    size = batch if compares_samples(module) else min(batch, 2 * most)
    kept = module.most_samples
    try:
        module.most_samples = most
        with untouched(module):
            held = (batch - size) * replace(small, banks={}).num_bytes / len(small.samples)
            return held + counted(module, small, size, banks)
    finally:
        module.most_samples = kept


def blank_batch(module: Distillation, data: CacheData, banks: Mapping[str, int]) -> Batch:
    """Two samples of zeros, of the types and shapes that the cache's have."""
    holding, reading = data.training, [Reading(np.zeros(2, np.int64), 0)]

    def zeros(arrays: Mapping[str, Any]) -> dict[str, Tensor]:
        return {name: torch.zeros(2, *shape, dtype=getattr(torch, dtype)) for name, (dtype, shape) in arrays.items()}

    targets = {each.folder.name: zeros(each.manifest.arrays) for each in holding.targetsets}
    labels = torch.zeros(2, dtype=torch.int64) if holding.class_names and data.recipe.learns_labels else None
    fields, drawn = zeros(holding.viewset.codec.fields), {name: targets[name] for name in banks}
    return Batch(reading, fields, labels, targets, dict.fromkeys(banks, reading), drawn)


@contextmanager
def untouched(module: Distillation) -> Iterator[None]:
    """What the block puts into the module's place of parameters, buffers and input is gone after it."""
    inputs, training = module.inputs, module.training
    owners = [(owner, dict(owner._parameters), dict(owner._buffers)) for owner in module.modules()]
    compiled, module.student._compiled_call_impl = module.student._compiled_call_impl, None
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        module.inputs, module.student._compiled_call_impl = inputs, compiled
        for owner, parameters, buffers in owners:
            owner._parameters.update(parameters)
            owner._buffers.update(buffers)
        module.train(training)


def counted(module: Distillation, small: Batch, size: int, banks: Mapping[str, int]) -> float:
    """Bytes that are live at most during a step of `size` samples with `banks`, on tensors without values.

    A step on a small batch goes before, in which AdamW makes its moments. The module keeps no values.
    """
    module.inputs = uncut(module.inputs)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        without_values(module, mode)
        first, batch = repeated(small, len(small.samples), banks), repeated(small, size, banks)
        return float(peak_of(module, batch, lambda: stepper(module, torch.device("cpu"))([first, batch])))


def stepper(module: Distillation, device: torch.device) -> Callable[[Iterable[Batch]], None]:
    """A function that makes one optimiser step on each batch it is given, as the trainer does."""
    if module.device != device:
        module.to(device)
    module.train()
    made = module.configure_optimizers()
    optimiser, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
    precision = module.recipe.precision

    def take(batches: Iterable[Batch]) -> None:
        for batch in batches:
            with torch.autocast(device.type, getattr(torch, precision), enabled=precision != "float32"):
                loss = module.loss(batch)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()

    return take


@dataclass(frozen=True)
class Uncut(TextInput):
    """Texts as long as they may be: tensors without values cannot tell the longest."""

    def cut(self, fields: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """All tokens."""
        return fields


@dataclass(frozen=True)
class Full(Uncut):
    """Texts without padding, all of whose tokens have a target."""

    def target(self, features: Features, fields: Mapping[str, Tensor], fed: Mapping[str, Any]) -> Features:
        """As it is stored."""
        return features


def uncut(inputs: Any) -> Any:
    """The same input, with texts and captions of the most tokens."""
    if isinstance(inputs, PairInput):
        return replace(inputs, text=Uncut(**vars(inputs.text)))
    return Full(**vars(inputs)) if isinstance(inputs, TextInput) else inputs


def repeated(small: Batch, size: int, banks: Mapping[str, int]) -> Batch:
    """A batch of `size` samples with `banks` of so many rows, those of `small` again and again."""

    def grown(arrays: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
        return {name: rows[torch.arange(count) % len(rows)] for name, rows in arrays.items()}

    def reading(count: int) -> list[Reading]:
        return [Reading(np.zeros(count, np.int64), 0)]

    return Batch(
        reading(size),
        grown(small.fields, size),
        None if small.labels is None else grown({"labels": small.labels}, size)["labels"],
        {name: grown(arrays, size) for name, arrays in small.targets.items()},
        {name: reading(banks[name]) for name in small.banks},
        {name: grown(arrays, banks[name]) for name, arrays in small.banks.items()},
    )
