"""Two processes on one CPU, started by the command itself: one run, one writer, the student of one process."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from training import distill, last, write_recipe

from distill.config import DistillConfig
from distill.data import CacheData
from distill.holding import open_training
from distill.memory import step_bytes
from distill.module import Distillation
from distill.recipe import load_recipe, resolve
from distill.run import build_module

ONE = ("--targets", "one-logits-float32")


def two_ranks(
    shards: Path, run_dir: Path, recipe: Path, *flags: str, targets: tuple[str, ...] = ONE
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "distill", "--shards", shards, "--run_dir", run_dir, "--recipe", recipe]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [*map(str, command), *targets, "--devices", "2", *flags],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
    )


@pytest.mark.slow
def test_two_ranks_train_the_student_that_one_rank_accumulates(shards: Path, tmp_path: Path) -> None:
    """Each part of a batch is normalised by its own statistics in both, so that the gradients are the same sums."""
    recipe = write_recipe(tmp_path / "test.yaml", lr=1e-3, eps=1e-3)
    done = two_ranks(shards, tmp_path / "two", recipe)
    assert done.returncode == 0, done.stderr
    distill(shards, tmp_path / "one", *ONE, "--recipe", recipe, "--accumulate", "2").succeeds()

    # one line of each kind: only the first rank prints
    assert [line.split()[1] for line in done.stdout.splitlines()] == ["test:", "validation:", "done:"], done.stdout
    assert "Traceback" not in done.stderr
    assert [path.name for path in (tmp_path / "two/logs").iterdir()] == ["version_0"]

    two, one = last(tmp_path / "two"), last(tmp_path / "one")
    assert two["global_step"] == one["global_step"] == 8
    for name, tensor in one["state_dict"].items():
        if not name.rpartition(".")[2].startswith(
            ("running", "num_batches")
        ):  # two ranks keep the first one's batch statistics, one rank both parts'
            assert torch.allclose(two["state_dict"][name], tensor, rtol=1e-4, atol=1e-5), name

    # 25 validation samples in batches of 16 and 9, one a rank, and still the mean over samples of the exported student
    summary = json.loads((tmp_path / "two/summary.json").read_text())
    assert summary["teacher_forwards"] == 0
    assert summary["best_val_loss"] == pytest.approx(_mean_loss(shards, tmp_path / "two"), rel=1e-4)
    assert summary["best_val_loss"] > 0.1  # nearer to 0 it would have no such digits

    again = two_ranks(shards, tmp_path / "two", recipe)
    assert again.returncode == 0 and again.stdout.count("finished before") == 1


@pytest.mark.slow
def test_two_ranks_train_the_student_of_one_on_padded_texts(padded: Path, tmp_path: Path) -> None:
    """The longer texts of one rank count more: the mean of two means would be another gradient."""
    values = {"student": "encoder:depth=2", "init": "teacher", "objective": "mse", "batch_size": 8}
    recipe = write_recipe(tmp_path / "test.yaml", **values, lr=1e-3, eps=1e-3, epochs=2)
    targets = ("--targets", "no_norm-float32")
    done = two_ranks(padded, tmp_path / "two", recipe, targets=targets)
    assert done.returncode == 0, done.stderr
    distill(padded, tmp_path / "one", *targets, "--recipe", recipe).succeeds()
    module, data = opened(padded, targets[1], recipe)
    cap = f"{int(step_bytes(module, data, 4, 2))}B"  # half of a rank's half
    done = two_ranks(padded, tmp_path / "capped", recipe, "--max_memory", cap, targets=targets)
    assert done.returncode == 0 and "a batch of 4 in 2 parts: " in done.stdout, done.stderr
    one = last(tmp_path / "one")
    for run in (tmp_path / "two", tmp_path / "capped"):
        found = last(run)
        assert found["global_step"] == one["global_step"] > 4
        for name, tensor in one["state_dict"].items():
            assert torch.allclose(found["state_dict"][name], tensor, rtol=1e-4, atol=1e-5), name
        assert (run / "run.json").read_bytes() == (tmp_path / "one/run.json").read_bytes()
        assert logged(run) == pytest.approx(logged(tmp_path / "one"), rel=1e-4)


def logged(run: Path) -> list[float]:
    """The training losses, each of the whole batch."""
    with (run / "logs/version_0/metrics.csv").open() as log:
        return [float(row["train_loss"]) for row in csv.DictReader(log) if row["train_loss"]]


def opened(cache: Path, targets: str, recipe: Path) -> tuple[Distillation, CacheData]:
    data = CacheData(
        open_training(str(cache), targets, False), resolve(load_recipe(str(recipe)), DistillConfig(".")), 1
    )
    return build_module(data, data.recipe), data


def _mean_loss(shards: Path, run_dir: Path) -> float:
    from training import open_data

    from distill.run import build_module
    from extract.networks import load_exported

    data = open_data(shards)
    module = build_module(data, data.recipe)
    module.student = load_exported(run_dir)[0]
    with torch.no_grad():
        losses = [
            (float(module.loss(batch, validating=True)), len(batch.samples)) for batch in data.validation_batches()
        ]
    return sum(loss * count for loss, count in losses) / sum(count for _, count in losses)


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_ranks(shards: Path, tmp_path: Path) -> None:
    """What is cut is the batch, not the epoch: two ranks take up the step that one rank left."""
    recipe = write_recipe(tmp_path / "test.yaml", epochs=1, accumulate=1)
    distill(shards, tmp_path / "run", *ONE, "--recipe", recipe).succeeds()
    longer = write_recipe(tmp_path / "test.yaml", epochs=2)
    for name in ("run.json", "recipe.yaml"):
        path = tmp_path / "run" / name
        path.write_text(path.read_text().replace('"epochs": 1', '"epochs": 2').replace("epochs: 1", "epochs: 2"))
    (tmp_path / "run/summary.json").unlink()
    done = two_ranks(shards, tmp_path / "run", longer)
    assert done.returncode == 0, done.stderr
    assert last(tmp_path / "run")["global_step"] == 8 and "8 steps" in done.stdout


@pytest.mark.slow
def test_an_error_of_one_rank_ends_all(own_shards: Path, tmp_path: Path) -> None:
    from caches import targetset_of

    recipe = write_recipe(tmp_path / "test.yaml")
    damaged = next(targetset_of(own_shards, "one-logits-float32").glob("values/c/1/1/*"))
    damaged.write_bytes(damaged.read_bytes()[::-1])
    done = two_ranks(own_shards, tmp_path / "run", recipe)
    assert done.returncode == 2, (done.returncode, done.stderr)
    assert "Traceback" not in done.stderr and "crc32c" in done.stderr
    assert not (tmp_path / "run/summary.json").exists()
