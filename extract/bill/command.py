"""Command: `python -m extract ... --plan`: the bill of an extraction, printed before anything of it is written."""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from extract.bill.alternatives import Alternative, alternatives, asked_bytes
from extract.bill.probe import TeacherProbe, ViewsProbe, probe_teacher, probe_views, trial_of
from extract.bill.sizes import (
    Amount,
    begun,
    manifests_amount,
    own_names,
    shards_amount,
    statistics_amount,
    targets_amount,
    total,
)
from extract.config import ExtractConfig
from extract.phases import Work, folder_of, planned
from extract.plan_targets import Part
from extract.plan_views import SCRATCH
from shards.bill.arithmetic import Bill, BreakEven, Stage
from shards.bill.disk import DiskRates, probe_disk, trial_folder
from shards.bill.options import PlanOptions, parse_plan
from shards.bill.show import check_save, print_stages, said_bill, said_disk, said_memory, save_plan, views_to_show
from shards.cache import list_viewsets
from shards.codecs.channels import CALIBRATION_SAMPLES
from shards.command.progress import human_bytes
from shards.command.tables import print_table

VIEWS, READ, TEACHER, MOVE, ENCODE, WRITE = "views", "stored views", "teacher", "transfer", "encode", "write"
_SHARES = {"disk": 0.15, "views": 0.25, "teacher": 0.4}
"""Of the seconds that probes may take; what is left is for the alternatives."""


@dataclass(frozen=True)
class Probes:
    """What was measured, by part where each has its own."""

    disk: DiskRates
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


def print_plan(config: ExtractConfig) -> None:
    """Probe, and print what the command line would take; the cache stays as it is."""
    options = parse_plan(config.plan or "")
    cache = folder_of(config.out)
    check_save(options.save, cache)
    with trial_folder(cache) as trial:
        disk = probe_disk(trial, options.seconds * _SHARES["disk"])
        start = time.perf_counter()
        work = _planned(config, cache, trial / "cache")
        opening = time.perf_counter() - start
        documents, parts = begun(work.plan, trial / "documents")
        probes = _probed(work, disk, opening, trial, options.seconds)
        amounts = _amounts(work, probes, documents, parts)
        _print(work, probes, amounts, options)


def _planned(config: ExtractConfig, cache: Path, trial: Path) -> Work:
    """The work that the command line means; what a corpus is cut out of for it lies in the trial, or is gone again."""
    config = replace(config, plan=None)
    if not list_viewsets(cache):
        return planned(replace(config, out=str(trial)))
    scratch = cache / SCRATCH
    was_there = scratch.exists()
    try:
        work = planned(config)
        if not was_there and scratch.exists():
            shutil.copytree(scratch, trial / SCRATCH)
        return work
    finally:
        if not was_there:
            shutil.rmtree(scratch, ignore_errors=True)


def _probed(work: Work, disk: DiskRates, opening: float, trial: Path, seconds: float) -> Probes:
    extraction = work.extraction
    views: list[ViewsProbe] = []
    teachers: list[TeacherProbe | None] = []
    for number, part in enumerate(work.plan.parts):
        same = [one for one, other in zip(views, work.plan.parts, strict=False) if other.reads_as(part)]
        place = trial_of(part, trial / f"views-{number}" / "views")
        share = seconds / len(work.plan.parts)
        views.append(same[0] if same else probe_views(part, place, extraction.num_threads, share * _SHARES["views"]))
        taught = probe_teacher(extraction, part, views[-1].shard, share * _SHARES["teacher"]) if part.targets else None
        teachers.append(taught)
    return Probes(disk, views, teachers, opening)


def _amounts(work: Work, probes: Probes, documents: Amount, parts: list[Part]) -> Amounts:
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


def _bill(
    work: Work, probes: Probes, amounts: Amounts, options: PlanOptions, times: int | float = 1, more: int | float = 0
) -> tuple[Bill, dict[str, int | float]]:
    """The bill of `times` as many views and so many `more` bytes, and the units of each stage."""
    processes = work.extraction.num_processes
    lane = "cores" if work.extraction.device.type == "cpu" and options.card is None else "device"
    views = probes.views[0]
    teacher = move = encode = calibration = 0.0
    for count, probe in zip(amounts.forwards, probes.teachers, strict=True):
        if probe is not None:
            a_forward = _forward_seconds(work, probe, options)
            encoding = probe.seconds_to_encode if options.card is None else 0.0
            teacher += times * count * a_forward / processes
            encode += times * count * encoding / processes
            if options.card is not None:
                move += times * count * probe.bytes_moved / options.card.transfer_rate / processes
            if any(job.codec.has_statistics for job in probe.targets) and count:
                first = min(count, max(CALIBRATION_SAMPLES, work.plan.views.plan.shard_size))
                calibration += min(count, CALIBRATION_SAMPLES) * a_forward
                calibration += first * (views.seconds_to_make or views.seconds_to_read)
    num_bytes, num_files = amounts.written.num_bytes * times + more, amounts.written.num_files * times
    units: dict[str, int | float] = {
        VIEWS: times * amounts.views,
        READ: times * amounts.read,
        TEACHER: times * sum(amounts.forwards),
    }
    units |= dict.fromkeys((MOVE, ENCODE), times * sum(amounts.forwards)) | {WRITE: num_bytes}
    stages = [
        Stage(VIEWS, units[VIEWS] * views.seconds_to_make / processes, "cores"),
        Stage(READ, units[READ] * views.seconds_to_read / processes, "cores"),
        Stage(TEACHER, teacher, lane),
        Stage(MOVE, move, lane),
        Stage(ENCODE, encode, lane),
        Stage(WRITE, probes.disk.seconds_to_write(num_bytes, num_files), "disk"),
    ]
    once = probes.opening + calibration
    if lane == "device" and amounts.views:  # nothing is there to compute on while the first shard's views are made
        once += min(amounts.views, work.plan.views.plan.shard_size) * views.seconds_to_make
    return Bill([stage for stage in stages if stage.seconds], once, num_bytes, num_files), units


