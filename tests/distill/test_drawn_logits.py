"""Image logits drawn (`sample:K`) beside the largest (`topk:K`): extracted, learnt from, measured; damaged ones."""

import json
from pathlib import Path

import caches
import numpy as np
import pytest
from training import distill, write_recipe

from shards.reader import TargetSet
from shards.zarrs import pack

LEARNT = ("--task", "accuracy,fidelity", "--targetset", "one-logits-float32")


@pytest.fixture(scope="module")
def drawn(shards: Path, teachers: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits of both splits, the teacher's logits whole, their three largest, and three draws of them."""
    cache = caches.copied(shards, tmp_path_factory.mktemp("drawn") / "cache")
    caches.extract("--teacher", f"run:{teachers['one']}", "--out", cache, "--devices", "cpu", "--codec", "sample:3")
    return cache


@pytest.mark.parametrize(("codec", "size"), [pytest.param("topk3", 14, marks=pytest.mark.slow), ("sample3", 9)])
def test_a_student_learns_from_few_classes_and_is_measured(drawn: Path, tmp_path: Path, codec: str, size: int) -> None:
    targetset = caches.targetset_of(drawn, codec)
    assert TargetSet(targetset).bytes_per_sample == size
    divergences = []
    for epochs in ("1", "12"):
        recipe, run = write_recipe(tmp_path / "kl.yaml", objective="kl", lr=0.05), tmp_path / epochs
        distill(drawn, run, "--targets", targetset.name, "--recipe", recipe, "--epochs", epochs).succeeds()
        caches.command("evaluate", "--run", run, *LEARNT).succeeds()
        measured = json.loads((run / "evaluation.json").read_bytes())
        assert 0 <= measured["accuracy"]["top1"] <= 1
        divergences.append(measured["fidelity"]["kl"])
    assert divergences[1] < 0.7 * divergences[0]


def test_a_class_that_there_is_not_is_refused_where_it_is_read(drawn: Path, tmp_path: Path) -> None:
    """On any device: a GPU would end with an assertion of its own in the middle of a step."""
    cache = caches.copied(drawn, tmp_path / "cache")
    spoil(caches.targetset_of(cache, "sample3"), "classes", 10)
    recipe = write_recipe(tmp_path / "kl.yaml", objective="kl")
    outcome = distill(cache, tmp_path / "run", "--targets", "sample3", "--recipe", recipe)
    outcome.refuses("classes: sample 5 of view 0 has the number 10, expected numbers below 10; restore it from a copy")


def spoil(folder: Path, array: str, number: int) -> None:
    """Sample 5 of view 0 has `number` in `array`, and every record tells the new hashes, as if it was written so."""
    targetset = TargetSet(folder)
    spec = targetset.arrays[array]
    rows = targetset.read(0, np.arange(spec.num_rows(0)))[array]
    rows[5].flat[1] = number
    name = spec.shard_path(0, 0)
    (folder / name).write_bytes(pack(spec, rows))
    caches.reseal_records(folder, "commits/v00-00000.json", name)
    caches.reseal_records(folder, "targetset.json", name, "commits/v00-00000.json")
