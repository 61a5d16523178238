"""What the tests of distill start from: tiny trainings on a small cache of digits, by command or by function."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import caches
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

from distill.config import DistillConfig
from distill.data import CacheData
from distill.holding import open_training
from distill.recipe import Recipe, resolve

STUDENT = "convnet:width=4,depth=2"
TRAIN, VALIDATION = 70, 25
"""Samples of the two splits; the loaders' batches below divide neither."""
OTHER = 45
"""Training samples of a second cache; it has two views, no validation split, and codecs of its own."""
PLAIN = {"student": STUDENT, "objective": "kl:temperature=2", "lr": 0.01, "weight_decay": 0.05, "batch_size": 16}


def write_recipe(path: Path, **values: Any) -> Path:
    """A recipe's file: the tests' own defaults and `values`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({**PLAIN, "epochs": 2, **values}))
    return path


def distill(shards: Path, run_dir: Path, *flags: str | Path) -> caches.Outcome:
    """`python -m distill` on a CPU, in this process."""
    return caches.command("distill", "--shards", shards, "--run_dir", run_dir, "--devices", "cpu", *flags)


def make_recipe(**values: Any) -> Recipe:
    known = {one.name for one in fields(Recipe)}
    assert not values.keys() - known
    recipe = Recipe(**{"name": "test", **PLAIN, "epochs": 2, **values})
    return resolve(recipe, DistillConfig(shards="."))


def open_data(shards: Path, targets: str | None = "one-logits-float32", **values: Any) -> CacheData:
    """The data of a run, without the command."""
    recipe = make_recipe(**values)
    return CacheData(open_training(str(shards), targets, recipe.objective == "supervised"), recipe, 1)


def weights(run_dir: Path) -> dict[str, Tensor]:
    """What the run exported."""
    return load_file(run_dir / "student.safetensors")


def last(run_dir: Path) -> dict[str, Any]:
    """Lightning's last checkpoint, read without unpickling anything."""
    state: dict[str, Any] = torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)
    return state


def same(one: Path, other: Path) -> bool:
    """Whether two runs exported the very same weights, and ended with the same: the best may have been an early one."""
    exported = [(run / "student.safetensors").read_bytes() for run in (one, other)]
    ends = [last(run)["state_dict"] for run in (one, other)]
    alike = ends[0].keys() == ends[1].keys() and all(torch.equal(x, ends[1][name]) for name, x in ends[0].items())
    return exported[0] == exported[1] and alike
