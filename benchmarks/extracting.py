"""Extracting: the whole pipeline of `extract` against the bare forward of a warm teacher on tensors in memory.

Compared: source -> views -> teacher -> target -> encoded rows -> committed shards, for the first teacher of a cache
(views are drawn from full-size JPEGs, encoded and stored, or cut out of a corpus that is tokenised already) and for a
further one (views are read back), with the same batch. A dense teacher's bare forward is its blocks alone, without the
target. A teacher of captions comes second: another one makes the views.
Limit: the teacher's operations over the rate at which the bare forward does them.
"""

import argparse
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from benchmarks.materials import material as material_of
from benchmarks.measure import (
    Figure,
    Report,
    Sizes,
    alternate,
    per_unit,
    run,
    settings_here,
    share,
    the_device,
)
from benchmarks.synthetic import operations
from extract.calibrate import calibrated
from extract.config import ExtractConfig
from extract.pipeline import Extraction
from extract.plan_targets import Part, plan_targets
from extract.plan_views import plan_views, stored_views
from extract.processes import device_of
from extract.store import begin_targets, begin_views
from extract.teachers.base import Teacher
from extract.views import read_shard
from shards.command.devices import share_of_cores

GOAL_ON_CPU = 0.9
RESNET101 = {"teacher": "resnet101", "image_size": 224, "codec": "float16"}
DATA2VEC2 = {"teacher": "data2vec2", "image_size": 224, "target": "layer_mean", "codec": "int8"}
TEXT = {"teacher": "encoder", "data": "texts", "tokens": 128, "target": "layer_mean", "codec": "int8"}
PAIRS = {"data": "pairs", "image_size": 224, "codec": "float16"}
CAPTIONS = PAIRS | {"teacher": "encoder", "encoder": "minilm", "target": "pooled"}
ON_CPU = {"batch_size": 16, "precision": "float32"}
ON_GPU = {"samples": 16384, "batch_size": 256, "shard_size": 512, "precision": "bfloat16"}
QUICK = {"image_size": 32, "samples": 16, "batch_size": 4, "shard_size": 8, "precision": "float32", "encoder": "tiny"}
CASES: dict[str, Sizes] = {
    "resnet101": {
        "cpu": RESNET101 | ON_CPU | {"samples": 128, "shard_size": 128},
        "cuda": RESNET101 | ON_GPU,
        "quick": RESNET101 | QUICK | {"teacher": "resnet18"},
    },
    "data2vec2": {
        "cpu": DATA2VEC2 | ON_CPU | {"samples": 48, "batch_size": 8, "shard_size": 48},
        "cuda": DATA2VEC2 | ON_GPU,
        "quick": DATA2VEC2 | QUICK,
    },
    "minilm": {
        "cpu": TEXT | ON_CPU | {"encoder": "minilm", "samples": 256, "shard_size": 256},
        "cuda": TEXT | ON_GPU | {"encoder": "minilm"},
        "quick": TEXT | QUICK | {"tokens": 16},
    },
    "bert": {
        "cpu": TEXT | ON_CPU | {"encoder": "bert", "samples": 32, "shard_size": 32},
        "cuda": TEXT | ON_GPU | {"encoder": "bert"},
        "quick": TEXT | QUICK | {"tokens": 16},
    },
    "pairs": {
        "cpu": PAIRS | ON_CPU | {"teacher": "resnet101", "encoder": "minilm", "samples": 128, "shard_size": 128},
        "cuda": PAIRS | ON_GPU | {"teacher": "resnet101", "encoder": "minilm"},
        "quick": PAIRS | QUICK | {"teacher": "resnet18"},
    },
    "captions": {
        "cpu": CAPTIONS | ON_CPU | {"samples": 256, "shard_size": 256},
        "cuda": CAPTIONS | ON_GPU,
        "quick": CAPTIONS | QUICK,
    },
}
SECOND = ("captions",)
"""Cases whose teacher comes second: the cost of the views is another's."""


