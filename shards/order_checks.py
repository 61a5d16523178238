"""Order checks: what of an order cannot be, said in one line."""

from typing import TYPE_CHECKING

from shards.command.progress import counted
from shards.errors import BadInput

if TYPE_CHECKING:
    from shards.order import BatchOrder


def check_order(order: "BatchOrder") -> None:
    """Raises BadInput where batches cannot be cut so, or are larger than the sets, or a set has no part in them."""
    size, repeats = order.batch_size, order.views_a_batch
    if repeats > (fewest := min(order.num_views)):
        there_are = counted(fewest, "view")
        raise BadInput(f"--read views_a_batch={repeats}: the cache has {there_are} to read; give at most {fewest}")
    if size % (order.num_parts * repeats):
        parts = f"{order.num_parts} equal parts (devices x accumulate)"
        parts += f" of samples in {repeats} views each (--read views_a_batch)" if repeats > 1 else ""
        raise BadInput(f"--batch_size {size}: cannot be cut into {parts}")
    if order.num_samples < size:
        there_are = counted(order.num_samples, "sample")
        raise BadInput(f"--batch_size {size}: more than the {there_are} here; give at most that many")
    if not all(map(len, order.samples)):
        raise BadInput("--shards: one of the sets has no sample to train on; leave it out")
    for weight, count in zip(order.weights or (), order.counts, strict=False):
        if count == 0:
            few = f"less than one of the {order.num_samples:,} samples of an epoch"
            raise BadInput(f"--shards: the weight {weight:g} is {few}; give a larger one, or leave the set out")
