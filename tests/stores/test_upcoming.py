"""When rows come again: what the order says, at a cost that does not grow with the number of views."""

import itertools

import numpy as np
import pytest

from shards.bucket_rows import ANY_VIEW
from shards.order import BatchOrder, Epoch, Reading
from shards.row_cache import NEVER
from shards.upcoming import Upcoming


def test_the_next_use_is_that_of_the_order() -> None:
    order = BatchOrder([np.arange(0, 60, 2), np.arange(20)], 7, [3, 1], seed=1)
    upcoming, uses = Upcoming(order), dict[tuple[int, int, int], list[int]]()
    readings: list[tuple[int, int, Reading]] = []
    for number in range(9):
        epoch = order.epoch(number)
        for batch in range(order.num_batches):
            for reading in epoch.readings(batch):
                readings.append((number, number * order.num_batches + batch, reading))
                for view, sample in itertools.product((reading.view, ANY_VIEW), reading.samples.tolist()):
                    uses.setdefault((reading.component, view, sample), []).append(readings[-1][1])
    asked = [each for each in readings if each[0] < 6]
    shared = [(*times, each._replace(view=ANY_VIEW)) for *times, each in asked if each.component == 0]
    for number, _, reading in (*asked, *shared):
        for sample, found in zip(reading.samples, upcoming.after(number, reading), strict=True):
            later = [use for use in uses[reading.component, reading.view, int(sample)] if use >= (number + 1) * 7]
            # the order has 7 batches an epoch; beyond three epochs nothing is looked at
            expected = later[0] if later and later[0] < (number + 4) * 7 else NEVER
            assert order.num_batches == 7 and found == expected


class CountedOrder(BatchOrder):
    """An order that counts the epochs that were drawn of it."""

    drawn = 0

    def epoch(self, number: int) -> Epoch:
        type(self).drawn += 1
        return super().epoch(number)


@pytest.mark.parametrize(("own", "most"), [(None, 1), ([1], 2)])
def test_the_work_for_an_epoch_does_not_grow_with_the_number_of_views(own: list[int] | None, most: int) -> None:
    """A cache of all parts draws the epoch in which a view comes again, one of two ranks the next of these too."""
    for num_views in (2, 30):
        upcoming, CountedOrder.drawn = Upcoming(CountedOrder([np.arange(40)], 8, [num_views], 0, 2), own), 0
        for number in range(6):
            upcoming.after(number, Reading(np.arange(40), number % num_views, number))
        assert CountedOrder.drawn == 6 * most if num_views == 30 else CountedOrder.drawn <= 6 * most
