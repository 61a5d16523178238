"""Counted: the kernels and the memory of a training step, from steps on two small batches."""

import itertools
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from distill.module import Distillation
from distill.optimiser import make_optimiser
from shards.bill.counting import Growth, count
from shards.loader import Batch
from shards.order import Reading

_COUNTED = (2, 4)
"""Samples of the two batches whose kernels and memory are counted."""


def counted_step(module: Distillation, batch: Batch) -> Growth:
    """The kernels and live bytes of steps on small batches like `batch`, on the CPU; they change the module."""
    module.to("cpu").train()
    module.recipe = replace(module.recipe, grad_cache=1)
    optimiser = make_optimiser(module, module.recipe)

    def step(some: Batch) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=module.recipe.precision != "float32"):
            loss = module.loss(some)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    step(_small(batch, _COUNTED[0]))  # AdamW makes its moments
    counted = []
    for number in _COUNTED:
        some = _small(batch, number)
        moments = [value for state in optimiser.state.values() for value in state.values()]
        rows = itertools.chain.from_iterable(each.values() for each in (some.fields, *some.targets.values()))
        counted.append(count(partial(step, some), [*module.parameters(), *module.buffers(), *moments, *rows], number))
    return Growth(*counted)


def _small(batch: Batch, number: int) -> Batch:
    """A batch of so many samples of the first component, the rows of `batch` again and again; its bank as it is."""

    def some(rows: torch.Tensor) -> torch.Tensor:
        return rows[torch.arange(number) % len(rows)].cpu()

    return Batch(
        [Reading(np.zeros(number, np.int64), 0)],
        {name: some(rows) for name, rows in batch.fields.items()},
        None if batch.labels is None else some(batch.labels),
        {name: {key: some(rows) for key, rows in stored.items()} for name, stored in batch.targets.items()},
        batch.bank_readings,
        batch.banks,
    )
