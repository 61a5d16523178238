"""Against the teacher in the loop: what a cache saves, and after how many epochs its extraction has paid for itself.

Compared: the same student on the same views in the same order, (a) from the cache and (b) with full-size JPEGs decoded
and augmented by threads in every epoch and a teacher's forward in every step, as the thesis trained.
Limit: with data that costs nothing (b) / (a) is (teacher forward + student forward and backward) / (student forward and
backward), both measured here on batches in memory; decoding and cropping in (b) can only add to it.
"""

import argparse
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice, repeat
from pathlib import Path

import numpy as np
import torch

from benchmarks.extracting import extraction_contender, extraction_of
from benchmarks.live import LiveDistillation
from benchmarks.materials import as_flags
from benchmarks.materials import material as material_of
from benchmarks.measure import (
    Figure,
    Report,
    Sizes,
    Spread,
    alternate,
    per_unit,
    run,
    settings_here,
    share,
    the_device,
)
from benchmarks.steps import cache_batches, held_batch, open_cache
from benchmarks.synthetic import extract, operations
from distill.data import CacheData
from distill.memory import stepper
from distill.recipe import Recipe
from distill.run import build_module
from extract.config import ExtractConfig
from extract.pipeline import forward
from extract.plan_views import ViewSetJob
from extract.teachers.base import Teacher
from shards.command.devices import share_of_cores
from shards.loader import Batch
from shards.order import Reading
from shards.views.base import Row

STUDENT, TEACHER = "student alone, data in memory", "teacher alone, data in memory"
AHEAD = 2
"""Batches that threads prepare while a step runs."""
RESNETS = {"teacher": "resnet101", "student": "resnet50", "recipe": "resnet50-from-resnet101", "codec": "float16"}
DATA2VEC2 = {"teacher": "data2vec2", "student": "data2vec2:depth=6", "recipe": "distil-data2vec2", "codec": "int8"}
ON_CPU = {"image_size": 224, "steps": 4, "batch_size": 8, "precision": "float32"}
ON_GPU = {"image_size": 224, "steps": 30, "batch_size": 256, "precision": "bfloat16"}
QUICK = {"image_size": 64, "steps": 2, "batch_size": 4, "precision": "float32", "encoder": "tiny"}
PAIRS = {"data": "pairs", "encoder": "minilm", "teacher": "resnet50", "recipe": "transformer-shre", "codec": "float16"}
PAIRS |= {"student": "pair:resnet18+encoder:depth=6,width=384,tokenizer=ENCODER+mlp", "init": "random"}
TINY_PAIR = "pair:convnet:width=4+encoder:depth=1,width=32,heads=2,tokenizer=ENCODER+mlp:width=32"
CASES: dict[str, Sizes] = {
    "resnet50": {
        "cpu": RESNETS | ON_CPU,
        "cuda": RESNETS | ON_GPU,
        "quick": RESNETS | {"teacher": "resnet18", "student": "resnet18"} | QUICK,
    },
    "data2vec2": {
        "cpu": DATA2VEC2 | ON_CPU,
        "cuda": DATA2VEC2 | ON_GPU,
        "quick": DATA2VEC2 | {"student": "data2vec2:depth=1"} | QUICK,
    },
    "transformer-shre": {
        "cpu": PAIRS | ON_CPU,
        "cuda": PAIRS | ON_GPU,
        "quick": PAIRS | QUICK | {"teacher": "resnet18", "student": TINY_PAIR},
    },
}


