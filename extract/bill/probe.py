"""Probe: what this machine does of an extraction in some seconds: views of the real source, the teacher, the codecs."""

import itertools
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from msgspec import structs

from extract.bill.codebooks import Calibration, calibration_of
from extract.bill.sizes import Amount, amount_in
from extract.pipeline import Extraction, forward, kept_rows
from extract.plan_targets import Part, TargetSetJob
from extract.plan_views import ViewSetJob
from extract.targets import keep_drawn, with_numbers
from extract.views import ViewShard, commit_shard, make_shard, read_shard
from shards.bill.counting import Growth, count
from shards.codecs.features import Features
from shards.command.devices import peak_memory
from shards.errors import BadInput
from shards.layout import CALIBRATION

_FEW, _ROWS, _MOST_SHARDS = 8, 32, 16
"""Rows of the first trial shard, of the next ones, and their number."""
_COUNTED = (1, 2)
"""Samples of the two batches whose kernels and memory are counted."""


@dataclass
class ViewsProbe:
    """The views of one part's teacher, some of them at hand."""

    shard: ViewShard
    seconds_to_make: float = 0.0
    """Of a view; 0 where none is to be made."""
    seconds_to_read: float = 0.0
    """Of a stored view."""
    stored: Amount = field(default_factory=Amount)
    """What the shard takes on the disk where it was made."""
    view_bytes: float = 0.0
    """Of a view that was made, with the image that it is rendered from."""


@dataclass
class TeacherProbe:
    """A teacher and its codecs on this device."""

    seconds: float
    """Of a sample's forward."""
    seconds_to_encode: float
    """Of a sample's rows, of all targets of the teacher."""
    bytes_moved: float
    """Of a sample: its view to the device, its encoded rows back."""
    targets: list[TargetSetJob]
    """With codecs that are ready to encode."""
    peak_bytes: float | None
    """Of a GPU's memory at the run's own batch size, all teachers there; None where it was not measured."""
    weights: float
    """Bytes."""
    growth: Growth
    """Kernels and memory by the number of samples."""
    calibrations: list[Calibration] = field(default_factory=list)
    """What the statistics of each target's codec still take."""


def probe_views(part: Part, trial: ViewSetJob, num_threads: int, seconds: float) -> ViewsProbe:
    """Views made of samples all over the source, committed to the `trial`, and read back; or the stored ones read."""
    views = part.views
    with ThreadPoolExecutor(num_threads) as pool:
        if not any(views.lacks(*place) for place in views.places()):
            start = time.perf_counter()
            shard = read_shard(views, 0, 0, pool)
            return ViewsProbe(shard, seconds_to_read=(time.perf_counter() - start) / len(shard.keys))
        if trial.source is None:
            request = views.plan.request
            raise BadInput(f"--plan: makes views of the source for a trial, and --data {request['data']} is gone")
        trials = _Trials(trial, pool, seconds)
        shard, stored, to_make = trials.made()
        view_bytes = stored.num_bytes / len(shard.keys)
        lacking = [view > 0 for view, shard in views.places() if views.lacks(view, shard)]
        if views.maker.bytes_a_sample and any(lacking):
            stored, to_make = trials.with_further(stored, to_make, sum(lacking) / len(lacking))
        start = time.perf_counter()
        read_shard(trials.last, 0, trials.place, pool)
        to_read = (time.perf_counter() - start) / len(shard.keys)
    if not kept_rows(shard):
        raise BadInput(
            f"--plan: none of {len(shard.keys)} samples can be read; mend --data {views.plan.request['data']}"
        )
    return ViewsProbe(shard, to_make, to_read, stored, view_bytes)


