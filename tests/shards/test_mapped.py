"""Mapped: rows of many shard objects through one range of addresses, and what of it is given back or refused."""

from pathlib import Path

import caches
import crc32c
import numpy as np
import pytest

from shards.errors import Damaged
from shards.mapped import MappedArray
from shards.reader import TargetSet
from shards.zarrs import ArraySpec, pack


@pytest.mark.parametrize("layout", [None, (20, 5)])
@pytest.mark.parametrize("row_shape", [(7,), (1000,), (197, 768)])
def test_rows_of_many_shards(tmp_path: Path, row_shape: tuple[int, ...], layout: tuple[int, int] | None) -> None:
    """Small rows go by one call over all shards, dense ones by rows, and rows that follow each other by chunks."""
    spec = ArraySpec("values", "float16", row_shape, num_samples=85, shard_size=20, layout=layout)
    rows = np.random.default_rng(0).standard_normal((85, *row_shape), np.float32).astype(np.float16)
    mapped = MappedArray(spec)
    for shard in mapped.unopened(np.arange(85)):
        (tmp_path / str(shard)).write_bytes(pack(spec, rows[shard * 20 : (shard + 1) * 20]))
        mapped.open(shard, tmp_path / str(shard))
    assert mapped.unopened(np.arange(85)) == []
    for samples in ([0, 3, 19, 20, 41, 84], [84], range(18, 83), range(85), [80, 82]):
        out = np.zeros((len(samples), spec.row_bytes), np.uint8)
        mapped.gather(np.array(samples), out)
        np.testing.assert_array_equal(out.view(np.float16).reshape(-1, *row_shape), rows[list(samples)])


def test_a_chunk_that_does_not_begin_its_file_is_refused(tmp_path: Path) -> None:
    """Its rows would have no number in the range; extract writes every chunk at its place."""
    spec = ArraySpec("values", "float16", (5,), num_samples=8, shard_size=4)
    chunk = bytes(pack(spec, np.ones((4, 5), np.float16)))[:44]
    index = np.array([6, 44], "<u8").tobytes()
    (tmp_path / "0").write_bytes(bytes(6) + chunk + index + crc32c.crc32c(index).to_bytes(4, "little"))
    with pytest.raises(Damaged, match="where none of this array can be"):
        MappedArray(spec).open(0, tmp_path / "0")


def test_an_array_larger_than_all_addresses_is_refused() -> None:
    with pytest.raises(Damaged, match="more than there are addresses"):
        MappedArray(ArraySpec("values", "float16", (1 << 20,), num_samples=1 << 40, shard_size=512))


def test_views_that_are_no_longer_read_give_their_mappings_back(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shards.last_views._views_kept", 2)  # a test before may have read batches of more
    cache = tmp_path / "cache"
    flags = ("--teacher", f"run:{teacher}", "--out", cache, "--views", "4", "--codec", "topk:3")
    caches.extract(*flags, *caches.SMALL)
    folder = caches.targetset_of(cache)
    targets, samples = TargetSet(folder), np.array([0, 17, 39])
    first = [targets.read(view, samples)["log_probabilities"] for view in range(4)]
    mapped = Path("/proc/self/maps").read_text().count(str(folder))
    assert mapped == 2 * 3 * caches.NUM_SHARDS  # two views, three arrays, three shards
    for view in range(4):
        np.testing.assert_array_equal(targets.read(view, samples)["log_probabilities"], first[view])
