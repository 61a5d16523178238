"""The row cache: within its bound, with as few downloads as the best rule there is, and right whatever happens."""

import os
from pathlib import Path
from typing import Any

import crc32c
import numpy as np
import pytest
from s3_server import Server
from test_bucket import put

from shards.errors import BadInput, Damaged
from shards.order import BatchOrder
from shards.row_cache import NEVER, RowCache
from shards.spans import Span
from shards.stores import open_store
from shards.upcoming import Upcoming

ROW, ROWS, BATCH, SHARD = 60_000, 120, 8, 40
"""Rows share pages with their neighbours: 60,000 is no multiple of 4,096."""
PAGES = 1 + 2 * 4096 / ROW
"""A row alone takes less than two pages more than its bytes."""


class Data:
    """Rows of random bytes in three files, and their checksums."""

    def __init__(self, store_url: str) -> None:
        self.rows = np.random.default_rng(0).integers(0, 256, (ROWS, ROW), np.uint8)
        self.sums = [crc32c.crc32c(row.tobytes()) for row in self.rows]
        self.store = open_store(store_url)
        for start in range(0, ROWS, SHARD):
            put(self.store, f"set/{start // SHARD}", self.rows[start : start + SHARD].tobytes())

    def spans(self, samples: np.ndarray) -> list[Span]:
        return [Span(f"set/{sample // SHARD}", int(sample % SHARD) * ROW, ROW) for sample in samples]

    def read(self, cache: RowCache, samples: np.ndarray, next_uses: np.ndarray) -> None:
        out = np.zeros((len(samples), ROW), np.uint8)
        sums = [self.sums[sample] for sample in samples]
        outs = [memoryview(row) for row in out]
        cache.read(self.spans(samples), outs, next_uses.tolist(), lambda n, row: crc32c.crc32c(row) == sums[n])
        assert (out == self.rows[samples]).all()


@pytest.fixture
def data(s3: Server) -> Data:
    return Data(s3.url)


ORDER = BatchOrder([np.arange(ROWS)], BATCH, [1], seed=3)


def train(data: Data, cache: RowCache, epochs: range) -> list[int]:
    """Bytes downloaded in each epoch."""
    upcoming, downloaded = Upcoming(ORDER), []
    for number in epochs:
        before, epoch = cache.downloaded_bytes, ORDER.epoch(number)
        for batch in range(ORDER.num_batches):
            for reading in epoch.readings(batch):
                data.read(cache, reading.samples, upcoming.after(number, reading))
        downloaded.append(cache.downloaded_bytes - before)
    return downloaded


