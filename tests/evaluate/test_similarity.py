"""Cosines and CKA: by their definitions, on any split into batches."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluate.tasks.fidelity import FeatureSimilarity
from shards.codecs.features import Features


def metrics(teacher: torch.Tensor, student: torch.Tensor, batch_size: int = 7) -> dict[str, float]:
    similarity = FeatureSimilarity()
    for one, other in zip(teacher.split(batch_size), student.split(batch_size), strict=True):
        similarity.update(Features(one), other)
    return similarity.metrics()


def naive_cka(x: torch.Tensor, y: torch.Tensor) -> float:
    """Equation 3 on n x n Gram matrices, centred on both sides: tr(KHLH) / sqrt(tr(KHKH) tr(LHLH))."""
    x, y = x.double(), y.double()
    centring = torch.eye(len(x), dtype=torch.float64) - 1 / len(x)
    k, m = (centring @ z @ z.T @ centring for z in (x, y))
    return float((k * m).sum() / (k.norm() * m.norm()))


def pair(seed: int, count: int = 40, width: int = 6, other_width: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, width, generator=generator) * torch.logspace(-1, 1, width) + 3
    noise = torch.randn(count, other_width, generator=generator)
    return x, x @ torch.randn(width, other_width, generator=generator) + noise


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 45), st.integers(1, 9))
def test_cka_is_the_centred_grams_whatever_the_batches(seed: int, batch_size: int, width: int) -> None:
    x, y = pair(seed, width=width, other_width=width)
    found = metrics(x, y, batch_size)["cka"]
    assert found == pytest.approx(naive_cka(x, y), abs=1e-9) and 0 <= found <= 1 + 1e-9


def test_cka_knows_no_rotation_scale_or_shift_and_tells_a_linear_map() -> None:
    x, y = pair(0)
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(1)))[0]
    held = metrics(x, y)["cka"]
    assert 0.1 < held < 0.999
    for other in (y @ rotation, y * 50, y + 1e4):
        assert metrics(x, other)["cka"] == pytest.approx(held, abs=1e-4)
    assert metrics(x, x @ rotation * 3 - 2)["cka"] == pytest.approx(1, abs=1e-6)
    assert metrics(y, x)["cka"] == pytest.approx(held, abs=1e-9)
    stretched = metrics(x, x * torch.tensor([100.0, 1, 1, 1, 1, 1]))["cka"]  # not every linear map is forgiven
    assert stretched < 0.99
    unrelated = torch.randn(4000, 6, generator=torch.Generator().manual_seed(2))
    assert metrics(unrelated, unrelated.roll(1, 0))["cka"] < 0.01


def test_large_means_cost_no_digits() -> None:
    x, y = (rows.double() for rows in pair(3))
    assert metrics(x + 1e7, y - 1e7)["cka"] == pytest.approx(naive_cka(x, y), abs=1e-6)


def test_tokens_are_vectors_of_their_own() -> None:
    x, y = (rows.reshape(8, 5, 6) for rows in pair(4))
    found = metrics(x, y, batch_size=3)
    assert found["cka"] == pytest.approx(naive_cka(x.reshape(40, 6), y.reshape(40, 6)), abs=1e-9)
    by_hand = torch.stack(
        [torch.cosine_similarity(a, b, dim=0) for a, b in zip(x.view(40, 6), y.view(40, 6), strict=True)]
    )
    assert found["cosine"] == pytest.approx(by_hand.mean().item(), abs=1e-6)
    assert found["cosine_worst_percentile"] == pytest.approx(by_hand.quantile(0.01).item(), abs=1e-6)


def test_kept_tokens_are_compared_where_they_stood() -> None:
    x, y = (rows.reshape(8, 5, 6) for rows in pair(5))
    positions = torch.tensor([[0, 2, 3]] * 4 + [[0, 1, 4]] * 4)
    at = positions[..., None].expand(-1, -1, 6)
    similarity = FeatureSimilarity()
    for part in (slice(0, 3), slice(3, 8)):
        similarity.update(Features(x.gather(1, at)[part], positions[part]), y[part])
    assert similarity.metrics() == pytest.approx(metrics(x.gather(1, at), y.gather(1, at)))
    assert similarity.metrics()["cosine"] != pytest.approx(metrics(x, y)["cosine"], abs=1e-3)


def test_features_that_never_vary_have_no_cka() -> None:
    assert set(metrics(torch.ones(9, 4), torch.randn(9, 4))) == {"cosine", "cosine_worst_percentile"}


def test_padding_is_no_part_of_the_likeness() -> None:
    x, y = (rows.reshape(8, 5, 6) for rows in pair(6))
    valid = torch.arange(5) < torch.tensor([5, 4, 3, 2, 1, 5, 4, 3])[:, None]
    padded = torch.where(valid[..., None], y, torch.randn(8, 5, 6))  # another student, but in its padding alone
    found = []
    for student in (y, padded):
        similarity = FeatureSimilarity()
        similarity.update(Features(x).within(valid), student)
        found.append(similarity.metrics())
    assert found[0] == found[1] == pytest.approx(metrics(x[valid], y[valid]))
