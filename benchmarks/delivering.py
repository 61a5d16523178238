"""Delivering: batches as a training step receives them, against the slower of their two halves done alone.

Compared: `BatchLoader` (images decoded from the tars, encoded targets beside them, shuffled), against decoding the same
JPEGs held in memory, and against a raw read of the same rows from flat files, each on as many threads.
Limit: a sample takes at least as long as its slower half; on a machine whose every core decodes, as long as both
halves after one another, which is reported too.
"""

import argparse
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg

from benchmarks.measure import Figure, Report, alternate, per_unit, run, settings_here, share, slowest
from benchmarks.synthetic import views_of, write_photos, write_targets
from shards.draws import permutation
from shards.loader import BatchLoader, Part
from shards.order import Reading
from shards.reader import Component, TargetSet, ViewSet

Work = Callable[[], Any]

GOAL = 0.8
VIEWS_PER_TASK = 8
"""As many as the loader decodes in one task."""
RING = 6
"""Batches whose buffers are written in turn, as in the loader."""
SIZES = {"cpu": {"samples": 1024, "batch_size": 64, "epochs": 4, "image_size": 224}}
SIZES |= {"cuda": SIZES["cpu"], "quick": {"samples": 48, "batch_size": 16, "epochs": 1, "image_size": 224}}


def measure(options: argparse.Namespace, folder: Path) -> Report:
    """With dense rows in float16 (302,592 bytes) and with the top 16 logits (66 bytes) beside each image."""
    settings = settings_here(SIZES, options)
    num_samples, batch_size, epochs = settings["samples"], settings["batch_size"], settings["epochs"]
    image_size, threads = settings["image_size"], settings["threads"]
    data = write_photos(folder / "photos", num_samples, 320, 256, options.images)
    views = views_of(folder / "cache", data, f"size={image_size}")
    shuffled = np.concatenate([permutation(num_samples, 0, epoch) for epoch in range(epochs)])
    batches = np.sort(shuffled.reshape(-1, batch_size), axis=1)
    viewset = ViewSet(views.folder)
    jpegs = [viewset.storage.content(0, sample, "jpg") for sample in range(num_samples)]
    settings["bytes_of_a_jpeg"] = round(sum(map(len, jpegs)) / num_samples)
    report = Report("how fast are batches delivered, as a share of decoding or reading alone?", "samples", settings)
    for target, codec in {"dense": "float16", "logits": "topk:16"}.items():
        path, stored = write_targets(views, target, codec)
        targetset = TargetSet(path)
        targetset.read(0, np.arange(num_samples))  # opens and verifies every shard
        flats = [_flat(folder / f"{target}-{name}", rows) for name, rows in stored.items()]
        with ThreadPoolExecutor(threads) as pool:
            alone = {
                "decoding alone": per_unit(_decoding(jpegs, batches, image_size, pool), batches.size),
                "reading alone": per_unit(_reading(flats, batches, threads, pool), batches.size),
            }
            both = per_unit(_delivering(viewset, targetset, batches, threads), batches.size)
            seconds = alternate({"both, delivered": both} | alone, options.rounds)
        report.add_rates(seconds, f"{target}: ")
        delivered = seconds["both, delivered"]
        limit = slowest({name: seconds[name] for name in alone})
        ratio = share(seconds[limit], delivered)
        report.figures.append(Figure(f"{target}: delivered over {limit}", "the slower half", ratio, GOAL))
        summed = [sum(pair) for pair in zip(*(seconds[name] for name in alone), strict=True)]
        halves = "both halves' work, one after the other, on the same cores"
        report.figures.append(Figure(f"{target}: delivered over both in turn", halves, share(summed, delivered)))
    return report


def _delivering(viewset: ViewSet, targetset: TargetSet, batches: np.ndarray, threads: int) -> Work:
    def order() -> Iterator[Part]:
        return (Part([Reading(samples, 0)]) for samples in batches)

    loader = BatchLoader([Component(viewset, [targetset])], order, batches.shape[1], num_threads=threads, ring=RING)

    def work() -> None:
        for _ in loader:
            pass

    return work


def _decoding(jpegs: list[bytes], batches: np.ndarray, image_size: int, pool: ThreadPoolExecutor) -> Work:
    buffers = np.zeros((RING, batches.shape[1], image_size, image_size, 3), np.uint8)

    def decode(number: int, start: int) -> None:
        for place, sample in enumerate(batches[number, start : start + VIEWS_PER_TASK].tolist(), start):
            simplejpeg.decode_jpeg(jpegs[sample], "RGB", buffer=buffers[number % RING, place])

    tasks = [(number, start) for number in range(len(batches)) for start in range(0, batches.shape[1], VIEWS_PER_TASK)]
    return lambda: list(pool.map(decode, *zip(*tasks, strict=True)))


def _reading(flats: list[np.ndarray], batches: np.ndarray, threads: int, pool: ThreadPoolExecutor) -> Work:
    buffers = [np.zeros((RING, batches.shape[1], *flat.shape[1:]), flat.dtype) for flat in flats]
    size = -(-batches.shape[1] // threads)

    def read(number: int, start: int) -> None:
        samples = batches[number, start : start + size]
        for flat, buffer in zip(flats, buffers, strict=True):
            np.take(flat, samples, axis=0, out=buffer[number % RING, start : start + size], mode="clip")

    tasks = [(number, start) for number in range(len(batches)) for start in range(0, batches.shape[1], size)]
    return lambda: list(pool.map(read, *zip(*tasks, strict=True)))


def _flat(path: Path, rows: np.ndarray) -> np.ndarray:
    rows.tofile(path)
    return np.asarray(np.memmap(path, rows.dtype, "r", shape=rows.shape))


if __name__ == "__main__":
    run(measure, "delivering", with_images=True)
