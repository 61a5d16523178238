"""Zarr: how large an inner chunk is, and that sets of any size are stored in little more than their rows."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from test_zarrs import written

from shards import zarrs
from shards.errors import Damaged
from shards.zarrs import ArraySpec, without_padding

SETS = {
    "logits of 640 float32": [("float32", (640,))],
    "topk:16": [("uint16", (16,)), ("float16", (16,)), ("float16", (1,))],
    "int8": [("int8", (197, 768)), ("float16", (197, 1))],
    "49 tokens in int4": [("uint8", (49, 384)), ("float16", (49, 12)), ("float16", (49, 12)), ("uint8", (49,))],
}


SIZES = [
    *range(1, 140),
    *range(141, 1100, 9),
    511,
    512,
    513,
    1023,
    1024,
    1025,
    1500,
    2000,
    2559,
    2560,
    10_000,
    1_281_167,
]


@pytest.mark.parametrize(
    ("name", "shard_size"), [*((name, 512) for name in SETS), ("logits of 640 float32", 100), ("int8", 100)]
)
def test_a_set_of_any_size_is_stored_in_little_more_than_its_rows(name: str, shard_size: int) -> None:
    """In 1.2 times the payload, beside the 24 bytes of checksum and index that the smallest object has.

    Rows of a few bytes in shards of less than the default have no chunks small enough for that.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zarrs, "CHUNK_BYTES", 5 << 20)
        for num_samples in SIZES:
            plain = [ArraySpec("values", *array, num_samples, shard_size) for array in SETS[name]]
            payload = sum(spec.num_samples * spec.row_bytes for spec in plain)
            num_objects = len(plain) * -(-num_samples // shard_size)
            stored = sum(without_padding(spec).view_bytes for spec in plain)
            assert stored <= 1.2 * payload + 24 * num_objects, num_samples
            for spec in plain:
                if spec.view_bytes <= 1.2 * num_samples * spec.row_bytes:
                    assert without_padding(spec) == spec  # as it was always written


def test_64_rows_of_2560_bytes_take_164_kilobytes_and_not_1_3_megabytes(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zarrs, "CHUNK_BYTES", 5 << 20)
        padded = ArraySpec("values", "float32", (640,), 64, 512)
        array = written(tmp_path, without_padding(padded), num_views=2)
        assert padded.view_bytes == 512 * 2560 + 24
        array.write_ours()
        for view in range(2):
            size = (tmp_path / array.spec.shard_path(view, 0)).stat().st_size
            assert size == array.spec.view_bytes == 64 * 2560 + 24
        stored = zarr.open_array(str(tmp_path / "values"), mode="r", zarr_format=3)
        np.testing.assert_array_equal(stored[:], array.rows)
        np.testing.assert_array_equal(array.gather(1, np.array([0, 5, 63])), array.rows[1, [0, 5, 63]])


def test_an_inner_chunk_is_a_divisor_of_the_shard_and_small() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zarrs, "CHUNK_BYTES", 5 << 20)
        assert ArraySpec("values", "float16", (197, 768), 1_281_167, 512).chunk_rows == 16
        assert ArraySpec("values", "float16", (1000,), 1_281_167, 512).chunk_rows == 512
        assert ArraySpec("values", "float16", (197, 768), 100, 7).chunk_rows == 7
        assert ArraySpec("values", "float32", (4096, 1024), 100, 6).chunk_rows == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"dtype": "object"},
        {"dtype": "float64"},
        {"row_shape": (0,)},
        {"row_shape": (-1, 4)},
        {"row_shape": (1 << 40,)},
        {"num_samples": 0},
        {"num_samples": 1 << 50},
        {"shard_size": 0},
        {"shard_size": 1 << 50},
    ],
)
def test_an_absurd_array_is_refused_before_anything_is_allocated(fields: dict[str, Any]) -> None:
    plain: dict[str, Any] = {"dtype": "float16", "row_shape": (4,), "num_samples": 10, "shard_size": 5}
    with pytest.raises(Damaged, match=r"absurd|data type|bytes; at most"):
        ArraySpec("values", **plain | fields)
