"""Spoiling: which files of a small cache are damaged, how, and everything that reads them."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from caches import Outcome, command, targetset_of, viewset_of

from shards.decode import codec_of
from shards.reader import TargetSet, ViewSet, check_pair

TRAINING = ("--recipe", "digits", "--student", "convnet:width=4,depth=1", "--batch_size", "8", "--max_steps", "2")


def read_all(cache: Path) -> None:
    """Everything that a training run reads."""
    folder = viewset_of(cache)
    views, targets = ViewSet(folder), TargetSet(targetset_of(cache))
    check_pair(views, targets)
    codec_of(targets)
    for view in range(views.num_views):
        for sample in views.usable.tolist():
            assert views.storage.content(view, sample, "jpg")
        targets.read(view, views.usable)


def distill(cache: Path, run_dir: Path, *flags: str) -> Outcome:
    return command("distill", "--shards", cache, "--run_dir", run_dir, *TRAINING, *flags, "--devices", "cpu")


TAR, COMMIT, OBJECT = "views/v00-00001.tar", "commits/v00-00001.json", "targets/*/values/c/0/1/0"
DOCUMENTS = ("plan.json", "viewset.json", "targets/*/targetset.json", "targets/*/values/zarr.json")


def the(cache: Path, pattern: str) -> Path:
    """The only file of the cache that fits `pattern`."""
    (path,) = viewset_of(cache).glob(pattern)
    return path


def flip(path: Path, at: float) -> None:
    data = bytearray(path.read_bytes())
    data[int(at * (len(data) - 1))] ^= 0x10
    path.write_bytes(data)


def swap(path: Path, other: Path) -> None:
    held = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(held)


SPOIL: dict[str, Callable[[Path], Any]] = {
    "a flipped bit at the start": lambda path: flip(path, 0.0),
    "a flipped bit in the middle": lambda path: flip(path, 0.5),
    "a flipped bit at the end": lambda path: flip(path, 0.97),
    "half of it": lambda path: os.truncate(path, path.stat().st_size // 2),
    "one byte less": lambda path: os.truncate(path, path.stat().st_size - 3),
    "one byte more": lambda path: path.write_bytes(path.read_bytes() + b"}"),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "nothing": lambda path: os.truncate(path, 0),
    "no file": lambda path: path.unlink(),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}
