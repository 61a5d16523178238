"""One minus the cosine between feature vectors, as BEiT v2 distils its teacher's (Peng et al. 2022, arXiv:2208.06366,
section 2.2, equation 2 without the quantiser)."""

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from distill.objectives.base import FeatureObjective


def make() -> FeatureObjective:
    """The objective `cosine`."""
    return FeatureObjective(distance)


def distance(student: Float[Tensor, "batch *rows"], target: Float[Tensor, "batch *rows"]) -> Float[Tensor, ""]:
    """The mean over batch and stored tokens; the features' lengths do not count."""
    return 1 - F.cosine_similarity(student, target, dim=-1).mean()