def measure(options: argparse.Namespace, folder: Path) -> Report:
    """In float32 on a CPU and in bfloat16 on a GPU: logits in float16, layer means in int8, or a row a caption."""
    settings = settings_here(CASES[options.case], options)
    device = device_of(the_device().type, 0)
    material = material_of(settings, folder, settings["samples"])
    teacher = material.load_teacher()
    teacher.network.to(device)
    kept = ("batch_size", "shard_size", "precision", "target", "codec")
    flags = material.flags | {name: settings[name] for name in kept if name in settings}
    first, further = (ExtractConfig(out=str(folder / out), **flags) for out in ("first", "further"))
    stored = extraction_of(further, teacher, device)
    stored.run()
    num_samples, bare = len(stored.views.plan.keys), _bare(stored)
    contenders = {
        "bare forward": per_unit(bare, num_samples, device),
        "extract, first teacher": extraction_contender(first, teacher, num_samples, device, "*"),
        "extract, further teacher": extraction_contender(further, teacher, num_samples, device, "*/targets"),
    }
    seconds = alternate(contenders, options.rounds)
    report = Report("how fast is extract, as a share of the bare teacher?", "samples", settings)
    report.add_rates(seconds)
    work = operations(bare) / num_samples / 1e9
    limit = f"{work:,.1f} GFLOP a sample over {work * report.rates['bare forward'].median:,.0f} GFLOP/s"
    judged = "extract, further teacher" if options.case in SECOND else "extract, first teacher"
    for contender in ("extract, first teacher", "extract, further teacher"):
        ratio = share(seconds["bare forward"], seconds[contender])
        goal = GOAL_ON_CPU if device.type == "cpu" and contender == judged else None
        report.figures.append(Figure(f"{contender} over bare forward", limit, ratio, goal))
    return report


def extraction_of(config: ExtractConfig, teacher: Teacher, device: torch.device) -> Extraction:
    """The pipeline of `extract` for a teacher that is loaded already; its `run` commits every shard that is missing.

    Channel statistics are taken here: they cost 256 forwards at most, whatever the number of samples.
    """
    stored = stored_views(config)
    views = plan_views(stored, teacher.inputs)
    assert views.inputs is not None
    teacher = teacher.taking(views.inputs)
    targets = plan_targets(stored.config, views, teacher)
    views.folder.mkdir(parents=True, exist_ok=True)
    begin_views(views, b"")
    for job in targets:
        begin_targets(job, views, b"")
    device_of(device.type, 0)  # sets what extract sets
    threads = share_of_cores()
    sizes = (config.batch_size, threads)
    extraction = Extraction(
        [Part(views, teacher, targets)], device, config.precision, *sizes, False, compute_threads=threads
    )
    return calibrated(extraction)


def _bare(stored: Extraction) -> Callable[[], None]:
    """As many forwards of the teacher as its extraction has, on the first batch of the stored views in memory."""
    (part,), device, size = stored.parts, stored.device, stored.batch_size
    teacher = part.teacher
    assert teacher is not None
    network = getattr(teacher.network, "network", teacher.network)  # of a dense teacher the blocks, and no target
    network = getattr(teacher.network, "encoder", network)  # of a text encoder without the head of a masked LM
    with ThreadPoolExecutor(stored.num_threads) as pool:
        fields = read_shard(part.views, 0, 0, pool).batch(list(range(size)))
    batch = [rows.to(device) for rows in teacher.inputs.prepare(fields).values()]

    @torch.inference_mode()
    def work() -> None:
        torch.set_num_threads(share_of_cores())  # as a user would run it; extract gives each batch one thread
        enabled = stored.precision != "float32"
        with torch.autocast(device.type, getattr(torch, stored.precision), enabled=enabled):
            for _ in range(len(part.views.plan.keys) // size):
                network(*batch)

    return work


def extraction_contender(
    config: ExtractConfig, teacher: Teacher, num_samples: int, device: torch.device, removed: str
) -> Callable[[], float]:
    """A contender that extracts again, after what fits the pattern `removed` was removed from the cache, unmeasured."""

    def timed() -> float:
        for path in Path(config.out).glob(removed):
            shutil.rmtree(path)
        return per_unit(extraction_of(config, teacher, device).run, num_samples, device)()

    return timed


if __name__ == "__main__":
    run(measure, "extracting", with_images=True, cases=list(CASES))
