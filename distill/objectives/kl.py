"""KL(teacher || student) on softened logits, times T^2 (Hinton, Vinyals & Dean 2015, arXiv:1503.02531, section 2)."""

import math
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from shards.codecs import LOGITS
from shards.codecs.distribution import Distribution
from shards.codecs.features import Features


@dataclass(frozen=True)
class KL:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)), from full logits, a teacher's top k or a sample of it."""

    temperature: float

    def refusal(self, target: str, codec: str) -> str | None:
        """It is defined on logits, and on a sample at the temperature of its draws alone."""
        if target not in LOGITS:
            return f"needs {' or '.join(LOGITS)}"
        if codec.startswith("sample") and self.temperature != 1:
            return "is biased on a sample, drawn at temperature 1: give --objective kl:temperature=1"
        return None

    def __call__(self, student: Float[Tensor, "batch *tokens classes"], target: Features) -> Float[Tensor, ""]:
        """The mean over batch and stored tokens that are no padding; the T^2 keeps the gradient's size as T grows.

        From a sample it is the divergence from the weights of the drawn classes. Its gradient is in the mean the full
        KL's; its value lies above by what the entropy of the weights lacks in the mean, whatever the student.
        """
        compared, teacher = target.beside(student)
        logits = compared.float() / self.temperature
        if isinstance(teacher, Distribution):
            teacher_log, student_log = self._softened(teacher), teacher.outcomes_of(logits)
        else:
            teacher_log = (teacher / self.temperature).log_softmax(-1)
            student_log = logits.log_softmax(-1)
        total = F.kl_div(student_log, teacher_log, reduction="sum", log_target=True)
        return total / math.prod(logits.shape[:-1]) * self.temperature**2

    def _softened(self, teacher: Distribution) -> Float[Tensor, "batch *tokens outcomes"]:
        """The teacher's outcomes; of a top k at T the other classes are taken to share their mass evenly.

        That is exact at T = 1, and else the choice of largest entropy given that mass; the student's are exact.
        """
        if teacher.log_remaining is None:
            return teacher.log_probabilities
        others = math.log(teacher.num_classes - teacher.classes.shape[-1])
        log_p = teacher.outcomes() / self.temperature
        log_p[..., -1] += others - others / self.temperature
        return log_p.log_softmax(-1)


def make(temperature: float = 1.0) -> KL:
    """The objective `kl`."""
    return KL(temperature)
