"""Sigmoid loss between images and captions: each pair of the batch is classified as belonging together or not (SigLIP,
Zhai et al. 2023, arXiv:2303.15343, section 3.2; temperature 10 and bias -10 to start from, both learned)."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from distill.objectives.gathered import partners_of


class Sigmoid(nn.Module):
    """-sum log sigmoid(z (s cos + b)) over all pairs of the batch of all ranks, a mean over images; z is +1 or -1."""

    compares_samples: ClassVar[bool] = True

    def __init__(self, scale: float, bias: float) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(scale).log())
        self.bias = nn.Parameter(torch.tensor(-bias))

    def refusal(self, target: str, codec: str) -> str | None:
        """It compares outputs of the student with each other."""
        return "is between two outputs of the student: leave `to` out"

    def forward(
        self,
        first: Float[Tensor, "batch width"],
        second: Float[Tensor, "batch *captions width"],
        valid: Bool[Tensor, "batch captions"] | None = None,
    ) -> Float[Tensor, ""]:
        """Every caption of `second` belongs to its image in `first`; `valid` says which rows are captions."""
        rows, partners, owner = partners_of(first, second, valid)
        logits = self.log_scale.exp() * rows @ partners.T + self.bias
        own = owner == torch.arange(len(rows), device=rows.device)[:, None]
        return -F.logsigmoid(torch.where(own, logits, -logits)).sum() / len(rows)


def make(scale: float = 10.0, bias: float = 10.0) -> Sigmoid:
    """The objective `sigmoid`: what the cosines are multiplied by at first, and what is taken off."""
    return Sigmoid(scale, bias)
