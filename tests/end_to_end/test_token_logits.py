"""Distributions over a vocabulary for each token, through every command: drawn, the largest, whole, and kept tokens."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import caches
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from extract import networks, teachers
from extract.modalities.draws import draw_numbers
from extract.modalities.image import ImageInput
from extract.teachers.base import Teacher, freeze
from shards.codecs.distribution import Distribution
from shards.decode import codec_of, read_decoded
from shards.reader import TargetSet, ViewSet
from tests.distill import training

VOCABULARY, TOKENS = 30, 16
BASE_LR = 0.01
SETS = {"whole": ("float32", None), "largest": ("topk:3", None), "drawn": ("sample:4", None), "kept": ("sample:4", 5)}
"""Codec and kept tokens."""


class Words(nn.Module):
    """A distribution over 30 words for each of the 4 x 4 patches of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, VOCABULARY, 4, stride=4)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"mlm_logits": self.patches(images).flatten(2).transpose(1, 2)}


def build(architecture: str, num_classes: int) -> nn.Module:
    return Words()


def load(spec: str, weights: str | None, image_size: int | None) -> Teacher:
    torch.manual_seed(0)
    network = Words()
    network.patches.weight.data *= 8
    return freeze("words", "words", network, ImageInput(16, (0.5,) * 3, (0.25,) * 3), None)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One view of 40 digits, and the teacher's distributions in four ways."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(teachers.REGISTRY, "words", "words")
        patch.setitem(networks.REGISTRY, "words", "words")
        patch.setitem(sys.modules, "extract.teachers.words", sys.modules[__name__])
        patch.setitem(sys.modules, "extract.networks.words", sys.modules[__name__])
        cache = tmp_path_factory.mktemp("words") / "cache"
        flags = ("--teacher", "words", "--out", cache, *caches.SMALL, "--target", "mlm_logits")
        for codec, keep in SETS.values():
            caches.extract(*flags, "--codec", codec, *(() if keep is None else ("--keep_tokens", str(keep))))
        yield cache


def stored(cache: Path, name: str) -> TargetSet:
    every = map(TargetSet, (caches.viewset_of(cache) / "targets").iterdir())
    (targets,) = (one for one in every if (one.manifest.codec, one.manifest.keep_tokens) == SETS[name])
    return targets


def rows(cache: Path, name: str) -> object:
    targets = stored(cache, name)
    return read_decoded(targets, codec_of(targets), 0, np.arange(caches.NUM_SAMPLES))


def test_what_is_stored_is_drawn_with_each_tokens_own_number(cache: Path) -> None:
    whole, drawn, kept = (rows(cache, name) for name in ("whole", "drawn", "kept"))
    assert isinstance(whole, Tensor) and isinstance(drawn, Distribution)
    keys = ViewSet(caches.viewset_of(cache)).plan.keys
    numbers = torch.from_numpy(draw_numbers(0, keys, 0, TOKENS))
    codec = codec_of(stored(cache, "drawn")).with_numbers(numbers)
    assert (drawn.classes == codec.decode(codec.encode(whole)).classes).double().mean() > 0.999  # batches may round
    at = kept.positions[..., None].expand(-1, -1, 4)  # type: ignore[attr-defined]
    assert torch.equal(kept.rows.classes, drawn.classes.gather(1, at))  # type: ignore[attr-defined]
    # the tokens' weights, summed over all tokens of the cache, are as far from the teacher as their variance says
    p = whole.double().softmax(-1)
    weights = torch.zeros_like(p).scatter_add(-1, drawn.classes, drawn.log_probabilities.double().exp())
    stated = stored(cache, "drawn").manifest.codec_error
    variance = stated["gradient_variance"] * (1 / VOCABULARY - p).square().sum()
    assert (weights - p).sum((0, 1)).square().sum() < 4 * variance
    assert (weights - p).square().sum() > 0.5 * variance


def test_a_number_depends_on_seed_key_view_and_position_alone() -> None:
    numbers = draw_numbers(0, ["a", "b"], 0, 9)
    assert numbers.dtype == np.int64 and (numbers >= 0).all() and len(np.unique(numbers)) == 18
    assert np.array_equal(draw_numbers(0, ["b"], 0, 4), numbers[1:, :4])
    for seed, view in ((1, 0), (0, 1)):
        assert not np.isin(draw_numbers(seed, ["a", "b"], view, 9), numbers).any()


