"""Cross-entropy with the indices that a codebook codec stored, a teacher's tokens as classes: MVQ-KD (Guo et al. 2022,
"Predicting Multi-Codebook Vector Quantization Indexes for Knowledge Distillation", arXiv:2211.00508, section 3).

The paper learns a linear classifier for each codebook, in its joint form given the indices before it. Here the
classifier is the codebook itself: the log-probability of a centroid is that of a mixture of Gaussians at the centroids,
linear in the student's row, which stays a row of the teacher's space that every task can measure. With `rq` the stages
before are the teacher's, as in the joint form.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from shards.codecs import CODEBOOKS
from shards.codecs.features import Features
from shards.errors import BadInput


@dataclass(frozen=True)
class CodePrediction:
    """The mean over batch, stored tokens that are no padding, and codebooks, in nats a code."""

    temperature: float

    def refusal(self, target: str, codec: str) -> str | None:
        """There must be codes."""
        return None if codec.partition(":")[0] in CODEBOOKS else f"predicts the codes of {' or '.join(CODEBOOKS)}"

    def __call__(self, student: Float[Tensor, "batch *tokens dim"], target: Features) -> Float[Tensor, ""]:
        """The scores of one codebook are in memory at a time, and computed again for the gradient."""
        if target.codes is None:
            raise BadInput("--objective codes: the targets of a batch have several codebooks; give mse, or one cache")
        codec = getattr(target.codes.codec, "inner", target.codes.codec)
        rows, indices = replace(target, rows=target.codes.indices.float()).beside(student)
        rows, codes = rows.flatten(0, -2), indices.flatten(0, -2).to(torch.uint8)

        def loss(number: int, rows: Tensor) -> Tensor:
            scores = codec.scores(number, rows, codes) / self.temperature
            return F.cross_entropy(scores.float(), codes[:, number].long())

        numbers = range(codes.shape[-1])
        parts = [checkpoint(loss, number, rows, use_reentrant=False, preserve_rng_state=False) for number in numbers]
        return torch.stack(parts).mean()


def make(temperature: float = 1.0) -> CodePrediction:
    """The objective `codes`."""
    return CodePrediction(temperature)
