"""Metrics against values computed by hand, and against another implementation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import tensor
from torchmetrics.functional import pearson_corrcoef, spearman_corrcoef

from evaluate.metrics import METRICS

# 3 true positives, 1 false positive, 2 false negatives, 4 true negatives
TRUTH = np.array([1, 1, 1, 0, 1, 1, 0, 0, 0, 0])
PREDICTED = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0])


@pytest.mark.parametrize(
    ("name", "expected"),
    [("accuracy", 7 / 10), ("f1", 6 / 9), ("matthews", (3 * 4 - 1 * 2) / math.sqrt(4 * 5 * 5 * 6))],
)
def test_two_classes_by_hand(name: str, expected: float) -> None:
    assert METRICS[name](TRUTH, PREDICTED) == pytest.approx(expected, abs=1e-12)


def test_correlations_by_hand() -> None:
    truth, predicted = np.array([1.0, 2.0, 2.0, 5.0]), np.array([2.0, 1.0, 4.0, 9.0])
    # deviations (-1.5, -.5, -.5, 2.5) and (-2, -3, 0, 5); ranks 1, 2.5, 2.5, 4 and 2, 1, 3, 4
    assert METRICS["pearson"](truth, predicted) == pytest.approx(17 / math.sqrt(9 * 38), abs=1e-12)
    assert METRICS["spearman"](truth, predicted) == pytest.approx(3 / math.sqrt(4.5 * 5), abs=1e-12)


def test_what_never_varies_scores_nothing() -> None:
    constant, truth = np.zeros(4), np.array([0, 1, 0, 1])
    for name in ("f1", "matthews", "pearson", "spearman"):
        assert METRICS[name](truth, constant) == 0


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(-9, 9)), min_size=3, max_size=40))
def test_correlations_are_those_of_torchmetrics(pairs: list[tuple[int, int]]) -> None:
    truth, predicted = (np.array(side, np.float64) for side in zip(*pairs, strict=True))
    if truth.std() == 0 or predicted.std() == 0:
        return
    for name, other in (("pearson", pearson_corrcoef), ("spearman", spearman_corrcoef)):
        expected = other(tensor(predicted), tensor(truth)).item()
        assert METRICS[name](truth, predicted) == pytest.approx(expected, abs=1e-5)
