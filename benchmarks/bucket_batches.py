"""Bucket batches: views and targets together as the loader delivers them from a bucket, over bare ranged reads.

JPEG members of 64 pixels, decoded, and dense rows (197 x 768 in int8, 151,296 bytes, and the scale of each token) lie
in a bucket of a server of this benchmark's own, which waits 20 ms before each answer, any number at a time. Compared,
in shuffled batches of 256 and as many requests at a time: the loader as `distill` runs it (each row and member checked
by its crc32c, kept by the order's next use in a local cache of two batches, empty at the start of an epoch, so that all
are fetched), against the same store's `get_range` of every member and row, which checks, keeps and decodes nothing.
Limit: the same bytes and threads.
"""

import argparse
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks.bucket import DELAY_S
from benchmarks.measure import Figure, Report, alternate, per_unit, run, share
from benchmarks.range_server import serving
from benchmarks.slow_volume import places_of
from benchmarks.synthetic import write_many_views, write_targets
from distill.data import TrainingBatches
from shards.bucket_rows import Bound, set_bound
from shards.command.devices import share_of_cores
from shards.loader import BatchLoader
from shards.mirror import LOCAL_CACHE, home, mirror_of
from shards.order import BatchOrder
from shards.reader import Component, TargetSet, ViewSet
from shards.row_cache import REQUESTS
from shards.stores import open_store
from shards.upcoming import told

SIZES = {"num_samples": 4096, "shard_size": 512, "image_size": 64, "batch_size": 256}
QUICK_SIZES = {"num_samples": 64, "shard_size": 16, "image_size": 16, "batch_size": 16}
GOAL = 0.8


def measure(options: argparse.Namespace, folder: Path) -> Report:
    """One epoch a turn."""
    sizes = QUICK_SIZES if options.quick else SIZES
    cache = folder / "served" / "cache"
    views = write_many_views(cache, sizes["num_samples"], sizes["shard_size"], sizes["image_size"])
    targets, _ = write_targets(views, "dense", "int8")
    os.environ[LOCAL_CACHE] = str(folder / "home")
    report = Report("how fast are batches delivered from a bucket?", "samples", sizes | {"delay_s": DELAY_S})
    with serving(cache.parent, DELAY_S) as endpoint:
        os.environ |= {"AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
        mirror = mirror_of("s3://bucket/cache")
        shutil.copytree(cache, mirror, ignore=shutil.ignore_patterns("*.tar", "c"), dirs_exist_ok=True)
        viewset = ViewSet(mirror / views.folder.name)
        targetset = TargetSet(viewset.folder / "targets" / targets.name)
        epochs = _Epochs(Component(viewset, [targetset]), BatchOrder([viewset.usable], sizes["batch_size"], [1]))
        seconds = alternate(
            {
                "views and dense rows, checked, kept and decoded": per_unit(epochs.delivered, sizes["num_samples"]),
                "bare ranged reads": per_unit(epochs.bare, sizes["num_samples"]),
            },
            options.rounds,
        )
    set_bound(Bound())
    report.add_rates(seconds)
    delivered = seconds["views and dense rows, checked, kept and decoded"]
    ratio = share(seconds["bare ranged reads"], delivered)
    report.figures.append(Figure("delivered over bare ranged reads", f"{REQUESTS} requests at a time", ratio, GOAL))
    return report


class _Epochs:
    """Epochs of an order, one after the other; bare reads take the first one again and again."""

    def __init__(self, component: Component, order: BatchOrder) -> None:
        self.order, self._pool = order, ThreadPoolExecutor(REQUESTS)
        self._batches = TrainingBatches(order, [0], {})
        readings = told(self._batches, [component], [], [])
        self._batches.loader = BatchLoader([component], readings, order.batch_size, num_threads=share_of_cores())
        viewset, (targetset,) = component.viewset, component.targetsets
        folders = {"JPEG members": viewset.folder, "dense rows": targetset.folder}
        self._places = [
            (f"{folders[kind].relative_to(mirror_of('s3://bucket/cache'))}/{file}", offset, size)
            for kind in folders
            for sample in viewset.usable.tolist()
            for file, offset, size in places_of(kind, viewset, targetset, sample)
        ]
        self._store = open_store("s3://bucket/cache")
        largest = max(size for *_, size in self._places)
        self._bound = Bound(2 * order.batch_size * (largest + 6 * 4096))

    def delivered(self) -> None:
        """An epoch through the loader, the local cache empty."""
        shutil.rmtree(home() / ".rows", ignore_errors=True)
        set_bound(self._bound)
        taken = sum(len(batch.samples) for batch in self._batches)
        assert taken == self.order.num_batches * self.order.batch_size

    def bare(self) -> None:
        """As many samples, each member and row a request."""
        shuffled = np.random.default_rng(0).permutation(len(self._places)).tolist()

        def one(number: int) -> None:
            name, offset, size = self._places[number]
            self._store.get_range(name, offset, size)

        list(self._pool.map(one, shuffled))


if __name__ == "__main__":
    run(measure, "bucket_batches")