def test_every_shards_command_looks_after_them(cache: Path, tmp_path: Path) -> None:
    found = caches.command("shards", "verify", cache, "--recompute", "20").succeeds()
    assert found.out.count("20 views recomputed") == 4
    for name in ("largest", "drawn", "kept"):
        folder = stored(cache, name).folder
        told = caches.command("shards", "info", folder).succeeds().out
        assert "gradient_bias" in told and "gradient_variance" in told
        caches.command("shards", "view", folder, "--output", tmp_path / "sheet.png").succeeds()
        caches.command("shards", "export", folder, "--output", tmp_path / name).succeeds()
    assert "192 bytes a sample" in caches.command("shards", "info", stored(cache, "drawn").folder).out
    errors = {name: stored(cache, name).manifest.codec_error for name in ("largest", "drawn")}
    assert errors["drawn"]["gradient_bias"] < 1e-7 < 0.001 < errors["largest"]["gradient_bias"]
    assert errors["largest"]["gradient_variance"] == 0 < errors["drawn"]["gradient_variance"]


def test_rows_that_another_sample_should_have_are_told(cache: Path, tmp_path: Path) -> None:
    spoilt = caches.copied(cache, tmp_path / "cache")
    folder = stored(spoilt, "drawn").folder
    for array in ("classes", "counts"):
        first, second = (folder / array / f"c/0/{shard}/0/0" for shard in (0, 1))
        data = first.read_bytes(), second.read_bytes()
        for path, content in zip((second, first), data, strict=True):
            path.write_bytes(content)
        for shard in (0, 1):
            name = f"{array}/c/0/{shard}/0/0"
            caches.reseal_records(folder, f"commits/v00-0000{shard}.json", name)
            caches.reseal_records(folder, "targetset.json", name, f"commits/v00-0000{shard}.json")
    told = caches.command("shards", "verify", folder, "--recompute", "40")
    assert told.status == 2 and "cosine" in told.err


@pytest.mark.parametrize("name", [*(pytest.param(name, marks=pytest.mark.slow) for name in [*SETS][:-1]), [*SETS][-1]])
def test_a_student_learns_from_them_and_is_measured(cache: Path, tmp_path: Path, name: str) -> None:
    recipe = training.write_recipe(tmp_path / "words.yaml", student="words", objective="kl", epochs=30)
    targets = stored(cache, name).folder.name
    training.distill(cache, tmp_path / "run", "--targets", targets, "--recipe", recipe).succeeds()
    fidelity = ("--task", "fidelity", "--split", "train", "--targetset", "float32")
    caches.command("evaluate", "--run", tmp_path / "run", "--shards", cache, *fidelity).succeeds()
    measured = json.loads((tmp_path / "run/evaluation.json").read_bytes())["fidelity"]
    fresh = Words()(_images(cache))["mlm_logits"].log_softmax(-1)
    teacher = rows(cache, "whole").log_softmax(-1)  # type: ignore[attr-defined]
    untrained = (teacher.exp() * (teacher - fresh)).sum(-1).mean().item()
    assert measured["kl"] < 0.3 * untrained


def _images(cache: Path) -> Tensor:
    fields = ViewSet(caches.viewset_of(cache)).rows(0, list(range(caches.NUM_SAMPLES)))
    (images,) = (
        ImageInput(16, (0.5,) * 3, (0.25,) * 3)
        .prepare({name: torch.from_numpy(values) for name, values in fields.items()})
        .values()
    )
    return images


def test_what_cannot_be_learned_from_draws_is_refused(cache: Path, tmp_path: Path) -> None:
    for objective, says in (
        ("kl:temperature=2", "objective kl:temperature=2 is biased on a sample, drawn at temperature 1"),
        ("mse", "objective mse needs features, not probabilities"),
    ):
        recipe = training.write_recipe(tmp_path / "words.yaml", student="words", objective=objective)
        targets = stored(cache, "drawn").folder.name
        training.distill(cache, tmp_path / "run", "--targets", targets, "--recipe", recipe).refuses(says, "sample:4")
    flags = ("--teacher", "words", "--out", cache, "--target", "mlm_logits")
    caches.command("extract", *flags, "--codec", "sample:0").refuses("--codec sample:0", "K must be 1 to 255")
