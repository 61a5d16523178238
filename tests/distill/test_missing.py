"""`--on_missing extract ...`: the cache of extract alone, whatever happens, and a training that reads it meanwhile."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import caches
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from training import STUDENT, distill, last, same, write_recipe

from distill.arrivals import ARRIVALS
from extract.networks import build_network, export_network
from shards.lock import writing

NUM_SHARDS = 24


@pytest.fixture(autouse=True)
def one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """On many cores the extraction would be over before the training has begun."""
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")


@pytest.fixture(scope="module")
def slow_teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of seconds for a few hundred digits: training begins long before it has seen all."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("slow") / "teacher"
    document = {"architecture": "resnet20", "arguments": {"width": 48}, "num_classes": 10, "image_size": 16}
    document |= {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4], "class_names": [str(digit) for digit in range(10)]}
    export_network(folder, build_network("resnet20", 10, width=48), document)
    return folder


def command(teacher: Path, *flags: str | Path) -> list[str]:
    """The flags of an extraction of NUM_SHARDS shards, without --out."""
    size = ("--data", "digits", "--limit", str(16 * NUM_SHARDS), "--shard_size", "16", "--view", "crop:size=16")
    size = (*size, "--batch_size", "2")
    return [*map(str, ("--teacher", f"run:{teacher}", *size, "--devices", "cpu", *flags))]


def recipe(folder: Path, **values: Any) -> Path:
    return write_recipe(folder / "test.yaml", checkpoint_every=1, validation_fraction=0.1, lr=0.001, **values)


def windows(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / ARRIVALS).read_text().splitlines()]


def replayed(cache: Path, run: Path, to: Path, recipe: Path) -> Path:
    """A run that was never killed, from the whole cache, in the order that `run` recorded."""
    to.mkdir()
    for name in (ARRIVALS, "run.json", "config.yaml", "recipe.yaml"):
        shutil.copy(run / name, to / name)
    distill(cache, to, "--recipe", recipe).succeeds()
    return to


@pytest.mark.slow
def test_the_cache_is_that_of_extract_and_the_second_epoch_reads(slow_teacher: Path, tmp_path: Path) -> None:
    flags, cache, run = command(slow_teacher), tmp_path / "cache", tmp_path / "run"
    done = distill(cache, run, "--recipe", recipe(tmp_path), "--on_missing", " ".join(["extract", *flags])).succeeds()
    assert done.out.count("extract: done:") == 1 and f"{16 * NUM_SHARDS:,} teacher forwards" in done.out
    assert {window["epoch"] for window in windows(run)} == {0}
    taken = [shard for window in windows(run) for shard in window["shards"]]
    assert sorted(taken) == list(range(NUM_SHARDS)) and len(windows(run)) > 1
    caches.extract(*flags, "--out", tmp_path / "alone")
    assert caches.contents(cache) == caches.contents(tmp_path / "alone")

    assert same(replayed(tmp_path / "alone", run, tmp_path / "again", recipe(tmp_path)), run)
    assert (run / "student.json").read_bytes() == (tmp_path / "again" / "student.json").read_bytes()
    summaries = [json.loads((folder / "summary.json").read_text()) for folder in (run, tmp_path / "again")]
    for name in ("cache_bytes", "extracted", "steps", "teacher_forwards", "best_val_loss"):
        assert summaries[0][name] == summaries[1][name]


@pytest.mark.slow
def test_a_whole_cache_gives_the_run_without_the_flag(shards: Path, teachers: dict[str, Path], tmp_path: Path) -> None:
    flags = f"extract --teacher run:{teachers['one']} --codec float32 --devices cpu"
    chosen = ("--targets", "one-logits-float32", "--recipe", recipe(tmp_path))
    before = caches.contents(shards)
    distill(shards, tmp_path / "plain", *chosen).succeeds()
    distill(shards, tmp_path / "flag", *chosen, "--on_missing", flags).succeeds()
    distill(shards, tmp_path / "alone", *chosen, "--on_missing", "extract").succeeds()  # nothing is half written
    assert same(tmp_path / "plain", tmp_path / "flag") and same(tmp_path / "plain", tmp_path / "alone")
    assert not (tmp_path / "flag" / ARRIVALS).exists() and caches.contents(shards) == before


def _train(cache: Path, run: Path, flags: list[str]) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background processes ignore it
    os._exit(distill(cache, run, *flags).status)


def _wait(condition: Any, process: Any) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert process.is_alive() and time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_training_that_ends_in_its_first_epoch_goes_on_in_the_same_order(
    kind: signal.Signals, slow_teacher: Path, tmp_path: Path
) -> None:
    cache, run, flags = tmp_path / "cache", tmp_path / "run", command(slow_teacher)
    training = ["--recipe", str(recipe(tmp_path)), "--on_missing", " ".join(["extract", *flags])]
    process = multiprocessing.get_context("forkserver").Process(target=_train, args=(cache, run, training))
    process.start()
    _wait(lambda: (run / "checkpoints" / "last.ckpt").exists() and len(windows(run)) > 2, process)
    assert process.pid is not None
    os.kill(process.pid, kind)
    process.join(60)
    assert process.exitcode == (-kind if kind == signal.SIGKILL else 130)
    deadline = time.monotonic() + 30
    while True:  # the extraction ends with the training, and its lock is free
        try:
            with writing(cache):
                break
        except Exception:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert not list(cache.rglob("targetset.json")) and 0 < last(run)["epoch"] + 1 <= 1
    before = windows(run)

    done = distill(cache, run, *training).succeeds()
    assert "resumes at step" in done.out and windows(run)[: len(before)] == before
    assert same(replayed(cache, run, tmp_path / "replayed", recipe(tmp_path)), run)
    caches.extract(*flags, "--out", tmp_path / "alone")
    assert caches.contents(cache) == caches.contents(tmp_path / "alone")


@pytest.mark.slow
def test_an_extraction_that_fails_ends_the_training_in_its_own_line(slow_teacher: Path, tmp_path: Path) -> None:
    """An image of the last shard is damaged; mended, the same command finishes."""
    images, labels = load_digits(return_X_y=True)
    for number in range(16 * NUM_SHARDS):
        path = tmp_path / f"data/train/{labels[number]}/{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((images[number].reshape(8, 8) * 15).astype("uint8")).resize((16, 16)).save(path)
    damaged = max((tmp_path / "data/train/9").iterdir())
    content = damaged.read_bytes()
    damaged.write_bytes(content[:60] + bytes(len(content) - 60))  # of the same size, as a revision tells sizes
    cache, run = tmp_path / "cache", tmp_path / "run"
    flags = ["--teacher", f"run:{slow_teacher}", "--data", f"folder:{tmp_path / 'data'}"]
    flags += ["--shard_size", "16", "--view", "crop:size=16", "--devices", "cpu"]
    training = ("--recipe", recipe(tmp_path), "--student", STUDENT, "--on_missing", " ".join(["extract", *flags]))
    distill(cache, run, *training).refuses("distill: extract: ", f"9/{damaged.stem} cannot be decoded")
    assert windows(run) and (run / "checkpoints" / "last.ckpt").exists() and not (run / "summary.json").exists()
    damaged.write_bytes(content)
    distill(cache, run, *training).succeeds()
    caches.extract(*flags, "--out", tmp_path / "alone")
    assert caches.contents(cache) == caches.contents(tmp_path / "alone")


@pytest.mark.slow
def test_extract_alone_completes_what_is_half_written(slow_teacher: Path, tmp_path: Path) -> None:
    flags, cache = command(slow_teacher, "--views", "2"), tmp_path / "cache"
    caches.extract(*flags, "--out", cache)
    whole = caches.contents(cache)
    viewset, targetset = caches.viewset_of(cache), caches.targetset_of(cache)
    for folder in (viewset, targetset):
        next(folder.glob("*set.json")).unlink()
        for shard in range(3, NUM_SHARDS):
            (folder / f"commits/v01-{shard:05d}.json").unlink()
    done = distill(cache, tmp_path / "run", "--recipe", recipe(tmp_path), "--on_missing", "extract").succeeds()
    assert f"{16 * (NUM_SHARDS - 3):,} teacher forwards" in done.out and caches.contents(cache) == whole
    assert {window["epoch"] for window in windows(tmp_path / "run")} <= {1}  # epoch 0 reads view 0, which was whole


def test_what_is_no_command_of_extract_is_refused(tmp_path: Path) -> None:
    run, cache = tmp_path / "run", tmp_path / "cache"
    distill(cache, run, "--on_missing", "evaluate --run x").refuses("--on_missing", "expected extract and its flags")
    distill(cache, run, "--on_missing", "extract 'x").refuses("--on_missing", "expected extract and its flags")
    distill(cache, run, "--on_missing", "extract --teacher x --out y").refuses("--on_missing", "leave --out out")
    distill(cache, run, "--on_missing", "extract").refuses("no such folder")
    for several in ("s3://bucket/cache", "a,b"):
        outcome = caches.command("distill", "--shards", several, "--on_missing", "extract --teacher x")
        outcome.refuses(f"--shards {several}", "one folder")
    distill(cache, run, "--on_missing", "extract --teachr x").refuses("distill: extract: ", "--teachr")
    assert not run.exists() and not cache.exists()


@pytest.mark.slow
def test_several_devices_train_on_what_is_whole(teachers: dict[str, Path], tmp_path: Path) -> None:
    flags, cache = command(teachers["one"]), tmp_path / "cache"
    arguments = ["--shards", cache, "--run_dir", tmp_path / "run", "--recipe", recipe(tmp_path), "--devices", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    missing = ["--on_missing", " ".join(["extract", *flags])]
    command_line = [sys.executable, "-m", "distill", *map(str, arguments), *missing]
    done = subprocess.run(command_line, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("extract: done:") == done.stdout.count("distill: done:") == 1
    assert not (tmp_path / "run" / ARRIVALS).exists()