class _Trials:
    """Shards made all over the source until their time is up: few rows, more, and one of the plan's own size."""

    def __init__(self, trial: ViewSetJob, pool: Executor, seconds: float) -> None:
        self.trial, self.pool, self.seconds = trial, pool, seconds
        self.last, self.place = trial, 0

    def made(self) -> tuple[ViewShard, Amount, float]:
        """The largest shard, what it takes on the disk, and the seconds that a view took."""
        num, deadline = len(self.trial.plan.keys), time.perf_counter() + self.seconds
        self._make(min(_FEW, num), 0)  # opens the source's files, which is counted once and not for each view
        rows, taken = 0, 0.0
        size = min(_ROWS, num, self.trial.plan.shard_size)
        number = min(num // size, _MOST_SHARDS)
        for each in range(number):
            shard, stored, lasted = self._make(size, each * (num // size) // number)
            rows, taken = rows + len(shard.keys), taken + lasted
            if time.perf_counter() > deadline - self.seconds / 2:
                break
        whole = min(num, self.trial.plan.shard_size)
        if whole > size and whole * taken / rows < max(0.0, deadline - time.perf_counter()):
            shard, stored, lasted = self._make(self.trial.plan.shard_size, (self.trial.plan.num_shards - 1) // 2)
            rows, taken = rows + len(shard.keys), taken + lasted
        return shard, stored, taken / rows

    def with_further(self, stored: Amount, to_make: float, share: float) -> tuple[Amount, float]:
        """What the last shard, and a view, take where `share` of the views are made of images that view 0 stored."""
        start = time.perf_counter()
        shard = make_shard(self.last, 1, self.place, self.pool, skip_errors=True)
        lasted = (time.perf_counter() - start) / len(shard.keys)
        commit_shard(self.last, shard)
        both = amount_in(self.last.folder)
        further = Amount(both.num_bytes - stored.num_bytes, both.num_files - stored.num_files)
        return stored * (1 - share) + further * share, to_make * (1 - share) + lasted * share

    def _make(self, size: int, place: int) -> tuple[ViewShard, Amount, float]:
        """One shard of a plan with so many rows a shard, committed to a folder of its own, and the seconds it took."""
        folder = self.trial.folder.parent / f"{size}-{place}"
        self.last, self.place = replace(self.trial, plan=structs.replace(self.trial.plan, shard_size=size)), place
        self.last = replace(self.last, folder=folder)
        start = time.perf_counter()
        shard = make_shard(self.last, 0, place, self.pool, skip_errors=True)
        lasted = time.perf_counter() - start
        commit_shard(self.last, shard)
        return shard, amount_in(folder), lasted


def probe_teacher(extraction: Extraction, part: Part, shard: ViewShard, seconds: float) -> TeacherProbe:
    """The teacher's forward of growing batches, up to the run's own, and the encoding of what it says."""
    assert part.teacher is not None
    kept, on_gpu = kept_rows(shard), extraction.device.type == "cuda"
    first = list(itertools.islice(itertools.cycle(kept), 1))
    few, num_samples = list(_rows(extraction, part, shard, kept[:_ROWS])), len(part.views.plan.keys)
    statistics = [
        Calibration() if (job.folder / CALIBRATION).exists() else calibration_of(job.codec, rows, num_samples)
        for job, rows in few
    ]
    part = replace(part, targets=[_ready(*each) for each in few])
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(extraction.device)

    def timed(batch: list[int]) -> tuple[float, float]:
        start = time.perf_counter()
        rows = extraction.rows_of(shard, part, batch)
        middle = time.perf_counter()
        for job, each in zip(part.targets, rows, strict=True):
            back.append(_encode(extraction, part, job, each, shard, batch))
        return middle - start, time.perf_counter() - middle

    back: list[int] = []
    timed(first)
    moved = sum(back) + sum(rows.nbytes for rows in shard.batch(first).values())
    at_a_time, size, begun = extraction.stages.num_threads, 1, time.perf_counter()
    while True:
        batches = [list(itertools.islice(itertools.cycle(kept), size))] * at_a_time
        start = time.perf_counter()
        shares = list(extraction.each(timed, batches))
        taken = time.perf_counter() - start
        if size == extraction.batch_size or time.perf_counter() - begun + 2.5 * taken > seconds:
            break
        size = min(2 * size, extraction.batch_size)
    forwards, encodings = (sum(each) for each in zip(*shares, strict=True))
    share = encodings / (forwards + encodings)
    a_sample = taken / (size * at_a_time)
    measured = on_gpu and size == extraction.batch_size
    peak = peak_memory(extraction.device) if measured else None
    growth = _growth(extraction, part, shard, kept)
    weights = float(sum(rows.nbytes for rows in _weights_of(part)))
    both, targets = (a_sample * (1 - share), a_sample * share), list(part.targets)
    return TeacherProbe(*both, float(moved), targets, peak, weights, growth, statistics)


def _rows(
    extraction: Extraction, part: Part, shard: ViewShard, batch: list[int]
) -> Iterator[tuple[TargetSetJob, Features]]:
    rows = extraction.rows_of(shard, part, batch[: extraction.batch_size])
    return zip(part.targets, rows, strict=True)


def _ready(job: TargetSetJob, rows: Features) -> TargetSetJob:
    """The job, its codec calibrated by a few rows: enough to tell its time and its sizes."""
    return replace(job, codec=job.codec.calibrate(rows.content().vectors.cpu())) if job.codec.has_statistics else job


def _encode(
    extraction: Extraction, part: Part, job: TargetSetJob, rows: Features, shard: ViewShard, batch: list[int]
) -> int:
    """Bytes of the stored rows of one batch, brought to the CPU, as the pipeline makes them."""
    keys, seed = [shard.keys[row] for row in batch], part.views.plan.identity["seed"] or 0
    codec = with_numbers(job.codec, seed, keys, shard.view, extraction.device)
    if job.keep_tokens is None:
        stored = codec.encode(rows.vectors)
    else:
        assert part.teacher is not None
        worth = part.teacher.inputs.worth_keeping(shard.batch(batch))
        worth = None if worth is None else worth.to(extraction.device)
        stored = codec.encode(keep_drawn(rows, job.keep_tokens, job.extra_tokens, seed, keys, shard.view, worth))
    return sum(values.cpu().nbytes for values in stored.values())


def _growth(extraction: Extraction, part: Part, shard: ViewShard, kept: list[int]) -> Growth:
    """The kernels and live bytes of two small forwards."""
    assert part.teacher is not None
    teacher = part.teacher.only([job.target for job in part.targets])
    held, counted = _weights_of(part), []
    for number in _COUNTED:
        fields = shard.batch(list(itertools.islice(itertools.cycle(kept), number)))
        work = partial(forward, teacher, fields, extraction.device, extraction.precision)
        counted.append(count(work, [*held, *fields.values()], number))
    return Growth(*counted)


def _weights_of(part: Part) -> list[torch.Tensor]:
    """What the teacher holds while it computes the part's targets."""
    assert part.teacher is not None
    network = part.teacher.only([job.target for job in part.targets]).network
    return [*network.parameters(), *network.buffers()]


def trial_of(part: Part, folder: Path) -> ViewSetJob:
    """The part's view set as it would lie in `folder`."""
    return replace(part.views, folder=folder)
