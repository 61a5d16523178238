"""Codebooks: `extract` and `distill` with a codebook codec against the same with int8, end to end.

Compared: a teacher on stored views, its targets encoded and committed (channel statistics and codebooks were taken
before: they cost the same whatever the number of samples), and training steps from the cache as `benchmarks.distilling`
makes them. The smaller the teacher and the student, the more a codec weighs: MiniLM is the smallest here.
Limit: int8 in the same run, whose arithmetic a number is a subtraction, a division and a rounding.
"""

import argparse
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.distilling import DATA2VEC2 as DENSE_STUDENT
from benchmarks.distilling import TEXT as TEXT_STUDENT
from benchmarks.distilling import prepared, training
from benchmarks.extracting import DATA2VEC2 as DENSE_TEACHER
from benchmarks.extracting import TEXT as TEXT_TEACHER
from benchmarks.extracting import extraction_of
from benchmarks.materials import material as material_of
from benchmarks.measure import Figure, Report, Sizes, alternate, per_unit, run, settings_here, share, the_device
from benchmarks.steps import open_cache
from extract.committing import remove_uncommitted
from extract.config import ExtractConfig
from extract.processes import device_of

GOAL = 0.8
"""Of pq: rq encodes B stages over the whole width, B times pq's work, and has none."""
BASE, QUICK_CODECS = "int8", ("pq:8,centroids=16", "rq:2,centroids=16")
ON_CPU, ON_GPU = {"precision": "float32"}, {"precision": "bfloat16", "batch_size": 256}
QUICK = {"precision": "float32", "encoder": "tiny", "codecs": QUICK_CODECS, "batch_size": 4, "shard_size": 8}
QUICK |= {"tokens": 16, "image_size": 56, "samples": 16, "steps": 2}
TEXT = {"codecs": ("pq:192", "pq:96", "pq:96,rotation=pca", "rq:32", "rq:96"), "encoder": "minilm"}
DENSE = {"codecs": ("pq:96",), "image_size": 224}
CASES: dict[str, Sizes] = {
    "extract-minilm": {
        "cpu": TEXT_TEACHER | TEXT | ON_CPU | {"samples": 64, "batch_size": 16, "shard_size": 64},
        "cuda": TEXT_TEACHER | TEXT | ON_GPU | {"samples": 16384, "shard_size": 512},
        "quick": TEXT_TEACHER | TEXT | QUICK,
    },
    "extract-data2vec2": {
        "cpu": DENSE_TEACHER | DENSE | ON_CPU | {"samples": 24, "batch_size": 8, "shard_size": 24},
        "cuda": DENSE_TEACHER | DENSE | ON_GPU | {"samples": 4096, "shard_size": 512},
        "quick": DENSE_TEACHER | DENSE | QUICK,
    },
    "distill-minilm": {
        "cpu": TEXT_STUDENT | TEXT | ON_CPU | {"steps": 4, "batch_size": 16},
        "cuda": TEXT_STUDENT | TEXT | ON_GPU | {"steps": 100},
        "quick": TEXT_STUDENT | {"student": "encoder:depth=1"} | TEXT | QUICK,
    },
    "distill-data2vec2": {
        "cpu": DENSE_STUDENT | DENSE | ON_CPU | {"steps": 2, "batch_size": 8},
        "cuda": DENSE_STUDENT | DENSE | ON_GPU | {"steps": 100},
        "quick": DENSE_STUDENT | {"student": "data2vec2:depth=1"} | DENSE | QUICK,
    },
}


def measure(options: argparse.Namespace, folder: Path) -> Report:
    """Layer means in int8 and in codes, in float32 on a CPU and in bfloat16 on a GPU."""
    settings, device = settings_here(CASES[options.case], options), the_device()
    command = options.case.partition("-")[0]
    codecs = (BASE, *settings["codecs"])
    contenders = (_extracting if command == "extract" else _distilling)(settings, folder, codecs, device)
    seconds = alternate(contenders, options.rounds)
    unit = "samples" if command == "extract" else "steps"
    report = Report(f"what do codebooks cost in {command}, as against int8?", unit, settings)
    report.add_rates(seconds)
    for codec in settings["codecs"]:
        ratio = share(seconds[BASE], seconds[codec])
        goal = GOAL if codec.startswith("pq") else None
        report.figures.append(Figure(f"{codec} over {BASE}", f"{command} with {BASE}", ratio, goal))
    return report


def _extracting(
    settings: dict[str, Any], folder: Path, codecs: tuple[str, ...], device: torch.device
) -> dict[str, Callable[[], float]]:
    """For each codec an extraction of the same stored views."""
    device = device_of(device.type, 0)
    material = material_of(settings, folder, settings["samples"])
    teacher = material.load_teacher()
    teacher.network.to(device)
    flags = material.flags | {name: settings[name] for name in ("batch_size", "shard_size", "precision", "target")}

    def contender(codec: str) -> Callable[[], float]:
        extraction = extraction_of(ExtractConfig(out=str(folder / "cache"), **flags, codec=codec), teacher, device)
        views, (job,) = extraction.views, extraction.parts[0].targets
        extraction.run()

        def timed() -> float:
            shutil.rmtree(job.folder / "commits")
            remove_uncommitted(job.folder)
            return per_unit(extraction.run, len(views.plan.keys), device)()

        return timed

    return {codec: contender(codec) for codec in codecs}


def _distilling(
    settings: dict[str, Any], folder: Path, codecs: tuple[str, ...], device: torch.device
) -> dict[str, Callable[[], float]]:
    """For each codec the same training steps, from a cache of its own."""

    def contender(codec: str) -> Callable[[], float]:
        place = folder / str(codecs.index(codec))  # a comma would part two caches
        place.mkdir()
        changes = prepared(settings | {"codec": codec}, place)
        recipe, cache = open_cache(place / "cache", max_steps=settings["steps"] + 1, **changes)
        return training(recipe, cache, place / "run", settings["steps"], device)

    return {codec: contender(codec) for codec in codecs}


if __name__ == "__main__":
    run(measure, "codebooks", with_images=True, cases=list(CASES))
