"""Codec error: how far decoded rows are from what was encoded."""

import torch
from jaxtyping import Float
from torch import Tensor


def cosine_error(rows: Float[Tensor, "batch ..."], decoded: Float[Tensor, "batch ..."]) -> dict[str, float]:
    """Mean and worst-percentile cosine between vectors (last axis) before and after, and the largest difference."""
    width = rows.shape[-1]
    before, after = rows.double().reshape(-1, width), decoded.double().reshape(-1, width)
    cosines = torch.nn.functional.cosine_similarity(before, after, dim=1)
    return {
        "cosine_mean": round(cosines.mean().item(), 7),
        "cosine_worst_percentile": round(cosines.quantile(0.01).item(), 7),
        "largest_difference": round((before - after).abs().max().item(), 7),
    }


def variance_lost(rows: Float[Tensor, "batch ..."], decoded: Float[Tensor, "batch ..."]) -> float:
    """The squared error over the squared distance to the mean vector (last axis); 0 where the vectors are all equal."""
    width = rows.shape[-1]
    before, after = rows.double().reshape(-1, width), decoded.double().reshape(-1, width)
    around = (before - before.mean(0)).square().sum().item()
    return round((before - after).square().sum().item() / around, 7) if around else 0.0
