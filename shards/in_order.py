"""In order: every sample once, for validation and evaluation, where a training run has an order by its seed."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int

from shards.loader import Order, Part
from shards.order import Reading


def in_order(samples: Int[np.ndarray, " count"], batch_size: int, view: int = 0, component: int = 0) -> Order:
    """Every sample once, in the order given, the last batch short."""

    def batches() -> Iterator[Part]:
        for start in range(0, len(samples), batch_size):
            yield Part([Reading(samples[start : start + batch_size], view, component=component)])

    return batches
