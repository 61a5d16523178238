"""Bank: rows of a target that other samples than those of a batch have, drawn anew for each step."""

import numpy as np

from shards.command.progress import counted
from shards.draws import drawn
from shards.errors import BadInput
from shards.order import BatchOrder, Epoch, Reading, divided


def check_bank(order: BatchOrder, where: str, size: int) -> None:
    """Raises BadInput, which begins with `where`, for a bank of more rows than there are beside a batch."""
    if size > (most := order.num_samples - order.batch_size):
        here = f"{counted(order.num_samples, 'sample')} here, of which {order.batch_size:,} are the batch"
        raise BadInput(f"{where}: bank {size}: more than the {here}; give at most {most}")


def draw_bank(epoch: Epoch, batch: int, size: int) -> list[Reading]:
    """`size` samples other than those of the batch, drawn from all components by (seed, step) alone.

    Of each component the view that its pass reads when the epoch begins.
    """
    order, starts = epoch.order, np.cumsum([0, *map(len, epoch.order.samples)])
    without = [
        starts[reading.component] + np.searchsorted(order.samples[reading.component], reading.samples)
        for reading in epoch.readings(batch)
    ]
    step = epoch.number * order.num_batches + batch
    places = drawn(size, order.num_samples, np.concatenate(without), order.seed, step)
    passes = (epoch.number * count // len(each) for count, each in zip(order.counts, order.samples, strict=True))
    whole = [
        Reading(each, number % num_views, number, component)
        for component, (each, number, num_views) in enumerate(zip(order.samples, passes, order.num_views, strict=True))
    ]
    return divided(places, whole)
