"""Pipeline: source -> view -> teacher -> target -> encode -> store, one shard at a time, in the order of the data.

While the teacher works on one shard, threads make or read the views of the next one and a thread writes the last one
(`extract/stages.py`). A shard is done when its commit record is on the disk, so the same command finishes whatever was
interrupted.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from torch import Tensor

from extract.modalities.base import feed
from extract.plan_targets import Part, TargetSetJob
from extract.plan_views import ViewSetJob
from extract.stages import Behind, Seconds, Stages, stages_on
from extract.store import commit_targets
from extract.targets import check_finite, first_layer_not_finite, keep_drawn, with_numbers, without_padding
from extract.views import ViewShard, commit_shard, empty, make_shard, read_shard
from shards.codecs.features import Features
from shards.command.devices import device_type
from shards.command.progress import Progress
from shards.layout import Place

if TYPE_CHECKING:
    from extract.teachers.base import Teacher

Result = TypeVar("Result")
Encoded = list[tuple[dict[str, Tensor], dict[str, float]]]
"""Of one batch, for each target set: the stored rows on the CPU, and the codec's error where it is taken."""
CODEC_ERROR_SAMPLES = 32
"""At most so many of the plan's first batch tell a codec's error."""


@dataclass
class Counts(Seconds):
    """What a run did, and where its time went; those of several processes add up."""

    views: int = 0
    teacher_forwards: int = 0
    skipped: int = 0


