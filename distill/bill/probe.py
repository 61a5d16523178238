"""Probe: what this machine does of a training in some seconds: its own loop, its loader, its teacher."""

import itertools
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.callbacks import Callback

from distill.checkpoints import BEST, LAST, Checkpoints
from distill.data import CacheData
from distill.module import Distillation
from distill.optimiser import make_optimiser
from distill.recipe import Recipe
from distill.trainer import fit, make_trainer
from extract.pipeline import forward
from extract.recompute import load_teacher_of
from shards.bill.counting import Growth, count
from shards.command.devices import Devices
from shards.errors import TeacherShardsError
from shards.loader import Batch
from shards.order import Reading

_WARM_STEPS = 2
_VALIDATED = 4
"""Validation batches of the probe."""
_COUNTED = (2, 4)
"""Samples of the two batches whose kernels and memory are counted."""
_NEVER = 1 << 40


@dataclass
class LoopProbe:
    """What the training's own loop took, on the first of its devices."""

    step: float
    """Seconds of an optimiser step, its batch waited for."""
    epoch: float
    """Seconds of an epoch further than its steps, its validation and its checkpoint take: the loader begins anew."""
    start: float
    """Seconds of the trainer before its first and after its last epoch."""
    validated_sample: float
    """Seconds of a validation sample."""
    save: float
    """Seconds of a checkpoint."""
    saved_bytes: int
    """Of the last checkpoint and of the best student."""
    saved_files: int
    """Both, or one without validation."""
    student_bytes: int
    """Of the student's weights alone."""
    step_bytes: int
    """To the device, of an optimiser step of this rank."""
    peak_bytes: float | None
    """Of the GPU; None on a CPU."""


@dataclass
class _Clock(Callback):
    """The times of steps, epochs and validations, until `deadline`."""

    seconds: float
    deadline: float = 0.0
    steps: list[float] = field(default_factory=list)
    epoch_starts: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    validations: list[float] = field(default_factory=list)
    first: bool = False
    last: float = 0.0

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """The loader begins anew."""
        self.deadline = self.deadline or time.perf_counter() + self.seconds
        now = time.perf_counter()
        if self.epoch_starts:
            self.gaps.append(now - self.last)
        self.first, self.last = True, now

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """A step is done once its parts are."""
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.perf_counter()
        (self.epoch_starts if self.first else self.steps).append(now - self.last)
        self.first, self.last = False, now
        if now > self.deadline and len(self.steps) > _WARM_STEPS:
            trainer.should_stop = True

    def on_validation_start(self, *arguments: Any) -> None:
        """The clock runs."""
        self.begun = time.perf_counter()

    def on_validation_end(self, *arguments: Any) -> None:
        """It stops."""
        self.validations.append(time.perf_counter() - self.begun)


class _TimedCheckpoints(Checkpoints):
    """The run's own checkpoints, and how long each took."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, _NEVER)
        self.seconds: list[float] = []

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Saved and timed."""
        start = time.perf_counter()
        super().on_train_epoch_end(trainer, pl_module)
        self.seconds.append(time.perf_counter() - start)


