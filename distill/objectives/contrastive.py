"""Contrastive loss between two outputs: each row's partner among all rows of the batch, both ways (CLIP, Radford et
al. 2021, arXiv:2103.00020, section 2.3: a learned temperature, from 0.07, its inverse clamped to at most 100).

The batch is that of all ranks together; the gradient goes through the gathered rows to the rank that computed them.
"""

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from distill.objectives.gathered import partners_of

MAX_SCALE = 100.0


class Contrastive(nn.Module):
    """The mean of both directions' cross-entropies, of cosines over a temperature that is learned in log space."""

    compares_samples: ClassVar[bool] = True

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))

    def refusal(self, target: str, codec: str) -> str | None:
        """It compares outputs of the student with each other."""
        return "is between two outputs of the student: leave `to` out, or take contrastive_distillation"

    def forward(
        self,
        first: Float[Tensor, "batch width"],
        second: Float[Tensor, "batch *captions width"],
        valid: Bool[Tensor, "batch captions"] | None = None,
    ) -> Float[Tensor, ""]:
        """Row i of `first` belongs to row i of `second`, or to each of its `valid` captions: a mean over these."""
        rows, partners, owner = partners_of(first, second, valid)
        logits = self.log_scale.exp().clamp(max=MAX_SCALE) * rows @ partners.T
        own = (owner == torch.arange(len(rows), device=rows.device)[:, None]).float()
        to_partners = -(logits.log_softmax(1) * own).sum(1) / own.sum(1)
        return (to_partners.mean() + F.cross_entropy(logits.T, owner)) / 2


def make(temperature: float = 0.07) -> Contrastive:
    """The objective `contrastive`; `temperature` is what it starts from."""
    return Contrastive(temperature)
