"""Rows: each is checked as it arrives, cold or warm, and damage is found where it is read and not before."""

import os
import resource
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import crc32c
import numpy as np
import pytest
from caches import NUM_SAMPLES, command, reseal, reseal_records, targetset_of, viewset_of

from shards.errors import BadInput, Damaged
from shards.ranges import FolderRanges, Range
from shards.read_flag import parse_read
from shards.reader import TargetSet, ViewSet
from shards.rows import checksums_of, failing
from shards.tar import listing


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def drop(folder: Path) -> None:
    """Nothing under `folder` is in memory."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def test_a_flipped_bit_is_found_when_its_row_is_read_and_not_before(cache: Path) -> None:
    folder = targetset_of(cache)
    targets = TargetSet(folder)
    spec, path = targets.arrays["values"], folder / targets.arrays["values"].shard_path(0, 1)
    flip(path, spec.row_offset(3) + 5)
    bad = spec.shard_size + 3
    others = np.delete(np.arange(NUM_SAMPLES), bad)
    assert len(targets.read(0, others)["values"]) == NUM_SAMPLES - 1
    for _ in range(2):
        with pytest.raises(Damaged, match=rf"{path}: row 3 \(sample {bad}\) fails its crc32c.*python -m shards remove"):
            targets.read(0, np.array([0, bad]))
    assert command("shards", "verify", cache).status == 2


@pytest.mark.parametrize("row_bytes", [1, 36, 2000, 40_000])
@pytest.mark.parametrize("count", [1, 31, 32, 33, 64, 100])
def test_rows_checked_together_fail_as_each_alone(row_bytes: int, count: int) -> None:
    """Any one bit, rows in each other's place, and rows of a buffer with gaps."""
    generator = np.random.default_rng(count)
    rows = generator.integers(0, 256, (count, row_bytes), np.uint8)
    rows[:, 0] = np.arange(count)  # none like another
    sums = np.array([crc32c.crc32c(row.data) for row in rows], np.uint32)
    assert failing(rows, sums) == [] == failing(np.repeat(rows, 2, axis=0)[::2], sums)
    for row in {0, count // 2, count - 1}:
        damaged = rows.copy()
        damaged[row, generator.integers(row_bytes)] ^= 1 << generator.integers(8)
        assert failing(damaged, sums) == [row]
    swapped = rows.copy()
    swapped[[0, count - 1]] = swapped[[count - 1, 0]]
    assert failing(swapped, sums) == ([0, count - 1] if count > 1 else [])


@pytest.mark.parametrize("ending", ["jpg", "json", "cls"])
def test_a_flipped_bit_of_one_member(cache: Path, ending: str) -> None:
    folder = viewset_of(cache)
    views, path = ViewSet(folder), folder / "views/v00-00001.tar"
    size = views.plan.shard_size
    key = views.plan.keys[size + 2]
    ((offset, _),) = [(at, length) for name, at, length in listing(path.read_bytes()) if name == f"{key}.{ending}"]
    flip(path, offset)
    for sample in range(NUM_SAMPLES):
        for each in ("jpg", "json", "cls"):
            if (sample, each) == (size + 2, ending):
                with pytest.raises(Damaged, match=rf"{path}: row 2: its \.{ending} fails its crc32c"):
                    views.storage.content(0, sample, each)
            else:
                assert views.storage.content(0, sample, each)
    if ending != "json":
        with pytest.raises(Damaged, match="fails its crc32c"):
            views.fetch(0, range(NUM_SAMPLES), labels=True)


@pytest.mark.parametrize("at", [0, -1])
def test_what_no_row_holds_is_found_by_verify(cache: Path, at: int) -> None:
    """A tar's first header and an array's index."""
    viewset, targetset = viewset_of(cache), targetset_of(cache)
    path = viewset / "views/v00-00001.tar" if at == 0 else targetset / "values/c/0/1/0"
    flip(path, at)
    TargetSet(targetset).read(0, np.arange(NUM_SAMPLES))
    assert str(path) in command("shards", "verify", cache).err


def test_once_believes_a_row_that_fitted(cache: Path) -> None:
    """Of a file that changes in place while it is mapped."""
    folder = targetset_of(cache)
    for check in ("once", "always"):
        targets = TargetSet(folder)
        targets.checked.check = check
        path = folder / targets.arrays["values"].shard_path(0, 0)
        targets.read(0, np.arange(4))
        flip(path, 1)
        if check == "once":
            targets.read(0, np.arange(4))
        else:
            with pytest.raises(Damaged, match="row 0"):
                targets.read(0, np.arange(4))
        flip(path, 1)


def test_cold_rows_are_the_mapped_ones(cache: Path) -> None:
    """Views, labels and targets, bit for bit, with threads for requests and without."""
    viewset, targetset = viewset_of(cache), targetset_of(cache)
    samples = np.array([0, 1, 2, 7, 19, 20, 21, 39])
    warm = TargetSet(targetset).read(1, samples)
    pixels, labels = ViewSet(viewset).rows(1, samples.tolist()), ViewSet(viewset).labels(1, samples.tolist())
    with ThreadPoolExecutor(8) as requests:
        for pool in (None, requests):
            drop(viewset)
            targets, views = TargetSet(targetset), ViewSet(viewset)
            out = {name: np.zeros((len(samples), spec.row_bytes), np.uint8) for name, spec in targets.arrays.items()}
            targets.gather(1, samples, out, pool)
            for name, rows in warm.items():
                np.testing.assert_array_equal(out[name].view(rows.dtype).reshape(rows.shape), rows)
            fetched = views.fetch(1, samples.tolist(), True, pool)
            assert fetched is not None
            read = {name: np.zeros_like(rows) for name, rows in pixels.items()}
            views.read(1, samples.tolist(), read, 0, fetched)
            np.testing.assert_array_equal(read["pixels"], pixels["pixels"])
            np.testing.assert_array_equal(views.labels(1, samples.tolist(), fetched), labels)


def test_ranges_are_read_whatever_their_order_and_gaps(tmp_path: Path) -> None:
    content = np.random.default_rng(0).integers(0, 256, 100_000, np.uint8).tobytes()
    (tmp_path / "file").write_bytes(content)
    places = [(90_000, 10_000), (0, 10), (10, 0), (10, 5), (20, 30_000), (40_000, 1), (50_000, 3)]
    buffers = [bytearray(size) for _, size in places]
    ranges = [Range("file", at, memoryview(buffer)) for (at, _), buffer in zip(places, buffers, strict=True)]
    FolderRanges(tmp_path)(ranges, None)
    assert [bytes(buffer) for buffer in buffers] == [content[at : at + size] for at, size in places]
    with pytest.raises(Damaged, match="file: ends before byte 100001"):
        FolderRanges(tmp_path)([Range("file", 99_999, memoryview(bytearray(2)))], None)


def test_few_descriptors_are_open_whatever_the_number_of_files(tmp_path: Path) -> None:
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    for number in range(200):
        (tmp_path / str(number)).write_bytes(bytes([number]))
    read = FolderRanges(tmp_path)
    buffers = [bytearray(1) for _ in range(200)]
    before = len(list(Path("/proc/self/fd").iterdir()))
    read([Range(str(number), 0, memoryview(buffer)) for number, buffer in enumerate(buffers)], None)
    assert [buffer[0] for buffer in buffers] == list(range(200))
    assert len(list(Path("/proc/self/fd").iterdir())) - before <= max(8, limit // 4)


def test_a_commit_record_with_fewer_checksums_is_refused(cache: Path) -> None:
    folder, name = targetset_of(cache), "commits/v00-00001.json"
    reseal(folder / name, lambda document: document["checksums"].update(values=checksums_of([b"row"])))
    reseal_records(folder, "targetset.json", name)
    with pytest.raises(Damaged, match="its checksums of values are not those of"):
        TargetSet(folder).read(0, np.arange(NUM_SAMPLES))


def test_the_flag_says_how_often_rows_are_checked() -> None:
    assert [parse_read(flag).check for flag in (None, "check=always", "check=once")] == ["always", "always", "once"]
    assert parse_read("local_cache=1.5GB,check=once") == ("once", 1_500_000_000, None, ())
    assert parse_read("views_a_batch=4,check=once") == ("once", None, 4, ())
    read = parse_read("data=parquet:a:image=b,label=c,data_dir=d,check=once,data=folder:e")
    assert read.data == (("parquet:a:image=b,label=c", "d"), ("folder:e", None)) and read.check == "once"
    assert [parse_read(f"local_cache={size}").local_cache for size in ("4096", "2kB", "3 MiB")] == [4096, 2000, 3 << 20]
    for flag in ("check", "check=never", "often=once"):
        with pytest.raises(BadInput, match=f"--read {flag}: expected check=always, check=once, local_cache=SIZE"):
            parse_read(flag)
    with pytest.raises(BadInput, match="is a copy of what"):
        parse_read("data_dir=here")
    for size in ("", "0", "-1GB", "many", "1e3", "5GBs"):
        with pytest.raises(BadInput, match=f"--read local_cache={size}: expected a size above 0"):
            parse_read(f"local_cache={size}")
