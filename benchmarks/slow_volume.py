"""Slow volume: what the loader delivers from a volume whose every read request costs milliseconds.

Compared: shuffled batches of 256 from `BatchLoader`, against the fastest of 1, 8, 32 and 128 threads that read the
same bytes by bare positioned reads, and nothing else (one thread reads an eighth of them, which takes it as long).
Dense rows (197 x 768 in int8, and the scale of each token) and JPEG members. The page cache is dropped before each
pass. The volume is a folder behind FUSE (`pip install mfusepy`, fuse3), which answers requests together, each after
its latency. Limit: 1.
"""

import argparse
import os
import queue
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from benchmarks.measure import Figure, Report, Spread, run
from benchmarks.opening import in_a_fresh_process, many_shards
from benchmarks.slow_others import Batches, seconds_a_sample, write_others
from benchmarks.synthetic import write_many_views, write_targets
from shards.draws import permutation
from shards.layout import tar_path
from shards.loader import BatchLoader, Part
from shards.order import Reading
from shards.reader import Component, TargetSet, ViewSet

LATENCIES_MS = (2.0, 10.0)
THREADS = (1, 8, 32, 128)
SIZES = {"num_samples": 4096, "shard_size": 512, "image_size": 64, "batch_size": 256}
QUICK_SIZES = {"num_samples": 32, "shard_size": 8, "image_size": 16, "batch_size": 8}
GOAL, FIRST_BATCH_S = 0.8, 2.0

Place = tuple[str, int, int]
"""A file of a set, an offset and a number of bytes; a row has one or several."""


def measure(options: argparse.Namespace, folder: Path) -> Report:
    """Targets and views of one cache, each read alone."""
    sizes = QUICK_SIZES if options.quick else SIZES
    report = Report("what does a volume of high latency deliver, as a share of bare reads?", "rows", sizes)
    if find_spec("mfusepy") is None or not Path("/dev/fuse").exists():
        print("slow_volume: skipped: it needs /dev/fuse, fuse3 and pip install mfusepy")
        return report
    views = write_many_views(folder / "cache", sizes["num_samples"], sizes["shard_size"], sizes["image_size"])
    targets, _ = write_targets(views, "dense", "int8")
    viewset = ViewSet(views.folder)
    contents = [each["jpg"] for each in viewset.storage.members(0, range(sizes["num_samples"]))]
    others = write_others(folder / "cache" / "others", contents, sizes["shard_size"], sizes["batch_size"])
    for latency in LATENCIES_MS:
        with _volume(folder / "cache", folder / f"slow-{latency:g}", latency) as mount:
            slow_views = mount / views.folder.name
            slow_targets = slow_views / "targets" / targets.name
            for kind in ("dense rows", "JPEG members"):
                _compare(report, f"{kind} at {latency:g} ms", kind, slow_views, slow_targets, options, sizes)
            _beside(report, f"JPEG members at {latency:g} ms", others, mount, options, sizes["num_samples"])
    _first_batch(report, folder, options)
    return report


@contextmanager
def _volume(folder: Path, mount: Path, latency_ms: float) -> Iterator[Path]:
    mount.mkdir()
    command = [sys.executable, "-m", "benchmarks.slow_folder", str(folder), str(mount), str(latency_ms)]
    with subprocess.Popen(command) as volume:
        try:
            while not mount.is_mount():
                assert volume.poll() is None, "the volume could not be mounted"
                time.sleep(0.05)
            yield mount
        finally:
            subprocess.run(["fusermount3", "-u", "-z", str(mount)], check=True)


def _beside(
    report: Report, name: str, others: dict[str, Batches], mount: Path, options: argparse.Namespace, num_samples: int
) -> None:
    """What other libraries deliver; no figure, for their shuffling is another."""
    for library, read in others.items():
        seconds = []
        for _ in range(options.rounds):
            _drop(mount / "others" / library)
            seconds.append(seconds_a_sample(read(mount / "others" / library), num_samples))
        report.add_rates({f"{name}: {library}": seconds})


