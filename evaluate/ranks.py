"""Ranks: which place the right candidate takes by cosine among all, and which it takes by chance."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

TIE = 1e-6
"""Cosines no further apart are equal: rounding must not order the rows of a collapsed model."""
_BLOCK = 1 << 24
"""Cosines that are computed at a time: 67 MB."""


def ranks(
    queries: Float[Tensor, "queries width"],
    candidates: Float[Tensor, "candidates width"],
    query_ids: Int64[Tensor, " queries"],
    candidate_ids: Int64[Tensor, " candidates"],
) -> Int64[Tensor, " queries"]:
    """For rows of length 1: 1 + the number of candidates of other ids that are as near as the nearest of the own id.

    Ties count against the model, and NaN is nearer than everything, so that rows which are all alike get the last rank
    and not the first. On the CPU; a block of cosines is on the queries' device at a time.
    """
    places = torch.empty(len(queries), dtype=torch.int64)
    candidates, candidate_ids = candidates.to(queries.device), candidate_ids.to(queries.device)
    for rows in torch.arange(len(queries)).split(max(1, _BLOCK // len(candidates))):
        cosines = queries[rows] @ candidates.T
        own = query_ids[rows].to(queries.device)[:, None] == candidate_ids
        nearest = cosines.masked_fill(~own, -torch.inf).amax(1, keepdim=True)
        places[rows] = 1 + (~(cosines < nearest - TIE) & ~own).sum(1).cpu()
    return places


def by_chance(counts: Int64[np.ndarray, " queries"], num_candidates: int, ks: tuple[int, ...]) -> dict[str, float]:
    """`r{k}` and `median_rank` of candidates in random order, for queries with `counts` right ones each.

    Exact: a query with c right ones of n has none among the first k with probability C(n - c, k) / C(n, k). The median
    is the smallest rank that half of the queries reach.
    """
    values, times = np.unique(counts, return_counts=True)
    first = np.arange(num_candidates)
    missed = np.zeros(num_candidates)  # [k - 1]: the expected share of queries without a right one among the first k
    for count, share in zip(values.tolist(), (times / len(counts)).tolist(), strict=True):
        missed += share * np.cumprod(np.maximum(num_candidates - count - first, 0) / (num_candidates - first))
    chance: dict[str, Any] = {f"r{k}": round(1 - float(missed[min(k, num_candidates) - 1]), 6) for k in ks}
    return chance | {"median_rank": float(np.argmax(missed <= 0.5 + 1e-9) + 1)}
