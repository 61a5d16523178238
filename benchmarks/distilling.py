"""Distilling: training steps from the cache against steps on one batch that stays in memory.

Compared: Lightning's trainer as `distill` sets it up, with batches decoded from the tars, captions tokenised, and
encoded targets beside them, against the same module and optimiser in a plain loop that has no data to wait for.
Limit: a step's operations over the rate at which the plain loop does them.
"""

import argparse
from collections.abc import Callable
from itertools import repeat
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger

from benchmarks.materials import as_flags
from benchmarks.materials import material as material_of
from benchmarks.measure import (
    CLOCK,
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
from benchmarks.steps import held_batch, open_cache, with_bank
from benchmarks.synthetic import extract, operations, views_of, write_targets
from distill.data import CacheData
from distill.memory import stepper
from distill.recipe import Recipe
from distill.run import build_module
from distill.trainer import make_trainer
from shards.command.devices import Devices, share_of_cores

GOAL_ON_CPU = 0.95
ON_CPU = {"image_size": 224, "steps": 6, "batch_size": 8, "precision": "float32"}
ON_GPU = {"image_size": 224, "steps": 100, "batch_size": 256, "precision": "bfloat16"}
QUICK = {"image_size": 32, "steps": 2, "batch_size": 4, "precision": "float32", "encoder": "tiny"}
RESNET50 = {"recipe": "resnet50-from-resnet101", "student": "resnet50", "target": "logits", "codec": "float16"}
DATA2VEC2 = {"recipe": "features", "student": "data2vec2:depth=6", "target": "layer_mean", "codec": "int8"}
TEXT = {"recipe": "f-distilbert", "student": "encoder:depth=3", "target": "layer_mean", "codec": "int8"}
TEXT |= {"data": "texts", "encoder": "minilm", "tokens": 128}
PAIR = {"data": "pairs", "encoder": "minilm", "codec": "float16", "init": "random"}
PAIR |= {"student": "pair:resnet18+encoder:depth=6,width=384,tokenizer=ENCODER+mlp"}
TINY_PAIR = {"student": "pair:convnet:width=4+encoder:depth=1,width=32,heads=2,tokenizer=ENCODER+mlp:width=32"}
SHRE = PAIR | {"recipe": "transformer-shre", "target": "logits"}
SMKE = PAIR | {"recipe": "s-smke", "target": "cls"}
CASES: dict[str, Sizes] = {
    "resnet50": {
        "cpu": RESNET50 | ON_CPU,
        "cuda": RESNET50 | ON_GPU,
        "quick": RESNET50 | {"student": "resnet18"} | QUICK,
    },
    "data2vec2": {
        "cpu": DATA2VEC2 | ON_CPU | {"steps": 4},
        "cuda": DATA2VEC2 | ON_GPU,
        "quick": DATA2VEC2 | {"student": "data2vec2:depth=1"} | QUICK | {"image_size": 56},
    },
    "text": {
        "cpu": TEXT | ON_CPU | {"steps": 8, "batch_size": 16},
        "cuda": TEXT | ON_GPU,
        "quick": TEXT | {"student": "encoder:depth=1"} | QUICK | {"tokens": 16},
    },
    "transformer-shre": {
        "cpu": SHRE | ON_CPU,
        "cuda": SHRE | ON_GPU,
        "quick": SHRE | QUICK | TINY_PAIR,
    },
    "s-smke": {
        "cpu": SMKE | ON_CPU | {"bank": 1024},
        "cuda": SMKE | ON_GPU | {"bank": 8192},
        "quick": SMKE | QUICK | TINY_PAIR | {"bank": 8},
    },
}


def measure(options: argparse.Namespace, folder: Path) -> Report:
    """In float32 on a CPU and in bfloat16 on a GPU: from logits, from a row a token in int8, or from a vector."""
    settings, device = settings_here(CASES[options.case], options), the_device()
    steps = settings["steps"]
    recipe, cache = open_cache(folder / "cache", max_steps=steps + 1, **prepared(settings, folder))
    take = stepper(build_module(cache, recipe), device)
    batch = held_batch(cache, device)
    contenders = {
        "from the cache": training(recipe, cache, folder / "run", steps, device),
        "one batch in memory": per_unit(lambda: take(repeat(batch, steps)), steps, device),
    }
    seconds = alternate(contenders, options.rounds)
    report = Report("how fast are steps from the cache, as a share of steps without data?", "steps", settings)
    report.add_rates(seconds)
    work = operations(lambda: take([batch])) / 1e9
    limit = f"{work:,.1f} GFLOP a step over {work * report.rates['one batch in memory'].median:,.0f} GFLOP/s"
    ratio = share(seconds["one batch in memory"], seconds["from the cache"])
    goal = GOAL_ON_CPU if device.type == "cpu" else None
    report.figures.append(Figure("from the cache over one batch in memory", limit, ratio, goal))
    return report


def prepared(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What changes the recipe, after `folder`/cache has views and targets of the case."""
    num_samples = min((settings["steps"] + 1) * settings["batch_size"], 4096)
    num_samples = max(num_samples, settings.get("bank", 0) + settings["batch_size"])
    material = material_of(settings, folder, num_samples)
    if settings.get("data") == "texts":  # a text student is built as its teacher
        target = {name: settings[name] for name in ("target", "codec")}
        extract(*as_flags(material.flags | target | {"out": folder / "cache"}))
    else:
        write_targets(views_of(folder / "cache", material.data, material.view), settings["target"], settings["codec"])
    changes = {name: settings[name] for name in ("recipe", "batch_size", "precision", "init") if name in settings}
    if "bank" in settings:
        changes["recipe"] = with_bank(settings["recipe"], settings["bank"], folder)
    return changes | {"student": material.spec(settings["student"])}


class StepClock(Callback):
    """The seconds from the end of the first step, in which threads start and buffers fill, to the end of the last."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.ends = device, [0.0, 0.0]

    def on_train_batch_end(self, trainer: Any, *arguments: Any) -> None:
        if trainer.global_step in (1, trainer.max_steps):
            synchronise(self.device)
            self.ends[trainer.global_step > 1] = CLOCK.now()


def training(recipe: Recipe, cache: CacheData, run_dir: Path, steps: int, device: torch.device) -> Callable[[], float]:
    """A contender: a run of one step more than `steps`, which is not counted."""

    def timed() -> float:
        clock = StepClock(device)
        trainer = make_trainer(Devices(device.type), recipe, run_dir, [clock], [CSVLogger(run_dir, name="logs")])
        trainer.fit(build_module(cache, recipe), CacheData(cache.training, recipe, share_of_cores()))
        return (clock.ends[1] - clock.ends[0]) / steps

    return timed


if __name__ == "__main__":
    run(measure, "distilling", with_images=True, cases=list(CASES))
