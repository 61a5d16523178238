"""A run that is measured beside its teacher, and was on fewer samples before: what evaluate writes."""

import json
from itertools import product
from pathlib import Path
from posixpath import basename

import numpy as np
from caches import IMAGE_SIZE, command, write_teacher
from PIL import Image
from small_caches import shelf, without_drafts

from evaluate.runs import flags_path, measured_on
from shards.errors import BadInput
from shards.runs import EVALUATION, read_evaluation

BEFORE, NOW = 6, 8
"""Samples."""


def images() -> str:
    """Eight in two classes, to learn from and to measure on."""
    root = shelf() / "images"
    if not root.exists():
        draw = np.random.default_rng(0)
        for split, number in product(("train", "validation"), range(NOW)):
            path = root / split / str(number % 2) / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw.integers(0, 256, (IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)).save(path)
    return f"folder:{root}"


def measure(place: Path, limit: int, *flags: str | Path) -> None:
    """`python -m evaluate`; BadInput where it refuses."""
    always = ("--run", place / "run", "--data", images(), "--limit", str(limit), "--device", "cpu,threads=1")
    done = command("evaluate", *always, *flags)
    if done.status == 2:
        raise BadInput(done.err)
    done.succeeds()


def measured_before(place: Path) -> None:
    run = write_teacher(place / "run")
    (run / "config.yaml").write_text("seed: 0\n")
    (run / "summary.json").write_text('{"student": "convnet"}')
    measure(place, BEFORE, "--task", "accuracy")


def measures(place: Path) -> None:
    """Three tasks of the student and of its teacher, both of which are fine-tuned for six epochs."""
    teacher = shelf() / "teacher"
    if not teacher.exists():
        write_teacher(teacher, seed=1, width=3)
    flags = ("--task", "accuracy,linear,finetune", "--epochs", "6", "--batch_size", str(NOW))
    measure(place, NOW, *flags, "--teacher", f"run:{teacher}")


def measured_so_far(place: Path) -> None:
    """The result of before is there, and so are the flags that give it again, under its present key or its next one."""
    records = read_evaluation(place / "run")
    ((key, record),) = [each for each in records.items() if each[1]["num_samples"] == BEFORE]
    keys = {key, f"accuracy on {measured_on(record)}"}
    flags = [path.read_text() for path in (flags_path(place / "run", each) for each in keys) if path.exists()]
    assert any(f"limit: {BEFORE}\n" in each for each in flags)
    for folder in place.glob("teacher-*"):
        if (folder / "teacher.json").exists():
            read_evaluation(folder)


def is_of_evaluation(name: str) -> bool:
    name = basename(name)
    return name in (EVALUATION, "checkpoint.pt", "teacher.json") or name.startswith("evaluate-")


def kept_of_evaluation(place: Path) -> dict[str, bytes]:
    """All files, without what differs from one time to another: seconds, and where the run lies."""
    kept = without_drafts(place)
    for name, content in kept.items():
        if basename(name) == EVALUATION:
            records = {task: record | {"seconds": 0} for task, record in json.loads(content).items()}
            kept[name] = json.dumps(records).encode()
        elif name.endswith(".yaml"):
            kept[name] = content.partition(b"\n")[2]  # run: ...
    return kept
