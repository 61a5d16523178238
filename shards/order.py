"""Order: which samples make up each global batch, the same for any number of ranks, workers and interruptions."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from shards.command.progress import counted
from shards.errors import BadInput


def permutation(count: int, seed: int, epoch: int) -> Int[np.ndarray, " count"]:
    """A permutation of range(count) fixed by (seed, epoch).

    The order of raw 64-bit words of Philox (Salmon et al. 2011): unlike numpy's distributions, whose streams may change
    between versions, raw words are fixed, so that a run resumes alike on another machine.
    """
    return np.argsort(np.random.Philox(key=seed, counter=[0, 0, 0, epoch]).random_raw(count), kind="stable")


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
    """Global batches over `samples` (indices into a plan): a true global shuffle an epoch, view e mod V in epoch e.

    An epoch drops the last, incomplete batch; every epoch drops others. A batch is cut into num_parts equal parts
    (ranks x accumulation steps), each sorted, so that reading goes forward through the files.
    """

    samples: Int[np.ndarray, " count"]
    batch_size: int
    num_views: int
    seed: int = 0
    num_parts: int = 1

    def __post_init__(self) -> None:
        if self.batch_size % self.num_parts:
            parts = f"{self.num_parts} equal parts (devices x accumulate)"
            raise BadInput(f"--batch_size {self.batch_size}: cannot be cut into {parts}")
        if len(self.samples) < self.batch_size:
            there_are = counted(len(self.samples), "sample")
            raise BadInput(f"--batch_size {self.batch_size}: more than the {there_are} here; give at most that many")

    @property
    def num_batches(self) -> int:
        """Global batches (optimiser steps) an epoch."""
        return len(self.samples) // self.batch_size

    def epoch(self, epoch: int) -> Int[np.ndarray, "batches parts part_size"]:
        """The samples of every part of every batch of one epoch."""
        order = self.samples[permutation(len(self.samples), self.seed, epoch)]
        parts = order[: self.num_batches * self.batch_size].reshape(self.num_batches, self.num_parts, -1)
        return np.sort(parts, axis=-1)

    def view(self, epoch: int) -> int:
        """The view that one epoch reads."""
        return epoch % self.num_views
