"""Rows of all ranks: losses that compare the samples of a batch see the whole batch on any number of processes."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributed.nn.functional import all_gather


def gathered(rows: Float[Tensor, "batch width"]) -> Float[Tensor, "all_ranks width"]:
    """The rows of every rank, one rank after the other; each has as many.

    Every rank computes the same loss of them. The backward pass sums what all ranks ask of a row, DDP then takes the
    mean over the ranks: together the gradient of one process that has the whole batch.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return rows
    return torch.cat(all_gather(rows.contiguous()))


def first_row(rows: Tensor) -> int:
    """Where this rank's rows begin among the gathered ones."""
    initialised = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_rank() * len(rows) if initialised else 0