def on_disk(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def fewest_misses(capacity: int, epochs: int) -> list[int]:
    """Belady's rule by the whole sequence, row by row: misses an epoch of a cache of `capacity` rows."""
    sequence = [
        int(sample)
        for number in range(epochs + 3)
        for batch in range(ORDER.num_batches)
        for reading in ORDER.epoch(number).readings(batch)
        for sample in reading.samples
    ]
    held, misses = set[int](), [0] * (epochs + 3)
    for time, sample in enumerate(sequence):
        if sample in held:
            continue
        misses[time // ROWS] += 1
        held.add(sample)
        if len(held) > capacity:
            rest = sequence[time + 1 :]
            held.remove(max(held, key=lambda each: rest.index(each) if each in rest else len(rest)))
    return misses[:epochs]


def test_with_half_the_data_held_an_epoch_downloads_half(data: Data, s3: Server, tmp_path: Path) -> None:
    whole = ROWS * ROW
    cache = RowCache(data.store, tmp_path / "cache", whole // 2)
    s3.faults.bytes_out = 0
    first, *later = train(data, cache, range(5))
    assert first == whole and sum(later) <= 0.55 * whole * len(later)
    assert s3.faults.bytes_out >= first + sum(later)  # counted at the server too
    assert s3.faults.bytes_out <= 1.05 * (first + sum(later))
    assert on_disk(tmp_path / "cache") <= whole // 2


@pytest.mark.slow
def test_it_is_the_best_rule_there_is(data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With rows of whole pages the bound is a number of rows, and no rule downloads less."""
    monkeypatch.setattr("test_row_cache.ROW", 4096)
    data = Data(data.store.url)
    capacity = 40
    cache = RowCache(data.store, tmp_path / "cache", capacity * 4096)
    found = [size // 4096 for size in train(data, cache, range(5))]
    best = fewest_misses(capacity, 5)
    # a batch is read at once, not row by row: at most a batch more
    assert all(abs(one - other) <= BATCH for one, other in zip(found, best, strict=True)), (found, best)
    assert best[1:] == [ROWS - capacity] * 4


@pytest.mark.slow
def test_everything_held_downloads_nothing_and_survives_a_kill(data: Data, tmp_path: Path) -> None:
    limit = int(ROWS * ROW * PAGES)
    assert train(data, RowCache(data.store, tmp_path / "cache", limit), range(2)) == [ROWS * ROW, 0]
    # nothing was closed or written down: a new process finds the rows by the holes between them
    assert train(data, RowCache(data.store, tmp_path / "cache", limit), range(2)) == [0, 0]
    # and one that may hold less lets go of what it finds
    smaller = RowCache(data.store, tmp_path / "cache", limit // 3)
    train(data, smaller, range(2))
    assert on_disk(tmp_path / "cache") <= limit // 3


@pytest.mark.slow
def test_what_another_run_left_goes_first(data: Data, tmp_path: Path) -> None:
    limit, half = ROWS * ROW // 3, ROWS * ROW // 2
    for start in range(0, ROWS, SHARD):
        put(data.store, f"other/{start // SHARD}", data.rows[start : start + SHARD].tobytes())
    first = RowCache(data.store, tmp_path / "cache", half)
    others = [Span(f"other/{number // SHARD}", number % SHARD * ROW, ROW) for number in range(ROWS)]
    out = np.zeros((BATCH, ROW), np.uint8)
    for start in range(0, ROWS, BATCH):
        first.read(others[start : start + BATCH], list(map(memoryview, out)), [1] * BATCH, lambda *_: True)
    found = train(data, RowCache(data.store, tmp_path / "cache", limit), range(4))
    fresh = train(data, RowCache(data.store, tmp_path / "fresh", limit), range(4))
    # as if nothing had been there; which rows share pages hangs on the order in which they arrive
    assert all(abs(one - other) <= BATCH * ROW for one, other in zip(found, fresh, strict=True)), (found, fresh)
    assert on_disk(tmp_path / "cache") <= limit


@pytest.mark.slow
def test_damaged_rows_are_fetched_again(data: Data, s3: Server, tmp_path: Path) -> None:
    limit = int(ROWS * ROW * PAGES)
    cache = RowCache(data.store, tmp_path / "cache", limit)
    train(data, cache, range(1))
    with (tmp_path / "cache/set/1").open("r+b") as file:
        file.seek(3 * ROW + 17)
        file.write(b"damage")
    assert train(data, cache, range(1)) == [ROW]
    (tmp_path / "cache/set/2").unlink()
    os.truncate(tmp_path / "cache/set/0", 100)
    assert train(data, cache, range(1)) == [2 * SHARD * ROW]
    (tmp_path / "cache/set/2").unlink()
    again = RowCache(data.store, tmp_path / "cache", limit)
    assert train(data, again, range(1)) == [SHARD * ROW]
    s3.faults.queue += [("wrong", "GET", "set/"), ("503", "GET", "set/"), ("cut", "GET", "set/")]
    train(data, RowCache(data.store, tmp_path / "other", limit), range(1))
    assert s3.faults.queue == []
    s3.faults.always.append(("wrong", "GET", "set/0"))
    with pytest.raises(Damaged, match=r"set/0: the row at \d+\+60000 fails its checksum after 3 fetches"):
        train(data, RowCache(data.store, tmp_path / "third", limit), range(1))


def test_a_cache_smaller_than_a_batch_is_refused(data: Data, tmp_path: Path) -> None:
    cache = RowCache(data.store, tmp_path / "cache", BATCH * ROW)
    with pytest.raises(BadInput, match=r"--read local_cache: 480.0 kB hold no batch of .* give at least"):
        train(data, cache, range(1))
    assert cache.downloaded_bytes == 0


def test_neighbours_come_in_one_request(data: Data, s3: Server, tmp_path: Path) -> None:
    cache = RowCache(data.store, tmp_path / "cache", int(ROWS * ROW * PAGES))
    s3.faults.requests.clear()
    samples = np.array([3, 4, 5, 9, 50, 51])
    data.read(cache, samples, np.full(len(samples), NEVER))
    assert s3.faults.requests["GET"] == 3


def test_an_image_and_its_label_come_in_one_request(data: Data, s3: Server, tmp_path: Path) -> None:
    """In a tar two headers and a .json of at most 512 bytes lie between them; the next image is another request."""
    cache = RowCache(data.store, tmp_path / "cache", ROWS * ROW)
    label = 20_000 // 512 * 512 + 5 * 512
    spans = [Span("set/0", 512, 20_000), Span("set/0", label, 1), Span("set/0", label + 5_000, 20_000)]
    out = [memoryview(bytearray(span.size)) for span in spans]
    s3.faults.requests.clear()
    cache.read(spans, out, [NEVER] * 3, lambda *_: True)
    assert s3.faults.requests["GET"] == 2
    whole = data.rows[:SHARD].tobytes()
    assert [bytes(each) for each in out] == [whole[span.offset :][: span.size] for span in spans]


def test_small_rows_cost_a_request_a_page(data: Data, s3: Server, tmp_path: Path) -> None:
    """Rows of top-16 logits in a random order: the first one of a page brings its neighbours, also those of its end."""
    size, count, tail = 66, 1000, 28
    content = np.random.default_rng(1).integers(0, 256, size * count + tail, np.uint8).tobytes()
    put(data.store, "small/0", content)
    cache, order = RowCache(data.store, tmp_path / "cache", 1 << 20), np.random.default_rng(2).permutation(count)
    num_pages = -(-len(content) // 4096)
    for most in (2 * num_pages, 0):  # a row at the edge of a page that is there asks for both
        s3.faults.requests.clear()
        for samples in order.reshape(-1, BATCH).tolist():
            spans = [Span("small/0", sample * size, size, len(content)) for sample in samples]
            outs = [memoryview(bytearray(size)) for _ in samples]
            rows = [content[span.offset :][:size] for span in spans]
            cache.read(spans, outs, [NEVER] * BATCH, lambda n, row, rows=rows: bytes(row) == rows[n])
            assert [bytes(each) for each in outs] == rows
        assert s3.faults.requests["GET"] <= most
    assert on_disk(tmp_path / "cache") == num_pages * 4096


def test_a_row_that_two_threads_keep_is_counted_once(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both missed it. While the second one writes it, a third neither lets it go nor counts a user more."""
    cache, sample = RowCache(data.store, tmp_path / "rows", 2 * ROW), np.array([0])
    data.read(cache, sample, np.array([5]))
    (span,), write, others = data.spans(sample), os.pwrite, []

    def while_it_is_written(*arguments: Any) -> int:
        written = write(*arguments)
        if not others:
            others.append(None)
            data.read(cache, sample, np.array([5]))
            data.read(cache, np.array([50]), np.array([1]))  # of use before: it would take the row's place
        return written

    monkeypatch.setattr("shards.row_pages.os.pwrite", while_it_is_written)
    cache._keep(span, memoryview(data.rows[0].tobytes()), 9)
    assert others and on_disk(tmp_path / "rows") <= 2 * ROW
    before = cache.downloaded_bytes
    data.read(cache, np.array([90]), np.array([2]))  # the row is let go for this one, and all of its pages are free
    data.read(cache, np.array([90]), np.array([2]))
    assert cache.downloaded_bytes == before + ROW and on_disk(tmp_path / "rows") <= 2 * ROW
