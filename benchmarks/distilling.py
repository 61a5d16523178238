"""Distilling: training steps from the cache against steps on one batch that stays in memory.

Compared: Lightning's trainer as `distill` sets it up, with batches decoded from the tars and encoded targets beside
them, against the same module and optimiser in a plain loop that has no data to wait for.
Limit: the student's operations (three forwards' worth a step) over the rate at which the plain loop does them.
"""

import argparse
import time
from collections.abc import Callable
from itertools import repeat
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback

from benchmarks.measure import (
    Figure,
    Report,
    Sizes,
    alternate,
    per_unit,
    run,
    settings_here,
    share,
    synchronise,
    the_device,
)
from benchmarks.steps import held_batch, open_cache, stepper
from benchmarks.synthetic import operations, views_of, write_photos, write_targets
from distill.data import CacheData
from distill.recipe import Recipe
from distill.run import build_module
from distill.trainer import make_trainer
from shards.command.devices import Devices, share_of_cores

GOAL_ON_CPU = 0.95
QUICK = {"image_size": 32, "steps": 2, "batch_size": 4, "precision": "float32"}
RESNET50 = {"recipe": "resnet50-from-resnet101", "student": "resnet50", "target": "logits", "codec": "float16"}
DATA2VEC2 = {"recipe": "features", "student": "data2vec2:depth=6", "target": "layer_mean", "codec": "int8"}
CASES: dict[str, Sizes] = {
    "resnet50": {
        "cpu": RESNET50 | {"image_size": 224, "steps": 6, "batch_size": 8, "precision": "float32"},
        "cuda": RESNET50 | {"image_size": 224, "steps": 100, "batch_size": 256, "precision": "bfloat16"},
        "quick": RESNET50 | {"student": "resnet18"} | QUICK,
    },
    "data2vec2": {
        "cpu": DATA2VEC2 | {"image_size": 224, "steps": 4, "batch_size": 8, "precision": "float32"},
        "cuda": DATA2VEC2 | {"image_size": 224, "steps": 100, "batch_size": 256, "precision": "bfloat16"},
        "quick": DATA2VEC2 | {"student": "data2vec2:depth=1"} | QUICK | {"image_size": 56},
    },
}


def measure(options: argparse.Namespace, folder: Path) -> Report:
    """At 224 pixels, in float32 on a CPU and in bfloat16 on a GPU: from float16 logits, or from 197 x 768 in int8."""
    settings, device = settings_here(CASES[options.case], options), the_device()
    steps, batch_size, image_size = settings["steps"], settings["batch_size"], settings["image_size"]
    data = write_photos(folder / "photos", min((steps + 1) * batch_size, 4096), 320, 256, options.images)
    views = views_of(folder / "cache", data, image_size)
    write_targets(views, settings["target"], settings["codec"])
    changes = {name: settings[name] for name in ("recipe", "student", "batch_size", "precision")}
    recipe, cache = open_cache(folder / "cache", max_steps=steps + 1, **changes)
    batch, take = held_batch(cache, device), stepper(build_module(cache, recipe), device)
    contenders = {
        "from the cache": _training(recipe, cache, folder / "run", steps, device),
        "one batch in memory": per_unit(lambda: take(repeat(batch, steps)), steps, device),
    }
    seconds = alternate(contenders, options.rounds)
    report = Report("how fast are steps from the cache, as a share of steps without data?", "steps", settings)
    report.add_rates(seconds)
    work = 3 * batch_size * operations(settings["student"], image_size) / 1e9
    limit = f"{work:,.1f} GFLOP a step over {work * report.rates['one batch in memory'].median:,.0f} GFLOP/s"
    ratio = share(seconds["one batch in memory"], seconds["from the cache"])
    goal = GOAL_ON_CPU if device.type == "cpu" else None
    report.figures.append(Figure("from the cache over one batch in memory", limit, ratio, goal))
    return report


class Clock(Callback):
    """The seconds from the end of the first step, in which threads start and buffers fill, to the end of the last."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.ends = device, [0.0, 0.0]

    def on_train_batch_end(self, trainer: Any, *arguments: Any) -> None:
        if trainer.global_step in (1, trainer.max_steps):
            synchronise(self.device)
            self.ends[trainer.global_step > 1] = time.perf_counter()


def _training(recipe: Recipe, cache: CacheData, run_dir: Path, steps: int, device: torch.device) -> Callable[[], float]:
    """A contender: a run of one step more than `steps`, which is not counted."""

    def timed() -> float:
        clock = Clock(device)
        trainer = make_trainer(Devices(device.type), recipe, run_dir, [clock], [])
        trainer.fit(build_module(cache, recipe), CacheData(cache.training, recipe, share_of_cores()))
        return (clock.ends[1] - clock.ends[0]) / steps

    return timed


if __name__ == "__main__":
    run(measure, "distilling", with_images=True, cases=list(CASES))
