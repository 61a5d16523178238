"""int8 and int4: what they cost, what they lose, that their statistics decide it; and any codec with kept tokens."""

import math

import numpy as np
import pytest
import torch

from shards.codec_error import cosine_error
from shards.codecs import make_codec
from shards.codecs.base import Codec
from shards.codecs.features import Features
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


def stored_bytes(spec: str, keep: int | None = None) -> int:
    arrays = make_codec(spec, (TOKENS, WIDTH), keep).arrays().values()
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


KEEP = 49


def drawn(count: int, tokens: int = TOKENS, keep: int = KEEP) -> torch.Tensor:
    """Other positions for each sample, the first token always among them."""
    generator = torch.Generator().manual_seed(5)
    others = torch.rand(count, tokens - 1, generator=generator).argsort(1)[:, : keep - 1] + 1
    return torch.cat([torch.zeros(count, 1, dtype=torch.int64), others.sort(1).values], 1)


def calibrated(spec: str, keep: int | None = None):
    codec = make_codec(spec, (TOKENS, WIDTH), keep)
    return codec.calibrate(features(1))


def test_kept_tokens_cost_what_the_design_says():
    assert stored_bytes("int8", KEEP) == 37_730 + 49
    assert make_codec("int8", (256, 64), 9).arrays()["positions"] == ("uint8", (9,))
    assert make_codec("int8", (257, 64), 9).arrays()["positions"] == ("uint16", (9,))


@pytest.mark.parametrize("spec", ["float32", "float16", "int8", "int4"])
def test_a_kept_row_is_stored_as_it_is_among_all_tokens(spec):
    rows, positions = features(2), drawn(8)
    whole, kept = calibrated(spec), calibrated(spec, KEEP)
    assert isinstance(kept, Codec) and kept.name == spec
    assert kept.describe() == whole.describe() | {"keep_tokens": KEEP}
    stored, full = kept.encode(Features.of(rows, positions)), whole.encode(rows)
    assert {name: (str(values.dtype)[6:], tuple(values.shape[1:])) for name, values in stored.items()} == kept.arrays()
    for name, values in full.items():
        chosen = positions[..., None].expand(-1, -1, values.shape[-1])
        assert torch.equal(stored[name], values.gather(1, chosen)), name
    decoded = kept.decode(stored)
    assert torch.equal(decoded.positions, positions)
    assert torch.equal(decoded.rows, decoded.take_from(whole.decode(full)))
    assert kept.error(Features.of(rows, positions)) == cosine_error(decoded.take_from(rows), decoded.rows)


def test_kept_tokens_have_a_calibration_just_where_their_codec_has_one():
    for spec, has_one in (("float16", False), ("int8", True), ("int4", True)):
        codec = make_codec(spec, (TOKENS, WIDTH), KEEP)
        assert codec.has_statistics == has_one
    state = calibrated("int8", KEEP).state()
    again = make_codec("int8", (TOKENS, WIDTH), KEEP).with_state(state)
    rows = Features.of(features(3), drawn(8))
    one, other = again.encode(rows), calibrated("int8", KEEP).encode(rows)
    assert all(torch.equal(one[name], other[name]) for name in other)


def test_a_position_outside_of_the_sequence_takes_no_token():
    with pytest.raises(RuntimeError, match="out of bounds"):
        Features(torch.zeros(1, 1, 4), torch.tensor([[5]])).take_from(torch.zeros(1, 5, 4))


def test_a_position_beyond_a_byte_comes_back():
    codec = make_codec("float16", (1025, 4), 2)
    positions = torch.tensor([[0, 1024]])
    decoded = codec.decode(codec.encode(Features.of(torch.randn(1, 1025, 4), positions)))
    assert torch.equal(decoded.positions, positions)
