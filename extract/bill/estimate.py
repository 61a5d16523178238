"""Estimate: from what was probed and what a plan lacks to bytes, files, seconds, and when the cache has paid."""

from collections.abc import Sequence
from dataclasses import dataclass

from extract.bill.alternatives import asked_bytes
from extract.bill.codebooks import Calibration
from extract.bill.probe import TeacherProbe, ViewsProbe
from extract.bill.sizes import (
    Amount,
    manifests_amount,
    own_names,
    shards_amount,
    statistics_amount,
    targets_amount,
    total,
)
from extract.phases import Work
from extract.plan_targets import Part
from extract.unseen import UNSEEN_SHARDS
from shards.bill.arithmetic import Bill, BreakEven, Stage
from shards.bill.disk import DiskRates
from shards.bill.options import PlanOptions
from shards.codecs.channels import CALIBRATION_SAMPLES

VIEWS, READ, TEACHER, MOVE, ENCODE = "views", "stored views", "teacher", "transfer", "encode"
WRITE, FETCH, SEND = "write", "fetch", "send"


@dataclass(frozen=True)
class Places:
    """Where an extraction writes and reads."""

    disk: DiskRates
    """Of the cache, or of a bucket's mirror."""
    bucket: DiskRates | None = None
    view_bytes: float = 0.0
    """Of a stored view."""


@dataclass(frozen=True)
class Probes:
    """What was measured, by part where each has its own."""

    where: Places
    views: list[ViewsProbe]
    teachers: list[TeacherProbe | None]
    opening: float
    """Seconds until the plan stood: source, teachers."""


@dataclass(frozen=True)
class Amounts:
    """What is still to be done."""

    views: int
    read: int
    forwards: list[int]
    """By part."""
    written: Amount


def amounts_of(work: Work, probes: Probes, documents: Amount, parts: list[Part]) -> Amounts:
    """What the work lacks, where its `documents` take so much and `parts` is how it would lie in a trial."""
    views, rows = work.plan.views, work.plan.views.plan.rows
    lacking = [len(rows(shard)) for view, shard in views.places() if views.lacks(view, shard)]
    written = documents
    if lacking:
        written += shards_amount(len(probes.views[0].shard.keys), probes.views[0].stored, lacking)
    forwards, reads = [], 0
    for part, trial, teacher in zip(work.plan.parts, parts, probes.teachers, strict=True):
        places = [place for place in part.views.places() if part.lacking(*place).targets]
        forwards.append(sum(len(rows(shard)) for _, shard in places))
        reads += sum(len(rows(shard)) for view, shard in places if not views.lacks(view, shard))
        for job, there in zip(part.targets, trial.targets, strict=True):
            counts = [len(rows(shard)) for view, shard in views.places(job.num_views) if job.lacks(view, shard)]
            written += targets_amount(there if not (job.folder / "zarr.json").exists() else job, views, counts)
        if teacher is not None:
            new = [job for job, of in zip(teacher.targets, part.targets, strict=True) if not of.folder.exists()]
            written += total(map(statistics_amount, new))
    names: list[Sequence[str] | None] = [views.plan.class_names] if lacking else []
    if sum(forwards):
        teachers = [(part.teacher.class_names, part.targets) for part in work.plan.parts if part.teacher]
        names += [own_names(job, views, own) for own, jobs in teachers for job in jobs]
    return Amounts(sum(lacking), reads, forwards, written + manifests_amount(written, names))


