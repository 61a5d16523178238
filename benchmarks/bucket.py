"""Bucket: rows delivered through the row cache, against bare ranged reads of the same bytes; and an epoch's downloads.

Rows of 151,690 bytes (197 x 768 in int8) lie in a bucket of a server of this benchmark's own, which waits 20 ms before
each answer, any number at a time. Compared, in shuffled batches of 256: the row cache (each row checked by its crc32c
and written to a local cache of two batches, empty at the start of an epoch, so that all are fetched), against the same
store's `get_range` by as many threads, which keeps and checks nothing.
Limit: the same requests, bytes and threads. Beside it the share of the data that an epoch downloads with half held.
"""

import argparse
import itertools
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import crc32c
import numpy as np

from benchmarks.measure import Figure, Report, Spread, alternate, per_unit, run, share
from benchmarks.range_server import serving
from shards.order import BatchOrder
from shards.row_cache import REQUESTS, RowCache
from shards.spans import Span
from shards.stores import open_store
from shards.stores.base import Store
from shards.upcoming import Upcoming

ROW_BYTES, DELAY_S = 151_690, 0.020
SIZES = {"rows": 4096, "shard_size": 512, "batch_size": 256}
QUICK_SIZES = {"rows": 192, "shard_size": 48, "batch_size": 32}


def measure(options: argparse.Namespace, folder: Path) -> Report:
    """One epoch a round; the share downloaded is that of three epochs after the first."""
    sizes = QUICK_SIZES if options.quick else SIZES
    num_rows, shard_size = sizes["rows"], sizes["shard_size"]
    rows = np.random.default_rng(0).integers(0, 256, (num_rows, ROW_BYTES), np.uint8)
    sums = [crc32c.crc32c(row) for row in rows]
    (folder / "files").mkdir()
    for start in range(0, num_rows, shard_size):
        rows[start : start + shard_size].tofile(folder / "files" / f"{start // shard_size}")
    del rows
    order = BatchOrder([np.arange(num_rows)], sizes["batch_size"], [1])
    report = Report("how fast do rows come from a bucket, and how many again?", "rows", sizes | {"delay_s": DELAY_S})
    with serving(folder / "files", DELAY_S) as endpoint:
        os.environ |= {"AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
        store = open_store("s3://bucket")
        epoch = _Epochs(store, order, shard_size, sums)
        small = 2 * sizes["batch_size"] * (ROW_BYTES + 2 * 4096)
        caches = (RowCache(store, folder / f"cache-{number}", small) for number in itertools.count())
        seconds = alternate(
            {
                "row cache, checked and kept": per_unit(lambda: epoch.through(next(caches)), num_rows),
                "bare ranged reads": per_unit(epoch.bare, num_rows),
            },
            options.rounds,
        )
        report.add_rates(seconds)
        ratio = share(seconds["bare ranged reads"], seconds["row cache, checked and kept"])
        report.figures.append(Figure("delivered over bare ranged reads", f"{REQUESTS} requests at a time", ratio, 0.8))
        half = RowCache(store, folder / "half", num_rows * ROW_BYTES // 2)
        shares = [epoch.through(half) / (num_rows * ROW_BYTES) for _ in range(4)][1:]
    told = f"downloaded {np.median(shares):.3f} of the data"
    within = Spread.of(0.55 / part for part in shares)
    report.figures.append(Figure("0.55 over the share that an epoch downloads, half held", told, within, 1.0))
    return report


class _Epochs:
    """Epochs of an order, one after the other, for each reader the next."""

    def __init__(self, store: Store, order: BatchOrder, shard_size: int, sums: list[int]) -> None:
        self.store, self.order, self.shard_size, self.sums = store, order, shard_size, sums
        self._upcoming, self._pool = Upcoming(order), ThreadPoolExecutor(REQUESTS)
        self._numbers: dict[object, int] = {}
        self._out = np.empty((order.batch_size, ROW_BYTES), np.uint8)

    def _next(self, reader: object) -> int:
        self._numbers[reader] = self._numbers.get(reader, -1) + 1
        return self._numbers[reader]

    def through(self, cache: RowCache) -> int:
        """Bytes that an epoch downloads through `cache`."""
        number, before = self._next(cache), cache.downloaded_bytes
        epoch = self.order.epoch(number)
        for batch in range(self.order.num_batches):
            (reading,) = epoch.readings(batch)
            outs = [memoryview(row) for row in self._out]
            sums = [self.sums[sample] for sample in reading.samples]
            uses = self._upcoming.after(number, reading).tolist()
            cache.read(self._spans(reading.samples), outs, uses, lambda n, row: crc32c.crc32c(row) == sums[n])  # noqa: B023
        return cache.downloaded_bytes - before

    def bare(self) -> None:
        """An epoch of the same batches, each row a request."""
        epoch = self.order.epoch(self._next(None))
        for batch in range(self.order.num_batches):
            (reading,) = epoch.readings(batch)

            def one(pair: tuple[int, Span]) -> None:
                self._out[pair[0]] = self.store.get_range(*pair[1][:3])

            list(self._pool.map(one, enumerate(self._spans(reading.samples))))

    def _spans(self, samples: np.ndarray) -> list[Span]:
        places = (divmod(sample, self.shard_size) for sample in samples.tolist())
        return [Span(str(shard), row * ROW_BYTES, ROW_BYTES) for shard, row in places]


if __name__ == "__main__":
    run(measure, "bucket")
