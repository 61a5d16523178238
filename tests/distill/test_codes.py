"""A dense teacher kept as codes: from extraction to evaluation, learnt as rows and as indices."""

import csv
import json
from pathlib import Path

import caches
import pytest
import torch
from test_drawn_logits import spoil
from training import distill, write_recipe

from distill.objectives import make_objective
from shards.codecs import make_codec
from shards.codecs.codes import Codes
from shards.codecs.features import Features
from shards.reader import TargetSet

DENSE = {"student": "data2vec2:depth=2", "init": "random", "lr": 2e-3, "batch_size": 16, "epochs": 2}


@pytest.fixture(scope="module")
def coded(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two views of digits, layer means of 10 x 16 in 4 bytes a token, and 4 tokens kept in 2."""
    cache = tmp_path_factory.mktemp("coded") / "cache"
    teacher = ("--teacher", "data2vec2", "--weights", checkpoint, "--out", cache, "--devices", "cpu")
    size = ("--data", "digits", "--limit", "48", "--shard_size", "16", "--batch_size", "16")
    caches.extract(*teacher, *size, "--target", "layer_mean", "--codec", "pq:4,rotation=pca")
    caches.extract(*teacher, "--target", "layer_mean", "--codec", "rq:2,centroids=16", "--keep_tokens", "4")
    caches.extract(*teacher, "--views", "2", "--target", "layer_mean", "--codec", "pq:4,rotation=pca")
    return cache


def set_of(cache: Path, words: str) -> Path:
    (found,) = (caches.viewset_of(cache) / "targets").glob(f"*{words}*")
    return found


def test_the_codes_take_the_bytes_that_they_are_named_for(coded: Path) -> None:
    targetset = TargetSet(set_of(coded, "pq4-pca"))
    assert targetset.manifest.codec == "pq:4,rotation=pca" and targetset.manifest.num_views == 2
    assert 0.5 < targetset.manifest.codec_error["cosine_mean"] <= 1
    assert targetset.manifest.codec_error["variance_lost"] < 1
    specs = json.loads((targetset.folder / "codes/zarr.json").read_text())
    assert specs["shape"][-2:] == [10, 4] and specs["data_type"] == "uint8"
    caches.command("shards", "verify", coded).succeeds()
    shown = caches.command("shards", "info", coded).succeeds().out
    assert "pq:4,rotation=pca" in shown and "rq:2,centroids=16" in shown


@pytest.mark.parametrize(
    ("words", "objective"),
    [
        pytest.param("pq4-pca", "mse", marks=pytest.mark.slow),
        ("pq4-pca", "codes"),
        pytest.param("rq2-16-4", "codes", marks=pytest.mark.slow),
    ],
)
def test_a_student_learns_from_codes(coded: Path, tmp_path: Path, words: str, objective: str) -> None:
    recipe = write_recipe(tmp_path / "dense.yaml", **DENSE, objective=objective)
    flags = ("--targets", set_of(coded, words).name, "--recipe", recipe)
    short, long = (last_loss(coded, tmp_path / epochs, *flags, "--epochs", epochs) for epochs in ("1", "15"))
    assert long < short


def last_loss(cache: Path, run_dir: Path, *flags: str | Path) -> float:
    """The training loss that a run logged last."""
    distill(cache, run_dir, *flags).succeeds()
    with (run_dir / "logs/version_0/metrics.csv").open() as log:
        return [float(row["train_loss"]) for row in csv.DictReader(log) if row["train_loss"]][-1]


def test_predicting_codes_asks_for_codes(dense: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "dense.yaml", **DENSE, objective="codes")
    outcome = distill(dense, tmp_path / "run", "--targets", "layer_mean-float32", "--recipe", recipe)
    outcome.refuses("objective codes", "predicts the codes of pq or rq")


def test_the_loss_is_the_cross_entropy_of_gaussians_at_the_centroids() -> None:
    """Against torch's own distributions; the least is at the rows that the codes decode to."""
    rows = torch.randn(600, 8, generator=torch.Generator().manual_seed(1))
    codec = make_codec("pq:2,centroids=16", (8,)).calibrate(rows)
    stored, student = codec.encode(rows[:20]), rows[:20] + 0.1
    target = Features(codec.decode(stored), codes=Codes(stored["codes"], codec))
    loss = make_objective("codes")(student, target)
    expected = []
    for part in range(2):
        variance = codec.errors[part] / 4
        gaussians = torch.distributions.Normal(codec.centroids[part], variance**0.5)
        logs = gaussians.log_prob(student[:, None, 4 * part : 4 * part + 4]).sum(-1).log_softmax(1)
        expected.append(-logs.gather(1, stored["codes"][:, part : part + 1].long()).mean())
    torch.testing.assert_close(loss, torch.stack(expected).mean(), rtol=1e-4, atol=1e-5)
    assert make_objective("codes")(target.rows, target) < loss


def test_too_few_vectors_for_a_codebook_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    flags = ("--teacher", "data2vec2", "--weights", checkpoint, "--data", "digits", "--limit", "20", "--out", tmp_path)
    outcome = caches.command("extract", *flags, "--devices", "cpu", "--target", "layer_mean", "--codec", "pq:4")
    outcome.refuses("--codec pq:4: 20 samples have 200 vectors of layer_mean, fewer than a codebook's 256 centroids")


def test_a_code_beyond_its_codebook_is_refused_where_it_is_read(coded: Path, tmp_path: Path) -> None:
    """On any device: a GPU would take it for a centroid of the next codebook."""
    cache = caches.copied(coded, tmp_path / "cache")
    folder = set_of(cache, "rq2-16-4")
    spoil(folder, "codes", 16)
    recipe = write_recipe(tmp_path / "dense.yaml", **DENSE, objective="mse")
    outcome = distill(cache, tmp_path / "run", "--targets", folder.name, "--recipe", recipe)
    outcome.refuses("codes: sample 5 of view 0 has the number 16, expected numbers below 16; restore it from a copy")
    found = caches.command("shards", "verify", cache)
    assert found.status == 2
    assert "codes/c/0/0/0/0: row 5 of codes has the number 16, expected numbers below 16; restore it" in found.err


@pytest.mark.parametrize(
    ("words", "objective"), [("pq4-pca", "codes"), pytest.param("rq2-16-4", "mse", marks=pytest.mark.slow)]
)
def test_a_step_of_codes_is_counted_and_then_made(coded: Path, tmp_path: Path, words: str, objective: str) -> None:
    """Counting runs on tensors without values, of which no codec may keep any."""
    recipe = write_recipe(tmp_path / "dense.yaml", **DENSE, objective=objective)
    flags = ("--targets", set_of(coded, words).name, "--recipe", recipe, "--max_memory", "24GB", "--epochs", "1")
    assert "in one part" in distill(coded, tmp_path / "run", *flags).succeeds().out
