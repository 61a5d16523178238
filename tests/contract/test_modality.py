"""The seam: a second modality is leaves and lines in registries, and goes from source to evaluation like the first."""

import json
from pathlib import Path

import numpy as np
import pytest
import rows_modality.modality
import torch
from caches import command, extract, targetset_of, viewset_of
from rows_modality.views import RowCodec

from extract.modalities.base import InputSpec, ViewMaker
from extract.teachers import load_teacher
from shards import views as view_codecs
from shards.reader import TargetSet, ViewSet
from shards.views.base import ViewCodec

RECIPE = {
    "student": "linear_rows",
    "objective": "kl",
    "epochs": 60,
    "batch_size": 30,
    "lr": 0.05,
    "validation_fraction": 0.2,
    "fits": {"modality": "row"},
}


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> None:
    rows_modality.register(monkeypatch)


@pytest.fixture
def row_cache(rows: None, tmp_path: Path) -> Path:
    """Two views of the training rows and one of the validation rows, with the linear teacher's logits."""
    cache = tmp_path / "cache"
    flags = ("--teacher", "rows", "--data", "rows", "--out", cache, "--shard_size", "32", "--devices", "cpu")
    extract(*flags, "--views", "2", "--codec", "float32")
    extract(*flags, "--split", "validation", "--codec", "float32")
    return cache


def test_its_parts_keep_the_contracts() -> None:
    maker = rows_modality.modality.RowViews(0.1)
    assert isinstance(maker, ViewMaker) and isinstance(maker.codec, ViewCodec)
    assert isinstance(rows_modality.modality.RowInput(), InputSpec)


def test_what_is_stored_is_what_the_teacher_says_of_the_stored_rows(row_cache: Path) -> None:
    views, targets = ViewSet(viewset_of(row_cache)), TargetSet(targetset_of(row_cache))
    assert views.identity["modality"] == "row" and isinstance(views.codec, RowCodec)
    samples = list(range(90))
    stored = views.rows(1, samples)["row"]
    assert not np.array_equal(stored, views.rows(0, samples)["row"])  # another view, other noise
    said = load_teacher("rows").network(torch.from_numpy(stored) * 0.5)["logits"].numpy()
    np.testing.assert_allclose(targets.read(1, np.arange(90))["values"], said, rtol=1e-5, atol=1e-5)


def test_from_source_to_evaluation(row_cache: Path, tmp_path: Path) -> None:
    recipe, run = tmp_path / "rows.yaml", tmp_path / "run"
    recipe.write_text(json.dumps(RECIPE))
    flags = ("--shards", row_cache, "--recipe", recipe, "--run_dir", run, "--devices", "cpu")
    command("distill", *flags).succeeds()
    assert json.loads((run / "student.json").read_bytes())["input"] == {"modality": "row", "scale": 0.5}
    command("evaluate", "--run", run, "--task", "accuracy,fidelity,knn", "--k", "5").succeeds()
    measured = json.loads((run / "evaluation.json").read_bytes())
    assert measured["fidelity"]["agreement"] > 0.9 and measured["accuracy"]["top1"] > 0.85
    command("evaluate", "--run", run, "--shards", row_cache).succeeds()
    assert json.loads((run / "evaluation.json").read_bytes())["accuracy"]["top1"] == measured["accuracy"]["top1"]
    # the student teaches in turn
    again = extract("--teacher", f"run:{run}", "--out", row_cache, "--devices", "cpu")
    assert "0 views made, 180 teacher forwards" in again.out


def test_every_shards_command_looks_after_it(row_cache: Path, tmp_path: Path) -> None:
    assert "whole" in command("shards", "verify", row_cache, "--recompute", "10").succeeds().out
    assert "rows-train" in command("shards", "list", row_cache).succeeds().out
    assert "identity.noise" in command("shards", "info", row_cache).succeeds().out
    command("shards", "view", viewset_of(row_cache), "--output", tmp_path / "sheet.png").succeeds()
    command("shards", "export", targetset_of(row_cache), "--output", tmp_path / "export").succeeds()
    grown = extract("--teacher", "rows", "--out", row_cache, "--views", "3", "--codec", "float32")
    assert "90 views made, 90 teacher forwards" in grown.out


def test_without_a_teacher_the_source_says_the_modality(rows: None, tmp_path: Path) -> None:
    extract("--teacher", "none", "--data", "rows", "--out", tmp_path)
    assert ViewSet(viewset_of(tmp_path)).codec.modality == "row"
    flags = ("--teacher", "none", "--data", "rows", "--out", tmp_path / "other")
    command("extract", *flags, "--view", "rwo:noise=1").refuses("--view rwo:noise=1", "crop, pair, resize, row")


def test_what_does_not_fit_is_refused_in_one_line(row_cache: Path, teacher: Path, tmp_path: Path) -> None:
    of_images = command("extract", "--teacher", f"run:{teacher}", "--out", row_cache)
    of_images.refuses("--teacher run:", "its views are row", "the network takes image")
    command("extract", "--teacher", "rows", "--data", "digits", "--out", tmp_path).refuses("digits", "no texts")
    command("distill", "--shards", row_cache, "--run_dir", tmp_path / "x").refuses("no recipe fits", "modality row")


def test_a_modality_that_nobody_knows_is_of_a_newer_version(row_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(view_codecs.REGISTRY, "row")
    command("distill", "--shards", row_cache).refuses("modality 'row'", "newer version of teacher-shards")
    command("extract", "--teacher", "rows", "--out", row_cache).refuses("newer version of teacher-shards")