def _forward_seconds(work: Work, probe: TeacherProbe, options: PlanOptions) -> float:
    """Of a sample: measured, or predicted of a card."""
    if options.card is None:
        return probe.seconds
    size = work.extraction.batch_size
    return options.card.seconds(probe.growth.operations(size), work.extraction.precision) / size


def _print(work: Work, probes: Probes, amounts: Amounts, options: PlanOptions) -> None:
    bill, units = _bill(work, probes, amounts, options)
    views, device = work.plan.views, work.extraction.device
    names = ", ".join(part.teacher.name for part in work.plan.parts if part.teacher) or "no teacher"
    amount = f"{amounts.views:,} views and {sum(amounts.forwards):,} forwards to make"
    print(f"extract: plan: {len(views.plan.keys):,} samples x {views.asked_views} views, {names}: {amount}")
    print(f"extract: plan: {said_disk(probes.disk)}; {work.extraction.num_threads} threads, {device.type}")
    if options.card is not None:
        print(
            f"extract: plan: the teacher is a prediction, measured on no {options.card.name}: counted operations and "
            "bytes over its published rates, a lower bound; views are made by the cores of this machine"
        )
    print_stages(bill, units)
    print(f"extract: plan: {said_bill(bill, options)}")
    found = [probe for probe in probes.teachers if probe is not None]
    peak = max((_peak(work, probe, options) for probe in found), default=0.0)
    if found:
        gpu = float(torch.cuda.get_device_properties(device).total_memory) if device.type == "cuda" else None
        print(f"extract: plan: {said_memory(peak, options, gpu)}")
    rows = _alternatives(work, probes, amounts, options)
    even = _break_even(work, probes, amounts, options, bill)
    if even is not None:
        print(f"extract: plan: the student's own steps left out, {even}")
    told = [dict(zip(_COLUMNS, row, strict=True)) for row in rows]
    epochs = even.epochs if even else None
    save_plan(options, bill, peak, {"command": "extract", "break_even_epochs": epochs, "alternatives": told})


def _peak(work: Work, probe: TeacherProbe, options: PlanOptions) -> float:
    if options.card is None or work.extraction.device.type == "cuda":
        return probe.peak_bytes
    return probe.growth.peak_bytes(2 * work.extraction.batch_size)


_COLUMNS = ("target", "codec", "tokens", "views", "bytes", "hours", "cosine")


def _alternatives(work: Work, probes: Probes, amounts: Amounts, options: PlanOptions) -> list[tuple[str, ...]]:
    """The table of what else a first teacher might give, printed; its rows."""
    part, teacher, views = work.plan.parts[0], probes.teachers[0], work.plan.views
    if teacher is None or not sum(amounts.forwards):
        return []
    found = list(alternatives(work.extraction, part, probes.views[0].shard))
    own = asked_bytes(part.targets, views)
    asked = views.asked_views
    rows = [_row(work, probes, amounts, options, each, own, asked) for each in found]
    chosen = next((each for each in found if each.chosen), None)
    from_nothing = sum(amounts.forwards) == len(views.plan.keys) * asked * len(work.plan.parts)
    if chosen is not None and from_nothing and not amounts.read and not views.maker.all_alike:
        rows += [_row(work, probes, amounts, options, chosen, own, number) for number in views_to_show(asked)]
    print_table(_COLUMNS, rows, _COLUMNS[2:])
    return rows


def _row(
    work: Work, probes: Probes, amounts: Amounts, options: PlanOptions, each: Alternative, own: float, views: int
) -> tuple[str, ...]:
    """One alternative in the place of the first teacher's targets, all else as asked."""
    asked = work.plan.views.asked_views
    to_make = sum(amounts.forwards) / max(1, len(work.plan.views.plan.keys) * asked)
    more = (each.view_bytes - own) * views * to_make
    bill, _ = _bill(work, probes, amounts, options, views / asked, more)
    tokens = "all" if each.keep_tokens is None else str(each.keep_tokens)
    name = f"{each.target}{' *' if each.chosen and views == asked else ''}"
    return name, each.codec, tokens, str(views), human_bytes(bill.num_bytes), f"{bill.hours:,.4g}", each.error


def _break_even(work: Work, probes: Probes, amounts: Amounts, options: PlanOptions, bill: Bill) -> BreakEven | None:
    """None where no view is made here: how long one takes is not known then."""
    views, samples = probes.views[0], len(work.plan.views.plan.keys)
    teachers = [probe for probe in probes.teachers if probe is not None]
    if not teachers or not views.seconds_to_make or not amounts.written.num_bytes:
        return None
    taught = samples * sum(_forward_seconds(work, probe, options) for probe in teachers)
    lane = "cores" if work.extraction.device.type == "cpu" and options.card is None else "device"
    live = Bill([Stage(VIEWS, samples * views.seconds_to_make, "cores"), Stage(TEACHER, taught, lane)])
    read = amounts.written.num_bytes / work.plan.views.asked_views / probes.disk.read
    cached = Bill([Stage(READ, samples * views.seconds_to_read, "cores"), Stage("disk", read, "disk")])
    return BreakEven(bill.seconds, live.seconds, cached.seconds)
