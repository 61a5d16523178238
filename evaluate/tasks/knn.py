"""knn: a weighted vote of the nearest training samples, by the cosine of the frozen student's pooled features.

Wu et al. 2018, "Unsupervised Feature Learning via Non-Parametric Instance Discrimination" (arXiv:1805.01978), section
3.4: each of the k nearest neighbours i votes for its class with the weight exp(s_i / 0.07), s_i its cosine. Their k is
200 on ImageNet; ours is the preset's 20, and the features are those before the head instead of a projection.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from evaluate import preset
from evaluate.evaluation import Evaluation
from evaluate.features import pooled_features
from shards.command.ranges import Count, Positive
from shards.errors import BadInput

_BANK_ROWS = 1 << 16
_QUERY_ROWS = 1 << 10


@dataclass(frozen=True, kw_only=True)
class Settings(preset.Settings):
    """How many neighbours vote, and how much the near ones outweigh the far."""

    k: Count
    temperature: Positive


def measure(evaluation: Evaluation, settings: Settings) -> dict[str, Any]:
    """`top1` on the split, with the whole training split as the memory bank."""
    k, device = settings.k, evaluation.student.device
    bank, queries = evaluation.train_and_test()
    if k > bank.num_samples:
        raise BadInput(f"--preset knn:k={k}: {bank.split} has only {bank.num_samples} samples; give at most that many")
    bank_features, bank_labels = pooled_features(evaluation, bank)
    features, labels = pooled_features(evaluation, queries)
    cosines, neighbours = nearest(features.to(device), bank_features, k)
    predicted = vote(cosines, bank_labels.to(device)[neighbours], len(bank.class_names), settings.temperature)
    top1 = (predicted == labels.to(device)).double().mean().item()
    return {"top1": round(top1, 6), **queries.facts(), "train_split": bank.split, "train_data": bank.name}


def nearest(
    queries: Float[Tensor, "queries width"], bank: Float[Tensor, "samples width"], k: int
) -> tuple[Float[Tensor, "queries k"], Int64[Tensor, "queries k"]]:
    """The cosines and rows of the k bank features nearest to each query, on the queries' device.

    Each block of the bank goes to the device once and is never all there; a block of cosines takes at most 268 MB.
    """
    queries = F.normalize(queries, dim=1)
    cosines = queries.new_full((len(queries), k), -torch.inf)
    rows = torch.zeros(len(queries), k, dtype=torch.int64, device=queries.device)
    for first in range(0, len(bank), _BANK_ROWS):
        block = F.normalize(bank[first : first + _BANK_ROWS].to(queries.device), dim=1)
        for start in range(0, len(queries), _QUERY_ROWS):
            part = slice(start, start + _QUERY_ROWS)
            nearest_cosines, at = (queries[part] @ block.T).topk(min(k, len(block)), dim=1)
            both = torch.cat([cosines[part], nearest_cosines], dim=1)
            cosines[part], kept = both.topk(k, dim=1)
            rows[part] = torch.cat([rows[part], at + first], dim=1).gather(1, kept)
    return cosines, rows


def vote(
    cosines: Float[Tensor, "queries k"], labels: Int64[Tensor, "queries k"], num_classes: int, temperature: float
) -> Int64[Tensor, " queries"]:
    """The class c with the largest sum of exp(s_i / temperature) over its neighbours i (section 3.4)."""
    # as shares of the nearest one's: at a temperature of 0.01 exp(s / T) itself passes float32's range
    weights = ((cosines - cosines.amax(1, keepdim=True)) / temperature).exp()
    return weights.new_zeros(len(labels), num_classes).scatter_add_(1, labels, weights).argmax(dim=1)
