"""Which samples a step sees: the same for any number of ranks, parts and threads; which view an epoch reads."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from training import TRAIN, distill, open_data

from distill.data import CacheData, TrainingBatches
from shards.errors import BadInput


def seen(batches: TrainingBatches, count: int | None = None) -> list[tuple[int, list[int]]]:
    """(view, samples) of what an epoch, or its first batches, hands out."""
    parts = islice(batches, count)
    return [(reading.view, reading.samples.tolist()) for part in parts for reading in part.readings]


def global_batches(data: CacheData, world_size: int, epochs: int = 2) -> list[tuple[int, set[int]]]:
    """The batches of `epochs` epochs as all ranks and parts see them together."""
    ranks = [data.training_batches(world_size, rank) for rank in range(world_size)]
    accumulate, found = data.recipe.accumulate, []
    for _ in range(epochs):
        parts = [seen(rank) for rank in ranks]
        for start in range(0, len(parts[0]), accumulate):
            pieces = [piece for part in parts for piece in part[start : start + accumulate]]
            samples = [sample for _, piece in pieces for sample in piece]
            assert len(samples) == len(set(samples)) == data.recipe.batch_size
            assert len({view for view, _ in pieces}) == 1
            found.append((pieces[0][0], set(samples)))
    return found


def test_global_batches_are_the_same_for_any_number_of_ranks_and_parts(shards: Path) -> None:
    reference = global_batches(open_data(shards), 1)
    assert len(reference) == 2 * (TRAIN // 16)
    for world_size, accumulate in ((1, 4), (2, 1), (2, 2), (4, 1), (4, 4)):
        assert global_batches(open_data(shards, accumulate=accumulate), world_size) == reference
    assert global_batches(open_data(shards, seed=1), 1) != reference


def test_two_ranks_parts_are_one_ranks_accumulated_parts(shards: Path) -> None:
    alone = open_data(shards, accumulate=2).training_batches()
    ranks = [open_data(shards).training_batches(2, rank) for rank in range(2)]
    assert seen(alone) == [part for pair in zip(*map(seen, ranks), strict=True) for part in pair]


def test_content_does_not_depend_on_threads_and_is_what_the_cache_holds(shards: Path) -> None:
    contents = []
    for num_threads in (1, 3):
        data = open_data(shards, label_weight=0.5)
        data.num_threads = num_threads
        viewset, targetset = data.training.viewset, data.training.targetsets[0]
        found = []
        for batch in data.training_batches():
            (reading,) = batch.readings
            stored = targetset.read(reading.view, batch.samples)["values"]
            assert np.array_equal(batch.targets[targetset.folder.name]["values"].numpy(), stored)
            assert batch.labels is not None
            assert batch.labels.tolist() == viewset.labels(reading.view, batch.samples.tolist()).tolist()
            found.append((batch.samples.tolist(), batch.fields["pixels"].clone().numpy()))
        contents.append(found)
    for (one, pixels), (other, same_pixels) in zip(*contents, strict=True):
        assert one == other and np.array_equal(pixels, same_pixels)


def test_epoch_e_reads_view_e_mod_v(shards: Path) -> None:
    batches = open_data(shards).training_batches()
    assert [{view for view, _ in seen(batches)} for _ in range(7)] == [{e % 3} for e in range(7)]


def test_every_epoch_has_its_own_order_and_leaves_out_others(shards: Path) -> None:
    data = open_data(shards)
    batches = data.training_batches()
    epochs = [[sample for _, part in seen(batches) for sample in part] for _ in range(4)]
    assert all(len(set(epoch)) == TRAIN // 16 * 16 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert set().union(*epochs) == set(data.train_samples[0].tolist())


@pytest.mark.parametrize("position", [1, 3, 4, 5, 8])
def test_batches_go_on_from_any_position(position: int, shards: Path) -> None:
    whole = open_data(shards).training_batches()
    reference = [part for _ in range(4) for part in seen(whole)]
    resumed = open_data(shards).training_batches()
    resumed.position = position
    following = seen(resumed)
    assert following + seen(resumed) == reference[position : position + len(following) + len(whole)]
    assert (position + len(following)) % len(whole) == 0


def test_validation_samples_are_each_seen_once_by_any_number_of_ranks(shards: Path) -> None:
    for targets in ("one-logits-float32", "two-logits-float32"):
        data = open_data(shards, targets, validation_fraction=0.5)
        for world_size in (1, 2):
            parts = [list(data.validation_batches(world_size, rank)) for rank in range(world_size)]
            found = [sample for part in parts for batch in part for sample in batch.samples.tolist()]
            assert sorted(found) == data.validation_samples[0].tolist()
            # whole batches, the same for any number of ranks
            assert {tuple(batch.samples) for part in parts for batch in part} == {
                tuple(batch.samples) for batch in data.validation_batches()
            }
            assert {batch.readings[0].view for part in parts for batch in part} == {0}


def test_batches_that_cannot_be_cut_are_refused_before_anything_starts(shards: Path) -> None:
    with pytest.raises(BadInput, match=r"--batch_size 16\b.* cut into 3 equal parts"):
        open_data(shards, accumulate=3)
    data = open_data(shards, accumulate=2)
    with pytest.raises(BadInput, match=r"cut into 6 equal parts"):
        CacheData(data.training, data.recipe, 1, num_devices=3)
    with pytest.raises(BadInput, match=r"--batch_size 71\b.* \b70 samples"):
        open_data(shards, batch_size=71)


def test_fewer_validation_batches_than_ranks_are_seen_by_all(shards: Path) -> None:
    few = open_data(shards, "two", validation_fraction=0.02)
    for rank in range(4):
        (batch,) = few.validation_batches(4, rank)
        assert batch.samples.tolist() == few.validation_samples[0].tolist() and len(batch.samples) == 3


@pytest.mark.slow
def test_several_views_a_batch_are_the_same_for_any_ranks_and_from_any_step(shards: Path) -> None:
    """Each part has 2 views of its samples; a run that resumes at a step reads what the others read from there."""
    whole = {}
    for world_size, accumulate in ((1, 1), (1, 4), (2, 1), (2, 2)):
        data = open_data(shards, accumulate=accumulate, views_a_batch=2)
        ranks = [data.training_batches(world_size, rank) for rank in range(world_size)]
        epochs = [[seen_views(rank) for rank in ranks] for _ in range(4)]
        for parts in (part for epoch in epochs for rank in epoch for part in rank):
            assert len(parts) == 16 // world_size // accumulate == 2 * len({sample for sample, _ in parts})
            assert len(set(parts)) == len(parts)
        whole[world_size, accumulate] = [
            sorted(row for rank in epoch for part in rank[start : start + accumulate] for row in part)
            for epoch in epochs
            for start in range(0, len(epoch[0]), accumulate)
        ]
    assert all(batches == whole[1, 1] for batches in whole.values()) and len(whole[1, 1]) == 4 * (TRAIN // 16)
    resumed = open_data(shards, views_a_batch=2).training_batches()
    resumed.position = TRAIN // 16 + 2
    assert [sorted(rows) for rows in seen_views(resumed)] == whole[1, 1][TRAIN // 16 + 2 : 2 * (TRAIN // 16)]


def seen_views(batches: TrainingBatches) -> list[list[tuple[int, int]]]:
    """Of each part of an epoch the (sample, view) of its rows."""
    return [
        [(sample, reading.view) for reading in part.readings for sample in reading.samples.tolist()] for part in batches
    ]


def test_several_views_wait_for_all_of_them(shards: Path, tmp_path: Path) -> None:
    """A run that began beside an extraction has windows of one view each."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run/arrivals.jsonl").write_bytes(b"")
    flags = ("--targets", "one-logits-float32", "--batch_size", "16", "--read", "views_a_batch=2")
    told = distill(shards, tmp_path / "run", *flags)
    told.refuses("--read views_a_batch=2: --on_missing takes each view as it is committed")
