"""Overlap: a whole extraction, whose views, teacher and writer sleep instead of working, over its slowest stage alone.

Each is the slowest in turn, and the others take less than half as long. A shard has three batches, which two threads
that compute share, so that a pipeline which waits at the end of each shard has one of them idle.
Limit: the seconds that the slowest stage sleeps in all, with as many threads as it has.
"""

import argparse
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.measure import Figure, Report, alternate, run, share
from extract import store
from extract.config import ExtractConfig
from extract.modalities.image import ImageInput
from extract.pipeline import Extraction
from extract.plan_targets import Part, plan_targets
from extract.plan_views import plan_views, stored_views
from extract.store import begin_targets, begin_views
from extract.teachers.base import freeze
from shards.command.devices import share_of_cores

IMAGE_SIZE, BATCH_SIZE, BATCHES_A_SHARD = 16, 8, 3
SHARD_SIZE = BATCH_SIZE * BATCHES_A_SHARD
SIZES = {"shards": 24, "slowest_s": 1.0, "others_s": 0.4}
QUICK_SIZES = {"shards": 4, "slowest_s": 0.04, "others_s": 0.02}
STAGES = ("views", "teacher", "writer")
GOAL = 0.9


@dataclass(frozen=True)
class Sleeping:
    """A part of the pipeline, each of whose calls sleeps before it is what it was."""

    inner: Any
    seconds: float

    def read(self, index: int) -> Any:
        """As a source does."""
        time.sleep(self.seconds)
        return self.inner.read(index)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class Sleeper(nn.Module):
    """Says some of a view's pixels, after a while."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        time.sleep(self.seconds)
        return {"pooled": images[:, :, :4].flatten(1)}


def measure(options: argparse.Namespace, folder: Path) -> Report:
    """An extraction a round into a cache of its own, for each stage that is the slowest."""
    sizes, threads = QUICK_SIZES if options.quick else SIZES, share_of_cores()
    report = Report("do the stages of an extraction overlap?", "shards", sizes | {"threads": threads})
    caches = (folder / f"cache-{number}" for number in range(1_000_000))
    seconds = alternate(
        {slowest: partial(_timed, caches, sizes, slowest, threads) for slowest in STAGES}, options.rounds
    )
    report.add_rates(seconds, "slowest: ")
    alone = [sizes["slowest_s"]] * options.rounds
    for slowest, found in seconds.items():
        ratio = share(alone, found)
        report.figures.append(Figure(f"the whole, slowest: {slowest}", "that stage, which only sleeps", ratio, GOAL))
    return report


def _timed(caches: Any, sizes: dict[str, float], slowest: str, threads: int) -> float:
    """Seconds a shard of an extraction in the next of `caches`."""
    slept = {stage: sizes["slowest_s" if stage == slowest else "others_s"] for stage in STAGES}
    extraction = _extraction(next(caches), int(sizes["shards"]), slept, threads)
    commit = store.commit

    def slow(*arguments: Any) -> None:
        time.sleep(slept["writer"])
        commit(*arguments)

    store.commit = slow  # type: ignore[assignment]  # of the rows; that of the views does not sleep
    try:
        start = time.perf_counter()
        extraction.run()
        return (time.perf_counter() - start) / sizes["shards"]
    finally:
        store.commit = commit


def _extraction(cache: Path, num_shards: int, slept: dict[str, float], threads: int) -> Extraction:
    """The pipeline of `extract`, whose stages take `slept` seconds a shard, with as many threads as each has."""
    inputs = ImageInput(IMAGE_SIZE, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    teacher = freeze("sleep", "sleep", Sleeper(slept["teacher"] * threads / BATCHES_A_SHARD), inputs, None)
    sizes = {"limit": num_shards * SHARD_SIZE, "shard_size": SHARD_SIZE, "batch_size": BATCH_SIZE}
    config = ExtractConfig("sleep", str(cache), data="digits", view=f"size={IMAGE_SIZE}", **sizes)  # type: ignore[arg-type]
    stored = stored_views(config)
    job = plan_views(stored, teacher.inputs)
    targets = plan_targets(stored.config, job, teacher)
    job.folder.mkdir(parents=True)
    begin_views(job, b"")
    for target in targets:
        begin_targets(target, job, b"")
    job = replace(job, source=Sleeping(job.source, slept["views"] * threads / SHARD_SIZE))  # type: ignore[arg-type]
    torch.set_num_threads(1)
    how = (torch.device("cpu"), "float32", BATCH_SIZE, threads, False, threads)
    return Extraction([Part(job, teacher, targets)], *how)


if __name__ == "__main__":
    run(measure, "overlap")
