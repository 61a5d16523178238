"""Views: the labelled views a task measures on, made of the source without augmentation, or read from a cache."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Num
from torch import Tensor

from extract.modalities.base import InputSpec, mismatch
from shards.command.devices import share_of_cores
from shards.errors import BadInput
from shards.loader import BatchLoader, in_order
from shards.reader import Component, ViewSet
from shards.views.base import Row

if TYPE_CHECKING:
    from extract.sources.base import Sample, Source

LabelledBatch = tuple[dict[str, Tensor], Num[Tensor, " batch"]]
"""The fields of a batch of views, and their classes (int64) or scores (float32)."""
LabelledView = tuple[Row, int | float]
Make = Callable[["Sample", int], tuple[Row, dict[str, Any]]]
"""As a ViewMaker's `make`: the fields of a sample's view of that number (in training: of that epoch)."""
_BATCHES_AHEAD = 2


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


def threads(num_workers: int | None) -> int:
    """--num_workers, or as many threads as this process has cores."""
    return num_workers or share_of_cores()


def check_labelled(source: "Source") -> tuple[str, ...]:
    """The class names of `source`; BadInput when it has no labels."""
    if source.class_names is None:
        raise BadInput(f"--data: {source.name}, split {source.split}: the samples have no labels; this task needs them")
    return source.class_names


def check_same_classes(train_names: tuple[str, ...], train_split: str, test: Views) -> None:
    """The labels of the training split mean what those of `test` do; BadInput otherwise."""
    if train_names[: len(test.class_names)] != test.class_names:
        raise BadInput(f"--train_split {train_split} and --split {test.split} have other classes; give other splits")


def views_of_source(source: "Source", name: str, make: Make, batch_size: int, num_workers: int | None) -> Views:
    """The plain views of `source`, as `make` makes them on the fly; without class names where labels are scores.

    Raises BadInput for a sample without a label.
    """

    def read(index: int) -> LabelledView:
        sample, label = read_labelled(source, index)
        return make(sample, 0)[0], label

    def batches() -> Iterator[LabelledBatch]:
        starts = range(0, len(source.keys), batch_size)
        order = [range(start, min(start + batch_size, len(source.keys))) for start in starts]
        yield from read_ahead(read, order, threads(num_workers))

    return Views(name, source.split, source.class_names or (), len(source.keys), batches)


def check_has(source: "Source", name: str, parts: frozenset[str]) -> None:
    """The samples of `source`, which --data calls `name`, have these parts; BadInput otherwise."""
    if lacking := parts - source.has:
        raise BadInput(f"--data {name}: its samples have no {' and no '.join(sorted(lacking))}; give other data")


def read_labelled(source: "Source", index: int) -> tuple["Sample", int | float]:
    """The sample at `index` and its class or score; BadInput when it has none."""
    sample = source.read(index)
    if sample.label is None:
        raise BadInput(f"source {source.name}: sample {sample.key} has no label; give labelled data")
    return sample, sample.label


def read_ahead(
    read: Callable[[int], LabelledView], batches: Iterable[Sequence[int]], num_threads: int
) -> Iterator[LabelledBatch]:
    """What `read` gives of each index of each batch, in order; threads read two batches ahead of the one in use."""
    ahead: deque[list[Future[LabelledView]]] = deque()
    pool = ThreadPoolExecutor(num_threads, thread_name_prefix="view")
    try:
        for batch in chain(batches, [()] * _BATCHES_AHEAD):
            ahead.append([pool.submit(read, index) for index in batch])
            if len(ahead) > _BATCHES_AHEAD and (tasks := ahead.popleft()):
                rows, labels = zip(*(task.result() for task in tasks), strict=True)
                fields = {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]}
                yield fields, torch.tensor(labels)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def views_of_cache(
    viewset: ViewSet, inputs: InputSpec, batch_size: int, num_workers: int | None, limit: int | None
) -> Views:
    """The stored views of `viewset`; BadInput when they are augmented, not as `inputs` takes them, or not labelled."""
    check_fits(viewset, inputs)
    if viewset.codec.augmented:
        raise BadInput(f"{viewset.folder}: its views are augmented, this task needs whole samples; give --data")
    if viewset.class_names is None:
        raise BadInput(f"{viewset.folder}: its samples have no labels; this task needs them: give labelled --data")
    samples = viewset.usable[:limit]

    def batches() -> Iterator[LabelledBatch]:
        order = in_order(samples, batch_size)
        for batch in BatchLoader(
            [Component(viewset)], order, batch_size, labels=True, num_threads=threads(num_workers)
        ):
            assert batch.labels is not None
            yield batch.fields, batch.labels

    return Views(viewset.folder.name, viewset.identity["split"], tuple(viewset.class_names), len(samples), batches)


def check_fits(viewset: ViewSet, inputs: InputSpec) -> None:
    """The stored views are what a network of `inputs` takes; BadInput otherwise."""
    if misfit := mismatch(inputs, viewset.codec):
        raise BadInput(f"{viewset.folder}: {misfit}; give --shards a cache extracted as the student takes it (--view)")
