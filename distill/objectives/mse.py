"""Mean squared error between features, as the thesis distils data2vec 2.0 (and data2vec 2.0 itself trains:
Baevski et al. 2022, arXiv:2212.07525, section 3.1)."""

from torch.nn import functional as F

from distill.objectives.base import FeatureObjective


def make() -> FeatureObjective:
    """The objective `mse`."""
    return FeatureObjective(F.mse_loss)
