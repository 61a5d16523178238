"""Soak: random rows of every codec and storage, compared with what other libraries read of the same files.

Now and then a bit is flipped in what one row is read from: every reading of that row is refused, and no other reading.
"""

import os
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from soak_caches import Stored, write_caches

from shards.errors import Damaged

FLIPS_A_CALL = 0.05


@dataclass
class Found:
    """What a soak did."""

    rows: Counter[str] = field(default_factory=Counter)
    flips: int = 0
    noticed: int = 0


def soak(stored: list[Stored], num_rows: int, seed: int = 0) -> Found:
    """So many rows are read and compared; AssertionError where one differs, or where a flip has another effect."""
    generator, found = np.random.default_rng(seed), Found()
    while found.rows.total() < num_rows:
        each = stored[generator.integers(len(stored))]
        view = int(generator.integers(len(each.held)))
        count = int(generator.integers(1, min(each.most, each.num_samples) + 1))
        samples = np.sort(generator.choice(each.num_samples, count, replace=False))
        if generator.random() < FLIPS_A_CALL:
            _flipped(each, view, samples, generator, found)
        _compare(each, view, samples)
        found.rows[each.name] += count
    return found


def _compare(each: Stored, view: int, samples: np.ndarray) -> None:
    read = each.read(view, samples)
    assert read.keys() == each.held[view].keys()
    for name, rows in each.held[view].items():
        np.testing.assert_array_equal(read[name], rows[samples], err_msg=f"{each.name} {name}, view {view}")


def _flipped(each: Stored, view: int, samples: np.ndarray, generator: np.random.Generator, found: Found) -> None:
    """With one flipped bit of a row's, readings of it are refused by the file's name, and others are as before."""
    sample = int(generator.integers(each.num_samples))
    spans = [span for span in each.spans(view, sample) if span[2]]
    if not spans:
        return
    path, offset, size = spans[generator.integers(len(spans))]
    place, bit = offset + int(generator.integers(size)), 1 << int(generator.integers(8))
    _flip(path, place, bit)
    try:
        others, found.flips = samples[samples != sample], found.flips + 1
        if len(others):
            _compare(each, view, others)
        try:
            each.read(view, np.union1d(samples, [sample]))
        except Damaged as error:
            found.noticed += 1
            assert str(path) in str(error), (path, error)
        else:
            raise AssertionError(f"{path}: a flipped bit of sample {sample} at {place} was not noticed")
    finally:
        _flip(path, place, bit)


def _flip(path: Path, place: int, bit: int) -> None:
    """In place: a file that is mapped or open changes under its reader; its times stay, as after a fault of a disk."""
    status = path.stat()
    descriptor = os.open(path, os.O_RDWR)
    try:
        (byte,) = os.pread(descriptor, 1, place)
        os.pwrite(descriptor, bytes([byte ^ bit]), place)
    finally:
        os.close(descriptor)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def tell(root: Path, num_rows: int) -> None:
    """A soak in `root` and what it found, printed; a line every million rows."""
    stored, total, start, seed = write_caches(root), Found(), time.monotonic(), int(time.time())
    while (left := num_rows - total.rows.total()) > 0:
        found = soak(stored, min(left, 1_000_000), seed + total.rows.total())
        total = Found(total.rows + found.rows, total.flips + found.flips, total.noticed + found.noticed)
        counts = f"{total.rows.total():12,} rows in {time.monotonic() - start:,.0f} s"
        print(f"{counts}; {total.flips:,} flips, {total.noticed:,} noticed", flush=True)
    for name, rows in sorted(total.rows.items()):
        print(f"{rows:12,}  {name}")
