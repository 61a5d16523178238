"""The main job on real data: needs a folder with fashion_mnist/*.parquet and emoji/*.tar, named by TEACHER_SHARDS_DATA.

At sizes for two cores; docs/acceptance.md has the figures of the same commands at full size.
"""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

DATA = os.environ.get("TEACHER_SHARDS_DATA")
pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.skipif(not DATA, reason="TEACHER_SHARDS_DATA names no folder with fashion_mnist/ and emoji/"),
]


def command(module: str, *arguments: object) -> None:
    done = subprocess.run([sys.executable, "-m", module, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def metric(run: Path, task: str, name: str) -> float:
    return float(json.loads((run / "evaluation.json").read_text())[task][name])


def test_fashion_mnist_student_of_a_tenth_of_the_teacher(tmp_path):
    cache, runs = tmp_path / "cache", tmp_path / "runs"
    data = ["--data", f"parquet:{DATA}/fashion_mnist", "--out", cache]
    small = ["--limit", 10_000, "--image_size", 28, "--views", 2]
    command("extract", "--teacher", "none", *data, *small, "--augment", "crop:scale=0.6-1,ratio=0.9-1.1,flip=0.5")
    command("extract", "--teacher", "none", *data, "--split", "test", "--limit", 2_000)
    train = ["--shards", cache, "--batch_size", 128]
    command("distill", *train, "--recipe", "supervised", "--epochs", 6, "--run_dir", runs / "teacher")
    for split in ("train", "test"):
        command("extract", "--teacher", f"run:{runs}/teacher", "--out", cache, "--codec", "topk:16", "--split", split)
    student = ["--student", "resnet8:width=8", "--epochs", 8]
    command("distill", *train, "--recipe", "digits", *student, "--run_dir", runs / "student")
    command("distill", *train, "--recipe", "supervised", *student, "--run_dir", runs / "labels")
    for run in ("teacher", "student", "labels"):
        command("evaluate", "--run", runs / run, "--task", "accuracy", "--split", "test")
    summaries = {run.name: json.loads((run / "summary.json").read_text()) for run in runs.iterdir()}
    assert summaries["student"]["num_parameters"] * 10 <= summaries["teacher"]["num_parameters"]
    assert summaries["student"]["steps"] == summaries["labels"]["steps"]
    assert metric(runs / "teacher", "accuracy", "top1") > 0.8
    assert metric(runs / "student", "accuracy", "top1") > metric(runs / "teacher", "accuracy", "top1") - 0.05


def test_emoji_with_a_pretrained_imagenet_teacher(tmp_path):
    cache, run = tmp_path / "cache", tmp_path / "run"
    teacher = ["--teacher", "efficientnet_lite0", "--out", cache, "--target", "logits,pooled"]
    command("extract", *teacher, "--data", f"wds:{DATA}/emoji", "--limit", 256)
    command("extract", *teacher, "--data", f"wds:{DATA}/emoji", "--limit", 128, "--split", "test")
    recipe = ["--recipe", "resnet50-from-resnet101", "--targets", "logits", "--student", "resnet18"]
    short = ["--batch_size", 32, "--max_steps", 8, "--precision", "float32"]
    command("distill", "--shards", cache, *recipe, *short, "--run_dir", run)
    command("evaluate", "--run", run, "--task", "fidelity", "--split", "test", "--targetset", "logits")
    assert 0 <= metric(run, "fidelity", "agreement") <= 1


def hashes(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_ten_kills_at_random_moments_leave_the_same_files(tmp_path):
    small = ["--limit", "400", "--shard_size", "16", "--target", "logits,pooled"]
    arguments = ["--teacher", "efficientnet_lite0", "--data", f"wds:{DATA}/emoji", *small]
    line = [sys.executable, "-m", "extract", *arguments, "--out"]
    started = time.monotonic()
    subprocess.run([*line, tmp_path / "whole"], check=True, capture_output=True)
    whole_s = time.monotonic() - started
    seed = random.randrange(2**32)
    print(f"seed {seed}, whole run {whole_s:.1f} s")
    moments, kills = random.Random(seed), 0
    while kills < 10:
        process = subprocess.Popen([*line, tmp_path / "killed"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(moments.uniform(0.1, 0.28) * whole_s)
            assert process.returncode == 0
            break  # done before ten kills: later ones would find nothing to interrupt
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
    subprocess.run([*line, tmp_path / "killed"], check=True, capture_output=True)
    print(f"{kills} kills")
    assert kills > 0
    assert hashes(tmp_path / "killed") == hashes(tmp_path / "whole")
