"""Folder: what a run's folder holds besides checkpoints and logs: configuration, recipe, identity, summary."""

import contextlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from msgspec import structs

from distill.config import DistillConfig
from distill.data import CacheData
from distill.holding import sole
from distill.recipe import Recipe, as_values
from shards.command.arguments import as_yaml
from shards.commit import remove_leftovers, write_atomically
from shards.documents import Run, read_run
from shards.errors import BadInput, IdentityMismatch
from shards.identity import differences
from shards.lock import LOCK, locked

RUN, SUMMARY = "run.json", "summary.json"
CONFIG, RECIPE = "config.yaml", "recipe.yaml"


@contextlib.contextmanager
def only_run(run_dir: Path) -> Iterator[None]:
    """This process (and the ranks it starts) is the only one that trains in `run_dir` while the block runs."""
    with locked(run_dir, f"--run_dir {run_dir}: another distill trains here; wait, or give another folder"):
        remove_leftovers(run_dir)
        yield


def begin(run_dir: Path, config: DistillConfig, recipe: Recipe, data: CacheData) -> None:
    """The run's identity and configuration are in its folder; IdentityMismatch when another run is there already."""
    decisive = {name: value for name, value in as_values(recipe).items() if name not in ("views", "min_steps")}
    training, num_views = data.training, data.training.num_views
    validation = data.validation_identity()
    run = structs.asdict(Run(decisive, training.identity(), training.weights, validation, sole(num_views)))
    if (former := former_run(run_dir)) is not None:
        if diff := "; ".join(differences(structs.asdict(former), run)).replace("the cache has", "the run has"):
            raise IdentityMismatch(f"--run_dir {run_dir} holds another run: {diff}; give another --run_dir")
        return
    # an attempt that was killed in here leaves these; run.json is written last
    if any(path.name not in (LOCK, CONFIG, RECIPE) for path in run_dir.iterdir()):
        raise BadInput(f"--run_dir {run_dir}: is not empty and holds no run; give another folder")
    write_atomically(run_dir / RECIPE, as_yaml(as_values(recipe) | {"views": max(num_views)}))
    given = {**asdict(config), "recipe": str(run_dir / RECIPE), "run_dir": str(run_dir)}
    write_atomically(run_dir / CONFIG, as_yaml(given))
    write_atomically(run_dir / RUN, json.dumps(run, indent=1).encode())


def former_run(run_dir: Path) -> Run | None:
    """The run that began in `run_dir`; None where none did."""
    return read_run(run_dir / RUN) if (run_dir / RUN).exists() else None


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