def _first_batch(report: Report, folder: Path, options: argparse.Namespace) -> None:
    """Of the cache of `benchmarks opening`, from the volume of the lesser latency, in a fresh process a round."""
    cache, sizes = many_shards(folder / "many", options.quick)
    with _volume(cache, folder / "slow-many", LATENCIES_MS[0]) as mount:
        seconds = []
        for _ in range(options.rounds):
            _drop(mount)
            seconds.append(in_a_fresh_process(mount, sizes["batch_size"])["seconds"])
    report.add_rates({f"first batch of {sizes['num_samples'] // sizes['shard_size']:,} shards": seconds})
    took, share = f"{np.median(seconds):.2f} s", Spread.of(FIRST_BATCH_S / one for one in seconds)
    report.figures.append(Figure(f"{FIRST_BATCH_S:g} s over the time to the first batch", took, share, 1.0))


def _compare(
    report: Report, name: str, kind: str, views: Path, targets: Path, options: argparse.Namespace, sizes: dict[str, int]
) -> None:
    num_samples, batch = sizes["num_samples"], sizes["batch_size"]
    order = permutation(num_samples, 0, 0)
    batches = [np.sort(order[start : start + batch]) for start in range(0, num_samples - batch + 1, batch)]
    viewset, targetset = ViewSet(views), TargetSet(targets)
    places = [places_of(kind, viewset, targetset, int(sample)) for rows in batches for sample in rows]
    few = places[: max(1, len(places) // 8)]

    def ours() -> None:
        component = Component(ViewSet(views), [TargetSet(targets)] if kind == "dense rows" else [])
        if kind == "dense rows":
            _gather(component.targetsets[0], batches)
            return
        taken = 0
        for each in BatchLoader([component], lambda: (Part([Reading(rows, 0)]) for rows in batches), batch):
            taken += len(each.samples)
        assert taken == len(batches) * batch

    def bare(num_threads: int, places: list[list[Place]]) -> Callable[[], None]:
        folder = targets if kind == "dense rows" else views

        def work() -> None:
            parts = [part for place in places for part in place]
            files = {file: os.open(folder / file, os.O_RDONLY) for file in {file for file, _, _ in parts}}
            with ThreadPoolExecutor(num_threads) as pool:
                list(pool.map(lambda part: os.pread(files[part[0]], part[2], part[1]), parts))
            for descriptor in files.values():
                os.close(descriptor)

        return work

    shares, rates = [], {"ours": [], **{f"{number} threads": [] for number in THREADS}}
    for _ in range(options.rounds):
        seconds = {"ours": _cold(views, ours)}
        for number in THREADS:
            some = few if number == 1 else places
            seconds[f"{number} threads"] = _cold(views, bare(number, some)) * len(places) / len(some)
        shares.append(min(value for label, value in seconds.items() if label != "ours") / seconds["ours"])
        for label, value in seconds.items():
            rates[label].append(value / len(places))
    report.add_rates({label: values for label, values in rates.items() if values}, f"{name}: ")
    report.figures.append(
        Figure(f"{name}: delivered over bare reads", "the best of their threads", Spread.of(shares), GOAL)
    )


def _gather(targetset: TargetSet, batches: list[np.ndarray]) -> None:
    """As the loader does: a batch a thread, all by the same requests."""
    from shards.ranges import request_threads

    free: queue.SimpleQueue[dict[str, np.ndarray]] = queue.SimpleQueue()
    for _ in range(4):
        free.put({n: np.empty((len(batches[0]), s.row_bytes), np.uint8) for n, s in targetset.arrays.items()})

    def fill(rows: np.ndarray) -> None:
        buffers = free.get()
        targetset.gather(0, rows, buffers, requests)
        free.put(buffers)

    with ThreadPoolExecutor(4) as filling, request_threads() as requests:
        list(filling.map(fill, batches))


def places_of(kind: str, viewset: ViewSet, targetset: TargetSet, sample: int) -> list[Place]:
    """Where what is read of a sample lies: the bytes of a row of each array, or its JPEG member."""
    shard, row = divmod(sample, viewset.plan.shard_size)
    if kind == "dense rows":
        return [(spec.shard_path(0, shard), spec.row_offset(row), spec.row_bytes) for spec in targetset.arrays.values()]
    members = viewset.checked.commit(0, shard).members or {}
    return [(tar_path(0, shard), *members[viewset.codec.endings[0]][row])]


def _cold(folder: Path, work: Callable[[], None]) -> float:
    """Seconds of `work` when nothing under `folder` is in memory."""
    _drop(folder)
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _drop(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


if __name__ == "__main__":
    run(measure, "slow_volume")
