"""`--plan` opens no more of the data than it probes, however much there is: sizes are known from the list of files."""

from collections import Counter
from pathlib import Path

import caches
import numpy as np
from PIL import Image
from watching import watching

from extract.bill.probe import _FEW, _MOST_SHARDS, _ROWS

NUM_IMAGES, SHARD_SIZE = 1_200, 40


def test_a_plan_opens_the_images_that_it_probes_and_no_others(teacher: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data/train/a"
    folder.mkdir(parents=True)
    for number in range(NUM_IMAGES):
        Image.fromarray(np.full((8, 8, 3), number % 251, np.uint8)).save(folder / f"{number:04}.png")
    flags = ("--teacher", f"run:{teacher}", "--data", f"folder:{tmp_path / 'data'}", "--view", "resize:size=16")
    flags += ("--out", tmp_path / "cache", "--shard_size", str(SHARD_SIZE), "--devices", "cpu")
    with watching(tmp_path) as seen:
        out = caches.command("extract", *flags, "--plan", "seconds=0.2").succeeds().out
    assert f"{NUM_IMAGES:,} samples" in out
    images = Counter(Path(name).name for name in seen.opened if name.endswith(".png"))
    most = _FEW + _MOST_SHARDS * _ROWS + SHARD_SIZE
    assert 0 < len(images) <= most < NUM_IMAGES / 2
    assert sum(images.values()) <= 2 * most  # none is read again and again


def test_a_plan_over_stored_views_opens_their_first_shard_alone(cache: Path, tmp_path: Path) -> None:
    """A further teacher: views are read, none is made, and of the data nothing is opened."""
    other = caches.write_teacher(tmp_path / "other", seed=1, width=8)
    flags = ("--teacher", f"run:{other}", "--out", cache, *caches.SMALL, "--codec", "float32")
    with watching(tmp_path) as seen:
        out = caches.command("extract", *flags, "--plan", "seconds=0.2").succeeds().out
    assert "0 views and 80 forwards to make" in out
    tars = {Path(name).name for name in seen.opened if name.endswith(".tar")}
    assert tars == {"v00-00000.tar"}
