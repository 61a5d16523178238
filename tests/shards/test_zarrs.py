"""Zarr: our shard objects against zarr-python's, in both directions, and no index that leads astray."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from shards import zarrs
from shards.errors import Damaged
from shards.mapped import MappedArray
from shards.zarrs import DTYPES, ArraySpec, failing_chunks, metadata_bytes, pack, without_padding


@pytest.fixture(autouse=True, scope="module")
def small_chunks() -> Iterator[None]:
    """Inner chunks of at most 256 bytes, so that small arrays have many of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zarrs, "CHUNK_BYTES", 256)
        yield


@dataclass
class Written:
    """An array in a folder: what its rows are, (views, samples, *row_shape)."""

    folder: Path
    spec: ArraySpec
    rows: np.ndarray

    def failing_chunks(self, view: int, shard: int) -> list[int]:
        return failing_chunks(self.folder / self.spec.shard_path(view, shard), self.spec, self.spec.num_rows(shard))

    def gather(self, view: int, samples: np.ndarray) -> np.ndarray:
        """The rows of `samples` by our own reader."""
        mapped = MappedArray(self.spec)
        for shard in mapped.unopened(samples):
            mapped.open(shard, self.folder / self.spec.shard_path(view, shard))
        out = np.zeros((len(samples), self.spec.row_bytes), np.uint8)
        mapped.gather(samples, out)
        return out.view(self.spec.dtype).reshape(len(samples), *self.spec.row_shape)

    def write_ours(self) -> None:
        size = self.spec.shard_size
        (self.folder / self.spec.name).mkdir(parents=True, exist_ok=True)
        (self.folder / self.spec.name / "zarr.json").write_bytes(metadata_bytes(self.spec.metadata(len(self.rows))))
        for view, rows in enumerate(self.rows):
            for shard in range(-(-self.spec.num_samples // size)):
                path = self.folder / self.spec.shard_path(view, shard)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(pack(self.spec, rows[shard * size : (shard + 1) * size]))


@st.composite
def specs(draw: st.DrawFn) -> ArraySpec:
    row_shape = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=3)))
    num_samples, shard_size = draw(st.integers(1, 40)), draw(st.integers(1, 24))
    spec = ArraySpec("values", draw(st.sampled_from(DTYPES)), row_shape, num_samples, shard_size)
    return without_padding(spec) if draw(st.booleans()) else spec


def random_rows(spec: ArraySpec, num_views: int, seed: int) -> np.ndarray:
    """Rows of random bits, every one of the type's values (NaN left out, which equals nothing)."""
    generator = np.random.default_rng(seed)
    shape = (num_views, spec.num_samples, *spec.row_shape)
    if spec.dtype.startswith("float"):
        return generator.standard_normal(shape).astype(spec.dtype)
    limits = np.iinfo(spec.dtype)
    return generator.integers(limits.min, limits.max, shape, spec.dtype, endpoint=True)


def written(folder: Path, spec: ArraySpec, num_views: int = 2, seed: int = 0) -> Written:
    return Written(folder, spec, random_rows(spec, num_views, seed))


@settings(max_examples=60)
@given(specs(), st.integers(1, 3), st.data())
def test_ours_and_zarr_python_read_the_same_rows(
    tmp_path_factory: pytest.TempPathFactory, spec: ArraySpec, num_views: int, data: st.DataObject
) -> None:
    array = written(tmp_path_factory.mktemp("zarr"), spec, num_views)
    array.write_ours()
    stored = zarr.open_array(str(array.folder / "values"), mode="r", zarr_format=3)
    np.testing.assert_array_equal(stored[:], array.rows)
    view = data.draw(st.integers(0, num_views - 1))
    samples = np.array(sorted(data.draw(st.sets(st.integers(0, spec.num_samples - 1), min_size=1))), np.int64)
    np.testing.assert_array_equal(array.gather(view, samples), stored.oindex[view, samples])
    in_order = np.arange(samples[0], samples[-1] + 1)
    np.testing.assert_array_equal(array.gather(view, in_order), stored[view, samples[0] : samples[-1] + 1])


