"""Command: `python -m extract ... --plan`: the bill of an extraction, printed before anything of it is written."""

import os
import time
from dataclasses import replace
from pathlib import Path

import torch

from extract.bill.alternatives import Alternative, alternatives, asked_bytes
from extract.bill.estimate import Estimate, Probes, amounts_of
from extract.bill.probe import TeacherProbe, ViewsProbe, probe_teacher, probe_views, trial_of
from extract.bill.sizes import begun
from extract.config import ExtractConfig
from extract.phases import Work, folder_of, planned
from shards.bill.disk import DiskRates, probe_disk, trial_folder
from shards.bill.options import PlanOptions, parse_plan
from shards.bill.show import check_save, print_stages, said_bill, said_disk, said_memory, save_plan, views_to_show
from shards.command.progress import human_bytes
from shards.command.tables import print_table
from shards.errors import TeacherShardsError
from shards.lock import LOCK
from shards.stores import is_url

_SHARES = {"disk": 0.15, "views": 0.25, "teacher": 0.4}
"""Of the seconds that probes may take; what is left is for the alternatives."""


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
        amounts = amounts_of(work, probes, documents, parts)
        _print(Estimate(work, probes, amounts, options))


def _planned(config: ExtractConfig, cache: Path, trial: Path) -> Work:
    """The work that the command line means, found in the `trial`, which has the cache's files under second names.

    So nothing is written into the cache: a corpus is cut into samples there too.
    """
    config = replace(config, plan=None)
    if is_url(config.out) or not _linked(cache, trial):
        return planned(config)
    try:
        return planned(replace(config, out=str(trial)))
    except TeacherShardsError as error:
        error.args = (str(error).replace(str(trial), str(cache)),)
        raise


def _linked(cache: Path, trial: Path) -> bool:
    """Whether the files of `cache` are hard links in `trial` now: where the disk has none, the cache itself is read."""
    files = [path for path in cache.rglob("*") if path.is_file() and path.name != LOCK] if cache.is_dir() else []
    try:
        for path in files:
            there = trial / path.relative_to(cache)
            there.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, there)
    except OSError:
        return False
    return True


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


def _print(estimate: Estimate) -> None:
    work, amounts, options = estimate.work, estimate.amounts, estimate.options
    bill, units = estimate.bill()
    views, device = work.plan.views, work.extraction.device
    names = ", ".join(part.teacher.name for part in work.plan.parts if part.teacher) or "no teacher"
    amount = f"{amounts.views:,} views and {sum(amounts.forwards):,} forwards to make"
    print(f"extract: plan: {len(views.plan.keys):,} samples x {views.asked_views} views, {names}: {amount}")
    print(f"extract: plan: {said_disk(estimate.probes.disk)}; {work.extraction.num_threads} threads, {device.type}")
    if options.card is not None:
        print(
            f"extract: plan: the teacher is a prediction, measured on no {options.card.name}: counted operations and "
            "bytes over its published rates, a lower bound; views are made by the cores of this machine"
        )
    print_stages(bill, units)
    print(f"extract: plan: {said_bill(bill, options)}")
    if bill.num_bytes > estimate.probes.disk.free:
        print("extract: plan: the disk has no room for that: take other flags of the table below, or another --out")
    found = [probe for probe in estimate.probes.teachers if probe is not None]
    peak = max((_peak(work, probe, options) for probe in found), default=0.0)
    if found:
        gpu = float(torch.cuda.get_device_properties(device).total_memory) if device.type == "cuda" else None
        print(f"extract: plan: {said_memory(peak, options, gpu)}")
    rows = _alternatives(estimate)
    even = estimate.break_even()
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


def _alternatives(estimate: Estimate) -> list[tuple[str, ...]]:
    """The table of what else a first teacher might give, printed; its rows."""
    work, amounts = estimate.work, estimate.amounts
    part, views = work.plan.parts[0], work.plan.views
    if estimate.probes.teachers[0] is None or not sum(amounts.forwards):
        return []
    found = list(alternatives(work.extraction, part, estimate.probes.views[0].shard))
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
    bill, _ = estimate.bill(views / asked, (each.view_bytes - own) * views * to_make)
    tokens = "all" if each.keep_tokens is None else str(each.keep_tokens)
    name = f"{each.target}{' *' if each.chosen and views == asked else ''}"
    return name, each.codec, tokens, str(views), human_bytes(bill.num_bytes), f"{bill.hours:,.4g}", each.error
