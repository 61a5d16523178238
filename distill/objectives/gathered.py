"""Rows of all ranks: losses that compare the samples of a batch see the whole batch on any number of processes."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor


def gathered(rows: Float[Tensor, "batch *row"]) -> Float[Tensor, "all_ranks *row"]:
    """The rows of every rank, one rank after the other; each has as many.

    Those of this rank alone where no gradient is asked for: in validation the ranks take turns over whole batches.

    Every rank computes the same loss of them. The backward pass sums what all ranks ask of a row, DDP then takes the
    mean over the ranks: together the gradient of one process that has the whole batch.
    """
    if not _are_several():
        return rows
    everyone: Tensor = _Gathered.apply(rows.contiguous())  # torch's own, torch.distributed.nn, is deprecated
    return everyone


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(parts, rows)
        ctx.num_rows = len(rows)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient, first = gradient.contiguous(), torch.distributed.get_rank() * ctx.num_rows
        torch.distributed.all_reduce(gradient)
        return gradient[first : first + ctx.num_rows]


def partners_of(
    first: Float[Tensor, "batch width"],
    second: Float[Tensor, "batch *captions width"],
    valid: Bool[Tensor, "batch captions"] | None = None,
) -> tuple[Float[Tensor, "images width"], Float[Tensor, "partners width"], Int64[Tensor, " partners"]]:
    """The normalised rows of all ranks, those of their partners, and which row each partner belongs to.

    Of several captions an image all that are `valid` are its partners.
    """
    rows, partners = (F.normalize(gathered(each).float(), dim=-1) for each in (first, second))
    owner = torch.arange(len(rows), device=rows.device)
    if valid is None:
        return rows, partners, owner
    present = gathered(valid.to(partners.dtype)) > 0
    return rows, partners[present], owner[:, None].expand_as(present)[present]


def first_row(rows: Tensor) -> int:
    """Where this rank's rows begin among the gathered ones."""
    return torch.distributed.get_rank() * len(rows) if _are_several() else 0


def _are_several() -> bool:
    """Whether the batch is that of several ranks."""
    return torch.is_grad_enabled() and torch.distributed.is_available() and torch.distributed.is_initialized()
