"""Contrastive distillation: a student's row finds its teacher's row among those of the batch, and of a bank of others.

The thesis's CDL: cross-entropy of softmax over cosine(student i; teacher j), only from student to teacher; with a bank
(CDL_MB) as MoCo has one (He et al. 2020, arXiv:1911.05722), but of teacher rows, which a frozen teacher keeps exact.
"""

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from distill.objectives.contrastive import MAX_SCALE
from distill.objectives.gathered import first_row, gathered
from shards.codecs import PROBABILITIES
from shards.codecs.features import Features


class ContrastiveDistillation(nn.Module):
    """Cross-entropy over cosines to teacher rows, with a temperature that is learned in log space."""

    compares_samples: ClassVar[bool] = True

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))

    def refusal(self, target: str, codec: str) -> str | None:
        """Probabilities have no direction to compare, tokens no single row."""
        return "needs features, a row a sample" if codec.partition(":")[0] in PROBABILITIES else None

    def forward(
        self, student: Float[Tensor, "batch width"], target: Features, bank: Features | None = None
    ) -> Float[Tensor, ""]:
        """Row i of the student belongs to row i of the target; the rows of `bank` belong to nobody."""
        others = [] if bank is None else [bank.vectors.float()]
        teacher = F.normalize(torch.cat([gathered(target.vectors.float()), *others]), dim=1)
        cosines = F.normalize(student.float(), dim=1) @ teacher.T
        places = first_row(student) + torch.arange(len(student), device=student.device)
        return F.cross_entropy(self.log_scale.exp().clamp(max=MAX_SCALE) * cosines, places)


def make(temperature: float = 0.07) -> ContrastiveDistillation:
    """The objective `contrastive_distillation`; `temperature` is what it starts from."""
    return ContrastiveDistillation(temperature)