def measure(options: argparse.Namespace, folder: Path) -> Report:
    """At 224 pixels, in float32 on a CPU and in bfloat16 on a GPU: a network, the first 6 of 12 blocks, or a pair."""
    settings, device = settings_here(CASES[options.case], options), the_device()
    steps, batch_size = settings["steps"], settings["batch_size"]
    material = material_of(settings, folder, (steps + 1 + AHEAD) * batch_size)
    flags = material.flags | {name: settings[name] for name in ("batch_size", "precision", "codec")}
    flags |= {"shard_size": 2 * batch_size}
    extract(*as_flags(flags | {"out": folder / "cache"}))
    changes = {name: settings[name] for name in ("recipe", "batch_size", "precision", "init") if name in settings}
    recipe, cache = open_cache(folder / "cache", epochs=1, student=material.spec(settings["student"]), **changes)
    teacher = material.load_teacher()
    teacher.network.to(device)
    again = ExtractConfig(out=str(folder / "again"), **flags)
    contenders = _contenders(recipe, cache, teacher, again, steps, device)
    seconds = alternate(contenders, options.rounds)
    alone, taught, cached, live, extraction = seconds.values()
    report = Report("how much faster are steps from the cache than with the teacher in the loop?", "steps", settings)
    report.add_rates(seconds)
    bound = Spread.of((one + other) / one for one, other in zip(alone, taught, strict=True))
    step, taught_step = (operations(contenders[name]) / steps / batch_size / 1e9 for name in (STUDENT, TEACHER))
    limit = f"(teacher + student) / student = {bound}; by operations ({taught_step:.1f} + {step:.1f}) / {step:.1f}"
    report.figures.append(Figure("from the cache over teacher in the loop", limit, share(live, cached), bound.median))
    paid = Spread.of(e / (slow - fast) for e, fast, slow in zip(extraction, cached, live, strict=True))
    saved = "extraction of one view / (an epoch with the teacher - an epoch from the cache)"
    report.figures.append(Figure("epochs after which the extraction has paid for itself", saved, paid))
    return report


def _contenders(
    recipe: Recipe, cache: CacheData, teacher: Teacher, again: ExtractConfig, steps: int, device: torch.device
) -> dict[str, Callable[[], float]]:
    """Seconds a step; the two that train from files make one step more, in which threads start and buffers fill."""
    from_cache = stepper(build_module(cache, recipe), device)
    in_the_loop = stepper(build_module(cache, recipe, partial(LiveDistillation, teachers=[teacher])), device)
    batch, views = held_batch(cache, device), extraction_of(again, teacher, device).views
    asked = teacher.only([targetset.manifest.target for targetset in cache.training.targetsets])

    def teach() -> None:
        for _ in range(steps):
            forward(asked, batch.fields, device, recipe.precision)

    def fed(take: Callable[[Iterable[Batch]], None], feed: Callable[[], Iterator[Batch]]) -> Callable[[], float]:
        def timed() -> float:
            batches = feed()
            take(islice(batches, 1))
            return per_unit(lambda: take(islice(batches, steps)), steps, device)()

        return timed

    a_sample = extraction_contender(again, teacher, len(views.plan.keys), device, "*")
    return {
        STUDENT: per_unit(lambda: from_cache(repeat(batch, steps)), steps, device),
        TEACHER: per_unit(teach, steps, device),
        "student from the cache": fed(from_cache, lambda: cache_batches(cache, device)),
        "student with the teacher in the loop": fed(in_the_loop, lambda: full_size_batches(views, cache, device)),
        "extraction of a batch": lambda: a_sample() * recipe.batch_size,
    }


def full_size_batches(views: ViewSetJob, cache: CacheData, device: torch.device) -> Iterator[Batch]:
    """The batches of the cache made anew from the source: decoded at full size, cropped and resized by threads.

    Of pairs a caption is tokenised by them too.
    """
    source, maker, codec = views.source, views.maker, cache.training.viewset.codec
    captions = getattr(codec, "captions", None)
    assert source is not None

    def make(view: int, index: int) -> Row:
        row, facts = maker.make(source.read(index), view)
        if captions is not None:
            read = {name: np.zeros(shape, dtype) for name, (dtype, shape) in captions.fields.items()}
            captions.fill(facts["captions"], read, index)
            row |= read
        return row

    def ready(reading: Reading, tasks: list[Future[Row]]) -> Batch:
        rows = [task.result() for task in tasks]
        fields = {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]}
        if device.type == "cuda":
            fields = {name: values.pin_memory() for name, values in fields.items()}
        return Batch([reading], fields, None, {}).to(device)

    pending: deque[tuple[Reading, list[Future[Row]]]] = deque()
    with ThreadPoolExecutor(share_of_cores()) as pool:
        for (reading,) in (part.readings for part in cache.training_batches().readings()):
            tasks = [pool.submit(make, reading.view, index) for index in reading.samples.tolist()]
            pending.append((reading, tasks))
            if len(pending) > AHEAD:
                yield ready(*pending.popleft())
        while pending:
            yield ready(*pending.popleft())


if __name__ == "__main__":
    run(measure, "teacher_in_the_loop", with_images=True, cases=list(CASES))
