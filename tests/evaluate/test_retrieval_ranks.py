"""Ranks by cosine: right ones first, ties last, chance exact."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from evaluate import ranks as module
from evaluate.candidates import Candidates
from evaluate.ranks import by_chance, ranks
from evaluate.tasks.retrieval import KS, scores


def pairs(images: Tensor, texts: Tensor, owners: Tensor) -> Candidates:
    return Candidates(F.normalize(images, dim=1), F.normalize(texts, dim=1), owners, {})


def random_rows(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_equal_embeddings_rank_first() -> None:
    images, owners = random_rows(50, 8), torch.arange(50).repeat_interleave(3)
    metrics, _ = scores(pairs(images, images[owners], owners))
    assert metrics == {f"{way}_{name}": 1.0 for way in ("i2t", "t2i") for name in ("r1", "r5", "r10", "median_rank")}


@pytest.mark.parametrize("collapsed", [torch.ones(40, 48), torch.zeros(40, 48), torch.full((40, 48), torch.nan)])
def test_rows_that_are_all_alike_rank_last(collapsed: Tensor) -> None:
    owners = torch.arange(40).repeat_interleave(torch.arange(40) % 3 + 1)
    metrics, _ = scores(pairs(collapsed, collapsed[owners], owners))
    assert metrics["i2t_r10"] == metrics["t2i_r10"] == 0
    assert metrics["t2i_median_rank"] == 40 and metrics["i2t_median_rank"] == len(owners) - 1  # 1 + all but 2 own ones


def test_rounding_orders_no_rows_that_are_alike() -> None:
    """Equal rows but for their last digits, in products of any shape."""
    one = random_rows(1, 333)
    images = one * (1 + 1e-7 * random_rows(37, 1, seed=1).sign())
    places = ranks(F.normalize(images), F.normalize(one.expand(37, -1)), torch.arange(37), torch.arange(37))
    assert (places == 37).all()


def test_an_image_counts_by_the_nearest_of_its_captions_and_its_others_are_no_rivals() -> None:
    images = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    angles = torch.tensor([10.0, 20.0, 80.0, 30.0, 85.0]).deg2rad()  # from the first image
    texts, owners = torch.stack([angles.cos(), angles.sin()], 1), torch.tensor([0, 0, 0, 1, 1])
    numbers = torch.arange(2)
    assert ranks(images, texts, numbers, owners).tolist() == [1, 1]
    assert ranks(texts, images, owners, numbers).tolist() == [1, 1, 2, 2, 1]
    swapped = ranks(images, texts, numbers, 1 - owners)  # 30 and 85 are of the first: 10 and 20 are nearer
    assert swapped.tolist() == [3, 2]


def test_blocks_give_what_the_whole_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    images, owners = random_rows(61, 16), torch.arange(61).repeat_interleave(torch.arange(61) % 4 + 1)
    texts = images[owners] + random_rows(len(owners), 16, seed=1)
    whole = scores(pairs(images, texts, owners))
    for block in (1, 7 * len(owners), 61 * len(owners) - 1):
        monkeypatch.setattr(module, "_BLOCK", block)
        assert scores(pairs(images, texts, owners)) == whole
    assert 0.05 < whole[0]["t2i_r1"] < 0.95  # neither hopeless nor perfect


def test_chance_is_what_all_orders_give() -> None:
    """Every order of five texts, of which the images have 1, 2, 1 and 1."""
    counts, owners = np.array([1, 2, 1, 1]), [0, 1, 1, 2, 3]
    found = np.array([[order.index(image) + 1 for image in range(4)] for order in itertools.permutations(owners)])
    expected = {f"r{k}": float((found <= k).mean()) for k in (1, 2, 5, 10)}
    chance = by_chance(counts, 5, (1, 2, 5, 10))
    assert chance == pytest.approx({**expected, "median_rank": float(np.sort(found.ravel())[found.size // 2 - 1])})
    assert by_chance(np.ones(1852, int), 1852, KS) == pytest.approx(
        {"r1": 1 / 1852, "r5": 5 / 1852, "r10": 10 / 1852, "median_rank": 926}, abs=5e-7
    )


def test_random_embeddings_are_at_chance() -> None:
    """Within five binomial deviations: given the images, the texts hit independently of each other."""
    num_images, num_captions = 600, 5
    owners = torch.arange(num_images).repeat_interleave(num_captions)
    random = pairs(random_rows(num_images, 64), random_rows(len(owners), 64, seed=1), owners)
    metrics, chance = scores(random)
    for way, queries in (("i2t", num_images), ("t2i", len(owners))):
        for k in KS:
            p = chance[f"{way}_r{k}"]
            assert abs(metrics[f"{way}_r{k}"] - p) < 5 * math.sqrt(p * (1 - p) / queries)
        # half of the queries lie below the median: by chance so many do, but for the same deviation
        rights, candidates = (num_captions, len(owners)) if way == "i2t" else (1, num_images)
        place = int(metrics[f"{way}_median_rank"])
        reached = by_chance(np.full(num_images, rights), candidates, (place,))[f"r{place}"]
        assert abs(reached - 0.5) < 5 * 0.5 / math.sqrt(queries)
