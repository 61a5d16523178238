"""Synthetic: photos, caches and weights that cost what real ones cost to read, decode and compute with."""

import contextlib
import glob
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save, save_file
from torch import nn
from torch.nn import functional as F

from benchmarks.dense import settings_for, write_data2vec2
from extract.config import ExtractConfig
from extract.manifests import finish_targets, finish_views
from extract.modalities import default_input, view_maker
from extract.modalities.base import ViewRequest
from extract.networks import build_network
from extract.plan_targets import TargetSetJob, plan_targets
from extract.plan_views import ViewSetJob, plan_views, stored_views
from extract.store import array_specs, begin_targets, begin_views, commit_targets
from extract.teachers.base import Teacher
from extract.views import ViewShard, commit_shard
from shards import tar
from shards.commit import write_atomically
from shards.documents import Plan
from shards.errors import BadInput
from shards.identity import sha256_of
from shards.layout import CALIBRATION, tar_path, viewset_name

ROWS = {"dense": (197, 768), "layer_mean": (197, 768), "logits": (1000,), "cls": (768,)}
"""One sample's shape of the targets that the figures are about."""


def write_photos(folder: Path, count: int, width: int, height: int, pattern: str | None = None) -> str:
    """`--data` for `count` JPEG files: those of `pattern` in turn, or 256 photos of noise with a photo's spectrum."""
    (folder / "photos").mkdir(parents=True)
    found = [Path(path).resolve() for path in sorted(glob.glob(pattern))] if pattern else []  # noqa: PTH207
    if pattern and not found:
        raise BadInput(f"--images {pattern}: no file fits; give a pattern of JPEG files in quotes")
    generator = torch.Generator().manual_seed(0)
    for number in range(0 if found else min(count, 256)):
        found.append(folder / f"{number}.jpg")
        Image.fromarray(_photo(width, height, generator)).save(found[-1], quality=92)
    for number in range(count):
        (folder / "photos" / f"photo-{number:06d}.jpg").symlink_to(found[number % len(found)])
    return f"folder:{folder / 'photos'}"


def _photo(width: int, height: int, generator: torch.Generator) -> np.ndarray:
    """Octaves that fade with frequency as those of natural images do, and a sensor's noise.

    500 x 375 pixels are 74 kB at quality 92, and a 224-pixel crop is 20 kB at quality 95, as of real photos.
    """
    image = 0.2 * torch.randn(1, 1, height, width, generator=generator).repeat(1, 3, 1, 1)
    size = 4
    while size <= max(width, height):
        grey = torch.randn(1, 1, size, size, generator=generator)
        colour = torch.randn(1, 3, size, size, generator=generator)
        octave = F.interpolate(grey + 0.3 * colour, (height, width), mode="bicubic", align_corners=False)
        image += octave * (4 / size)
        size *= 2
    return (image[0] * 40 + 128).clamp(0, 255).byte().permute(1, 2, 0).numpy()


def extract(*flags: object) -> None:
    """`python -m extract FLAGS`, without its words."""
    from extract.__main__ import main

    with contextlib.redirect_stdout(io.StringIO()):
        main([str(flag) for flag in flags])


def views_of(cache: Path, data: str, view: str, num_views: int = 1) -> ViewSetJob:
    """The views of `data` in `cache`, made if they are not there."""
    flags: dict[str, Any] = {"teacher": "none", "out": str(cache), "data": data, "view": view, "views": num_views}
    extract(*(word for name, value in flags.items() for word in (f"--{name}", value)))
    return plan_views(stored_views(ExtractConfig(**flags)), None)


def bare_views(folder: Path, num_samples: int) -> ViewSetJob:
    """A view set that has no tars, for benchmarks that read targets alone."""
    maker = view_maker(ViewRequest("resize", None, None, False, None, None))
    plan = Plan([f"sample-{number}" for number in range(num_samples)], 512, maker.describe(), None, {})
    return ViewSetJob(folder, plan, 1, 1, None, maker)


