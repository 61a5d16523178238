"""Upcoming: when each row of a run is read next, which its order tells before it is read."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from shards.order import BatchOrder, Reading
from shards.row_cache import NEVER


class Upcoming:
    """The next use of rows after an epoch, in global batches since the run began; epochs are asked in any order."""

    def __init__(self, order: BatchOrder) -> None:
        self.order = order
        self._epoch: int | None = None
        self._next: dict[tuple[int, int], Int[np.ndarray, " samples"]] = {}

    def after(self, epoch: int, reading: Reading) -> Int[np.ndarray, " count"]:
        """When the rows of `reading`, a part of that epoch's, are read next; NEVER in the epochs looked at.

        These are as many as a component has views, after which each view is read again.
        """
        if epoch != self._epoch:
            self._look_ahead(epoch)
            self._epoch = epoch
        known = self._next.get((reading.component, reading.view))
        return np.full(len(reading.samples), NEVER) if known is None else known[reading.samples]

    def _look_ahead(self, epoch: int) -> None:
        self._next = {}
        for later in range(epoch + max(self.order.num_views), epoch, -1):  # the nearest use is written last
            drawn = self.order.epoch(later)
            times = np.full(sum(len(reading.samples) for reading in drawn.draws), NEVER)
            batches = np.arange(len(drawn.parts)) + later * self.order.num_batches
            times[drawn.parts.reshape(len(batches), -1)] = batches[:, None]
            first = 0
            for reading in drawn.draws:
                some = times[first : first + len(reading.samples)]
                read = some < NEVER
                self._of(reading, self.order.samples)[reading.samples[read]] = some[read]
                first += len(reading.samples)

    def _of(self, reading: Reading, samples: Sequence[Int[np.ndarray, " _"]]) -> Int[np.ndarray, " samples"]:
        size = int(samples[reading.component][-1]) + 1
        return self._next.setdefault((reading.component, reading.view), np.full(size, NEVER))