def probe_loop(
    module: Distillation, recipe: Recipe, data: CacheData, devices: Devices, folder: Path, seconds: float
) -> LoopProbe:
    """The trainer makes steps on the training's own batches for so many seconds, validates a little, and saves once."""
    clock, saves = _Clock(seconds), _TimedCheckpoints(folder / "checkpoints")
    alone = Devices(devices.kind, devices.indices[:1])
    recipe = replace(recipe, batch_size=recipe.batch_size // len(devices.indices))
    trainer = make_trainer(alone, recipe, folder, [clock, saves], [])
    whole, own = data.validation_samples, data.recipe
    few = max(1, recipe.batch_size // recipe.accumulate) * _VALIDATED
    data.recipe, data.validation_samples = recipe, [samples[:few] for samples in whole]
    if devices.kind == "cuda":
        torch.cuda.reset_peak_memory_stats()
    begun = time.perf_counter()
    try:
        fit(trainer, module, data, None)
    finally:
        validated = sum(map(len, data.validation_samples))
        data.recipe, data.validation_samples = own, whole
    lasted = time.perf_counter() - begun
    steps = clock.steps[_WARM_STEPS:] or clock.steps or clock.epoch_starts
    step, apart = _mean(steps), _mean(clock.validations) + _mean(saves.seconds)
    gap = max(0.0, _mean(clock.gaps) - apart) if clock.gaps else 0.0
    known = sum(clock.steps) + sum(clock.epoch_starts) + sum(clock.gaps) + apart
    state = module.student.state_dict().values()
    saved = [path for path in saves.folder.glob("*") if path.name in (LAST, BEST)]
    return LoopProbe(
        step=step,
        epoch=max(0.0, _mean(clock.epoch_starts[1:] or clock.epoch_starts) - step + gap),
        start=max(0.0, lasted - known),
        validated_sample=_mean(clock.validations) / max(1, validated),
        save=_mean(saves.seconds),
        saved_bytes=sum(path.stat().st_size for path in saved),
        saved_files=len(saved),
        student_bytes=sum(rows.nbytes for rows in state),
        step_bytes=module.bytes_a_step(),
        peak_bytes=float(torch.cuda.max_memory_allocated()) if devices.kind == "cuda" else None,
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def probe_loader(data: CacheData, world_size: int, seconds: float) -> float:
    """Seconds that the loader takes for an optimiser step's batch of one rank where nobody else works."""
    parts, start, number = data.recipe.accumulate, time.perf_counter(), 0
    for number, _ in enumerate(_batches(data, world_size)):
        if number == parts:
            start = time.perf_counter()  # from here on the ring is full
        if number > 2 * parts and time.perf_counter() - start > seconds:
            break
    return (time.perf_counter() - start) / max(1, number - parts) * parts


def _batches(data: CacheData, world_size: int) -> Iterator[Batch]:
    batches = data.training_batches(world_size)
    while True:
        yield from batches.loader
        batches.position += len(batches)


@dataclass
class LiveProbe:
    """The teachers on this device."""

    seconds: float
    """Of a sample, all of them together."""
    growth: list[Growth]
    """Kernels and memory of each by the number of samples."""
    unknown: str = ""
    """Why a teacher cannot be asked."""


def probe_teachers(data: CacheData, batch: Batch, device: torch.device, seconds: float) -> LiveProbe:
    """The forward of each distinct teacher on a held batch; a teacher that is not here is a reason and no error."""
    taken, growths = 0.0, []
    by_teacher: dict[str, list[Any]] = {}
    for targetset in data.training.targetsets:
        by_teacher.setdefault(str(targetset.identity["teacher"]), []).append(targetset)
    for sets in by_teacher.values():
        try:
            teacher = load_teacher_of(sets[0], None, None, "a plan takes it from where extract found it")
        except TeacherShardsError as error:
            return LiveProbe(0.0, [], str(error))
        teacher = teacher.only([each.manifest.target for each in sets])
        teacher.network.to(device)
        viewset = data.training.viewset.read_by(teacher.inputs.reads(data.training.viewset.codec))
        samples = batch.readings[0].samples.tolist()
        fields = {name: torch.from_numpy(rows) for name, rows in viewset.rows(0, samples).items()}
        fields = {name: rows.to(device) for name, rows in fields.items()}
        say = partial(forward, teacher, device=device, precision=sets[0].identity["precision"])
        taken += _rate(say, fields, device, seconds / len(by_teacher))
        held = [*teacher.network.parameters(), *teacher.network.buffers()]
        counted = [
            count(partial(say, few := _first(fields, number)), [*held, *few.values()], number) for number in (1, 2)
        ]
        growths.append(Growth(*counted))
    return LiveProbe(taken, growths)


def _first(fields: dict[str, torch.Tensor], number: int) -> dict[str, torch.Tensor]:
    """So many rows, the first ones again where there are fewer."""
    return {name: rows[torch.arange(number) % len(rows)] for name, rows in fields.items()}


def _rate(say: Any, fields: dict[str, torch.Tensor], device: torch.device, seconds: float) -> float:
    """Seconds of a sample, in batches that grow up to all of `fields` while there is time."""
    most, size = len(next(iter(fields.values()))), 1
    say(_first(fields, 1))
    begun = time.perf_counter()
    while True:
        some = _first(fields, size)
        with _finished(device):
            start = time.perf_counter()
            say(some)
        taken = time.perf_counter() - start
        if size == most or time.perf_counter() - begun + 2.5 * taken > seconds:
            return taken / size
        size = min(2 * size, most)


@contextmanager
def _finished(device: torch.device) -> Iterator[None]:
    yield
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def counted_step(module: Distillation, batch: Batch) -> Growth:
    """The kernels and live bytes of steps on small batches like `batch`, on the CPU; they change the module."""
    module.to("cpu").train()
    module.recipe = replace(module.recipe, grad_cache=1)
    optimiser = make_optimiser(module, module.recipe)

    def step(some: Batch) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=module.recipe.precision != "float32"):
            loss = module.loss(some)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    step(_small(batch, _COUNTED[0]))  # AdamW makes its moments
    counted = []
    for number in _COUNTED:
        some = _small(batch, number)
        moments = [value for state in optimiser.state.values() for value in state.values()]
        rows = itertools.chain.from_iterable(each.values() for each in (some.fields, *some.targets.values()))
        counted.append(count(partial(step, some), [*module.parameters(), *module.buffers(), *moments, *rows], number))
    return Growth(*counted)


def _small(batch: Batch, number: int) -> Batch:
    """A batch of so many samples of the first component, the rows of `batch` again and again; its bank as it is."""

    def some(rows: torch.Tensor) -> torch.Tensor:
        return rows[torch.arange(number) % len(rows)].cpu()

    return Batch(
        [Reading(np.zeros(number, np.int64), 0)],
        {name: some(rows) for name, rows in batch.fields.items()},
        None if batch.labels is None else some(batch.labels),
        {name: {key: some(rows) for key, rows in stored.items()} for name, stored in batch.targets.items()},
        batch.bank_readings,
        batch.banks,
    )
