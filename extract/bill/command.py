"""Command: `python -m extract ... --plan`: the bill of an extraction, printed before anything of it is written."""

import math
import time
from dataclasses import replace
from pathlib import Path

from extract.bill.alternatives import Alternative, alternatives, asked_bytes
from extract.bill.estimate import Estimate, Places, Probes, amounts_of, peak_of
from extract.bill.happened import print_happened, work_of
from extract.bill.probe import TeacherProbe, ViewsProbe, probe_teacher, probe_views, trial_of
from extract.bill.sizes import begun
from extract.bill.trial_cache import TrialCache
from extract.calibrate import check_vectors
from extract.config import ExtractConfig
from extract.launch import make_launcher
from extract.memory import batch_within, parse_cap
from extract.phases import Work, planned
from extract.stages import BATCHES_IN_FLIGHT
from shards.bill.arithmetic import BreakEven, human_seconds
from shards.bill.bucket import probe_store
from shards.bill.disk import probe_disk
from shards.bill.options import parse_plan
from shards.bill.show import check_save, print_stages, said_bill, said_disk, said_memory, save_plan, views_to_show
from shards.bill.trial import trial_folder
from shards.command.devices import parse_devices
from shards.command.progress import human_bytes
from shards.command.tables import print_table
from shards.errors import TeacherShardsError
from shards.mirror import mirror_path
from shards.stores import is_url, open_store

_SHARES = {"disk": 0.15, "views": 0.25, "teacher": 0.4, "alternatives": 0.1}
"""Of the seconds that probes may take; what is left is for counting and codecs."""


def print_plan(config: ExtractConfig) -> None:
    """Probe, and print what the command line would take; the cache, a folder or a bucket, stays as it is."""
    options = parse_plan(config.plan or "")
    devices = parse_devices("devices", config.devices)
    is_shared = make_launcher(config.launch).shares
    place = mirror_path(config.out, is_shared) if is_url(config.out) else Path(config.out)
    check_save(options.save, place)
    with trial_folder(place) as trial:
        disk = probe_disk(trial, options.seconds * _SHARES["disk"])
        bucket = probe_store(open_store(config.out), options.seconds * _SHARES["disk"]) if is_url(config.out) else None
        start = time.perf_counter()
        cache = TrialCache(config.out, trial / "cache")
        work = _planned(config, cache, options.card is not None and devices.kind == "cpu")
        for job in work.plan.targets:
            num_samples = len(work.plan.views.plan.keys)
            check_vectors(job, num_samples, num_samples * math.prod(job.row_shape[:-1]))
        opening, view_bytes = time.perf_counter() - start, cache.bring_first(work.plan.views)
        documents, parts = begun(work.plan, trial / "documents")
        probes = _probed(work, Places(disk, bucket, view_bytes), opening, trial, options.seconds)
        amounts = amounts_of(work, probes, documents, parts)
        if not amounts.views and not sum(amounts.forwards) and print_happened(work, place, options.save):
            return
        _print(Estimate(work, probes, amounts, options), parse_cap(config.max_memory) if config.max_memory else None)


def _planned(config: ExtractConfig, cache: TrialCache, predicts: bool) -> Work:
    """The work that the command line means, found in a trial `cache`: a corpus is cut into samples there too.

    Where it `predicts` a card, --max_memory has room for the batches that a GPU has in work, and not for a CPU's.
    """
    asked = replace(config, plan=None, out=str(cache.root), max_memory=None if predicts else config.max_memory)
    try:
        work = planned(asked)
        if not predicts or config.max_memory is None:
            return work
        size = batch_within(config, work.plan.parts, work.extraction.device, BATCHES_IN_FLIGHT, True)
        return replace(work, extraction=replace(work.extraction, batch_size=size))
    except TeacherShardsError as error:
        above = str(Path(cache.out).absolute().parent)
        error.args = (str(error).replace(str(cache.root), cache.out).replace(str(cache.root.parent), above),)
        raise


def _probed(work: Work, where: Places, opening: float, trial: Path, seconds: float) -> Probes:
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
    return Probes(where, views, teachers, opening)


