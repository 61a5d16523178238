"""Repeated: several views of a sample in one batch, which then reads and decodes its image once.

Repeated augmentation (Hoffer et al. 2020, "Augment your batch", arXiv:1901.09335; Berman et al. 2019, arXiv:1902.05509,
section 3.2), here without more or fewer draws: an epoch has a share of the samples, each in several views.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from shards.draws import apportioned


def draws_an_epoch(
    samples: Sequence[Int[np.ndarray, " _"]], weights: Sequence[float] | None, repeats: int
) -> list[int]:
    """Of each component how often an epoch draws from it, `repeats` views at a time; in all as often as it can."""
    lengths = [float(len(each)) for each in samples]
    return [repeats * count for count in apportioned(sum(map(len, samples)) // repeats, weights or lengths)]


def places_of(lengths: Sequence[int], repeats: int) -> Int[np.ndarray, "samples repeats"]:
    """Where each sample's views lie among draws of these `lengths`, of which each `repeats` have the same samples."""
    ends = np.cumsum(lengths)
    firsts = [end - length for end, length in zip(ends.tolist(), lengths, strict=True)]
    groups = range(0, len(lengths), repeats)
    within = [np.add.outer(np.arange(lengths[group]), firsts[group : group + repeats]) for group in groups]
    return np.concatenate(within)
