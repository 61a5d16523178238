"""Command: `python -m distill ... --plan`: the bill of a training, printed before anything of it is written."""

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from distill.bill.alternatives import Making, alternatives
from distill.bill.counted import counted_step
from distill.bill.happened import print_happened, work_of
from distill.bill.probe import LoopProbe, probe_loader, probe_loop
from distill.bill.teachers import LiveProbe, probe_teachers
from distill.compiling import require_compiler
from distill.config import DistillConfig
from distill.data import CacheData
from distill.memory import within_memory
from distill.recipe import Recipe
from distill.run import build_module
from distill.trainer import choose_devices, is_first_process
from extract.memory import parse_cap
from shards.bill.arithmetic import Bill, BreakEven, Stage, human_seconds
from shards.bill.counting import Growth
from shards.bill.disk import DiskRates, probe_disk, read_rate
from shards.bill.options import PlanOptions, parse_plan
from shards.bill.show import check_save, print_stages, said_bill, said_disk, said_memory, save_plan
from shards.bill.trial import trial_folder
from shards.command.progress import human_bytes
from shards.reader import TargetSet, ViewSet
from shards.views import view_codec

READ, DISK, STEP, MOVE, VALIDATION, SAVE = "read, decode", "read", "step", "transfer", "validation", "checkpoints"
_SHARES = {"disk": 0.1, "loop": 0.4, "loader": 0.1, "teacher": 0.2}
"""Of the seconds that probes may take; what is left is for counting."""
_RUN_FILES, _RUN_BYTES = 7, 6e3
"""Documents, a log and the student of a run, and the bytes of the first two, about."""


@dataclass(frozen=True)
class Training:
    """A run's length and what was measured of it."""

    recipe: Recipe
    data: CacheData
    disk: DiskRates
    loop: LoopProbe
    loader: float
    """Seconds of an optimiser step's batch, alone."""
    live: LiveProbe
    growth: Growth
    opening: float
    world_size: int
    device: torch.device
    """The first of them."""
    cap: int | None
    """Of --max_memory, bytes."""

    @property
    def on_gpu(self) -> bool:
        """Whether it computes on GPUs."""
        return self.device.type == "cuda"

    @property
    def steps_an_epoch(self) -> int:
        """Optimiser steps."""
        return self.data.order(self.recipe.accumulate).num_batches

    @property
    def steps(self) -> int:
        """Of the run."""
        return self.recipe.max_steps or self.recipe.epochs * self.steps_an_epoch

    @property
    def epochs(self) -> float:
        """Of the run; the last may be a part."""
        return self.steps / self.steps_an_epoch


def print_plan(config: DistillConfig, recipe: Recipe, data: CacheData, run_dir: Path) -> None:
    """Probe, and print what the run would take; neither the cache nor the run's folder changes."""
    options = parse_plan(config.plan or "")
    if not is_first_process():
        return
    check_save(options.save, run_dir, *(each.viewset.folder.parent for each in data.training.components))
    work = work_of(run_dir, recipe, data)
    if print_happened(run_dir, work, options.save):
        return
    devices = choose_devices(config.devices, recipe.precision)
    require_compiler(recipe, devices.of(0))
    with trial_folder(run_dir, "--run_dir") as trial:
        disk = probe_disk(trial, options.seconds * _SHARES["disk"])
        start = time.perf_counter()
        module = build_module(data, recipe)
        opening = time.perf_counter() - start
        recipe = within_memory(config, module, data, devices)
        loader = probe_loader(data, len(devices.indices), options.seconds * _SHARES["loader"])
        batch = next(iter(data.training_batches(len(devices.indices)).loader)).to(torch.device("cpu"), copy=True)
        loop = probe_loop(module, recipe, data, devices, trial, options.seconds * _SHARES["loop"])
        live = probe_teachers(data, batch, devices.of(0), trial, options.seconds * _SHARES["teacher"])
        growth = counted_step(module, batch)
    disk = disk._replace(read=_read_rate(data) or disk.read)
    world = len(devices.indices)
    cap = parse_cap(config.max_memory) if config.max_memory else None
    _print(Training(recipe, data, disk, loop, loader, live, growth, opening, world, devices.of(0), cap), options, work)


def _read_rate(data: CacheData) -> float | None:
    """Of the cache's own files, as far as they lie in a folder."""
    sets = [each for component in data.training.components for each in (component.viewset, *component.targetsets)]
    files = [each.folder / name for each in sets for name, record in each.checked.files.items() if record.size > 1e6]
    return read_rate([path for path in files if path.exists()])


def bytes_an_epoch(data: CacheData) -> float:
    """Of the cache: of each component one view of as many samples as an epoch draws from it.

    Images that views are rendered from are read whole whichever view is shown, once for all that a batch has of one.
    """
    read = 0.0
    for component, draws in zip(data.training.components, data.order(1).counts, strict=True):
        sets: list[ViewSet | TargetSet] = [component.viewset, *component.targetsets]
        for each in sets:
            sizes = {name: record.size for name, record in each.manifest.files.items()}
            keeps = isinstance(each, ViewSet) and view_codec(each.identity).keeps_sources
            images = sum(size for name, size in sizes.items() if keeps and name.endswith(".tar"))
            a_view = (sum(sizes.values()) - images) / each.manifest.num_views + images / data.recipe.views_a_batch
            read += a_view * draws / max(1, len(component.viewset.usable))
    return read


