"""Smooth L1 between features: squared below `beta`, absolute above it (Girshick 2015, arXiv:1504.08083, equation 3;
data2vec 1 trains with it: Baevski et al. 2022, arXiv:2202.03555, section 3.4)."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from distill.objectives.base import matched
from shards.codecs.kept import KeptTokens


@dataclass(frozen=True)
class SmoothL1:
    """The mean over batch, stored tokens and channels; outliers among the channels pull less than with `mse`."""

    beta: float
    target: ClassVar[str | None] = None

    def __call__(
        self,
        student: Float[Tensor, "batch *rows"],
        target: Float[Tensor, "batch *rows"] | KeptTokens,
        labels: Int64[Tensor, " batch"] | None,
    ) -> Float[Tensor, ""]:
        """The mean over the batch."""
        return F.smooth_l1_loss(*matched(student, target), beta=self.beta)


def make(beta: float = 1.0) -> SmoothL1:
    """The objective `smooth_l1`."""
    return SmoothL1(beta)
