"""Upcoming: when each row of a run is read next, which its order tells before it is read."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int, Int32

from shards.bucket_rows import ANY_VIEW, NextUses, row_cache
from shards.loader import Part
from shards.order import BatchOrder, Reading
from shards.reader import Component, TargetSet, ViewSet
from shards.row_cache import NEVER

_Drawn = tuple[int, int, Int32[np.ndarray, " own"], Int32[np.ndarray, " own"]]
"""What a cache's own parts read of a component and view in an epoch: the samples, and the batch of each."""
_KEPT = 8
"""Drawn epochs are kept until they have so many times the samples: 8 bytes each."""


class Upcoming:
    """The next use of rows after an epoch, in global batches since the run began; epochs are asked in any order.

    With `parts` these of each batch alone count, as where each rank has a cache of its own. A reading of ANY_VIEW asks
    for rows that all views share. Only epochs that read the view asked for are drawn, so that the work for an epoch
    does not grow with the number of views.
    """

    def __init__(self, order: BatchOrder, parts: Sequence[int] | None = None) -> None:
        self.order = order
        self._parts = list(range(order.num_parts) if parts is None else parts)
        self._epoch: int | None = None
        self._next: dict[tuple[int, int], Int[np.ndarray, " samples"]] = {}
        self._drawn: dict[int, list[_Drawn]] = {}

    def after(self, epoch: int, reading: Reading) -> Int[np.ndarray, " count"]:
        """When the rows of `reading`, a part of that epoch's, are read next; NEVER in the epochs looked at.

        These are as many as a component has views, after which each view is read again; and as many times more as
        there are others who may read it, up to four.
        """
        if epoch != self._epoch:
            self._epoch, self._next = epoch, {}
            self._drawn = {number: drawn for number, drawn in self._drawn.items() if number > epoch}
        asked = reading.component, reading.view
        if asked not in self._next:
            self._next[asked] = self._look_ahead(epoch, *asked)
        return self._next[asked][reading.samples]

    def _look_ahead(self, epoch: int, component: int, view: int) -> Int[np.ndarray, " samples"]:
        samples = self.order.samples[component]
        known = np.full(int(samples[-1]) + 1, NEVER)
        most = max(self.order.num_views) + self.order.views_a_batch - 1  # until a view comes again
        epochs = most * min(4, self.order.num_parts // len(self._parts))
        for later in range(epoch + 1, epoch + epochs + 1):
            if view != ANY_VIEW and view not in self._views_read(component, later):
                continue
            for of, shown, some, batches in self._draw(later):
                if of == component and view in (shown, ANY_VIEW):
                    known[some] = np.minimum(known[some], batches + later * self.order.num_batches)
            if np.count_nonzero(known < NEVER) == len(samples):  # a later epoch tells nothing more
                break
        return known

    def _views_read(self, component: int, epoch: int) -> set[int]:
        """The views of a component that an epoch reads, which are those of its passes."""
        repeats, size = self.order.views_a_batch, len(self.order.samples[component])
        count = self.order.counts[component] // repeats
        passes = range(epoch * count // size * repeats, (((epoch + 1) * count - 1) // size + 1) * repeats)
        return {number % self.order.num_views[component] for number in passes}

    def _draw(self, epoch: int) -> list[_Drawn]:
        if epoch in self._drawn:
            return self._drawn[epoch]
        whole = self.order.epoch(epoch)
        batches = np.full(sum(len(reading.samples) for reading in whole.draws), -1, np.int32)
        of_batch = whole.parts[:, self._parts].reshape(len(whole.parts), -1)
        batches[of_batch] = np.arange(len(whole.parts), dtype=np.int32)[:, None]
        drawn, first = list[_Drawn](), 0
        for reading in whole.draws:
            some = batches[first : first + len(reading.samples)]
            own = some >= 0
            drawn.append((reading.component, reading.view, reading.samples[own].astype(np.int32), some[own]))
            first += len(reading.samples)
        self._drawn[epoch] = drawn
        while sum(len(some) for each in self._drawn.values() for *_, some in each) > _KEPT * self.order.num_samples:
            del self._drawn[max(self._drawn)]
        return drawn


@runtime_checkable
class Batches(Protocol):
    """The parts `parts` of the batches of `order`, of which `position` have been handed out."""

    order: BatchOrder
    parts: list[int]
    position: int

    def readings(self) -> Iterator[Part]:
        """What those from `position` to the end of its epoch read."""
        ...


def told(
    batches: Batches,
    components: Sequence[Component],
    validation: Sequence[Component],
    validation_samples: Sequence[Int[np.ndarray, " _"]],
) -> Callable[[], Iterator[Part]]:
    """`batches.readings`, which tells when each row comes again.

    It tells the sets that are read from a bucket; nothing is computed for those in a folder. The samples of
    `validation` are read, as view 0, whenever an epoch ends.
    """
    if not any(each.checked.mirrored for component in components for each in _sets(component)):
        return batches.readings
    order = batches.order
    uses = [_shared(component) for component in components]
    upcoming = Upcoming(order, batches.parts)
    begun: list[int] = []
    validated = [
        (_shared(component), samples) for component, samples in zip(validation, validation_samples, strict=True)
    ]

    def telling() -> Iterator[Part]:
        epoch = batches.position // (order.num_batches * len(batches.parts))
        begun.append(epoch)
        if epoch - begun[0] == max(order.num_views) + order.views_a_batch - 1:  # each view was read once
            row_cache().let_go_unclaimed()
        for next_uses, samples in validated:
            if len(samples) == 0:
                continue
            for view in _views(next_uses, 0):
                next_uses.note(view, samples, np.full(len(samples), (epoch + 1) * order.num_batches))
        for part in batches.readings():
            for reading in part.readings:
                next_uses = uses[reading.component]
                for view in _views(next_uses, reading.view):
                    next_uses.note(view, reading.samples, upcoming.after(epoch, reading._replace(view=view)))
            yield part

    return telling


def _views(next_uses: NextUses, view: int) -> tuple[int, ...]:
    """What is read with a view: its own rows, and those that all views share."""
    return (view, ANY_VIEW) if next_uses.of_any_view else (view,)


def _sets(component: Component) -> tuple[ViewSet | TargetSet, ...]:
    return (component.viewset, *component.targetsets)


def _shared(component: Component) -> NextUses:
    """The next uses that all sets of the component ask for."""
    shared = component.viewset.checked.next_uses
    for each in component.targetsets:
        each.checked.next_uses = shared
    return shared
