"""Smooth L1 between features: squared below `beta`, absolute above it (Girshick 2015, arXiv:1504.08083, equation 3;
data2vec 1 trains with it: Baevski et al. 2022, arXiv:2202.03555, section 3.4)."""

from functools import partial

from torch.nn import functional as F

from distill.objectives.base import FeatureObjective


def make(beta: float = 1.0) -> FeatureObjective:
    """The objective `smooth_l1`; outliers among the channels pull less than with `mse`."""
    return FeatureObjective(partial(F.smooth_l1_loss, beta=beta))
