"""Metrics: what a classification or a regression is scored by, from the truth and the predictions, in this order."""

from collections.abc import Callable
from functools import partial

import numpy as np
from jaxtyping import Float, Num
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

Values = Num[np.ndarray, " samples"]


def pearson(truth: Values, predicted: Values) -> float:
    """Pearson's correlation; 0 where one side never varies."""
    x, y = (side.astype(np.float64) - side.astype(np.float64).mean() for side in (truth, predicted))
    scale = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / scale if scale > 0 else 0.0


def spearman(truth: Values, predicted: Values) -> float:
    """Spearman's correlation: Pearson's of the ranks, of which equal values share the mean."""
    return pearson(_ranks(truth), _ranks(predicted))


def _ranks(values: Values) -> Float[np.ndarray, " samples"]:
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Float[np.ndarray, " samples"] = (np.cumsum(counts) - (counts - 1) / 2)[places]
    return ranks


METRICS: dict[str, Callable[[Values, Values], float]] = {
    "accuracy": accuracy_score,
    "f1": partial(f1_score, zero_division=0.0),
    "matthews": matthews_corrcoef,
    "pearson": pearson,
    "spearman": spearman,
}
