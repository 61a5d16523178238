"""Endurance's work: what its commands make, and the same made once without a disturbance.

Each work is an extraction of two target sets or one, a growth by views, a run with checkpoints, and its evaluation.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from caches import contents, write_teacher
from texts import write_corpus, write_encoder

RECIPE = {"lr": 0.01, "batch_size": 16, "checkpoint_every": 5, "validation_fraction": 0.1}
IN_RUN = ("student.safetensors", "student.json", "checkpoints/best.safetensors")
"""Files of a run that are the same to the bit, however often it was cut off."""


@dataclass(frozen=True)
class Work:
    """What one cycle makes."""

    name: str
    extraction: tuple[str, ...]
    views: tuple[int, int]
    """At first, and after its growth."""
    recipe: Path
    learns: str
    """The target set that the student learns, as --targets takes it."""
    tasks: str
    ranks: int = 1
    """Processes that train, at most: to start them takes most of the time."""

    def extract(self, out: object, views: int, *more: str) -> list[str]:
        """The words of the extraction of so many views."""
        return ["extract", *self.extraction, "--views", str(views), "--out", str(out), *more]

    def distill(self, shards: object, run: Path, *more: str) -> list[str]:
        """The words of the training in `run`."""
        words = ["distill", "--shards", str(shards), "--targets", self.learns, "--recipe", str(self.recipe)]
        return [*words, "--run_dir", str(run), *more]

    def evaluate(self, run: Path) -> list[str]:
        """The words of the run's evaluation."""
        return ["evaluate", "--run", str(run), "--task", self.tasks, "--split", "train"]


@dataclass(frozen=True)
class Made:
    """What undisturbed commands made of a work."""

    cache: dict[str, bytes]
    run: dict[int, dict[str, bytes]]
    """By the number of processes that trained."""
    measured: dict[int, dict[str, Any]]
    files: frozenset[str]
    """All that a run's folder holds."""


def works(root: Path) -> list[Work]:
    """The works, whose teachers, corpus and recipes lie in `root`."""
    teacher = f"run:{write_teacher(root / 'teacher', width=8)}"
    encoder, corpus = write_encoder(root / "encoder"), write_corpus(root / "lines", 200)
    image = {"student": "convnet:width=8,depth=2", "objective": "kl", "epochs": 10}
    text = {"student": "encoder:depth=2", "init": "teacher", "objective": "mse", "epochs": 8, "precision": "float32"}
    recipes = {"image": RECIPE | image, "text": RECIPE | text | {"fits": {"modality": "text"}}}
    for name, recipe in recipes.items():
        (root / f"{name}.yaml").write_text(yaml.safe_dump(recipe))
    digits = ("--teacher", teacher, "--data", "digits", "--limit", "240", "--shard_size", "16")
    both = ("--target", "logits,pooled", "--codec", "topk:3,int8")
    lines = ("--teacher", f"hf:{encoder}", "--data", f"text:{corpus}", "--shard_size", "16")
    of_lines = (
        "--view",
        "blocks:size=12,pack=none,mask=0.2",
        "--target",
        "layer_mean,pooled",
        "--codec",
        "int8,float16",
    )
    logits, crops = ("logits", "accuracy,fidelity"), ("--view", "crop:size=16,store=source,source_size=32")
    return [
        Work("pixels", (*digits, "--view", "size=16", *both), (1, 3), root / "image.yaml", *logits, ranks=2),
        Work("crops", (*digits, *crops, *both), (2, 5), root / "image.yaml", *logits),
        Work("texts", (*lines, *of_lines), (1, 2), root / "text.yaml", "layer_mean", "fidelity"),
    ]


def make(work: Work, root: Path, run: Callable[[Sequence[str]], None]) -> Made:
    """What the work comes to where nothing disturbs it; `run` runs the words of a command to its end."""
    cache = root / work.name / "cache"
    for views in work.views:
        run(work.extract(cache, views, "--devices", "cpu"))
    runs, measured = {}, {}
    for devices in (1, 2)[: work.ranks]:
        folder = root / work.name / f"run-{devices}"
        run(work.distill(cache, folder, "--devices", "cpu" if devices == 1 else "2"))
        run(work.evaluate(folder))
        runs[devices], measured[devices] = of_run(folder), measurements(folder)
    return Made(contents(cache), runs, measured, frozenset(names(folder)))


def of_run(folder: Path) -> dict[str, bytes]:
    """The files of a run that must be the same."""
    return {name: (folder / name).read_bytes() for name in IN_RUN}


def measurements(folder: Path) -> dict[str, Any]:
    """What an evaluation measured, without the time that it took."""
    document = json.loads((folder / "evaluation.json").read_bytes())
    return {name: value for name, value in flat(document) if "seconds" not in name and "samples_s" not in name}


def flat(document: Any, prefix: str = "") -> Iterable[tuple[str, Any]]:
    """The leaves of a JSON document by their places."""
    if isinstance(document, dict):
        for name, value in document.items():
            yield from flat(value, f"{prefix}/{name}")
    else:
        yield prefix, document


def names(folder: Path) -> set[str]:
    """The files under a run's folder; each of its attempts has a folder of logs."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {"logs" if path.parts[0] == "logs" else path.as_posix() for path in paths}
