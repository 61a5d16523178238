"""KL(teacher || student) on softened logits, times T^2 (Hinton, Vinyals & Dean 2015, arXiv:1503.02531, section 2)."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from shards.codecs.features import Features
from shards.codecs.topk import TopKProbabilities


@dataclass(frozen=True)
class KL:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)), from full logits or from a teacher's top k."""

    temperature: float
    target: ClassVar[str | None] = "logits"

    def __call__(
        self,
        student: Float[Tensor, "batch classes"],
        target: Features | TopKProbabilities,
    ) -> Float[Tensor, ""]:
        """The mean over the batch; the T^2 keeps the gradient's size as T grows."""
        logits = student.float()
        if isinstance(target, TopKProbabilities):
            teacher_log, student_log = self._outcomes(logits, target)
        else:
            teacher_log = (target.rows / self.temperature).log_softmax(-1)
            student_log = (logits / self.temperature).log_softmax(-1)
        return F.kl_div(student_log, teacher_log, reduction="batchmean", log_target=True) * self.temperature**2

    def _outcomes(
        self, logits: Float[Tensor, "batch classes"], target: TopKProbabilities
    ) -> tuple[Float[Tensor, "batch outcomes"], Float[Tensor, "batch outcomes"]]:
        """Both distributions over k + 1 outcomes, the last being "any other class".

        Exact at T = 1. At another temperature the teacher's other classes are taken to share their mass evenly, the
        choice of largest entropy given that mass; the student's are exact.
        """
        temperature = self.temperature
        num_others = target.num_classes - target.classes.shape[-1]
        others = target.log_remaining.unsqueeze(-1)
        softened_others = (others - math.log(num_others)) / temperature + math.log(num_others)
        teacher = torch.cat([target.log_probabilities / temperature, softened_others], -1).log_softmax(-1)
        student = (logits / temperature).log_softmax(-1)
        kept = student.gather(-1, target.classes)
        rest = student.scatter(-1, target.classes, -torch.inf).logsumexp(-1, keepdim=True)
        return teacher, torch.cat([kept, rest], -1)


def make(temperature: float = 1.0) -> KL:
    """The objective `kl`."""
    return KL(temperature)
