"""Mean squared error between features, as the thesis distils data2vec 2.0 (and data2vec 2.0 itself trains:
Baevski et al. 2022, arXiv:2212.07525, section 3.1)."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from distill.objectives.base import matched
from shards.codecs.kept import KeptTokens


@dataclass(frozen=True)
class MSE:
    """The mean over batch, stored tokens and channels of the squared difference."""

    target: ClassVar[str | None] = None

    def __call__(
        self,
        student: Float[Tensor, "batch *rows"],
        target: Float[Tensor, "batch *rows"] | KeptTokens,
        labels: Int64[Tensor, " batch"] | None,
    ) -> Float[Tensor, ""]:
        """The mean over the batch."""
        return F.mse_loss(*matched(student, target))


def make() -> MSE:
    """The objective `mse`."""
    return MSE()
