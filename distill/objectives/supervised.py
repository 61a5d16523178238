"""Cross-entropy with the labels alone: no teacher."""

from dataclasses import dataclass

from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Supervised:
    """Cross-entropy with hard labels."""

    def refusal(self, target: str, codec: str) -> str | None:
        """No target set holds labels."""
        return "needs a term to labels"

    def __call__(self, student: Float[Tensor, "batch classes"], labels: Int64[Tensor, " batch"]) -> Float[Tensor, ""]:
        """The mean over the batch."""
        return F.cross_entropy(student.float(), labels)


def make() -> Supervised:
    """The objective `supervised`."""
    return Supervised()
