"""Live: the same training with the teacher run on every batch, to compare the cache with (tests, benchmarks)."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from distill.config import DESCRIPTION, DistillConfig
from distill.data import CacheData, TrainingBatches
from distill.holding import Holding, open_training
from distill.module import Distillation
from distill.recipe import load_recipe, resolve
from distill.run import train
from extract.pipeline import forward
from extract.recompute import load_teacher_of
from extract.teachers.base import Teacher
from shards.codecs.features import Features
from shards.command.arguments import parse
from shards.decode import decode_readings
from shards.errors import BadInput
from shards.loader import Batch
from shards.reader import TargetSet


class LiveDistillation(Distillation):
    """Distillation from teachers that see each stored view again in every epoch, and no codec in between."""

    def __init__(self, *, teachers: Sequence[Teacher], holding: Holding, **parts: Any) -> None:
        super().__init__(holding=holding, **parts)
        for teacher, targetset in zip(teachers, holding.targetsets, strict=True):
            if teacher.weights_sha256 != targetset.identity["teacher"]["weights_sha256"]:
                raise BadInput(f"{targetset.folder.name}: made by other weights than those of {teacher.name}")
        self.outputs = [(t.identity["target"], t.identity["precision"]) for t in holding.targetsets]
        self.teachers = tuple(
            teacher.only([output]) for teacher, (output, _) in zip(teachers, self.outputs, strict=True)
        )
        """In a tuple, so that they are no part of the module: not trained, not saved, not counted."""

    def on_fit_start(self) -> None:
        """The teachers are where the student is."""
        for teacher in self.teachers:
            teacher.network.to(self.device)

    def targets(self, batch: Batch, names: list[str], codecs: list[Any]) -> list[Any]:
        """What each teacher says of the batch's views, as extract would have stored it in float32."""
        targets = []
        for teacher, (output, precision), name, codec in zip(self.teachers, self.outputs, names, codecs, strict=True):
            rows = forward(teacher, batch.fields, batch.device, precision)[output].float()
            valid = teacher.inputs.valid(batch.fields)
            target = Features(rows.clone()).within(valid)  # out of inference mode, so that autograd may keep it
            stored = batch.targets.get(name, {})  # a benchmark's batches hold views alone
            if "positions" in stored:
                target = Features.of(target.rows, decode_readings(codec, stored, batch.readings).positions).within(
                    valid
                )
            targets.append(target)
            self.teacher_forwards += len(batch.samples)
        return targets

    def on_fit_end(self) -> None:
        """Every rank knows how many samples the teachers saw in all."""
        count = torch.tensor(self.teacher_forwards, dtype=torch.float64, device=self.device)
        self.teacher_forwards = int(self.trainer.strategy.reduce(count, reduce_op="sum"))


def with_teacher(targetset: TargetSet) -> Callable[..., Distillation]:
    """What makes a module that asks the teacher of `targetset` in each step."""
    return partial(LiveDistillation, teachers=[load_teacher_of(targetset, None, None, "--teacher")])


def distil_live(*flags: object, batches: Callable[..., TrainingBatches] = TrainingBatches) -> None:
    """`python -m distill FLAGS`, --recipe, --targets and --run_dir among them, with the teacher in the loop.

    `batches` makes the training batches from their order.
    """
    config = parse(DistillConfig, "distill", [str(flag) for flag in flags], DESCRIPTION)
    recipe = resolve(load_recipe(str(config.recipe)), config)
    data = CacheData(open_training(config.shards, config.targets, False), recipe)
    data.batches = batches
    (targetset,) = data.training.targetsets
    train(config, data.recipe, data, Path(str(config.run_dir)), with_teacher(targetset))
