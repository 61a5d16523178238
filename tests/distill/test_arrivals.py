"""Epochs that take shards as they are committed: every sample once, what is committed alone, the same again."""

import os
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import caches
import numpy as np
import pytest
from training import make_recipe

from distill.arrivals import ARRIVALS, Arrivals, ArrivingBatches
from distill.data import CacheData
from distill.holding import open_training
from shards.documents import read_targetset_manifest, read_viewset_manifest
from shards.errors import Damaged
from shards.layout import VIEWSET_MANIFEST, place_of, shard_name
from shards.loader import Part
from shards.promised import Promises

TARGETS, NUM_SHARDS, BATCH = "one-logits-float32", 3, 8


class Growing:
    """A copy of a cache without its manifests and commit records, which come back one by one."""

    def __init__(self, shards: Path, to: Path) -> None:
        self.cache = Path(shutil.copytree(shards, to))
        viewset, targetset = caches.viewset_of(self.cache), caches.targetset_of(self.cache, TARGETS)
        self.sets = {viewset: read_viewset_manifest(viewset), targetset: read_targetset_manifest(targetset)}
        self.promises = Promises({viewset.name: self.sets[viewset]}, {targetset.name: self.sets[targetset]})
        self.whole = {folder: dict(manifest.files) for folder, manifest in self.sets.items()}
        for folder, manifest in self.sets.items():
            (folder / "commits").rename(folder / "held_back")
            (folder / "commits").mkdir()
            for name in [name for name in manifest.files if place_of(name)]:
                del manifest.files[name]
            next(folder.glob("*set.json")).unlink()
        self.committed: set[tuple[int, int]] = set()

    def commit(self, view: int, shard: int) -> None:
        for folder in self.sets:
            name = f"{shard_name(view, shard)}.json"
            (folder / "held_back" / name).rename(folder / "commits" / name)
        self.committed.add((view, shard))


def opened(cache: Path, promises: Promises | None, record: Path, accumulate: int = 1) -> CacheData:
    recipe = make_recipe(batch_size=BATCH, accumulate=accumulate, validation_fraction=0.2)
    data = CacheData(open_training(str(cache), TARGETS, False, None, promises), recipe, 1)
    arrivals = Arrivals(data.training.components[0], record, lambda: promises is None)
    data.batches = partial(ArrivingBatches, arrivals=arrivals)
    return data


def driven(growing: Growing, batches: ArrivingBatches, order: list[tuple[int, int]]) -> Iterator[Part]:
    """The parts; where one is waited for, the next shard of `order` is committed."""
    coming = iter(order)
    for part in batches.readings():
        if not part.readings:
            growing.commit(*next(coming))
            continue
        yield part


def samples(parts: list[Part]) -> list[list[int]]:
    return [[int(sample) for reading in part.readings for sample in reading.samples] for part in parts]


@pytest.fixture
def growing(shards: Path, tmp_path: Path) -> Growing:
    return Growing(shards, tmp_path / "growing")


@pytest.mark.parametrize("accumulate", [1, 2])
def test_an_epoch_has_every_batch_of_committed_shards_alone(
    growing: Growing, shards: Path, tmp_path: Path, accumulate: int
) -> None:
    order = [(0, 2), (0, 0), (0, 1)]
    data = opened(growing.cache, growing.promises, tmp_path / ARRIVALS, accumulate)
    batches = data.training_batches()
    assert isinstance(batches, ArrivingBatches)
    parts, size = [], data.training.viewset.plan.shard_size
    for part in driven(growing, batches, order):
        (reading,) = part.readings
        assert {(0, int(sample) // size) for sample in reading.samples} <= growing.committed
        assert (reading.view, reading.epoch) == (0, 0) and np.all(np.diff(reading.samples) > 0)
        parts.append(part)
        if len(growing.committed) < NUM_SHARDS:
            assert len(parts) < len(batches)  # validation after the last batch reads any shard
    assert len(parts) == len(batches) == batches.order.num_batches * accumulate
    seen = [sample for part in samples(parts) for sample in part]
    assert len(set(seen)) == len(seen) and set(seen) <= set(data.train_samples[0].tolist())
    assert {sample // size for sample in seen} == set(range(NUM_SHARDS))
    for folder, manifest in growing.sets.items():
        shards_of_view = {name for name in growing.whole[folder] if (place_of(name) or (1,))[0] == 0}
        assert {name: manifest.files[name] for name in shards_of_view} == {
            name: growing.whole[folder][name] for name in shards_of_view
        }


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0]])
def test_the_record_gives_the_same_batches_again_from_any_step(
    growing: Growing, shards: Path, tmp_path: Path, order: list[int]
) -> None:
    record = tmp_path / ARRIVALS
    first = opened(growing.cache, growing.promises, record).training_batches()
    assert isinstance(first, ArrivingBatches)
    expected = samples(list(driven(growing, first, [(0, shard) for shard in order])))
    lines = record.read_bytes()
    assert lines.count(b"\n") == NUM_SHARDS
    for position in (0, 1, len(expected) - 1):
        batches = opened(shards, None, record).training_batches()
        batches.position = position
        assert samples(list(batches.readings())) == expected[position:]
    cut = lines.rindex(b"\n", 0, -1) + 5  # a kill in the last line: that window was used by no step
    record.write_bytes(lines[:cut])
    again = samples(list(opened(shards, None, record).training_batches().readings()))
    assert again == expected and record.read_bytes() == lines


