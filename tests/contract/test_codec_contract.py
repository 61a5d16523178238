"""What every codec of the registry promises; a new one is tested by its line there."""

import contextlib
import json
from typing import Any

import pytest
import torch
from torch import Tensor

from shards.codecs import REGISTRY, make_codec
from shards.errors import BadInput
from shards.zarrs import DTYPES

ROW_SHAPES = [(10,), (257,), (1000,), (5, 64), (3, 768)]


def accepted(name: str) -> list[tuple[int, ...]]:
    """The shapes of rows that a codec takes."""
    found = []
    for row_shape in ROW_SHAPES:
        with contextlib.suppress(BadInput):
            make_codec(name, row_shape)
            found.append(row_shape)
    return found


CASES = [(name, row_shape) for name in sorted(REGISTRY) for row_shape in accepted(name)]


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def case(request: pytest.FixtureRequest) -> tuple[Any, Tensor]:
    """A codec and rows for it."""
    name, row_shape = request.param
    rows = 3 * torch.randn(9, *row_shape, generator=torch.Generator().manual_seed(1))
    codec = make_codec(name, row_shape)
    # random rows have no clusters: codebooks are made of these very rows
    codec = codec.calibrate(rows) if codec.num_centroids else calibrated(codec, row_shape)
    return codec.with_numbers(random_numbers(codec)), rows


def calibrated(codec: Any, row_shape: tuple[int, ...]) -> Any:
    """The codec with its statistics of other rows than the tests', where it takes any."""
    others = 3 * torch.randn(30, *row_shape, generator=torch.Generator().manual_seed(2))
    return codec.calibrate(others)


def random_numbers(codec: Any) -> Tensor:
    """The numbers that a codec takes for the tests' nine rows."""
    return torch.randint(2**63 - 1, (9, codec.numbers_a_row), generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_some_rows_are_accepted(name: str) -> None:
    assert accepted(name)


def test_encode_gives_just_the_arrays_that_it_announces(case: tuple[Any, Tensor]) -> None:
    codec, rows = case
    stored, announced = codec.encode(rows), codec.arrays()
    assert stored.keys() == announced.keys()
    for name, (dtype, row_shape) in announced.items():
        assert dtype in DTYPES
        assert str(stored[name].dtype) == f"torch.{dtype}"
        assert tuple(stored[name].shape) == (len(rows), *row_shape) and min(row_shape) >= 1
        assert name.isidentifier()  # it is a folder


def test_a_row_is_stored_alike_in_any_batch(case: tuple[Any, Tensor]) -> None:
    codec, rows = case
    whole, numbers = codec.encode(rows), random_numbers(codec)
    parts = [codec.with_numbers(numbers[some]).encode(rows[some]) for some in (slice(2), slice(2, None))]
    for name in whole:
        assert torch.equal(whole[name], torch.cat([part[name] for part in parts])), name


def test_equal_rows_are_stored_alike(case: tuple[Any, Tensor]) -> None:
    codec, rows = case
    first, again = codec.encode(rows), codec.encode(rows.clone())
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_decoding_through_numpy_is_what_encode_said(case: tuple[Any, Tensor]) -> None:
    """The way through a file: numpy rows of the announced type, and back to a tensor."""
    codec, rows = case
    stored = codec.encode(rows)
    read = {name: torch.from_numpy(values.numpy().copy()) for name, values in stored.items()}
    direct, through = codec.decode(stored), codec.decode(read)
    for one, other in zip(_tensors(direct), _tensors(through), strict=True):
        assert torch.equal(one, other) and torch.isfinite(one).all()


def test_a_decoded_row_is_near_what_was_encoded(case: tuple[Any, Tensor]) -> None:
    codec, rows = case
    decoded = codec.decode(codec.encode(rows))
    if isinstance(decoded, Tensor):
        assert decoded.shape == rows.shape and decoded.dtype == torch.float32
        cosines = torch.nn.functional.cosine_similarity(decoded.flatten(1), rows.flatten(1))
        assert cosines.min() > 0.98
    stated = codec.error(rows)
    assert stated and all(isinstance(value, float) for value in stated.values())
    json.dumps(stated, allow_nan=False)


def test_the_error_stated_is_the_error_made(case: tuple[Any, Tensor]) -> None:
    codec, rows = case
    decoded, stated = codec.decode(codec.encode(rows)), codec.error(rows)
    if isinstance(decoded, Tensor):
        assert stated["largest_difference"] == pytest.approx((decoded - rows).abs().max().item(), rel=1e-3, abs=1e-6)


def test_its_name_makes_it_again(case: tuple[Any, Tensor]) -> None:
    """A manifest holds the name; distill makes the codec from it."""
    codec, rows = case
    again = make_codec(codec.name, tuple(rows.shape[1:]))
    assert again.describe() == codec.describe() and again.arrays() == codec.arrays()
    assert json.loads(json.dumps(codec.describe())) == codec.describe()


def test_a_calibration_is_kept_and_comes_back(case: tuple[Any, Tensor]) -> None:
    from safetensors.torch import load, save

    codec, rows = case
    if not codec.has_statistics:
        return  # most codecs have none
    fresh = make_codec(codec.name, tuple(rows.shape[1:]))
    again = fresh.with_state(load(save(codec.state())))
    first, second = codec.encode(rows), again.encode(rows)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert codec.describe() == fresh.describe()  # the identity does not hang on them: they follow from it


def test_no_two_codecs_describe_themselves_alike() -> None:
    described = [json.dumps(make_codec(name, accepted(name)[0]).describe()) for name in sorted(REGISTRY)]
    assert len(set(described)) == len(REGISTRY)


def test_an_argument_that_makes_no_sense_is_refused(case: tuple[Any, Tensor]) -> None:
    codec, rows = case
    base = codec.name.partition(":")[0]
    with pytest.raises(BadInput, match=f"--codec {base}:nonsense"):
        make_codec(f"{base}:nonsense", tuple(rows.shape[1:]))


def _tensors(decoded: Any) -> list[Tensor]:
    """The floating tensors of what a codec decodes to."""
    values = [decoded] if isinstance(decoded, Tensor) else list(vars(decoded).values())
    return [value for value in values if isinstance(value, Tensor) and value.is_floating_point()]