@dataclass(frozen=True)
class Estimate:
    """What an extraction takes."""

    work: Work
    probes: Probes
    amounts: Amounts
    options: PlanOptions

    @property
    def lane(self) -> str:
        """Where teachers compute."""
        return "cores" if self.work.extraction.device.type == "cpu" and self.options.card is None else "device"

    def bill(
        self, times: int | float = 1, more: int | float = 0, once: float = 0.0
    ) -> tuple[Bill, dict[str, int | float]]:
        """The bill of `times` as many views, so many `more` bytes and seconds at the start; the units of each stage."""
        amounts, probes, card, lane = self.amounts, self.probes, self.options.card, self.lane
        processes, views = self.work.extraction.num_processes, probes.views[0]
        teacher = move = encode = calibration = 0.0
        for count, probe in zip(amounts.forwards, probes.teachers, strict=True):
            if probe is not None:
                a_forward = self.forward_seconds(probe)
                encoding = probe.seconds_to_encode if card is None else 0.0
                teacher += times * count * a_forward / processes
                encode += times * count * encoding / processes
                if card is not None:
                    move += times * count * probe.bytes_moved / card.transfer_rate / processes
                if count:
                    calibration += self.statistics_seconds(probe, probe.calibrations)
        num_bytes, num_files = amounts.written.num_bytes * times + more, amounts.written.num_files * times
        units: dict[str, int | float] = dict.fromkeys((TEACHER, MOVE, ENCODE), times * sum(amounts.forwards))
        units |= {VIEWS: times * amounts.views, READ: times * amounts.read, WRITE: num_bytes}
        stages = [
            Stage(VIEWS, units[VIEWS] * views.seconds_to_make / processes, "cores"),
            Stage(READ, units[READ] * views.seconds_to_read / processes, "cores"),
            Stage(TEACHER, teacher, lane),
            Stage(MOVE, move, lane),
            Stage(ENCODE, encode, lane),
            Stage(WRITE, probes.where.disk.seconds_to_write(num_bytes, num_files), "disk"),
        ]
        if (bucket := probes.where.bucket) is not None:
            fetched = units[READ] * probes.where.view_bytes
            units |= {FETCH: fetched, SEND: num_bytes}
            stages.append(Stage(FETCH, fetched / bucket.read, "bucket"))
            stages.append(Stage(SEND, bucket.seconds_to_write(num_bytes, num_files), "bucket"))
        once = probes.opening + calibration + once
        if lane == "device" and amounts.views:  # nothing is there to compute on while the first shard's views are made
            once += min(amounts.views, self.work.plan.views.plan.shard_size) * views.seconds_to_make
        return Bill([stage for stage in stages if stage.seconds], once, num_bytes, num_files), units

    def statistics_seconds(self, probe: TeacherProbe, calibrations: Sequence[Calibration]) -> float:
        """What codecs take together before the first shard: views of whole shards, forwards, and their training.

        The first 256 samples serve all; codebooks that need more begin anew, each for itself, and so do further
        samples that tell what codebooks lose.
        """
        views, size = self.probes.views[0], self.work.plan.views.plan.shard_size
        needed = [each.samples for each in calibrations if each.samples]
        first = min(CALIBRATION_SAMPLES, max(needed, default=0))
        further = [samples for samples in needed if samples > CALIBRATION_SAMPLES]
        made = sum(-(-samples // size) * size for samples in filter(None, (first, *further)))
        forwards = first + sum(samples - CALIBRATION_SAMPLES for samples in further)
        forwards += sum(each.unseen for each in calibrations)
        num_unseen = sum(each.unseen > 0 for each in calibrations)
        made += num_unseen * UNSEEN_SHARDS * size
        most = len(self.work.plan.views.plan.keys) * (1 + len(further) + num_unseen)
        a_view = views.seconds_to_make or views.seconds_to_read
        training = sum(each.seconds for each in calibrations)
        return min(made, most) * a_view + forwards * self.forward_seconds(probe) + training

    def forward_seconds(self, probe: TeacherProbe) -> float:
        """Of a sample: measured, or predicted of a card."""
        if self.options.card is None:
            return probe.seconds
        size = self.work.extraction.batch_size
        return self.options.card.seconds(probe.growth.operations(size), self.work.extraction.precision) / size

    def break_even(self) -> BreakEven | str:
        """What is still to be done against an epoch with the teachers in the loop; or why it is not known.

        That epoch makes views anew, or reads them where all are stored, and computes all forwards. An epoch from the
        cache reads one view of each sample, and its targets.
        """
        views, plan = self.probes.views[0], self.work.plan.views
        samples, disk = len(plan.plan.keys), self.probes.where.disk.read
        teachers = [probe for probe in self.probes.teachers if probe is not None]
        if not teachers:
            return "there is no teacher"
        if not sum(self.amounts.forwards):
            return "all of its targets are made"
        taught = samples * sum(self.forward_seconds(probe) for probe in teachers)
        stored = samples * (self.probes.where.view_bytes or views.view_bytes)
        read = [Stage(READ, samples * views.seconds_to_read, "cores"), Stage("disk", stored / disk, "disk")]
        shown = [Stage(VIEWS, samples * views.seconds_to_make, "cores")] if views.seconds_to_make else read
        live = Bill([*shown, Stage(TEACHER, taught, self.lane)])
        targets = asked_bytes(self.work.plan.targets, plan)
        cached = Bill([*read, Stage("targets", targets / disk, "disk")])
        return BreakEven(self.bill()[0].seconds, live.seconds, cached.seconds)


def peak_of(probes: Sequence[TeacherProbe], num_samples: int) -> float:
    """Most bytes of device memory while `num_samples`, all batches in work together, pass a teacher.

    All teachers are there; measured where every one was, with its own batches.
    """
    measured = [probe.peak_bytes for probe in probes if probe.peak_bytes is not None]
    if len(measured) == len(probes):
        return max(measured)
    weights = sum(probe.weights for probe in probes)
    return weights + max(probe.growth.peak_bytes(num_samples) - probe.weights for probe in probes)
