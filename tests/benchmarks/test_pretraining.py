"""The training of a small data2vec 2.0 network for `benchmarks.pair_study`."""

from pathlib import Path

import caches
import pytest
import torch
from rounding import of_rows

from benchmarks.pretraining import SMALL, Pretraining, encode, main, pretrain, visible
from extract.networks.data2vec2 import load_data2vec2
from shards.reader import ViewSet


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cache = tmp_path_factory.mktemp("digits")
    caches.extract("--teacher", "none", "--data", "digits", "--limit", "64", "--out", cache, "--view", "size=32")
    return cache


@pytest.mark.slow
def test_it_predicts_hidden_patches_better_and_better(digits: Path, tmp_path: Path) -> None:
    losses = pretrain(ViewSet(caches.viewset_of(digits)), tmp_path / "weights.pt", max_steps=40, batch_size=16)
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_its_file_is_a_teacher(digits: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights.pt"
    main(["--shards", str(digits), "--weights", str(weights), "--max_steps", "2", "--batch_size", "4"])
    assert load_data2vec2(weights).settings.input_size == 32
    caches.extract("--teacher", "data2vec2", "--weights", weights, "--target", "cls", "--out", digits)
    assert caches.targetset_of(digits, "cls").is_dir()


def test_all_patches_together_are_the_network() -> None:
    torch.manual_seed(0)
    network = Pretraining(SMALL).student
    images = torch.randn(2, 3, SMALL.input_size, SMALL.input_size)
    patches = network.encoder.local_encoder(images) + network.encoder.positions
    with torch.no_grad():
        expected, found = network(images).tokens, encode(network, patches)
    assert (found - expected).abs().max() <= of_rows(expected, SMALL.depth)


def test_a_fifth_is_visible_in_blocks() -> None:
    kept = visible(50, 8, torch.Generator().manual_seed(0))
    assert kept.shape == (50, 12) and (kept.diff(dim=1) > 0).all() and kept.max() < 64
    grid = torch.zeros(50, 64).scatter(1, kept, 1.0).unflatten(1, (8, 8))
    beside = (grid[:, 1:] * grid[:, :-1]).sum() / 50
    assert beside > 2 * 56 * (12 / 64) ** 2  # twice the neighbours that a uniform draw has


def test_no_gradient_reaches_the_teacher() -> None:
    torch.manual_seed(0)
    training = Pretraining(SMALL)
    training(torch.randn(2, 3, SMALL.input_size, SMALL.input_size), torch.Generator().manual_seed(0)).backward()
    assert all(value.grad is None for value in training.teacher.parameters())
    assert all(value.grad is not None for value in training.student.parameters() if value.requires_grad)
