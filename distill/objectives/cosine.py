"""One minus the cosine between feature vectors, as BEiT v2 distils its teacher's (Peng et al. 2022, arXiv:2208.06366,
section 2.2, equation 2 without the quantiser)."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from distill.objectives.base import matched
from shards.codecs.kept import KeptTokens


@dataclass(frozen=True)
class Cosine:
    """The mean over batch and stored tokens; the features' lengths do not count."""

    target: ClassVar[str | None] = None

    def __call__(
        self,
        student: Float[Tensor, "batch *rows"],
        target: Float[Tensor, "batch *rows"] | KeptTokens,
        labels: Int64[Tensor, " batch"] | None,
    ) -> Float[Tensor, ""]:
        """The mean over the batch."""
        return 1 - F.cosine_similarity(*matched(student, target), dim=-1).mean()


def make() -> Cosine:
    """The objective `cosine`."""
    return Cosine()
