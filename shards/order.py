"""Order: which samples make up each global batch, the same for any number of ranks, workers and interruptions."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from shards.draws import permutation
from shards.order_checks import check_order
from shards.repeated import draws_an_epoch, places_of

_PASSES = 1
"""The stream of the first component's passes, beside that of the shuffle, 0; those of others follow."""


class Reading(NamedTuple):
    """Samples of one component and one view."""

    samples: Int[np.ndarray, " count"]
    """Strictly ascending indices into the plan."""
    view: int
    epoch: int = 0
    """Of the component's own passes; it decides which of a view's alternatives is read."""
    component: int = 0


@dataclass(frozen=True)
class BatchOrder:
    """Global batches over the samples of some components: a true global shuffle of what an epoch draws.

    An epoch draws as many samples as there are. Each component has its share of them: the next ones of its passes, of
    which each is a permutation of its samples and begins where the last one ended, in whatever epoch. So no sample of a
    component is drawn twice before all are drawn once. Pass p reads view p mod V of the component.

    The shuffle drops the last, incomplete batch; every epoch drops others. A batch is cut into num_parts equal parts
    (ranks x accumulation steps), each sorted by component, pass and sample, so that reading goes forward.
    """

    samples: Sequence[Int[np.ndarray, " _"]]
    """Of each component, ascending indices into its plan."""
    batch_size: int
    num_views: Sequence[int]
    """Of each component."""
    seed: int = 0
    num_parts: int = 1
    weights: Sequence[float] | None = None
    """The components' shares are in proportion to these; None: to their samples, so that an epoch is one pass."""
    views_a_batch: int = 1
    """Views of a sample in a part, those of consecutive passes; so many epochs together draw what they draw with 1."""

    def __post_init__(self) -> None:
        check_order(self.samples, self.batch_size, self.num_views, self.num_parts, self.weights, self.views_a_batch)

    @cached_property
    def num_samples(self) -> int:
        """Samples of all components, and draws an epoch."""
        return sum(map(len, self.samples))

    @cached_property
    def counts(self) -> list[int]:
        """Draws an epoch from each component."""
        return draws_an_epoch(self.samples, self.weights, self.views_a_batch)

    @property
    def num_batches(self) -> int:
        """Global batches (optimiser steps) an epoch."""
        return self.num_samples // self.batch_size

    def epoch(self, number: int) -> "Epoch":
        """The batches of one epoch."""
        draws = [draw for component in range(len(self.samples)) for draw in self._draws(component, number)]
        places = places_of([len(draw.samples) for draw in draws], self.views_a_batch)
        count = self.num_batches * self.batch_size // self.views_a_batch
        shuffled = permutation(len(places), self.seed, number)[:count]
        parts = places[shuffled].reshape(self.num_batches, self.num_parts, -1)
        return Epoch(self, number, draws, np.sort(parts, axis=-1))

    def _draws(self, component: int, epoch: int) -> list[Reading]:
        """What an epoch draws from a component, a reading for each of the passes that it has a part in."""
        samples, repeats = self.samples[component], self.views_a_batch
        draws, count = [], self.counts[component] // repeats
        first, end = epoch * count, (epoch + 1) * count
        while first < end:
            number, start = divmod(first, len(samples))
            stop = min(len(samples), start + end - first)
            some = samples
            if stop - start < len(samples):
                some = samples[np.sort(permutation(len(samples), self.seed, number, _PASSES + component)[start:stop])]
            passes = range(number * repeats, (number + 1) * repeats)
            draws += [Reading(some, each % self.num_views[component], each, component) for each in passes]
            first += stop - start
        return draws


@dataclass(frozen=True)
class Epoch:
    """The batches of one epoch of an order."""

    order: BatchOrder
    number: int
    draws: list[Reading]
    parts: Int[np.ndarray, "batches parts part_size"]
    """The places of each part's samples among all draws, one draw after the other; ascending."""

    def readings(self, batch: int, part: int | None = None) -> list[Reading]:
        """What a part of a batch reads, or the whole batch."""
        places = np.sort(self.parts[batch].reshape(-1)) if part is None else self.parts[batch, part]
        return divided(places, self.draws)


def divided(places: Int[np.ndarray, " count"], whole: Sequence[Reading]) -> list[Reading]:
    """The readings of the samples at `places`, ascending, of all that `whole` reads, one reading after the other."""
    starts = np.cumsum([0, *(len(reading.samples) for reading in whole)])
    edges = np.searchsorted(places, starts).tolist()
    return [
        reading._replace(samples=reading.samples[places[first:end] - start])
        for reading, start, first, end in zip(whole, starts[:-1], edges[:-1], edges[1:], strict=True)
        if first < end
    ]
