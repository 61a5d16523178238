"""What validation logs of how the student agrees with its teachers, against the exported student asked once more."""

import csv
from pathlib import Path

import pytest
import torch
from training import distill, open_data, write_recipe

from distill.config import DistillConfig
from distill.data import CacheData
from distill.holding import open_training
from distill.module import Distillation
from distill.recipe import load_recipe, resolve
from distill.run import build_module
from extract.modalities.base import feed
from extract.networks import load_exported

SURE = 1e-4
"""Two logits that lie nearer to each other may change places by rounding."""


def logged(run: Path) -> dict[str, float]:
    """What the validation logged whose student was exported: the one of least loss."""
    with (run / "logs/version_0/metrics.csv").open() as file:
        rows = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
    return min((row for row in rows if "val_loss" in row), key=lambda row: row["val_loss"])


def rows_of(run: Path, data: CacheData, module: Distillation, target: str) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """(student's, teacher's) rows of each validation batch, of the tokens that are no padding."""
    student, _ = load_exported(run)
    found = []
    with torch.no_grad():
        for batch in data.validation_batches(1, 0):
            (taught,), _ = module.met(batch, validating=True)
            output, rows = feed(student, module.inputs, batch.fields)[target], taught.rows
            valid = module.inputs.valid(batch.fields)
            rows = getattr(rows, "classes", rows)
            found.append((output, rows) if valid is None else (output[valid], rows[valid]))
    return found


def test_the_share_of_samples_with_the_teachers_class(shards: Path, tmp_path: Path) -> None:
    """The last batch is short: a mean of the batches' means would differ."""
    recipe = write_recipe(tmp_path / "test.yaml", validation_fraction=0.35, epochs=10)
    distill(shards, tmp_path / "run", "--targets", "one-logits-float32", "--recipe", recipe).succeeds()
    data = open_data(shards, "one-logits-float32", validation_fraction=0.35)
    agreed = unsure = count = 0
    for student, teacher in rows_of(tmp_path / "run", data, build_module(data, data.recipe), "logits"):
        agreed += int((student.argmax(1) == teacher.argmax(1)).sum())
        best = student.topk(2, 1).values
        unsure, count = unsure + int((best[:, 0] - best[:, 1] < SURE).sum()), count + len(student)
    found = logged(tmp_path / "run")
    assert "val_cosine" not in found and agreed > 0
    assert found["val_agreement"] * count == pytest.approx(agreed, abs=unsure + 1e-3)


@pytest.mark.parametrize(("target", "column"), [("layer_mean_no_norm-float32", "val_cosine"), ("mlm", "val_agreement")])
def test_tokens_that_are_padding_do_not_count(padded: Path, tmp_path: Path, target: str, column: str) -> None:
    values = {"student": "encoder:depth=2", "init": "teacher", "batch_size": 8, "epochs": 1}
    objective = "kl" if target == "mlm" else "mse"
    recipe = write_recipe(tmp_path / "test.yaml", **values, objective=objective, validation_fraction=0.3)
    distill(padded, tmp_path / "run", "--targets", target, "--recipe", recipe).succeeds()
    resolved = resolve(load_recipe(str(recipe)), DistillConfig("."))
    data = CacheData(open_training(str(padded), target, False), resolved, 1)
    name = data.training.targetsets[0].manifest.target
    pairs = rows_of(tmp_path / "run", data, build_module(data, data.recipe), name)
    student, teacher = (torch.cat(rows) for rows in zip(*pairs, strict=True))
    found = logged(tmp_path / "run")
    assert {"val_cosine", "val_agreement"} & found.keys() == {column}
    if column == "val_cosine":
        expected, error = torch.nn.functional.cosine_similarity(student, teacher, dim=-1).mean(), 1e-5
    else:
        best = student.topk(2, -1).values
        error = ((best[..., 0] - best[..., 1]) < SURE).float().mean() + 1e-6
        expected = (student.argmax(-1) == teacher[..., 0]).float().mean()
    assert found[column] == pytest.approx(float(expected), abs=float(error))


def test_labels_alone_agree_with_no_teacher(shards: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "test.yaml", objective="supervised", label_weight=1.0, epochs=1)
    distill(shards, tmp_path / "run", "--recipe", recipe).succeeds()
    assert not {"val_agreement", "val_cosine"} & logged(tmp_path / "run").keys()
