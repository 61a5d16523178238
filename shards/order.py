"""Order: which samples make up each global batch, the same for any number of ranks, workers and interruptions."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from shards.command.progress import counted
from shards.errors import BadInput

_PASSES, _BANKS = 1, 1 << 32
"""Streams of Philox beside that of the shuffle, 0: of the first component's passes (the others' follow), of banks."""


class Reading(NamedTuple):
    """Samples of one component and one view."""

    samples: Int[np.ndarray, " count"]
    """Strictly ascending indices into the plan."""
    view: int
    epoch: int = 0
    """Of the component's own passes; it decides which of a view's alternatives is read."""
    component: int = 0


def permutation(count: int, seed: int, epoch: int, stream: int = 0) -> Int[np.ndarray, " count"]:
    """A permutation of range(count) fixed by (seed, epoch, stream).

    The order of raw 64-bit words of Philox (Salmon et al. 2011): unlike numpy's distributions, whose streams may change
    between versions, raw words are fixed, so that a run resumes alike on another machine.
    """
    words = np.random.Philox(key=seed, counter=[0, 0, stream, epoch]).random_raw(count)
    return np.argsort(words, kind="stable")


def drawn(
    count: int, total: int, without: Int[np.ndarray, " excluded"], seed: int, step: int
) -> Int[np.ndarray, " count"]:
    """`count` of range(total) that are not among `without`, ascending; (seed, step) fix which, all being as likely.

    Words are drawn until there are as many different numbers; where more than half are wanted, those left out are
    drawn, so that the work grows with `count` alone.
    """
    allowed = np.ones(total, bool)
    allowed[without] = False
    most = int(np.count_nonzero(allowed))
    generator = np.random.Philox(key=seed, counter=[0, 0, _BANKS, step])
    wanted = min(count, most - count)
    chosen, missing = np.zeros(total, bool), wanted
    while missing > 0:
        chosen[(generator.random_raw(missing) % np.uint64(total)).astype(np.int64)] = True
        chosen &= allowed
        missing = wanted - int(np.count_nonzero(chosen))
    return np.flatnonzero(chosen if wanted == count else allowed & ~chosen)


def apportioned(total: int, weights: Sequence[float]) -> list[int]:
    """`total` cut into whole numbers in proportion to `weights`; the largest remainders are rounded up."""
    quotas = [total * weight / sum(weights) for weight in weights]
    counts = [int(quota) for quota in quotas]
    by_remainder = sorted(range(len(counts)), key=lambda number: counts[number] - quotas[number])
    for number in by_remainder[: total - sum(counts)]:
        counts[number] += 1
    return counts


def held_out(keys: Iterable[str], fraction: float) -> np.ndarray:
    """Which samples are held out for validation: a boolean a key, decided by the key alone, for any seed or size."""
    limit = int(fraction * 2**32)
    # as they come: a list of the keys of 13 million blocks would take 1.4 GB
    return np.fromiter((int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") < limit for key in keys), bool)


def draw_choice(seed: int, key: str, epoch: int) -> int:
    """A number of 64 bits fixed by (seed, key, epoch): which of a view's alternatives (captions) that epoch reads."""
    return int.from_bytes(hashlib.sha256(f"{seed}\0{epoch}\0{key}".encode()).digest()[:8], "little")


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

    def __post_init__(self) -> None:
        if self.batch_size % self.num_parts:
            parts = f"{self.num_parts} equal parts (devices x accumulate)"
            raise BadInput(f"--batch_size {self.batch_size}: cannot be cut into {parts}")
        if self.num_samples < self.batch_size:
            there_are = counted(self.num_samples, "sample")
            raise BadInput(f"--batch_size {self.batch_size}: more than the {there_are} here; give at most that many")
        if not all(map(len, self.samples)):
            raise BadInput("--shards: one of the sets has no sample to train on; leave it out")
        for weight, count in zip(self.weights or (), self.counts, strict=False):
            if count == 0:
                few = f"less than one of the {self.num_samples:,} samples of an epoch"
                raise BadInput(f"--shards: the weight {weight:g} is {few}; give a larger one, or leave the set out")

    @cached_property
    def num_samples(self) -> int:
        """Samples of all components, and draws an epoch."""
        return sum(map(len, self.samples))

    @cached_property
    def counts(self) -> list[int]:
        """Draws an epoch from each component."""
        return apportioned(self.num_samples, self.weights or [float(len(samples)) for samples in self.samples])

    @property
    def num_batches(self) -> int:
        """Global batches (optimiser steps) an epoch."""
        return self.num_samples // self.batch_size

    def check_bank(self, where: str, size: int) -> None:
        """Raises BadInput, which begins with `where`, for a bank of more rows than there are beside a batch."""
        if size > (most := self.num_samples - self.batch_size):
            here = f"{counted(self.num_samples, 'sample')} here, of which {self.batch_size:,} are the batch"
            raise BadInput(f"{where}: bank {size}: more than the {here}; give at most {most}")

    def epoch(self, number: int) -> "Epoch":
        """The batches of one epoch."""
        shuffled = permutation(self.num_samples, self.seed, number)[: self.num_batches * self.batch_size]
        parts = shuffled.reshape(self.num_batches, self.num_parts, -1)
        draws = [draw for component in range(len(self.samples)) for draw in self._draws(component, number)]
        return Epoch(self, number, draws, np.sort(parts, axis=-1))

    def _draws(self, component: int, epoch: int) -> list[Reading]:
        """What an epoch draws from a component, a reading for each of the passes that it has a part in."""
        samples, count = self.samples[component], self.counts[component]
        draws = []
        first, end = epoch * count, (epoch + 1) * count
        while first < end:
            number, start = divmod(first, len(samples))
            stop = min(len(samples), start + end - first)
            some = samples
            if stop - start < len(samples):
                some = samples[np.sort(permutation(len(samples), self.seed, number, _PASSES + component)[start:stop])]
            draws.append(Reading(some, number % self.num_views[component], number, component))
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
        return _divided(places, self.draws)

    def bank(self, batch: int, size: int) -> list[Reading]:
        """`size` samples other than those of the batch, drawn from all components by (seed, step) alone.

        Of each component the view that its pass reads when the epoch begins.
        """
        order, starts = self.order, np.cumsum([0, *map(len, self.order.samples)])
        without = [
            starts[reading.component] + np.searchsorted(order.samples[reading.component], reading.samples)
            for reading in self.readings(batch)
        ]
        step = self.number * order.num_batches + batch
        places = drawn(size, order.num_samples, np.concatenate(without), order.seed, step)
        passes = (self.number * count // len(each) for count, each in zip(order.counts, order.samples, strict=True))
        whole = [
            Reading(each, number % num_views, number, component)
            for component, (each, number, num_views) in enumerate(
                zip(order.samples, passes, order.num_views, strict=True)
            )
        ]
        return _divided(places, whole)


def _divided(places: Int[np.ndarray, " count"], whole: Sequence[Reading]) -> list[Reading]:
    """The readings of the samples at `places`, ascending, of all that `whole` reads, one reading after the other."""
    starts = np.cumsum([0, *(len(reading.samples) for reading in whole)])
    edges = np.searchsorted(places, starts).tolist()
    return [
        reading._replace(samples=reading.samples[places[first:end] - start])
        for reading, start, first, end in zip(whole, starts[:-1], edges[:-1], edges[1:], strict=True)
        if first < end
    ]
