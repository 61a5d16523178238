"""Read ahead: views of a source, made by threads while the batch before them is in use."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Num
from torch import Tensor

from shards.errors import BadInput
from shards.views.base import Row

if TYPE_CHECKING:
    from extract.sources.base import Sample, Source

LabelledBatch = tuple[dict[str, Tensor], Num[Tensor, " batch"]]
"""The fields of a batch of views, and their classes (int64) or scores (float32)."""
Make = Callable[["Sample", int], tuple[Row, dict[str, Any]]]
"""As a ViewMaker's `make`: the fields of a sample's view of that number (in training: of that epoch)."""
_BATCHES_AHEAD = 2


def read_ahead(
    source: "Source", make: Make, view: int, batches: Iterable[Sequence[int]], num_threads: int
) -> Iterator[LabelledBatch]:
    """One view of each sample in batches of indices, in order; threads read two batches ahead of the one in use.

    Raises BadInput for a sample without a label.
    """

    def read(index: int) -> tuple[Row, int | float]:
        sample = source.read(index)
        if sample.label is None:
            raise BadInput(f"source {source.name}: sample {sample.key} has no label; give labelled data")
        return make(sample, view)[0], sample.label

    ahead: deque[list[Future[tuple[Row, int | float]]]] = deque()
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
