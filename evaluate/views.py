"""Views: the labelled views a task measures on or trains on, made of a source on the fly, or read from a cache."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from evaluate.read_ahead import LabelledBatch, Make, read_ahead
from extract.modalities.base import InputSpec, mismatch
from shards.draws import permutation
from shards.errors import BadInput
from shards.in_order import in_order
from shards.loader import BatchLoader
from shards.reader import Component, ViewSet

if TYPE_CHECKING:
    from extract.sources.base import Source


@dataclass(frozen=True)
class Views:
    """One plain view of each sample of one split, in the order of the keys, with its label."""

    name: str
    split: str
    class_names: tuple[str, ...]
    num_samples: int
    batches: Callable[[], Iterator[LabelledBatch]]
    """A fresh pass; a batch is valid until the next one is taken."""

    def facts(self) -> dict[str, Any]:
        """What every task's record says of the views it measured on."""
        return {"num_samples": self.num_samples, "data": self.name, "split": self.split}


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
        yield from read_ahead(self.source, self.make, epoch, batches, self.num_threads)


def check_same_classes(train: "Source | Views", test: "Source | Views") -> None:
    """The labels of the training split mean what those of `test` do; BadInput otherwise."""
    names = test.class_names or ()
    if (train.class_names or ())[: len(names)] != names:
        raise BadInput(f"--train_split {train.split} and --split {test.split} have other classes; give other splits")


def views_of_source(source: "Source", name: str, make: Make, batch_size: int, num_threads: int) -> Views:
    """The plain views of `source`, as `make` makes them on the fly; without class names where labels are scores."""
    order = [range(len(source.keys))[start : start + batch_size] for start in range(0, len(source.keys), batch_size)]
    batches = partial(read_ahead, source, make, 0, order, num_threads)
    return Views(name, source.split, source.class_names or (), len(source.keys), batches)


def views_of_cache(viewset: ViewSet, inputs: InputSpec, batch_size: int, num_threads: int, limit: int | None) -> Views:
    """The stored views of `viewset`; BadInput when they are augmented, not as `inputs` takes them, or not labelled."""
    check_fits(viewset, inputs)
    if viewset.codec.augmented:
        raise BadInput(f"{viewset.folder}: its views are augmented, this task needs whole samples; give --data")
    if viewset.class_names is None:
        raise BadInput(f"{viewset.folder}: its samples have no labels; this task needs them: give labelled --data")
    samples = viewset.usable[:limit]

    def batches() -> Iterator[LabelledBatch]:
        order = in_order(samples, batch_size)
        for batch in BatchLoader([Component(viewset)], order, batch_size, labels=True, num_threads=num_threads):
            assert batch.labels is not None
            yield batch.fields, batch.labels

    return Views(viewset.folder.name, viewset.identity["split"], tuple(viewset.class_names), len(samples), batches)


def check_fits(viewset: ViewSet, inputs: InputSpec) -> None:
    """The stored views are what a network of `inputs` takes; BadInput otherwise."""
    if misfit := mismatch(inputs, viewset.codec):
        raise BadInput(f"{viewset.folder}: {misfit}; give --shards a cache extracted as the student takes it (--view)")