@dataclass(frozen=True)
class Extraction:
    """The work of one process: its share of the shards, and the settings that do not change what is stored."""

    parts: list[Part]
    """A teacher each; all are fed with the same views."""
    device: torch.device
    precision: str
    batch_size: int
    num_threads: int
    skip_errors: bool
    compute_threads: int = 1
    """Batches that a CPU computes at a time, one thread each."""
    rank: int = 0
    num_processes: int = 1
    places: Sequence[Place] = ()
    """These shards alone, where any are named."""

    @property
    def views(self) -> ViewSetJob:
        """The view set, as the first teacher is fed with it."""
        return self.parts[0].views

    def work(self) -> list[tuple[Place, list[Part]]]:
        """This process's shards that lack their views or a target set's rows, with the parts that lack these."""
        # by place and not by what is missing, which changes while other processes work
        mine = self.places or list(self.views.places())[self.rank :: self.num_processes]
        lacking = [
            (place, [part for part in (each.lacking(*place) for each in self.parts) if part.targets]) for place in mine
        ]
        return [(place, parts or [Part(self.views)]) for place, parts in lacking if parts or self.views.lacks(*place)]

    @cached_property
    def stages(self) -> Stages:
        """The threads, the way to the device and back, and the seconds that each stage took."""
        return stages_on(self.device, self.compute_threads)

    def run(self) -> Counts:
        """Every shard of `work` is committed when this returns."""
        start, counts, work = time.perf_counter(), Counts(), self.work()
        total = sum(len(self.views.plan.rows(shard)) * len(parts) for (_, shard), parts in work)
        with Progress("extract", total) as progress, Behind(self.stages.num_threads) as behind:
            for shards, (_, parts) in zip(self.shards(work), work, strict=True):
                fed = list(zip(shards, parts, strict=True))
                batches = [partial(self.encode, *each, batch) for each in fed for batch in self.batches(each[0])]
                behind.submit(batches, partial(self._write, fed, counts, progress))
        return Counts(**(asdict(counts) | asdict(self.stages.seconds(time.perf_counter() - start))))

    def shards(self, work: list[tuple[Place, list[Part]]]) -> Iterator[list[ViewShard]]:
        """Each place's views, one for each part, the next ones under way while the caller works on these."""
        with ThreadPoolExecutor(self.num_threads) as pool, ThreadPoolExecutor(1) as ahead:

            def shard(views: ViewSetJob, place: Place) -> ViewShard:
                with self.stages.stage("decode"):
                    if views.lacks(*place) or (views.storage.needs_first and views.lacks(0, place[1])):
                        return make_shard(views, *place, pool, self.skip_errors)
                    return read_shard(views, *place, pool)

            def views(place: Place, parts: list[Part]) -> list[ViewShard]:
                """Made or read back; parts that read the views alike share them."""
                read = [shard(parts[0].views, place)]
                for number, part in enumerate(parts[1:], 1):
                    alike = [each for each, other in zip(read, parts[:number], strict=True) if other.reads_as(part)]
                    if not alike and read[0].files:
                        commit_shard(parts[0].views, read[0])  # what another input needs of the views is read back
                    read.append(alike[0] if alike else shard(part.views, place))
                return read

            futures: list[Future[list[ViewShard]]] = []
            for place, parts in work:
                futures.append(ahead.submit(views, place, parts))
                if len(futures) > 1:
                    yield futures.pop(0).result()
            for future in futures:
                yield future.result()

    def each(self, function: Callable[[list[int]], Result], batches: list[list[int]]) -> Iterator[Result]:
        """`function` of every batch, in order, in the threads that compute batches."""
        with ThreadPoolExecutor(self.stages.num_threads) as pool:
            yield from pool.map(function, batches)

    def batches(self, shard: ViewShard) -> list[list[int]]:
        """The rows of a shard that have a view, cut into batches, which never cross it."""
        kept = kept_rows(shard)
        return [kept[start : start + self.batch_size] for start in range(0, len(kept), self.batch_size)]

    def encode(self, shard: ViewShard, part: Part, batch: list[int]) -> Encoded:
        """For each target set the encoded rows of one batch, and the codec's error on the plan's first."""
        is_first = (shard.view, shard.shard) == (0, 0) and batch[0] == kept_rows(shard)[0]
        keys, seed = [shard.keys[row] for row in batch], self.views.plan.identity["seed"] or 0
        encoded = []
        for job, rows in zip(part.targets, self.rows_of(shard, part, batch), strict=True):
            codec = with_numbers(job.codec, seed, keys, shard.view, self.device)
            kept: Tensor | Features = rows.vectors
            first: Tensor | Features = rows[:CODEC_ERROR_SAMPLES].content().vectors
            if job.keep_tokens is not None:
                assert part.teacher is not None
                worth = part.teacher.inputs.worth_keeping(shard.batch(batch))
                worth = None if worth is None else worth.to(self.device)
                kept = keep_drawn(rows, job.keep_tokens, job.extra_tokens, seed, keys, shard.view, worth)
                first = kept[:CODEC_ERROR_SAMPLES].content()
            with self.stages.stage("encode"):
                stored = codec.encode(kept)
            encoded.append((stored, job.codec.error(first) if is_first else {}))
        return [(dict(self.stages.back(stored)), error) for stored, error in encoded]

    def rows_of(self, shard: ViewShard, part: Part, batch: list[int]) -> list[Features]:
        """For each target set of a teacher its output for some rows of a shard, float32, zero at padding.

        The teacher computes nothing else. BadInput where an output is not finite.
        """
        if not part.targets:
            return []
        assert part.teacher is not None
        teacher, keys = part.teacher.only([job.target for job in part.targets]), [shard.keys[row] for row in batch]

        def say(teacher: "Teacher", rows: list[int]) -> dict[str, Tensor]:
            fields = self.stages.onto(partial(shard.batch, rows))
            with self.stages.stage("teacher"):
                return forward(teacher, fields, self.device, self.precision)

        def layer(number: int) -> str:
            return first_layer_not_finite(teacher, partial(say, rows=[batch[number]]))

        outputs, valid = say(teacher, batch), teacher.inputs.valid(shard.batch(batch))
        valid = None if valid is None else valid.to(self.device)
        rows = {target: without_padding(outputs[target].float(), valid) for target in teacher.outputs}
        for target in teacher.outputs:
            check_finite(rows[target].vectors, keys, target, layer)
        return [rows[job.target] for job in part.targets]

    def _write(
        self, fed: list[tuple[ViewShard, Part]], counts: Counts, progress: Progress, encoded: Iterator[Encoded]
    ) -> None:
        """A shard's views and all rows of them are committed, `encoded` batch by batch."""
        first = fed[0][0]
        rows = [each for shard, part in fed for each in self._rows(shard, part, counts, progress, encoded)]
        with self.stages.stage("write"):
            if first.files:
                commit_shard(self.views, first)
            for job, arrays, errors in rows:
                commit_targets(job, self.views, first.view, first.shard, arrays, errors, device_type(self.device))
        counts.skipped += len(first.skipped)
        counts.views += len(kept_rows(first)) if first.made else 0

    def _rows(
        self, shard: ViewShard, part: Part, counts: Counts, progress: Progress, encoded: Iterator[Encoded]
    ) -> list[tuple[TargetSetJob, dict[str, np.ndarray], dict[str, float]]]:
        """For each target set of a teacher its rows of one shard; zero at skipped ones, which no reader hands out."""
        rows = [(job, empty(job.codec.arrays(), len(shard.keys)), dict[str, float]()) for job in part.targets]
        for batch in self.batches(shard):
            for (_, arrays, errors), (stored, error) in zip(rows, next(encoded), strict=True):
                errors |= error
                for name, values in stored.items():
                    arrays[name][batch] = values.numpy()
            counts.teacher_forwards += len(batch) if rows else 0
            progress.advance(len(batch))
        return rows


@torch.inference_mode()
def forward(
    teacher: "Teacher", fields: Mapping[str, Tensor], device: torch.device, precision: str
) -> dict[str, Tensor]:
    """The teacher's outputs for the stored fields of a batch of views, as extract stores them."""
    # a live teacher's fields are on the device already
    moved = {
        name: rows if rows.device == device else rows.pin_memory().to(device, non_blocking=True)
        for name, rows in fields.items()
    }
    with torch.autocast(device.type, getattr(torch, precision), enabled=precision != "float32"):
        return feed(teacher.network, teacher.inputs, moved)


def kept_rows(shard: ViewShard) -> list[int]:
    """The rows of a shard that have a view."""
    return [row for row in range(len(shard.keys)) if row not in shard.skipped]
