"""Views: the labelled images a task measures on, read from the source with a plain resize, or from a cache."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from shards.errors import BadInput
from shards.loader import BatchLoader, in_order
from shards.reader import ViewSet

if TYPE_CHECKING:
    from extract.sources.base import Source

LabelledBatch = tuple[UInt8[Tensor, "batch height width 3"], Int64[Tensor, " batch"]]
_BATCHES_AHEAD = 2


@dataclass(frozen=True)
class Views:
    """One plainly resized view of each sample of one split, in the order of the keys, with its label."""

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
    return num_workers or len(os.sched_getaffinity(0))


def views_of_source(source: "Source", name: str, image_size: int, batch_size: int, num_workers: int | None) -> Views:
    """The validation views of `source`, made on the fly; BadInput when it has no labels."""
    if source.class_names is None:
        raise BadInput(f"--data {name}: the samples of split {source.split} have no labels; this task needs them")

    def batches() -> Iterator[LabelledBatch]:
        yield from _read_ahead(source, image_size, batch_size, threads(num_workers))

    return Views(name, source.split, source.class_names, len(source.keys), batches)


def _read_ahead(source: "Source", image_size: int, batch_size: int, num_threads: int) -> Iterator[LabelledBatch]:
    from extract.augment import resize_view

    def read(index: int) -> tuple[UInt8[np.ndarray, "height width 3"], int]:
        sample = source.read(index)
        if sample.label is None:
            raise BadInput(f"source {source.name}: sample {sample.key} has no label; give labelled data")
        return resize_view(sample.image, image_size), sample.label

    ahead: deque[list[Future[tuple[UInt8[np.ndarray, "height width 3"], int]]]] = deque()
    pool = ThreadPoolExecutor(num_threads, thread_name_prefix="view")
    try:
        for start in range(0, len(source.keys) + _BATCHES_AHEAD * batch_size, batch_size):
            ahead.append([pool.submit(read, i) for i in range(start, min(start + batch_size, len(source.keys)))])
            if len(ahead) > _BATCHES_AHEAD and (tasks := ahead.popleft()):
                pixels, labels = zip(*(task.result() for task in tasks), strict=True)
                yield torch.from_numpy(np.stack(pixels)), torch.tensor(labels)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def views_of_cache(
    viewset: ViewSet, image_size: int, batch_size: int, num_workers: int | None, limit: int | None
) -> Views:
    """The stored views of `viewset`; BadInput when they are crops, of another size, or have no labels."""
    check_image_size(viewset, image_size)
    if (kind := viewset.identity["augment"]["kind"]) != "resize":
        raise BadInput(f"{viewset.folder}: its views are made by {kind}, this task needs whole images; give --data")
    if viewset.class_names is None:
        raise BadInput(f"{viewset.folder}: its samples have no labels; this task needs them: give labelled --data")
    samples = viewset.usable[:limit]

    def batches() -> Iterator[LabelledBatch]:
        order = in_order(samples, batch_size)
        for batch in BatchLoader(viewset, [], order, batch_size, labels=True, num_threads=threads(num_workers)):
            assert batch.labels is not None
            yield batch.images, batch.labels

    return Views(viewset.folder.name, viewset.identity["split"], tuple(viewset.class_names), len(samples), batches)


def check_image_size(viewset: ViewSet, image_size: int) -> None:
    """The stored views have the student's size; BadInput otherwise."""
    if viewset.image_size != image_size:
        raise BadInput(
            f"{viewset.folder}: its views are {viewset.image_size} pixels a side, the student takes {image_size}; "
            f"give --shards a cache extracted with --image_size {image_size}"
        )
