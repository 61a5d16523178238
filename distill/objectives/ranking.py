"""Ranking loss: two outputs of one sample are nearer than those of two, by a margin (Aytar et al. 2017,
arXiv:1706.00932, section 3.2, over cosines)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from distill.objectives.gathered import partners_of


@dataclass(frozen=True)
class Ranking:
    """max(0, margin - cos(i, i) + cos(i, j)), the mean over all pairs j != i of the batch of all ranks, both ways."""

    compares_samples: ClassVar[bool] = True

    margin: float

    def refusal(self, target: str, codec: str) -> str | None:
        """It compares outputs of the student with each other."""
        return "is between two outputs of the student: leave `to` out"

    def __call__(self, first: Float[Tensor, "batch width"], second: Float[Tensor, "batch width"]) -> Float[Tensor, ""]:
        """Row i of `first` belongs to row i of `second`; zero for a single sample."""
        rows, partners, _ = partners_of(first, second)
        cosines = rows @ partners.T
        own = cosines.diagonal()
        above = (self.margin - own[:, None] + cosines).relu() + (self.margin - own[None, :] + cosines).relu()
        apart = ~torch.eye(len(rows), dtype=torch.bool, device=rows.device)
        return (above * apart).sum() / (2 * max(1, len(rows) * (len(rows) - 1)))


def make(margin: float = 0.1) -> Ranking:
    """The objective `ranking`."""
    return Ranking(margin)