def write_many_views(cache: Path, num_samples: int, shard_size: int, image_size: int) -> ViewSetJob:
    """A whole view set of one photo under many keys, for benchmarks of what grows with the number of samples."""
    keys = [f"n{number // 1300:08d}/photo-{number:08d}" for number in range(num_samples)]
    maker = view_maker(ViewRequest(f"resize:size={image_size}", None, None, False, None, None))
    identity = {"format": 1, "source": "synthetic", "revision": "1", "split": "train", **maker.describe()}
    identity |= {"keys": sha256_of("\n".join(keys).encode()), "num_samples": num_samples}
    request = {"data": "synthetic", "data_dir": None, "limit": None, "split": "train"}
    plan = Plan(keys, shard_size, identity, [f"class {number}" for number in range(1000)], request)
    job = ViewSetJob(cache / viewset_name("synthetic", "train", identity), plan, 1, 1, None, maker)
    begin_views(job, b"teacher: none\n")
    photo = np.ascontiguousarray(_photo(image_size, image_size, torch.Generator().manual_seed(0)))
    content = maker.codec.encode({"pixels": photo})
    for shard in range(plan.num_shards):
        shard_keys = [keys[row] for row in plan.rows(shard)]
        made = ViewShard(0, shard, shard_keys, {})
        cropped = {"crop": [0, 0, 500, 375], "size": [500, 375], "flip": False}
        facts = [{"key": key, "view": 0, **cropped} for key in shard_keys]
        described = [content | {"cls": b"3", "json": json.dumps(fact).encode()} for fact in facts]
        packed, made.members = tar.pack(zip(shard_keys, described, strict=True))
        made.files = {tar_path(0, shard): packed}
        commit_shard(job, made)
    finish_views(job)
    return job


def write_targets(views: ViewSetJob, target: str, codec: str) -> tuple[Path, dict[str, np.ndarray]]:
    """A target set of random rows, as `extract` would write it; its folder, and all its stored rows by array."""
    row_shape = ROWS[target]
    job = target_job(views, target, row_shape, codec)
    generator = np.random.default_rng(0)
    begin_targets(job, views, b"")
    if job.codec.has_statistics:
        calibrated = job.codec.calibrate(torch.from_numpy(generator.standard_normal((8, *row_shape), np.float32)))
        write_atomically(job.folder / CALIBRATION, save(calibrated.state()))
        job = replace(job, codec=calibrated)
    stored: dict[str, list[np.ndarray]] = {spec.name: [] for spec in array_specs(job, views)}
    for shard in range(views.plan.num_shards):
        rows = generator.standard_normal((len(views.plan.rows(shard)), *row_shape), np.float32)
        encoded = {name: values.numpy() for name, values in job.codec.encode(torch.from_numpy(rows)).items()}
        commit_targets(job, views, 0, shard, encoded, {})
        for name, values in encoded.items():
            stored[name].append(values)
    finish_targets(job, views, "random")
    return job.folder, {name: np.concatenate(values) for name, values in stored.items()}


def target_job(views: ViewSetJob, target: str, row_shape: tuple[int, ...], codec: str) -> TargetSetJob:
    """A target set over `views`, as `extract` would plan it; nothing is written."""
    inputs = default_input(views.maker.codec)
    teacher = Teacher("random", "random", "0" * 64, inputs, {target: row_shape}, nn.Identity(), None)
    config = ExtractConfig(teacher="random", out=str(views.folder.parent), target=target, codec=codec)
    return plan_targets(config, views, teacher)[0]


def write_weights(architecture: str, folder: Path, image_size: int) -> Path:
    """Seeded random weights of a torchvision network as safetensors, or of data2vec2: as fast as trained ones."""
    if architecture == "data2vec2":
        return write_data2vec2(folder / "data2vec2.pt", settings_for(image_size))
    torch.manual_seed(0)
    path = folder / f"{architecture}.safetensors"
    network = build_network(architecture, 1000)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.weight, 0.5)  # untrained, 101 layers would leave float16's range
    save_file(network.state_dict(), path)
    return path


def operations(work: Callable[[], Any]) -> float:
    """Floating-point operations of what `work` computes."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())
