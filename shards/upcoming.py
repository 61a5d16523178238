"""Upcoming: when each row of a run is read next, which its order tells before it is read."""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from shards.bucket_rows import ANY_VIEW, NextUses, row_cache
from shards.loader import Part
from shards.order import BatchOrder, Reading
from shards.reader import Component, TargetSet, ViewSet
from shards.row_cache import NEVER


class Upcoming:
    """The next use of rows after an epoch, in global batches since the run began; epochs are asked in any order.

    With `parts` these of each batch alone count, as where each rank has a cache of its own. The components
    `of_any_view` have rows that all views share; a reading of ANY_VIEW asks for these.
    """

    def __init__(
        self, order: BatchOrder, parts: Sequence[int] | None = None, of_any_view: Collection[int] = ()
    ) -> None:
        self.order, self._of_any_view = order, of_any_view
        self._parts = list(range(order.num_parts) if parts is None else parts)
        self._epoch: int | None = None
        self._next: dict[tuple[int, int], Int[np.ndarray, " samples"]] = {}

    def after(self, epoch: int, reading: Reading) -> Int[np.ndarray, " count"]:
        """When the rows of `reading`, a part of that epoch's, are read next; NEVER in the epochs looked at.

        These are as many as a component has views, after which each view is read again; and as many times more as
        there are others who may read it, up to four.
        """
        if epoch != self._epoch:
            self._look_ahead(epoch)
            self._epoch = epoch
        known = self._next.get((reading.component, reading.view))
        return np.full(len(reading.samples), NEVER) if known is None else known[reading.samples]

    def _look_ahead(self, epoch: int) -> None:
        self._next = {}
        most = max(self.order.num_views) + self.order.views_a_batch - 1  # until a view comes again
        epochs = most * min(4, self.order.num_parts // len(self._parts))
        for later in range(epoch + epochs, epoch, -1):
            drawn = self.order.epoch(later)
            times = np.full(sum(len(reading.samples) for reading in drawn.draws), NEVER)
            batches = np.arange(len(drawn.parts)) + later * self.order.num_batches
            times[drawn.parts[:, self._parts].reshape(len(batches), -1)] = batches[:, None]
            first = 0
            for reading in drawn.draws:
                some = times[first : first + len(reading.samples)]
                views = (reading.view, ANY_VIEW) if reading.component in self._of_any_view else (reading.view,)
                for known in (self._of(reading.component, view) for view in views):
                    known[reading.samples] = np.minimum(known[reading.samples], some)
                first += len(reading.samples)

    def _of(self, component: int, view: int) -> Int[np.ndarray, " samples"]:
        size = int(self.order.samples[component][-1]) + 1
        return self._next.setdefault((component, view), np.full(size, NEVER))


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
    upcoming = Upcoming(order, batches.parts, [number for number, each in enumerate(uses) if each.of_any_view])
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