@settings(max_examples=30)
@given(specs())
def test_a_shard_that_zarr_python_wrote_is_mapped(tmp_path_factory: pytest.TempPathFactory, spec: ArraySpec) -> None:
    array = written(tmp_path_factory.mktemp("zarr"), spec, num_views=1)
    array.rows[array.rows == 0] = 1  # zarr-python leaves out a chunk of nothing but the fill value
    folder = array.folder / "values"
    folder.mkdir()
    (folder / "zarr.json").write_bytes(metadata_bytes(spec.metadata(1)))
    zarr.open_array(str(folder), mode="r+", zarr_format=3)[:] = array.rows
    np.testing.assert_array_equal(array.gather(0, np.arange(spec.num_samples)), array.rows[0])
    np.testing.assert_array_equal(array.gather(0, np.arange(0, spec.num_samples, 3)), array.rows[0, ::3])


def test_our_metadata_is_what_zarr_python_would_write(tmp_path: Path) -> None:
    spec = ArraySpec("values", "float16", (3, 4), 40, 16)
    metadata = spec.metadata(2)
    zarr.create_array(
        str(tmp_path / "theirs"),
        shape=(2, 40, 3, 4),
        shards=(1, 16, 3, 4),
        chunks=(1, spec.chunk_rows, 3, 4),
        dtype="float16",
        compressors=[zarr.codecs.Crc32cCodec()],
        fill_value=0,
    )
    theirs = json.loads((tmp_path / "theirs" / "zarr.json").read_bytes())
    assert theirs["codecs"] == metadata["codecs"]
    for field in ("shape", "data_type", "chunk_grid", "node_type", "zarr_format"):
        assert theirs[field] == metadata[field], field


@pytest.fixture
def array(tmp_path: Path) -> Written:
    array = written(tmp_path, ArraySpec("values", "float32", (5, 4), 24, 16))  # shards of 16 and 8 rows, chunks of 2
    array.write_ours()
    return array


def test_equal_rows_give_equal_bytes(array: Written) -> None:
    rows = array.rows[0, :16]
    assert pack(array.spec, rows) == pack(array.spec, np.asfortranarray(rows))


def test_a_chunk_that_fails_its_checksum_is_named(array: Written) -> None:
    path = array.folder / array.spec.shard_path(0, 0)
    assert array.failing_chunks(0, 0) == []
    data = bytearray(path.read_bytes())
    data[5 * (array.spec.chunk_bytes + 4) + 7] ^= 1
    path.write_bytes(data)
    assert array.failing_chunks(0, 0) == [5]


def test_every_flipped_bit_of_the_index_is_noticed(array: Written) -> None:
    path = array.folder / array.spec.shard_path(0, 0)
    whole = path.read_bytes()
    for position in range(len(whole) - 8 * 16 - 4, len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x10]) + whole[position + 1 :])
        with pytest.raises(Damaged, match="checksum"):
            array.failing_chunks(0, 0)


@pytest.mark.parametrize("size", [0, 1, 131])
def test_a_shard_too_short_for_its_index_is_refused(array: Written, size: int) -> None:
    path = array.folder / array.spec.shard_path(0, 0)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(Damaged, match="too few for its index"):
        array.failing_chunks(0, 0)


@pytest.mark.parametrize(
    "entry",
    [(2**64 - 1, 2**64 - 1), (2**63, 164), (0, 2**63), (0, 160), (10_000, 164), (8 * 164 + 1, 164), (2 * 164, 164)],
)
def test_an_index_that_leads_outside_is_refused(array: Written, entry: tuple[int, int]) -> None:
    """The checksum fits: somebody made it so, or left a chunk out, which must never read as zeros."""
    import crc32c

    path = array.folder / array.spec.shard_path(0, 0)
    whole = bytearray(path.read_bytes())
    index = np.frombuffer(whole[-8 * 16 - 4 : -4], "<u8").reshape(-1, 2).copy()
    index[3] = entry
    whole[-8 * 16 - 4 :] = index.tobytes() + crc32c.crc32c(index.tobytes()).to_bytes(4, "little")
    path.write_bytes(whole)
    with pytest.raises(Damaged, match="where none of this array can be"):
        array.failing_chunks(0, 0)


@pytest.mark.parametrize(
    "rows",
    [np.zeros((3, 5, 4)), np.zeros((3, 4, 5), "f4"), np.zeros((0, 5, 4), "f4"), np.zeros((17, 5, 4), "f4")],
    ids=["float64", "another shape", "no rows", "too many"],
)
def test_rows_that_are_not_the_arrays_are_refused(array: Written, rows: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected float32"):
        pack(array.spec, rows)