def _print(estimate: Estimate, cap: int | None) -> None:
    work, amounts, options = estimate.work, estimate.amounts, estimate.options
    bill, units = estimate.bill()
    views, device = work.plan.views, work.extraction.device
    names = ", ".join(part.teacher.name for part in work.plan.parts if part.teacher) or "no teacher"
    amount = f"{amounts.views:,} views and {sum(amounts.forwards):,} forwards to make"
    print(f"extract: plan: {len(views.plan.keys):,} samples x {views.asked_views} views, {names}: {amount}")
    where = estimate.probes.where
    print(f"extract: plan: {said_disk(where.disk)}; {work.extraction.num_threads} threads, {device.type}")
    if where.bucket is not None:
        print(f"extract: plan: {said_disk(where.bucket, 'bucket')}")
    if options.card is not None:
        print(
            f"extract: plan: the teacher is a prediction, measured on no {options.card.name}: counted operations and "
            "bytes over its published rates, a lower bound; views are made by the cores of this machine"
        )
    print_stages(bill, units)
    print(f"extract: plan: {said_bill(bill, options)}")
    for probe in filter(None, estimate.probes.teachers):
        for job, each in zip(probe.targets, probe.calibrations, strict=True):
            if each.seconds and sum(amounts.forwards):
                books = f"{job.codec.name} of {job.target} learns its codebooks from {each.vectors:,} vectors"
                took = human_seconds(each.seconds)
                print(f"extract: plan: {books} of {each.samples:,} samples: {took} of the start, and their forwards")
    if bill.num_bytes > where.disk.free:
        print("extract: plan: the disk has no room for that: take other flags of the table below, or another --out")
    found = [probe for probe in estimate.probes.teachers if probe is not None]
    at_a_time = BATCHES_IN_FLIGHT if options.card is not None else work.extraction.stages.num_threads
    peak = peak_of(found, at_a_time * work.extraction.batch_size) if found else 0.0
    if found:
        print(f"extract: plan: {said_memory(peak, options, device, cap)}")
    rows = _alternatives(estimate)
    even = estimate.break_even()
    if isinstance(even, BreakEven):
        print(f"extract: plan: the student's own steps left out, {even}")
    else:
        print(f"extract: plan: against the teacher in the loop: not known: {even}")
    epochs = even.epochs if isinstance(even, BreakEven) else None
    told = [dict(zip(_COLUMNS, row, strict=True)) for row in rows]
    to_make = amounts.views, sum(amounts.forwards)
    save_plan(
        options,
        bill,
        peak,
        {**work_of(work), "to_make": to_make, "break_even_epochs": epochs, "alternatives": told},
    )


_COLUMNS = ("target", "codec", "tokens", "views", "bytes", "hours", "cosine")


def _alternatives(estimate: Estimate) -> list[tuple[str, ...]]:
    """The table of what else a first teacher might give, printed; its rows."""
    work, amounts = estimate.work, estimate.amounts
    part, views = work.plan.parts[0], work.plan.views
    if estimate.probes.teachers[0] is None or not sum(amounts.forwards):
        return []
    seconds = estimate.options.seconds * _SHARES["alternatives"]
    found = list(alternatives(work.extraction, part, estimate.probes.views[0].shard, seconds))
    own, asked = asked_bytes(part.targets, views), views.asked_views
    rows = [_row(estimate, each, own, asked) for each in found]
    chosen = next((each for each in found if each.chosen), None)
    from_nothing = sum(amounts.forwards) == len(views.plan.keys) * asked * len(work.plan.parts)
    if chosen is not None and from_nothing and not amounts.read and not views.maker.all_alike:
        rows += [_row(estimate, chosen, own, number) for number in views_to_show(asked)]
    print_table(_COLUMNS, rows, _COLUMNS[2:])
    return rows


def _row(estimate: Estimate, each: Alternative, own: float, views: int) -> tuple[str, ...]:
    """One alternative in the place of the first teacher's targets, all else as asked."""
    plan = estimate.work.plan.views
    asked = plan.asked_views
    to_make = sum(estimate.amounts.forwards) / max(1, len(plan.plan.keys) * asked)
    probe, once = estimate.probes.teachers[0], 0.0
    if probe is not None and not each.chosen:
        asked_for = estimate.statistics_seconds(probe, probe.calibrations)
        once = estimate.statistics_seconds(probe, [each.calibration]) - asked_for
    bill, _ = estimate.bill(views / asked, (each.view_bytes - own) * views * to_make, once)
    tokens = "all" if each.keep_tokens is None else str(each.keep_tokens)
    name = f"{each.target}{' *' if each.chosen and views == asked else ''}"
    return name, each.codec, tokens, str(views), human_bytes(bill.num_bytes), f"{bill.hours:,.4g}", each.error
