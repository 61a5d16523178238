"""The digits' path, made once: a cache with a teacher's logits in float32, as its reader finds it."""

from pathlib import Path

import caches
import pytest


@pytest.fixture(scope="session")
def teachers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("teachers")
    return {name: caches.write_teacher(folder / name, seed, 6) for seed, name in enumerate(("one", "two"))}


@pytest.fixture(scope="session")
def shards(teachers: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Never written to by a test: 70 digits, three views, two teachers' float32 logits, and the validation split."""
    cache = tmp_path_factory.mktemp("exact") / "cache"
    machine = ("--out", cache, "--devices", "cpu", "--batch_size", "16")
    size = ("--data", "digits", "--limit", "70", "--shard_size", "32", "--image_size", str(caches.IMAGE_SIZE))
    caches.extract("--teacher", "none", *machine, *size, "--views", "3")
    caches.extract("--teacher", "none", *machine, "--split", "validation", "--limit", "25")
    for folder in teachers.values():
        for split in ("train", "validation"):
            caches.extract("--teacher", f"run:{folder}", "--codec", "float32", *machine, "--split", split)
    return cache