def test_an_epoch_whose_view_is_whole_has_the_usual_order(growing: Growing, shards: Path, tmp_path: Path) -> None:
    usual = opened(shards, None, tmp_path / "none").training_batches()
    data = opened(growing.cache, growing.promises, tmp_path / ARRIVALS)
    batches = data.training_batches()
    assert isinstance(batches, ArrivingBatches)
    for shard in range(NUM_SHARDS):
        growing.commit(1, shard)
    batches.position = usual.position = len(batches)  # epoch 1, of view 1
    assert samples(list(batches.readings())) == samples(list(usual.readings()))
    assert not (tmp_path / ARRIVALS).exists()
    batches.position = 2 * len(batches)  # epoch 2 waits for view 2
    parts = list(driven(growing, batches, [(2, shard) for shard in range(NUM_SHARDS)]))
    assert {reading.view for part in parts for reading in part.readings} == {2}


def test_batches_hold_the_bytes_of_the_whole_cache(growing: Growing, shards: Path, tmp_path: Path) -> None:
    """Through the loader, which asks again while it waits, and ends where it is left."""
    plain = opened(shards, None, tmp_path / "none")
    for shard in range(NUM_SHARDS - 1):
        growing.commit(0, shard)
    loader = opened(growing.cache, growing.promises, tmp_path / ARRIVALS).training_batches().loader
    taken = 0
    for batch in loader:
        (reading,) = batch.readings
        rows = plain.training.targetsets[0].read(0, reading.samples)["values"]
        np.testing.assert_array_equal(batch.targets[next(iter(batch.targets))]["values"].numpy(), rows)
        pixels = plain.training.viewset.rows(0, reading.samples.tolist())["pixels"]
        np.testing.assert_array_equal(batch.fields["pixels"].numpy(), pixels)
        taken += 1
        if taken == 4:
            break  # the last shard never comes
    assert taken == 4


def test_a_record_that_makes_no_sense_is_named(growing: Growing, tmp_path: Path) -> None:
    for content in ("[]", '{"epoch": 0}', '{"epoch": -1, "shards": [0]}', "nonsense"):
        (tmp_path / ARRIVALS).write_text(f"{content}\n")
        with pytest.raises(Damaged, match=f"{ARRIVALS}: a line is no window.*--run_dir"):
            opened(growing.cache, growing.promises, tmp_path / ARRIVALS)


def test_a_shard_that_is_not_there_when_all_are_made_is_named(growing: Growing, tmp_path: Path) -> None:
    data = opened(growing.cache, growing.promises, tmp_path / ARRIVALS)
    arrivals = Arrivals(data.training.components[0], tmp_path / ARRIVALS, lambda: True)
    with pytest.raises(Damaged, match="the extraction ended, and a shard of view 0 is not there"):
        arrivals.window(0, 0, 0)
    assert not (caches.viewset_of(growing.cache) / VIEWSET_MANIFEST).exists()


def test_the_record_is_on_the_disk_before_a_batch_is(
    growing: Growing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And so is its name: a checkpoint that outlived it would go on with other batches."""
    data = opened(growing.cache, growing.promises, tmp_path / ARRIVALS)
    arrivals = Arrivals(data.training.components[0], tmp_path / ARRIVALS, lambda: True)
    synced, fsync = list[Path](), os.fsync

    def record(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    growing.commit(0, 1)
    assert arrivals.window(0, 0, 0) == [1]
    assert synced == [tmp_path / ARRIVALS, tmp_path]
