"""Views that are rendered, read from a bucket: all of them need the same images, so these come again first."""

from pathlib import Path

import caches
import numpy as np
import pytest
from caches import command, write_teacher
from PIL import Image
from s3_server import Server

from shards.bucket_rows import Bound, set_bound

NUM, SIZE, VIEWS, CLASSES = 40, 192, 4, 8192
"""Noise of 192 x 192 is a JPEG of about 50 kB, and a row of 8,192 logits in float32 has 32 kB."""


@pytest.fixture
def cache(s3: Server, home: Path, tmp_path: Path) -> Path:
    """In the bucket, and in the folder that is returned."""
    for number, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (NUM, SIZE, SIZE, 3), np.uint8)):
        path = tmp_path / f"photos/train/{number % 2}/{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    teacher = write_teacher(tmp_path / "teacher", num_classes=CLASSES)
    view = ("--view", f"crop:size=16,store=source,source_size={SIZE}", "--views", str(VIEWS), "--shard_size", "16")
    flags = ("--teacher", f"run:{teacher}", "--codec", "float32", "--devices", "cpu", *view)
    caches.extract("--data", f"folder:{tmp_path}/photos", "--out", tmp_path / "cache", *flags)
    command("shards", "push", tmp_path / "cache", s3.url).succeeds()
    return tmp_path / "cache"


@pytest.mark.slow
def test_images_are_kept_before_rows_of_a_view_that_comes_again_later(cache: Path, s3: Server, tmp_path: Path) -> None:
    """The disk holds the images and a third of a view's logits: in an epoch a view no image is fetched twice."""
    bound = int(sum(path.stat().st_size for path in cache.rglob("*.tar")) * 1.2) + NUM * CLASSES * 4 // 3
    train = ("--student", "convnet:width=4,depth=2", "--batch_size", "4", "--lr", "0.01", "--devices", "cpu")
    flags = ("--shards", s3.url, "--run_dir", tmp_path / "run", "--epochs", str(VIEWS))
    set_bound(Bound())
    s3.faults.fetched.clear()
    command("distill", *flags, *train, "--read", f"local_cache={bound}").succeeds()
    assert sum(count for path, count in s3.faults.fetched.items() if path.endswith(".tar")) <= NUM
