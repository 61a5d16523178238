"""Gradient cache: a batch's outputs in parts, so that losses between samples see a batch larger than memory holds.

GradCache, Gao et al. 2021, arXiv:2101.06983, by activation checkpoints, which restore the state of dropout.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from extract.modalities.base import InputSpec, feed


def in_parts(student: nn.Module, inputs: InputSpec, fields: Mapping[str, Tensor], num_parts: int) -> dict[str, Tensor]:
    """The outputs of the whole batch, each part of which is computed once more in the backward pass.

    Memory holds the activations of one part at a time. A network's `towers` are parts of their own.
    """
    count = len(next(iter(fields.values())))
    size = -(-count // num_parts)
    whole: dict[str, list[Tensor]] = {}
    towers: Sequence[nn.Module] = getattr(student, "towers", lambda: [student])()
    for tower in towers:
        for start in range(0, count, size):
            part = {name: rows[start : start + size] for name, rows in fields.items()}
            again = partial(_first_and_second, tower)
            outputs = checkpoint(feed, tower, inputs, part, use_reentrant=False, context_fn=again)
            for name, rows in outputs.items():
                whole.setdefault(name, []).append(rows)
    return {name: torch.cat(parts) for name, parts in whole.items()}


def _first_and_second(network: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """What a part's first and its second forward run in."""
    return nullcontext(), _statistics_kept(network)


@contextmanager
def _statistics_kept(network: nn.Module) -> Iterator[None]:
    """Batch normalisation counts nothing: a part's second forward is no further batch."""
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