def bill_of(training: Training, options: PlanOptions) -> tuple[Bill, dict[str, int | float]]:
    """The bill of the run, and the units of each stage."""
    loop, recipe, data = training.loop, training.recipe, training.data
    per_rank = recipe.batch_size // training.world_size
    samples, times = training.steps * recipe.batch_size, math.ceil(training.epochs)  # validated and saved
    validated = sum(map(len, data.validation_samples)) * times
    on_device = training.on_gpu or options.card is not None
    lane, step = ("device", loop.step) if on_device else ("cores", max(0.0, loop.step - training.loader))
    a_validation = loop.validated_sample
    if options.card is not None:
        parts = recipe.accumulate * recipe.grad_cache
        step = parts * options.card.seconds(training.growth.operations(per_rank / parts), recipe.precision)
        a_validation = step / per_rank / 3  # a forward is about a third of a step
    saves = times + training.steps // recipe.checkpoint_every
    cache_bytes = bytes_an_epoch(data) * training.epochs
    stages = [
        Stage(READ, training.steps * training.loader, "cores"),
        Stage(DISK, cache_bytes / training.disk.read, "disk"),
        Stage(STEP, training.steps * step, lane),
        Stage(VALIDATION, validated * a_validation / training.world_size, lane),
        Stage(SAVE, saves * loop.save, lane),
    ]
    if options.card is not None:
        stages.append(Stage(MOVE, training.steps * loop.step_bytes / options.card.transfer_rate, lane))
    units: dict[str, int | float] = dict.fromkeys((READ, STEP, MOVE), samples)
    units |= {DISK: cache_bytes, VALIDATION: validated, SAVE: saves}
    written = loop.saved_bytes + loop.student_bytes + _RUN_BYTES
    stages = [stage for stage in stages if stage.seconds]
    once = training.opening + loop.start + times * loop.epoch
    return Bill(stages, once, written, _RUN_FILES + loop.saved_files), units


def forward_seconds(training: Training, options: PlanOptions) -> float:
    """Of a sample, by all teachers: measured, or predicted of a card."""
    if options.card is None or not training.data.training.targetsets:
        return training.live.seconds
    size = training.recipe.batch_size // training.world_size
    precision = training.data.training.targetsets[0].identity["precision"]
    return sum(options.card.seconds(each.operations(size), precision) / size for each in training.live.growth)


def break_even(training: Training, bill: Bill, options: PlanOptions) -> BreakEven | None:
    """The cache against the same steps with the teacher in each; None where no teacher can be asked."""
    if training.live.unknown or not training.data.training.targetsets:
        return None
    lanes, epochs = dict(bill.lanes), training.epochs
    cached = max(lanes.values()) / epochs
    a_forward = forward_seconds(training, options)
    taught = training.steps_an_epoch * training.recipe.batch_size * a_forward / training.world_size
    lane = "device" if training.on_gpu or options.card is not None else "cores"
    lanes[lane] = lanes.get(lane, 0.0) + taught * epochs
    components = training.data.training.components
    rows = sum(len(each.viewset.usable) * each.num_views for each in components)
    return BreakEven(rows * a_forward, max(lanes.values()) / epochs, cached)


def _print(training: Training, options: PlanOptions, work: dict[str, Any]) -> None:
    recipe, holding = training.recipe, training.data.training
    learnt = ", ".join(targetset.folder.name for targetset in holding.targetsets) or "the labels"
    length = f"{training.steps:,} steps ({training.epochs:,.3g} epochs) of {recipe.batch_size}"
    print(f"distill: plan: {recipe.name}: {recipe.student} from {learnt}: {length}")
    print(f"distill: plan: {said_disk(training.disk)}; {training.device.type} x {training.world_size}")
    if options.card is not None:
        print(
            f"distill: plan: steps are a prediction, measured on no {options.card.name}: counted operations and bytes "
            "over its published rates, a lower bound; batches are read by the cores of this machine"
        )
    bill, units = bill_of(training, options)
    print_stages(bill, units)
    print(f"distill: plan: {said_bill(bill, options)}")
    moved = training.loop.step_bytes * training.world_size
    print(
        f"distill: plan: {human_bytes(moved)} to the device a step, {human_bytes(holding.num_bytes)} of cache to read"
    )
    peak = training.loop.peak_bytes if options.card is None else None
    if peak is None:
        parts = recipe.accumulate * recipe.grad_cache * training.world_size
        peak = training.growth.peak_bytes(recipe.batch_size / parts)
    print(f"distill: plan: {said_memory(peak, options, training.device, training.cap)}")
    overlap = training.on_gpu or options.card is not None
    making = Making(forward_seconds(training, options), training.live.views, overlap)
    rows = alternatives(training.data, bill, training.epochs, training.disk.read, training.live.offers, making)
    even = break_even(training, bill, options)
    _print_break_even(training, bill, even, options)
    told: dict[str, Any] = {**work, "steps": training.steps, "epochs": training.epochs}
    told["opening"] = training.opening
    told |= {"break_even_epochs": even.epochs if even else None, "alternatives": rows}
    save_plan(options, bill, peak, told)


def _print_break_even(training: Training, bill: Bill, even: BreakEven | None, options: PlanOptions) -> None:
    if not training.data.training.targetsets:
        return
    if even is None:
        print(f"distill: plan: against the teacher in the loop: not known: {training.live.unknown}")
        return
    live = bill.once + even.live_epoch * training.epochs
    cost = live / 3600 * options.dollars_per_hour
    print(f"distill: plan: with the teacher in the loop, on the stored views, {human_seconds(live)}, ${cost:,.3g}")
    students = even.students(training.epochs)
    each = "" if students is None else f"; from student {students} of {training.epochs:,.3g} epochs on"
    print(f"distill: plan: {even}{each}")
