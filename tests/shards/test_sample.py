"""sample: its weights are unbiased, its variance is what it states, and its bytes hang on the draws and rows alone."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from distill.objectives import make_objective
from shards.codecs import make_codec
from shards.codecs.features import Features
from shards.codecs.sample import MOST_DRAWS, Sampled, draws_of
from shards.errors import BadInput

OFFSETS = 512


def logits_of(seed: int, num_classes: int, scale: float, rows: int = 1) -> Tensor:
    return scale * torch.randn(rows, num_classes, generator=torch.Generator().manual_seed(seed))


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(2**63 - 1, shape, generator=torch.Generator().manual_seed(seed))


def weights(codec: Sampled, rows: Tensor, draws: Tensor) -> Tensor:
    """The estimate of each row's probabilities, over all classes, in float64."""
    stored = codec.with_numbers(draws).encode(rows)
    counts = stored["counts"].double()
    dense = torch.zeros(rows.shape, dtype=torch.float64)
    return dense.scatter_add(-1, stored["classes"].long(), counts / counts.sum(-1, keepdim=True))


def at_every_offset(codec: Sampled, row: Tensor) -> Tensor:
    """The weights of one row (1, classes) at OFFSETS offsets at even distances.

    Each end of a class on the line passes as many points as its length says, within 1 of OFFSETS: the mean of a weight
    over the offsets is within 2 / OFFSETS / N of its mean over all 2^40.
    """
    total = draws_of(row, codec.k).total
    offsets = torch.arange(OFFSETS)[:, None] * (total // OFFSETS)
    return weights(codec, row.expand(OFFSETS, -1), offsets)


@given(st.integers(0, 10**6), st.integers(2, 60), st.integers(1, 30), st.floats(0.01, 30.0))
def test_the_mean_over_all_offsets_is_the_teacher_and_the_variance_is_the_stated_one(
    seed: int, num_classes: int, k: int, scale: float
) -> None:
    codec = make_codec(f"sample:{k}", (num_classes,))
    assert isinstance(codec, Sampled)
    row = logits_of(seed, num_classes, scale)
    p, estimates = row.double().softmax(-1), at_every_offset(codec, row)
    num_draws = draws_of(row, codec.k).num_draws.item()
    assert (estimates.mean(0) - p).abs().max() <= 2.1 / OFFSETS / num_draws
    mean, variance = codec.estimate(row)
    # each share is rounded by up to 2^-41, their sum by as much a class
    torch.testing.assert_close(mean, p, rtol=0, atol=(1 + num_classes) * 2**-41)
    spread = (estimates - p).square().sum(-1).mean()
    # a count is floor or ceil: a mean off by e moves its mean square by at most e (1 + e)
    assert spread.item() == pytest.approx(variance.item(), abs=2.1 * num_classes / OFFSETS / num_draws**2 + 1e-9)


@given(st.integers(0, 10**6), st.integers(2, 300), st.integers(1, 255), st.floats(0.0, 200.0), st.floats(0.0, 30.0))
def test_the_draws_fit_into_the_entries_whatever_the_distribution(
    seed: int, num_classes: int, k: int, scale: float, head: float
) -> None:
    rows = logits_of(seed, num_classes, scale, rows=20)
    rows[:, : num_classes // 4] += head
    codec = make_codec(f"sample:{k}", (num_classes,)).with_numbers(numbers(20, 1, seed=seed))
    stored, num_draws = codec.encode(rows), draws_of(rows, min(k, num_classes)).num_draws
    assert (stored["counts"].long().sum(-1, keepdim=True) == num_draws).all()
    assert ((min(k, num_classes) <= num_draws) & (num_draws <= MOST_DRAWS)).all()
    # each class once, by falling count
    counts, classes = stored["counts"].long(), stored["classes"].long()
    assert (counts.diff(dim=-1) <= 0).all()
    for row_counts, row_classes in zip(counts, classes, strict=True):
        drawn = row_classes[row_counts > 0]
        assert len(set(drawn.tolist())) == len(drawn) and (drawn < num_classes).all()
    expected = num_draws * rows.double().softmax(-1)
    assert (counts - expected.gather(-1, classes)).abs()[counts > 0].max() < 1 + 1e-6


@pytest.mark.parametrize("shape", [(7,), (3, 7)])
def test_the_gradient_of_kl_is_unbiased_for_any_student(shape: tuple[int, ...]) -> None:
    """Through the codec, the objective and autograd, against the gradient from the whole logits."""
    teacher, student = logits_of(1, 7, 2.0, rows=3), logits_of(2, 7, 2.0, rows=3)
    teacher, student = teacher[: math.prod(shape[:-1])], student[: math.prod(shape[:-1])]
    codec, objective = make_codec("sample:3", shape), make_objective("kl")

    def gradient(student: Tensor, target: Features) -> Tensor:
        student = student.clone().requires_grad_()
        objective(student, target).backward()
        assert student.grad is not None
        return student.grad * len(student)

    plan = draws_of(teacher, 3)
    offsets = torch.arange(OFFSETS)[:, None] * (plan.total.T // OFFSETS)
    stored = codec.with_numbers(offsets).encode(teacher.reshape(1, *shape).expand(OFFSETS, *(len(shape) * [-1])))
    full = gradient(student.reshape(1, *shape), Features(teacher.reshape(1, *shape)))[0]
    drawn = gradient(student.reshape(1, *shape).repeat(OFFSETS, *(len(shape) * [1])), Features(codec.decode(stored)))
    bound = 2.1 / OFFSETS / plan.num_draws.min().item() + 1e-6
    assert (drawn.mean(0) - full).abs().max() <= bound
    assert (drawn[0] - full).abs().max() > 10 * bound  # of one draw it is not


def test_a_teacher_that_is_sure_has_the_weight_one() -> None:
    rows = torch.zeros(2, 50).scatter(1, torch.tensor([[49], [3]]), 1e4)
    codec = make_codec("sample:5", (50,)).with_numbers(numbers(2, 1))
    decoded = codec.decode(codec.encode(rows))
    assert decoded.classes[:, 0].tolist() == [49, 3]
    torch.testing.assert_close(decoded.log_probabilities[:, 0], torch.zeros(2))
    assert (decoded.log_probabilities[:, 1:].exp() == 0).all()


def test_more_entries_than_classes_are_as_many_and_as_many_draws_as_a_byte_counts() -> None:
    codec = make_codec("sample:200", (5,))
    assert codec.name == "sample:5" and codec.arrays() == {"classes": ("uint16", (5,)), "counts": ("uint8", (5,))}
    rows = logits_of(3, 5, 1.0, rows=8)
    assert (draws_of(rows, 5).num_draws == MOST_DRAWS).all()
    assert (weights(codec, rows, numbers(8, 1)) - rows.double().softmax(-1)).abs().max() < 1 / MOST_DRAWS


def test_a_token_takes_36_bytes() -> None:
    size = {
        num_classes: sum(
            math.prod(shape) * np.dtype(dtype).itemsize
            for dtype, shape in make_codec("sample:12", (256, num_classes)).arrays().values()
        )
        for num_classes in (30_522, 65_536, 65_537)
    }
    assert size == {30_522: 256 * 36, 65_536: 256 * 36, 65_537: 256 * 60}


@pytest.mark.parametrize("num_classes", [65_536, 65_537])
def test_the_last_class_of_a_large_vocabulary_comes_back(num_classes: int) -> None:
    rows = torch.zeros(1, num_classes)
    rows[0, -1] = 30.0
    for spec in ("sample:2", "topk:2"):
        codec = make_codec(spec, (num_classes,)).with_numbers(numbers(1, 1))
        assert codec.decode(codec.encode(rows)).classes[0, 0].item() == num_classes - 1


@pytest.mark.parametrize("spec", ["sample:4", "topk:4"])
def test_a_token_is_stored_alike_for_any_batch_number_of_threads_and_choice_of_tokens(spec: str) -> None:
    """3,000 classes: the 45 tokens are encoded in more than one block."""
    rows, draws = logits_of(5, 3000, 4.0, rows=45).reshape(5, 9, 3000), numbers(5, 9)
    rows[0, :, :2000] = 7.0  # ties are drawn alike, too
    codec = make_codec(spec, (9, 3000))
    expected, threads = codec.with_numbers(draws).encode(rows), torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        again = codec.with_numbers(draws).encode(rows)
    finally:
        torch.set_num_threads(threads)
    alone = [codec.with_numbers(draws[row : row + 1]).encode(rows[row : row + 1]) for row in range(5)]
    positions = torch.tensor([[0, 3, 8]]).expand(5, -1)
    kept = make_codec(spec, (9, 3000), 3)
    assert kept.numbers_a_row == codec.numbers_a_row == (9 if spec == "sample:4" else 0)
    stored = kept.with_numbers(draws).encode(Features.of(rows, positions))
    for name, values in expected.items():
        assert torch.equal(again[name], values), name
        assert torch.equal(torch.cat([part[name] for part in alone]), values), name
        assert torch.equal(stored[name], values[:, [0, 3, 8]]), name
    decoded = kept.decode(stored)
    assert torch.equal(decoded.rows.classes, codec.decode(expected).classes[:, [0, 3, 8]])


def test_tokens_have_draws_of_their_own() -> None:
    codec = make_codec("sample:4", (50, 40))
    rows = logits_of(6, 40, 0.5).expand(50, -1)[None]
    stored = codec.with_numbers(numbers(1, 50)).encode(rows)
    assert len({tuple(row) for row in stored["classes"][0].tolist()}) > 10


@pytest.mark.slow
def test_the_stated_errors_are_those_of_many_draws() -> None:
    """Bias and variance of g = q - p at the uniform q; and topk's of the loss's own gradient there."""
    rows, repeats = logits_of(7, 100, 2.5, rows=4), 4000
    codec, p = make_codec("sample:6", (100,)), rows.double().softmax(-1)
    gradient = (0.01 - p).square().sum()
    estimates = torch.stack([weights(codec, rows, numbers(4, 1, seed=seed)) for seed in range(repeats)])
    stated = codec.error(rows)
    squares = (estimates - p).square().sum((1, 2)) / gradient
    error = 5 * squares.std().item() / repeats**0.5
    assert stated["gradient_variance"] == pytest.approx(squares.mean().item(), abs=error + 1e-7)
    assert error < 0.05 * stated["gradient_variance"]
    assert stated["gradient_bias"] < 1e-7
    # the mean of so many draws is as near to the teacher as the variance says
    assert (estimates.mean(0) - p).square().sum() / gradient < 4 * stated["gradient_variance"] / repeats

    top = make_codec("topk:6", (4, 100))
    student = torch.zeros(1, 4, 100, requires_grad=True)
    make_objective("kl")(student, Features(top.decode(top.encode(rows[None])))).backward()
    assert student.grad is not None
    bias = ((4 * student.grad[0] - (0.01 - p)).square().sum() / gradient).sqrt().item()
    stated = top.error(rows[None])
    assert stated["gradient_bias"] == pytest.approx(bias, rel=1e-3) and bias > 0.01
    assert stated["gradient_variance"] == 0


@given(st.integers(0, 10**6), st.integers(2, 20), st.floats(0.5, 6.0))
def test_the_variance_is_never_more_than_that_of_independent_draws(seed: int, k: int, scale: float) -> None:
    rows = logits_of(seed, 80, scale, rows=3)
    p = rows.double().softmax(-1)
    _, variance = make_codec(f"sample:{k}", (80,)).estimate(rows)  # type: ignore[attr-defined]
    assert (variance <= (p * (1 - p)).sum(-1) / k + 1e-12).all()


@pytest.mark.parametrize(
    ("spec", "row_shape", "says"),
    [
        ("sample:0", (10,), "K must be 1 to 255"),
        ("sample:256", (1000,), "K must be 1 to 255"),
        ("sample:x", (10,), "whole number"),
        ("sample", (2, 3, 4), "logits"),
        ("sample", (1,), "2 classes"),
    ],
)
def test_an_argument_that_it_cannot_have_is_bad_input(spec: str, row_shape: tuple[int, ...], says: str) -> None:
    with pytest.raises(BadInput, match=f"--codec {spec}: .*{says}"):
        make_codec(spec, row_shape)
