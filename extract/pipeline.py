"""Pipeline: source -> view -> teacher -> target -> encode -> store, one shard at a time, in the order of the data.

While the teacher works on one shard, threads make or read the views of the next one and a thread writes the last one.
A shard is done when its commit record is on the disk, so the same command finishes whatever was interrupted.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from torch import Tensor

from extract.modalities.base import feed
from extract.plan_targets import Part, TargetSetJob
from extract.plan_views import ViewSetJob
from extract.store import commit_targets
from extract.targets import check_finite, first_layer_not_finite, keep_drawn, with_numbers, without_padding
from extract.views import ViewShard, commit_shard, make_shard, read_shard
from shards.codecs.features import Features
from shards.command.devices import device_type
from shards.command.progress import Progress
from shards.layout import Place

if TYPE_CHECKING:
    from extract.teachers.base import Teacher

Result = TypeVar("Result")

CODEC_ERROR_SAMPLES = 32
"""At most so many of the plan's first batch tell a codec's error."""


@dataclass
class Counts:
    """What a run did."""

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

    def run(self) -> Counts:
        """Every shard of `work` is committed when this returns."""
        counts, work = Counts(), self.work()
        total = sum(len(self.views.plan.rows(shard)) * len(parts) for (_, shard), parts in work)
        with Progress("extract", total) as progress, ThreadPoolExecutor(1) as writer:
            pending: list[Future[None]] = []
            for shards, (_, parts) in zip(self.shards(work), work, strict=True):
                shard, rows = shards[0], []
                for each, part in zip(shards, parts, strict=True):
                    rows += self._rows(each, part, counts, progress)
                pending.append(writer.submit(self._write, shard, rows))
                if len(pending) > 1:
                    pending.pop(0).result()  # an error of the writer ends the run here
                counts.skipped += len(shard.skipped)
                counts.views += len(kept_rows(shard)) if shard.made else 0
            for future in pending:
                future.result()
        return counts

    def shards(self, work: list[tuple[Place, list[Part]]]) -> Iterator[list[ViewShard]]:
        """Each place's views, one for each part, the next ones under way while the caller works on these."""
        with ThreadPoolExecutor(self.num_threads) as pool, ThreadPoolExecutor(1) as ahead:

            def shard(views: ViewSetJob, place: Place) -> ViewShard:
                if views.lacks(*place):
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

    def _rows(
        self, shard: ViewShard, part: Part, counts: Counts, progress: Progress
    ) -> list[tuple[TargetSetJob, dict[str, np.ndarray], dict[str, float]]]:
        """The encoded rows of one shard for each target set of a teacher; a batch never crosses the shard."""
        kept, jobs = kept_rows(shard), part.targets
        batches = [kept[start : start + self.batch_size] for start in range(0, len(kept), self.batch_size)]
        encoded: list[list[dict[str, Tensor]]] = [[] for _ in jobs]
        errors: list[dict[str, float]] = [{} for _ in jobs]
        for batch, of_jobs in zip(batches, self.each(partial(self._encode, shard, part), batches), strict=True):
            for position, (stored, error) in enumerate(of_jobs):
                encoded[position].append(stored)
                errors[position] |= error
            counts.teacher_forwards += len(batch) if jobs else 0
            progress.advance(len(batch))
        return [(job, _scatter(encoded[i], job, kept, len(shard.keys)), errors[i]) for i, job in enumerate(jobs)]

    def each(self, function: Callable[[list[int]], Result], batches: list[list[int]]) -> Iterator[Result]:
        """`function` of every batch, in order: on a CPU a batch a thread, each computing alone.

        A kernel that shares one batch between threads adds up in an order that their number decides; a batch that one
        thread computes has the same bits on any number of cores. It is also faster: nobody waits at barriers.
        On a GPU a second thread queues the next batch while the first waits for its rows, so that the GPU does not.
        """
        with ThreadPoolExecutor(self.compute_threads if self.device.type == "cpu" else 2) as pool:
            yield from pool.map(function, batches)

    def _encode(
        self, shard: ViewShard, part: Part, batch: list[int]
    ) -> list[tuple[dict[str, Tensor], dict[str, float]]]:
        """For each target set the encoded rows of one batch, on the CPU, and the codec's error on the plan's first."""
        is_first = (shard.view, shard.shard) == (0, 0) and batch[0] == kept_rows(shard)[0]
        keys, seed = [shard.keys[row] for row in batch], self.views.plan.identity["seed"] or 0
        encoded = []
        for job, rows in zip(part.targets, self.rows_of(shard, part, batch), strict=True):
            codec = with_numbers(job.codec, seed, keys, shard.view, self.device)
            first: Tensor | Features
            if job.keep_tokens is None:
                stored, first = codec.encode(rows.vectors), rows[:CODEC_ERROR_SAMPLES].content().vectors
            else:
                assert part.teacher is not None
                worth = part.teacher.inputs.worth_keeping(shard.batch(batch))
                worth = None if worth is None else worth.to(self.device)
                kept = keep_drawn(rows, job.keep_tokens, job.extra_tokens, seed, keys, shard.view, worth)
                stored, first = codec.encode(kept), kept[:CODEC_ERROR_SAMPLES].content()
            on_cpu = {name: values.cpu() for name, values in stored.items()}
            encoded.append((on_cpu, job.codec.error(first) if is_first else {}))
        return encoded

    def rows_of(self, shard: ViewShard, part: Part, batch: list[int]) -> list[Features]:
        """For each target set of a teacher its output for some rows of a shard, float32, zero at padding.

        The teacher computes nothing else. BadInput where an output is not finite.
        """
        if not part.targets:
            return []
        assert part.teacher is not None
        teacher, keys = part.teacher.only([job.target for job in part.targets]), [shard.keys[row] for row in batch]

        def say(teacher: "Teacher", rows: list[int]) -> dict[str, Tensor]:
            return forward(teacher, shard.batch(rows), self.device, self.precision)

        def layer(number: int) -> str:
            return first_layer_not_finite(teacher, partial(say, rows=[batch[number]]))

        outputs, valid = say(teacher, batch), teacher.inputs.valid(shard.batch(batch))
        valid = None if valid is None else valid.to(self.device)
        rows = {target: without_padding(outputs[target].float(), valid) for target in teacher.outputs}
        for target in teacher.outputs:
            check_finite(rows[target].vectors, keys, target, layer)
        return [rows[job.target] for job in part.targets]

    def _write(
        self, shard: ViewShard, rows: list[tuple[TargetSetJob, dict[str, np.ndarray], dict[str, float]]]
    ) -> None:
        if shard.files:
            commit_shard(self.views, shard)
        for job, arrays, errors in rows:
            commit_targets(job, self.views, shard.view, shard.shard, arrays, errors, device_type(self.device))


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


def _scatter(
    batches: list[dict[str, Tensor]], job: TargetSetJob, kept: list[int], num_rows: int
) -> dict[str, np.ndarray]:
    """The batches of each array as its rows; zero at skipped rows, which no reader hands out."""
    rows = {}
    for name, (dtype, row_shape) in job.codec.arrays().items():
        rows[name] = np.zeros((num_rows, *row_shape), dtype)
        if kept:
            rows[name][kept] = torch.cat([stored[name] for stored in batches]).numpy()
    return rows
