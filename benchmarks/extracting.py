"""Extracting: the whole pipeline of `extract` against the bare forward of a warm teacher on tensors in memory.

Compared: source -> views -> teacher -> target -> encoded rows -> committed shards, for the first teacher of a cache
(views are drawn from full-size JPEGs, encoded and stored) and for a further one (views are read back), with the same
batch. A dense teacher's bare forward is its blocks alone, without the target.
Limit: the teacher's operations over the rate at which the bare forward does them.
"""

import argparse
import shutil
from collections.abc import Callable
from pathlib import Path

import torch

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
from benchmarks.synthetic import operations, write_photos, write_weights
from extract.calibrate import calibrated
from extract.config import ExtractConfig
from extract.launch import device_of
from extract.pipeline import Extraction
from extract.plan_targets import Part, plan_targets
from extract.plan_views import plan_views, stored_views
from extract.store import begin_targets, begin_views
from extract.teachers import load_teacher
from extract.teachers.base import Teacher
from shards.command.devices import share_of_cores

GOAL_ON_CPU = 0.9
RESNET101 = {"teacher": "resnet101", "image_size": 224, "codec": "float16"}
DATA2VEC2 = {"teacher": "data2vec2", "image_size": 224, "target": "layer_mean", "codec": "int8"}
ON_GPU = {"samples": 16384, "batch_size": 256, "shard_size": 512, "precision": "bfloat16"}
QUICK = {"image_size": 32, "samples": 16, "batch_size": 4, "shard_size": 8}
CASES: dict[str, Sizes] = {
    "resnet101": {
        "cpu": RESNET101 | {"samples": 128, "batch_size": 16, "shard_size": 128, "precision": "float32"},
        "cuda": RESNET101 | ON_GPU,
        "quick": RESNET101 | QUICK | {"teacher": "resnet18"},
    },
    "data2vec2": {
        "cpu": DATA2VEC2 | {"samples": 48, "batch_size": 8, "shard_size": 48, "precision": "float32"},
        "cuda": DATA2VEC2 | ON_GPU,
        "quick": DATA2VEC2 | QUICK,
    },
}


def measure(options: argparse.Namespace, folder: Path) -> Report:
    """At 224 pixels, in float32 on a CPU and in bfloat16 on a GPU: logits in float16, or layer means in int8."""
    settings = settings_here(CASES[options.case], options)
    device = device_of(the_device().type, 0)
    num_samples, name, image_size = settings["samples"], settings["teacher"], settings["image_size"]
    weights = str(write_weights(name, folder, image_size))
    teacher = load_teacher(name, weights, image_size)
    teacher.network.to(device)
    flags = {field: value for field, value in settings.items() if field not in ("samples", "threads", "images")}
    flags["view"] = f"size={flags.pop('image_size')}"
    flags["data"] = write_photos(folder / "photos", num_samples, 500, 375, options.images)
    first, further = (ExtractConfig(out=str(folder / out), **flags) for out in ("first", "further"))
    extraction_of(further, teacher, device).run()
    contenders = {
        "bare forward": per_unit(_bare(teacher, first, num_samples, device), num_samples, device),
        "extract, first teacher": extraction_contender(first, teacher, num_samples, device, "*"),
        "extract, further teacher": extraction_contender(further, teacher, num_samples, device, "*/targets"),
    }
    seconds = alternate(contenders, options.rounds)
    report = Report("how fast is extract, as a share of the bare teacher?", "samples", settings)
    report.add_rates(seconds)
    work = operations(name, image_size) / 1e9
    limit = f"{work:,.1f} GFLOP a sample over {work * report.rates['bare forward'].median:,.0f} GFLOP/s"
    goals = {"extract, first teacher": GOAL_ON_CPU if device.type == "cpu" else None, "extract, further teacher": None}
    for contender, goal in goals.items():
        ratio = share(seconds["bare forward"], seconds[contender])
        report.figures.append(Figure(f"{contender} over bare forward", limit, ratio, goal))
    return report


def extraction_of(config: ExtractConfig, teacher: Teacher, device: torch.device) -> Extraction:
    """The pipeline of `extract` for a teacher that is loaded already; its `run` commits every shard that is missing.

    Channel statistics are taken here: they cost 256 forwards at most, whatever the number of samples.
    """
    stored = stored_views(config)
    views = plan_views(stored, teacher.inputs)
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


def _bare(teacher: Teacher, config: ExtractConfig, num_samples: int, device: torch.device) -> Callable[[], None]:
    shape = teacher.inputs.example()["pixels"].shape[1:]
    pixels = torch.randint(0, 256, (config.batch_size, *shape), dtype=torch.uint8)
    images = teacher.inputs.prepare({"pixels": pixels})["images"].to(device)
    network = getattr(teacher.network, "network", teacher.network)  # of a dense teacher the blocks, and no target

    @torch.inference_mode()
    def work() -> None:
        torch.set_num_threads(share_of_cores())  # as a user would run it; extract gives each batch one thread
        enabled = config.precision != "float32"
        with torch.autocast(device.type, getattr(torch, config.precision), enabled=enabled):
            for _ in range(num_samples // config.batch_size):
                network(images)

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
