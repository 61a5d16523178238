"""Codecs one by one; what all of them promise is in tests/contract/test_codec_contract.py."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shards.codecs import make_codec
from shards.codecs.distribution import SMALLEST_LOG
from shards.errors import BadInput, UnknownName


def test_float32_is_exact_and_float16_rounds_to_nearest() -> None:
    rows = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(make_codec("float32", (5,)).decode(make_codec("float32", (5,)).encode(rows)), rows)
    half = make_codec("float16", (5,))
    np.testing.assert_array_equal(half.decode(half.encode(rows)).numpy(), rows.numpy().astype("f2").astype("f4"))


@pytest.mark.parametrize("value", [65520.0, -1e6])
def test_float16_refuses_what_would_become_infinity(value: float) -> None:
    with pytest.raises(BadInput, match="float32"):
        make_codec("float16", (2,)).encode(torch.tensor([[0.0, value]]))


@given(st.integers(2, 40), st.floats(0.01, 100), st.integers(0, 10_000), st.data())
def test_topk_keeps_the_largest_and_the_mass_of_the_rest(
    num_classes: int, scale: float, seed: int, data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, num_classes - 1))
    logits = scale * torch.randn(6, num_classes, generator=torch.Generator().manual_seed(seed))
    codec = make_codec(f"topk:{k}", (num_classes,))
    stored = codec.encode(logits)
    decoded = codec.decode(stored)
    probabilities = logits.double().softmax(-1)
    expected = probabilities.sort(descending=True).values[:, :k]
    torch.testing.assert_close(decoded.log_probabilities.exp().double(), expected, atol=2e-3, rtol=2e-3)
    torch.testing.assert_close(probabilities.gather(-1, decoded.classes), expected)  # and the classes are theirs
    remaining = 1 - expected.sum(-1)
    torch.testing.assert_close(decoded.log_remaining.exp().double(), remaining, atol=2e-3, rtol=2e-3)
    total = decoded.log_probabilities.exp().sum(-1) + decoded.log_remaining.exp()
    torch.testing.assert_close(total, torch.ones(6), atol=1e-5, rtol=0)
    assert torch.isfinite(decoded.log_probabilities).all() and torch.isfinite(decoded.log_remaining).all()
    assert (decoded.classes.sort().values.diff() > 0).all()


def test_topk_keeps_a_mass_too_small_for_a_difference() -> None:
    """log(1 - p) from rounded p would be log(0); the rest's own logits give it."""
    codec = make_codec("topk:1", (3,))
    decoded = codec.decode(codec.encode(torch.tensor([[50.0, 0.0, 0.0]])))
    assert decoded.log_remaining.item() == pytest.approx(np.log(2) - 50, abs=0.05)
    extreme = codec.decode(codec.encode(torch.tensor([[1e6, 0.0, 0.0]])))
    assert extreme.log_remaining.item() == pytest.approx(SMALLEST_LOG, rel=0.01)


def test_topk_bytes_are_those_of_the_design() -> None:
    stored = make_codec("topk:16", (1000,)).encode(torch.randn(2, 1000))
    assert sum(array[0].numel() * array.element_size() for array in stored.values()) == 66
    assert make_codec("topk:16", (70_000,)).arrays()["classes"] == ("int32", (16,))


def test_topk_of_all_classes_loses_nothing() -> None:
    logits = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    codec = make_codec("topk:16", (5,))
    decoded = codec.decode(codec.encode(logits))
    assert decoded.classes.shape == (4, 4)  # the fifth class is the remaining mass
    torch.testing.assert_close(decoded.log_remaining.exp(), logits.softmax(-1).min(-1).values, atol=1e-3, rtol=1e-3)


def test_topk_classes_beyond_int16_come_back() -> None:
    logits = torch.zeros(1, 60_000)
    logits[0, 59_999] = 9.0
    codec = make_codec("topk:2", (60_000,))
    assert codec.decode(codec.encode(logits)).classes[0, 0].item() == 59_999


@pytest.mark.parametrize(
    ("spec", "row_shape", "says"),
    [
        ("topk:0", (10,), "at least 1"),
        ("topk:x", (10,), "whole number"),
        ("topk:-1", (10,), "whole number"),
        ("topk", (2, 3, 4), "logits"),
        ("float16:3", (10,), "no argument"),
        ("topk", (1,), "2 classes"),
    ],
)
def test_an_argument_that_a_codec_cannot_have_is_bad_input(spec: str, row_shape: tuple[int, ...], says: str) -> None:
    with pytest.raises(BadInput, match=f"--codec {spec}.*{says}"):
        make_codec(spec, row_shape)


@pytest.mark.parametrize(("row_shape", "keep"), [((10,), 3), ((4, 6, 6), 2), ((9, 16), 0), ((9, 16), 10)])
def test_tokens_that_are_not_there_cannot_be_kept(row_shape: tuple[int, ...], keep: int) -> None:
    with pytest.raises(BadInput, match=rf"--keep_tokens {keep}: .*\(tokens, dim\)"):
        make_codec("float16", row_shape, keep)


def test_an_unknown_codec_names_the_near_ones() -> None:
    with pytest.raises(UnknownName, match="unknown codec 'flaot16': did you mean float16"):
        make_codec("flaot16", (3,))
