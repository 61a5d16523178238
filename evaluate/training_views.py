"""Training views: a source's samples in shuffled batches, made anew each epoch by threads."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evaluate.views import LabelledBatch, LabelledView, Make, read_ahead, read_labelled
from shards.order import permutation

if TYPE_CHECKING:
    from extract.sources.base import Source


def seed_of(*parts: object) -> int:
    """A seed fixed by `parts`, for torch's generators, which use 32 bits."""
    return int.from_bytes(hashlib.sha256("\0".join(map(str, parts)).encode()).digest()[:4], "little")


@dataclass(frozen=True)
class TrainingViews:
    """Every sample of `source` once an epoch, its view made by `make` of (sample, epoch), in an order by the seed."""

    source: "Source"
    make: Make
    batch_size: int
    seed: int
    num_threads: int

    @property
    def num_batches(self) -> int:
        """Batches an epoch; the last, incomplete one is dropped, of other samples each time."""
        return len(self.source.keys) // self.batch_size

    def epoch(self, epoch: int) -> Iterator[LabelledBatch]:
        """One pass. Within a batch the order is random too, as mixing pairs neighbours."""
        order = permutation(len(self.source.keys), self.seed, epoch)[: self.num_batches * self.batch_size]
        batches = order.reshape(self.num_batches, -1).tolist()

        def read(index: int) -> LabelledView:
            sample, label = read_labelled(self.source, index)
            return self.make(sample, epoch)[0], label

        yield from read_ahead(read, batches, self.num_threads)
