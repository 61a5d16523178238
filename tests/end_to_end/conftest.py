"""Caches made once, as their reader finds them: of digits with teachers' logits in float32, and of pairs."""

from pathlib import Path

import caches
import pytest
from pairs import write_pairs
from texts import write_encoder


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


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("encoder") / "tiny")


@pytest.fixture(scope="session")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return caches.write_teacher(tmp_path_factory.mktemp("networks") / "teacher")


@pytest.fixture(scope="session")
def pair_cache(encoder: Path, networks: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both splits with logits of the images and pooled rows of the captions, in float32; no test writes to it."""
    data = write_pairs(tmp_path_factory.mktemp("pairs") / "tars", 24)
    cache = tmp_path_factory.mktemp("pair") / "cache"
    for split in ("train", "validation"):
        flags = ("--data", f"wds:{data}:captions=caption", "--out", cache, "--split", split, "--devices", "cpu")
        flags += ("--batch_size", "8", "--codec", "float32")
        views = ("--view", "pair:size=16,format=png", "--shard_size", "16", "--views", "2" if split == "train" else "1")
        caches.extract("--teacher", f"run:{networks}", "--target", "logits,pooled", *flags, *views)
        caches.extract("--teacher", f"hf:{encoder}", "--target", "pooled", *flags)
    return cache
