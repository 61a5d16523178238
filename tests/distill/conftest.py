"""Small caches of digits for all tests of distill: of logits, a second one to mix with it, and one of features."""

import shutil
from pathlib import Path

import caches
import pytest
import torch
import training
from texts import write_corpus, write_encoder

from tests.extract.test_data2vec2_writer import write_checkpoint


@pytest.fixture(scope="session")
def teachers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("teachers")
    return {
        name: caches.write_teacher(folder / name, seed, 4 + seed, change=_sure)
        for seed, name in enumerate(("one", "two"))
    }


def _sure(network: torch.nn.Module) -> None:
    """Random heads leave all classes nearly alike: losses would be differences of nearly equal numbers."""
    network.head.weight.data *= 20


@pytest.fixture(scope="session")
def shards(teachers: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Never written to by a test. Target sets: one-logits-float32, one-logits-topk3, two-logits-float32."""
    cache = tmp_path_factory.mktemp("distill") / "cache"
    machine = ("--out", cache, "--devices", "cpu")
    size = ("--limit", str(training.TRAIN), "--shard_size", "32", "--image_size", str(caches.IMAGE_SIZE))
    caches.extract("--teacher", "none", "--data", "digits", *machine, *size, "--views", "3")
    caches.extract("--teacher", "none", *machine, "--split", "validation", "--limit", str(training.VALIDATION))
    for name, codec in (("one", "float32"), ("one", "topk:3"), ("two", "float32")):
        caches.extract("--teacher", f"run:{teachers[name]}", "--codec", codec, *machine)
    caches.extract("--teacher", f"run:{teachers['one']}", "--codec", "float32", *machine, "--split", "validation")
    return cache


@pytest.fixture
def own_shards(shards: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(shards, tmp_path / "cache"))


@pytest.fixture(scope="session")
def padded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a tiny BERT says of texts of 3 to 14 tokens, in rows of 16."""
    folder = tmp_path_factory.mktemp("padded")
    write_encoder(folder / "bert")
    write_corpus(folder / "lines", 60)
    flags = ("--teacher", f"hf:{folder / 'bert'}", "--data", f"text:{folder / 'lines'}", "--devices", "cpu")
    flags += ("--out", folder / "cache", "--view", "blocks:size=16,pack=none")
    caches.extract(*flags, "--target", "layer_mean_no_norm,mlm_logits", "--codec", "float32,topk:8")
    caches.extract(*flags, "--target", "layer_mean_no_norm", "--codec", "float16", "--keep_tokens", "5")
    return folder / "cache"


@pytest.fixture(scope="session")
def other(teachers: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Never written to by a test. Target sets: one-logits-float32, one-logits-int8."""
    cache = tmp_path_factory.mktemp("mixtures") / "other"
    size = ("--limit", str(training.OTHER), "--shard_size", "16", "--view", f"crop:seed=9,size={caches.IMAGE_SIZE}")
    caches.extract("--teacher", "none", "--data", "digits", "--out", cache, "--devices", "cpu", *size, "--views", "2")
    for codec in ("float32", "int8"):
        caches.extract("--teacher", f"run:{teachers['one']}", "--codec", codec, "--out", cache, "--devices", "cpu")
    return cache


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("weights") / "tiny.pt", depth=4, average_top_k_layers=4)


@pytest.fixture(scope="session")
def dense(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Never written to by a test: two views of digits, all targets in float32, and the layer mean in int8."""
    cache = tmp_path_factory.mktemp("dense") / "cache"
    teacher = ("--teacher", "data2vec2", "--weights", checkpoint, "--out", cache, "--devices", "cpu")
    size = ("--data", "digits", "--limit", "48", "--shard_size", "16", "--batch_size", "16", "--views", "2")
    caches.extract(*teacher, *size, "--target", "layer_mean,layer_2,layer_4,cls,pooled", "--codec", "float32")
    caches.extract(*teacher, "--target", "layer_mean", "--codec", "int8")
    caches.extract(*teacher, "--target", "layer_mean", "--codec", "int8", "--keep_tokens", "4")
    return cache
