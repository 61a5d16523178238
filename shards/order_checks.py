"""Order checks: what of an order cannot be, said in one line."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from shards.command.progress import counted
from shards.errors import BadInput
from shards.repeated import draws_an_epoch


def check_order(
    samples: Sequence[Int[np.ndarray, " _"]],
    batch_size: int,
    num_views: Sequence[int],
    num_parts: int,
    weights: Sequence[float] | None,
    views_a_batch: int,
) -> None:
    """Raises BadInput where batches cannot be cut so, or are larger than the sets, or a set has no part in them.

    The arguments are the fields of `BatchOrder`.
    """
    num_samples = sum(map(len, samples))
    if views_a_batch > (fewest := min(num_views)):
        there_are = counted(fewest, "view")
        raise BadInput(
            f"--read views_a_batch={views_a_batch}: the cache has {there_are} to read; give at most {fewest}"
        )
    if batch_size % (num_parts * views_a_batch):
        parts = f"{num_parts} equal parts (devices x accumulate)"
        parts += f" of samples in {views_a_batch} views each (--read views_a_batch)" if views_a_batch > 1 else ""
        raise BadInput(f"--batch_size {batch_size}: cannot be cut into {parts}")
    if num_samples < batch_size:
        there_are = counted(num_samples, "sample")
        raise BadInput(f"--batch_size {batch_size}: more than the {there_are} here; give at most that many")
    if not all(map(len, samples)):
        raise BadInput("--shards: one of the sets has no sample to train on; leave it out")
    for weight, count in zip(weights or (), draws_an_epoch(samples, weights, views_a_batch), strict=False):
        if count == 0:
            few = f"less than one of the {num_samples:,} samples of an epoch"
            raise BadInput(f"--shards: the weight {weight:g} is {few}; give a larger one, or leave the set out")
