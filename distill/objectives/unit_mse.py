"""Mean squared error between rows of length 1: CLIP-KD's feature distillation (Yang et al. 2024, arXiv:2307.12732,
section 3.2), of normalised embeddings; as the authors' code takes it, a mean over the channels as well."""

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from distill.objectives.base import FeatureObjective


def make() -> FeatureObjective:
    """The objective `unit_mse`."""
    return FeatureObjective(distance)


def distance(student: Float[Tensor, "batch *rows"], target: Float[Tensor, "batch *rows"]) -> Float[Tensor, ""]:
    """The mean over batch and channels: 2 (1 - cosine) / channels, the mean over the batch."""
    return F.mse_loss(F.normalize(student, dim=-1), F.normalize(target, dim=-1))
