"""Fresh views: the batches of a cache, but no pass shows a view that an earlier one has shown; nothing is stored.

What a stored cache of ever more views would come to. Pass p reads view p, made from (seed, key, p), encoded and
decoded as extract does it, so that the first passes are those over the views that a cache has. No targets are read.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from distill.data import TrainingBatches
from extract.config import ExtractConfig
from extract.plan_views import ViewSetJob, plan_views, stored_views
from extract.sources.base import Sample
from extract.views import empty
from shards.loader import Batch
from shards.order import BatchOrder, Reading
from shards.views.base import Row

ENDLESS = 1 << 31
"""More passes than any run has."""


def maker_of(cache: Path) -> ViewSetJob:
    """What made the training views of `cache`, which holds one view set of that split, and makes further ones."""
    return plan_views(stored_views(ExtractConfig(teacher="none", out=str(cache))), None)


class FreshBatches(TrainingBatches):
    """The batches of the same samples in the same order, their views made by `views` as they are needed."""

    def __init__(self, order: BatchOrder, parts: list[int], banks: dict[str, int], *, views: ViewSetJob) -> None:
        super().__init__(replace(order, num_views=[ENDLESS]), parts, banks)
        self.make = row_maker(views)
        self.fields = views.codec.fields

    def __iter__(self) -> Iterator[Batch]:
        for part in self.readings():
            (reading,) = part.readings
            self.position += 1
            fields = {name: torch.from_numpy(rows) for name, rows in self._rows(reading).items()}
            yield Batch(part.readings, fields, None, {})

    def _rows(self, reading: Reading) -> Row:
        rows = empty(self.fields, len(reading.samples))
        for number, index in enumerate(reading.samples.tolist()):
            self.make(index, reading.view, {name: values[number, ...] for name, values in rows.items()})
        return rows


def row_maker(views: ViewSetJob) -> Callable[[int, int, Row], None]:
    """What fills the fields of one sample, by its index in the plan, in any view, stored or not."""
    storage, size = views.storage, views.plan.shard_size

    @cache
    def reader(shard: int) -> Callable[[int], Sample]:
        return views.maker.reading(views.source, storage, (1, shard))  # as a further view is made: of what is kept

    def make(index: int, view: int, out: Row) -> None:
        sample = reader(index // size)(index)
        row, facts = views.maker.make(sample, view)
        described: dict[str, Any] = {"key": sample.key, "view": view, **facts}
        if sample.label is not None:
            described["label"] = sample.label
        storage.store(row, out, described)

    return make
