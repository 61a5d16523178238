"""Rounding: how far two right computations in float32 may lie apart, from the arithmetic alone.

Kernels add up in another order on another processor. A relative bound on a divergence near 0 says nothing then: it is a
small difference of large numbers, and all its digits may be lost.
"""

import math

import torch
from torch import Tensor

EPSILON = float(torch.finfo(torch.float32).eps)
_LAYERS_ULPS = 32
"""Units in the last place of the largest value by which two kernels' passes through a layer or two may differ.

A sum of n products in another order moves by about sqrt(n) of them, and n is at most a few hundred.
"""


def of_divergence(*logits: Tensor, temperature: float = 1.0) -> float:
    """The most by which two computations of KL(p || q) T^2, or of a cross-entropy, of these logits differ.

    Every log-probability is off by the logits' rounding and by that of a sum over classes; weights p that sum to 1 make
    that no larger; T^2 does.
    """
    num_classes = logits[0].shape[-1]
    largest = max(float(rows.abs().max()) for rows in logits) / temperature + math.log(num_classes)
    return EPSILON * (_LAYERS_ULPS * largest + math.sqrt(num_classes)) * temperature**2


def of_rows(rows: Tensor, num_layers: int = 4) -> float:
    """The most by which two forwards of a network of a few layers differ in any value of these rows."""
    return EPSILON * _LAYERS_ULPS * num_layers * float(rows.abs().max())
