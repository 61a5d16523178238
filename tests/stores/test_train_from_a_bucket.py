"""Runs that read a bucket through the row cache, cut off and resumed, or by two ranks, end with a folder's weights."""

import os
import re
import subprocess
import sys
from pathlib import Path

import caches
import numpy as np
import pytest
from caches import command
from PIL import Image
from s3_server import Server

SIZE, PHOTOS, BATCH, EPOCHS = 64, 24, 4, 3
"""Noise of 64 x 64 is a PNG of about 12 kB, four pages; six batches an epoch."""


@pytest.fixture
def cache(s3: Server, home: Path, tmp_path: Path) -> Path:
    """Views alone, with labels, in a folder; and the same in the bucket."""
    noise = np.random.default_rng(0).integers(0, 256, (PHOTOS, SIZE, SIZE, 3), np.uint8)
    for number, pixels in enumerate(noise):
        path = tmp_path / f"photos/train/{number % 2}/{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    flags = ("--view", f"resize:size={SIZE},format=png", "--shard_size", "8", "--devices", "cpu")
    caches.extract("--teacher", "none", "--data", f"folder:{tmp_path}/photos", "--out", tmp_path / "cache", *flags)
    command("shards", "push", tmp_path / "cache", s3.url).succeeds()
    return tmp_path / "cache"


def flags(shards: object, run: Path) -> list[str]:
    """Two thirds of the data are kept, so that rows are let go and fetched again; every step has a checkpoint."""
    recipe = run.parent / "recipe.yaml"
    recipe.parent.mkdir(parents=True, exist_ok=True)
    values = {"student": "convnet:width=4,depth=2", "objective": "supervised", "lr": 0.01, "label_weight": 1.0}
    values |= {"batch_size": BATCH, "epochs": EPOCHS, "checkpoint_every": 1, "validation_fraction": 0.0}
    recipe.write_text("".join(f"{name}: {value}\n" for name, value in values.items()))
    words = ["--shards", str(shards), "--run_dir", str(run), "--recipe", str(recipe)]
    return words + (["--read", "local_cache=260kB"] if str(shards).startswith("s3") else [])


@pytest.mark.slow
def test_a_run_that_is_cut_off_within_an_epoch_resumes_to_the_weights_of_a_folder(
    cache: Path, s3: Server, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command("distill", *flags(cache, tmp_path / "runs/folder"), "--devices", "cpu").succeeds()
    monkeypatch.setenv("TEACHER_SHARDS_RETRY_S", "0.2")
    take, asked, bucket = s3.faults.take, list[str](), (*flags(s3.url, tmp_path / "runs/bucket"), "--devices", "cpu")

    def gone(method: str, path: str) -> str | None:
        """After one and a half epochs' rows the store answers no more."""
        asked.extend([path] if path.endswith(".tar") else [])
        return "500" if len(asked) > PHOTOS + PHOTOS // 4 else take(method, path)

    with monkeypatch.context() as patch:
        patch.setattr(s3.faults, "take", gone)
        command("distill", *bucket).refuses("does not answer as it should (InternalError)")
    out = command("distill", *bucket).succeeds().out
    found = re.search(r"resumes at step (\d+) of (\d+)", out)
    assert found is not None, out
    step, steps = map(int, found.groups())
    assert steps == EPOCHS * PHOTOS // BATCH and step % (PHOTOS // BATCH) != 0 and step < steps
    weights = [(tmp_path / f"runs/{name}/student.safetensors").read_bytes() for name in ("folder", "bucket")]
    assert weights[0] == weights[1]


@pytest.mark.slow
def test_two_ranks_read_a_bucket_to_the_weights_of_a_folder(cache: Path, s3: Server, tmp_path: Path) -> None:
    """Each rank has a half of the bound, and a folder of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    for shards, run in ((cache, "folder"), (s3.url, "bucket")):
        words = [sys.executable, "-m", "distill", *flags(shards, tmp_path / "runs" / run), "--devices", "2"]
        done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=300)
        assert done.returncode == 0, done.stderr
    weights = [(tmp_path / f"runs/{name}/student.safetensors").read_bytes() for name in ("folder", "bucket")]
    assert weights[0] == weights[1]
    assert {path.name for path in (tmp_path / "home/.rows").iterdir() if path.is_dir()} == {"0", "1"}


@pytest.mark.slow
def test_a_bucket_that_refuses_both_ranks_is_one_line(
    cache: Path, s3: Server, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = s3.faults.take
    monkeypatch.setattr(s3.faults, "take", lambda way, path: "500" if path.endswith(".tar") else take(way, path))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "TEACHER_SHARDS_RETRY_S": "0.2"}
    words = [sys.executable, "-m", "distill", *flags(s3.url, tmp_path / "runs/bucket"), "--devices", "2"]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=300)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2 and "does not answer as it should (InternalError)" in line
