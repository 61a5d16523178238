"""int8 and int4: what they cost, what they lose, and that their statistics decide it."""

import math

import numpy as np
import pytest
import torch

from shards.codecs import make_codec
from shards.codecs.base import cosine_error
from shards.errors import BadInput, Damaged

TOKENS, WIDTH = 197, 768


def features(seed: int, count: int = 8) -> torch.Tensor:
    """Rows like a transformer's: channels of very different means and deviations, tokens of different lengths."""
    generator = torch.Generator().manual_seed(0)
    mean = 3 * torch.randn(WIDTH, generator=generator)
    std = torch.randn(WIDTH, generator=generator).exp()
    draws = torch.Generator().manual_seed(seed)
    length = (0.3 * torch.randn(count, TOKENS, 1, generator=draws)).exp()
    return (mean + std * torch.randn(count, TOKENS, WIDTH, generator=draws)) * length


def stored_bytes(spec: str) -> int:
    arrays = make_codec(spec, (TOKENS, WIDTH)).arrays().values()
    return sum(math.prod(shape) * np.dtype(dtype).itemsize for dtype, shape in arrays)


@pytest.mark.parametrize(("spec", "size", "cosine"), [("int8", 151_690, 0.9999), ("int4", 85_104, 0.995)])
def test_size_and_error_are_those_that_the_design_promises(spec, size, cosine):
    assert stored_bytes(spec) == size
    codec = make_codec(spec, (TOKENS, WIDTH)).calibrate(features(1))
    rows = features(2)
    assert cosine_error(rows, codec.decode(codec.encode(rows)))["cosine_mean"] >= cosine


@pytest.mark.parametrize("spec", ["int8", "int4"])
def test_standardised_channels_lose_less_than_raw_ones(spec):
    rows = features(3)
    raw = make_codec(spec, (TOKENS, WIDTH)).with_state({"mean": torch.zeros(WIDTH), "std": torch.ones(WIDTH)})
    assert codec_error(spec, rows) < 0.7 * (1 - cosine_error(rows, raw.decode(raw.encode(rows)))["cosine_mean"])


def codec_error(spec: str, rows: torch.Tensor) -> float:
    codec = make_codec(spec, (TOKENS, WIDTH)).calibrate(rows)
    return 1 - cosine_error(rows, codec.decode(codec.encode(rows)))["cosine_mean"]


@pytest.mark.parametrize("spec", ["int8", "int4"])
def test_rounding_is_to_the_nearest_level(spec):
    codec = make_codec(spec, (4, 64)).with_state({"mean": torch.zeros(64), "std": torch.ones(64)})
    rows = torch.randn(5, 4, 64, generator=torch.Generator().manual_seed(4))
    stored = codec.encode(rows)
    step = stored["scale"].float()
    step = step if spec == "int8" else step.repeat_interleave(64, -1)
    slack = 1.02  # the scale itself is rounded to float16, and the largest level may be clamped by that much
    assert ((codec.decode(stored) - rows).abs() <= 0.5 * slack * step + step * 127 * 2**-11).all()


@pytest.mark.parametrize("spec", ["int8", "int4"])
def test_constant_channels_and_tokens_survive(spec):
    rows = torch.full((3, 2, 64), 7.0)
    codec = make_codec(spec, (2, 64)).calibrate(rows)
    torch.testing.assert_close(codec.decode(codec.encode(rows)), rows)


def test_int4_packs_two_numbers_a_byte_in_groups_that_divide_the_width():
    assert make_codec("int4", (3, 40)).arrays()["scale"] == ("float16", (3, 1))
    assert make_codec("int4", (3, 96)).arrays()["scale"] == ("float16", (3, 2))
    with pytest.raises(BadInput, match="int8"):
        make_codec("int4", (3, 41))


def test_statistics_of_other_channels_are_refused():
    with pytest.raises(Damaged, match="64 channels"):
        make_codec("int8", (2, 64)).with_state({"mean": torch.zeros(32), "std": torch.ones(32)})
