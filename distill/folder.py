"""Folder: what a run's folder holds besides checkpoints and logs: configuration, recipe, identity, summary."""

import contextlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct, structs

from distill.config import DistillConfig
from distill.data import CacheData
from distill.holding import sole
from distill.recipe import Recipe, as_values
from distill.trainer import is_first_process
from shards.bill.trial import remove_stale_trials
from shards.command.arguments import as_yaml
from shards.commit import remove_leftovers, write_atomically
from shards.errors import BadInput, IdentityMismatch
from shards.identity import differences
from shards.lock import LOCK, locked
from shards.plain_yaml import read_yaml
from shards.records import Count
from shards.sealed import fields_of, read_object

RUN, SUMMARY = "run.json", "summary.json"
CONFIG, RECIPE = "config.yaml", "recipe.yaml"


class Run(Struct, frozen=True, forbid_unknown_fields=True):
    """run.json: all that decides what a run ends with; devices, threads and logging do not."""

    recipe: dict[str, Any]
    cache: dict[str, Any]
    weights: list[int | float]
    validation: dict[str, Any] | None
    num_views: Count | list[Count]
    """Of each view set, where several train as one."""
    parts: Literal["own"] | None = None
    """The recipe's `accumulate` and `grad_cache` are its own; absent: or --max_memory chose them, as it once did."""


@contextlib.contextmanager
def only_run(run_dir: Path) -> Iterator[None]:
    """This process (and the ranks it starts) is the only one that trains in `run_dir` while the block runs."""
    remove_stale_trials(run_dir)
    with locked(run_dir, f"--run_dir {run_dir}: another distill trains here; wait, or give another folder"):
        remove_leftovers(run_dir)
        yield


def decisive(recipe: Recipe) -> dict[str, Any]:
    """What of a recipe makes two runs two."""
    return {name: value for name, value in as_values(recipe).items() if name not in ("views", "min_steps")}


def begin(run_dir: Path, config: DistillConfig, recipe: Recipe, data: CacheData) -> None:
    """The run's identity and configuration are in its folder; IdentityMismatch when another run is there already."""
    training, num_views = data.training, sole(data.training.num_views)
    validation, own = data.validation_identity(), {"parts": "own"}
    run = structs.asdict(Run(decisive(recipe), training.identity(), training.weights, validation, num_views)) | own
    if (former := former_run(run_dir)) is not None:
        diff = "; ".join(differences(structs.asdict(former) | own, run))
        if diff := diff.replace("the cache has", "the run has"):
            raise IdentityMismatch(f"--run_dir {run_dir} holds another run: {diff}; give another --run_dir")
        return
    # an attempt that was killed in here leaves these; run.json is written last
    if any(path.name not in (LOCK, CONFIG, RECIPE) for path in run_dir.iterdir()):
        raise BadInput(f"--run_dir {run_dir}: is not empty and holds no run; give another folder")
    write_atomically(run_dir / RECIPE, as_yaml(as_values(recipe) | {"views": max(training.num_views)}))
    given = {**asdict(config), "recipe": str(run_dir / RECIPE), "run_dir": str(run_dir)}
    del given["plan"]  # of no run
    write_atomically(run_dir / CONFIG, as_yaml(given))
    write_atomically(run_dir / RUN, json.dumps(run, indent=1).encode())


def run_folder(config: DistillConfig, recipe: Recipe) -> Path:
    """--run_dir, or a folder that is named after recipe and student."""
    student = recipe.student.replace(":", "-").replace("=", "").replace("/", "-")
    return Path(config.run_dir or f"runs/{recipe.name}-{student}")


def as_begun(run_dir: Path, recipe: Recipe) -> Recipe:
    """The recipe, in the parts that the run in `run_dir` began in where --max_memory chose these.

    An earlier version counted them as the run's own `accumulate` or `grad_cache`; such a run goes on in them. Those of
    a recipe or a flag are no such parts: a command that gives others is of another run.
    """
    former, path = former_run(run_dir), run_dir / CONFIG
    own = {name: getattr(recipe, name) for name in ("accumulate", "grad_cache")}
    begun = own if former is None or former.parts else {name: former.recipe.get(name, 1) for name in own}
    if begun == own or not all(isinstance(each, int) and each % own[name] == 0 for name, each in begun.items()):
        return recipe
    try:
        saved = read_yaml(path.read_bytes()) if path.exists() else None
    except ValueError:  # damaged: the run is refused as another one
        return recipe
    if not isinstance(saved, dict) or saved.get("max_memory") is None:
        return recipe  # another recipe: the run is refused as another one
    if any(begun[name] != own[name] and begun[name] == saved.get(name) for name in own):
        return recipe  # a flag gave them
    if is_first_process():
        parts = ", ".join(f"{name}: {each}" for name, each in begun.items())
        print(f"distill: {run_dir} goes on in the parts that --max_memory {saved['max_memory']} gave it ({parts})")
    return replace(recipe, **begun)


def former_run(run_dir: Path) -> Run | None:
    """The run that began in `run_dir`; None where none did, BadInput where its run.json is none."""
    path, remedy = run_dir / RUN, "give another --run_dir"
    if not path.exists():
        return None
    return fields_of(read_object(path, remedy), Run, str(path), remedy=remedy, error=BadInput)


def git_revision() -> str | None:
    """The commit of this project's checkout, with + when it has changes; None outside a checkout."""
    root = Path(__file__).parent.parent
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty=+", "--abbrev=40"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() or None
    except (OSError, subprocess.CalledProcessError):
        return None
