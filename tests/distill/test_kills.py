"""Processes killed, told to stop, and started again: nothing measured or learnt before a checkpoint is lost."""

import csv
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from training import distill, last, same, write_recipe

ONE = ("--targets", "one-logits-float32")


def _train(shards: Path, run_dir: Path, recipe: Path) -> None:
    os._exit(distill(shards, run_dir, *ONE, "--recipe", recipe).status)


def _start(shards: Path, run_dir: Path, recipe: Path) -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["distill.run", "training"])
    process = context.Process(target=_train, args=(shards, run_dir, recipe))
    process.start()
    return process


def _wait(path: Path, process: Any, later_than: float = 0.0) -> float:
    deadline = time.monotonic() + 60
    while not path.exists() or path.stat().st_mtime <= later_than:
        assert process.is_alive() and time.monotonic() < deadline
        time.sleep(0.002)
    return path.stat().st_mtime


def _metrics(run_dir: Path) -> dict[tuple[str, str], str]:
    """Every number of every attempt's metrics.csv, by its name and step; a step measured twice gave the same."""
    found: dict[tuple[str, str], str] = {}
    for path in sorted(run_dir.glob("logs/*/metrics.csv")):
        for row in csv.DictReader(path.open()):
            for name in ("train_loss", "val_loss"):
                if row.get(name):
                    assert found.setdefault((name, row["step"]), row[name]) == row[name]
    return found


@pytest.mark.slow
def test_killed_processes_resume_and_keep_the_metrics_of_each_attempt(shards: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "test.yaml", epochs=12, checkpoint_every=2)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    checkpoint, changed = killed / "checkpoints" / "last.ckpt", 0.0
    attempts = (signal.SIGKILL, signal.SIGTERM)
    for kind in attempts:
        process = _start(shards, killed, recipe)
        changed = _wait(checkpoint, process, changed)
        os.kill(process.pid, kind)
        process.join(60)
        assert process.exitcode == (-kind if kind == signal.SIGKILL else 130)
        assert not (killed / "summary.json").exists()
    distill(shards, killed, *ONE, "--recipe", recipe).succeeds()
    distill(shards, whole, *ONE, "--recipe", recipe).succeeds()
    assert same(killed, whole)
    assert not list(killed.rglob(".partial-*"))
    assert len(list((killed / "logs").iterdir())) == len(attempts) + 1
    kept, measured = _metrics(killed), _metrics(whole)
    assert len(measured) >= 12 + 4 and kept.items() <= measured.items()  # none different
    assert {row for row in measured if row[0] == "val_loss"} <= kept.keys()  # and no epoch's lost


@pytest.mark.slow
def test_sigterm_saves_the_step_it_came_at(shards: Path, tmp_path: Path) -> None:
    """An epoch has 35 steps and saves at its end only; one signal in a few may still meet that end."""
    recipe = write_recipe(tmp_path / "test.yaml", epochs=400, batch_size=2, checkpoint_every=10**6)
    checkpoint, changed = tmp_path / "run/checkpoints/last.ckpt", 0.0
    steps: list[int] = []
    while not any(step % 35 for step in steps) and len(steps) < 8:
        process = _start(shards, tmp_path / "run", recipe)
        changed = _wait(checkpoint, process, changed)
        time.sleep(0.1)
        os.kill(process.pid, signal.SIGTERM)
        process.join(60)
        assert process.exitcode == 130
        changed = checkpoint.stat().st_mtime
        steps.append(last(tmp_path / "run")["global_step"])
    assert steps[-1] % 35 and max(steps) < 400 * 35
