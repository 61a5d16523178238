"""Sleeping: `python -m extract` with `--teacher sleep`, which sleeps for each sample and computes next to nothing.

The file of the environment variable READY appears when the process has begun, and the file GO lets it work; DONE then
holds the seconds, by the machine's monotonic clock, at which its work began and ended.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from extract import sharing, teachers
from extract.__main__ import main
from extract.modalities.image import ImageInput
from extract.teachers.base import Teacher, freeze
from shards.command.run import run_command

SECONDS, READY, GO, DONE = "SLEEP_S", "SLEEP_READY", "SLEEP_GO", "SLEEP_DONE"
"""The environment's seconds a sample, and its files."""
IMAGE_SIZE = 16


class Sleeper(nn.Module):
    """Says the pixels of a view's first rows, after a while."""

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        time.sleep(len(images) * float(os.environ[SECONDS]))
        return {"pooled": images[:, :, :4].flatten(1)}


def load(spec: str, weights: str | None, image_size: int | None) -> Teacher:
    """The teacher `sleep`; other arguments mean nothing."""
    inputs = ImageInput(IMAGE_SIZE, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    return freeze("sleep", "sleep", Sleeper(), inputs, None)


def timed(*arguments: Any) -> Any:
    """`run_shared`, from the moment at which all processes have begun."""
    Path(os.environ[READY]).touch()
    while not Path(os.environ[GO]).exists():
        time.sleep(0.005)
    start = time.monotonic()
    counts = run_shared(*arguments)
    Path(os.environ[DONE]).write_text(f"{start} {time.monotonic()}")
    return counts


run_shared = sharing.run_shared

if __name__ == "__main__":
    torch.set_num_threads(1)
    teachers.REGISTRY["sleep"] = "sleeping"
    sys.modules["extract.teachers.sleeping"] = sys.modules[__name__]
    if READY in os.environ:
        sharing.run_shared = timed
    run_command(main, "extract")
