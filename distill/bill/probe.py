"""Probe: what this machine does of a training in some seconds: the trainer's own loop, and the loader alone."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback

from distill.checkpoints import BEST, LAST, Checkpoints
from distill.data import CacheData
from distill.module import Distillation
from distill.recipe import Recipe
from distill.trainer import fit, make_trainer
from shards.command.devices import Devices, peak_memory
from shards.loader import Batch

_WARM_STEPS = 2
_VALIDATED = 4
"""Validation batches of the probe."""
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
    """Both, or one without validation, and what lies beside the student."""
    student_bytes: int
    """Of the student's weights alone, and of what lies beside them."""
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
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize(pl_module.device)
        now = time.perf_counter()
        (self.epoch_starts if self.first else self.steps).append(now - self.last)
        self.first, self.last = False, now
        if now > self.deadline and len(self.steps) + len(self.epoch_starts) > _WARM_STEPS:
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
        torch.cuda.reset_peak_memory_stats(devices.of(0))
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
    beside = module.exported.inputs.files().values()  # a tokenizer
    saved = [path for path in saves.folder.glob("*") if path.name in (LAST, BEST)]
    return LoopProbe(
        step=step,
        epoch=max(0.0, _mean(clock.epoch_starts[1:] or clock.epoch_starts) - step + gap),
        start=max(0.0, lasted - known),
        validated_sample=_mean(clock.validations) / max(1, validated),
        save=_mean(saves.seconds),
        saved_bytes=sum(path.stat().st_size for path in saved),
        saved_files=len(saved) + len(beside),
        student_bytes=sum(rows.nbytes for rows in state) + sum(map(len, beside)),
        step_bytes=module.bytes_a_step(),
        peak_bytes=peak_memory(devices.of(0)),
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
