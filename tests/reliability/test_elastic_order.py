"""The global batches of a run are the same for 16 numbers of ranks, whatever thread counts, wherever one takes over."""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import pytest
import rows_modality
from caches import command
from elastic import BATCH, WORLDS, Seen, global_step, ranks, rows_of
from rows_modality.modality import RowViews
from small_caches import quick_folder
from training import make_recipe

from distill.data import CacheData
from distill.holding import open_training
from extract.sources import open_source
from shards.order import BatchOrder

EPOCHS, THREADS = 3, (1, 2, 3, 8)
MIXTURES = {
    "one set": ([500], [2], None),
    "by samples": ([310, 170], [3, 2], None),  # 480 an epoch: four whole batches
    "by shares": ([130, 260, 90], [1, 3, 2], [2.0, 1.0, 0.5]),
}


def order_of(mixture: str, num_parts: int) -> BatchOrder:
    counts, views, weights = MIXTURES[mixture]
    samples = [np.arange(count) * (number + 1) for number, count in enumerate(counts)]
    return BatchOrder(samples, BATCH, views, 7, num_parts, weights)


def num_steps(order: BatchOrder) -> int:
    return EPOCHS * order.num_batches


def taken_up(mixture: str, worlds_at: Callable[[int], Sequence[int]], num_epochs: int) -> None:
    """At each step these numbers of ranks take over and read what one rank would, and its bank."""
    order = partial(order_of, mixture)
    alone = order(1)
    for step in range(num_epochs * alone.num_batches):
        epoch, batch = divmod(step, alone.num_batches)
        expected, bank = global_step(ranks(order, 1, bank=31), step)
        assert expected == sorted(rows_of(alone.epoch(epoch).readings(batch)))
        for world in worlds_at(step):
            assert global_step(ranks(order, world, bank=31), step) == (expected, bank), (world, step)
        for world, parts in ((2, 3), (5, 4)):  # a step in several parts
            assert global_step(ranks(order, world, parts), step)[0] == expected, (world, parts, step)


@pytest.mark.parametrize("mixture", MIXTURES)
def test_any_number_of_ranks_takes_up_a_step(mixture: str) -> None:
    taken_up(mixture, lambda step: WORLDS[step % 4 :: 4], num_epochs=1)  # each of the sixteen once


@pytest.mark.slow
@pytest.mark.parametrize("mixture", MIXTURES)
def test_any_number_of_ranks_takes_up_any_step(mixture: str) -> None:
    taken_up(mixture, lambda _: WORLDS, EPOCHS)


@pytest.mark.parametrize("mixture", ["by samples", "by shares"])
def test_each_sample_is_trained_on_as_often_as_asked(mixture: str) -> None:
    """No batch is cut off here, so what is drawn is trained on: a set's share, and of it each sample alike."""
    counts, views, weights = MIXTURES[mixture]
    order = partial(order_of, mixture)
    times, passes = Counter[tuple[int, int]](), Counter[Seen]()
    for step in range(num_steps(order(1))):
        world = WORLDS[step % len(WORLDS)]  # another in each step
        rows, _ = global_step(ranks(order, world), step)
        times.update((component, sample) for component, _, _, sample in rows)
        passes.update(rows)
    assert set(passes.values()) == {1}  # once a pass
    assert all(view == number % views[component] for component, number, view, _ in passes)
    total, shares = sum(counts), weights or counts
    for component, count in enumerate(counts):
        of_set = [times[component, sample * (component + 1)] for sample in range(count)]
        assert max(of_set) - min(of_set) <= 1
        assert abs(sum(of_set) - EPOCHS * total * shares[component] / sum(shares)) < EPOCHS


@pytest.fixture(scope="module")
def three_caches() -> Iterator[str]:
    """Rows with three kinds of noise, 90 each, as a mixture by shares."""
    root = quick_folder()
    with pytest.MonkeyPatch.context() as patch:
        rows_modality.register(patch)
        for number, views in enumerate(("2", "1", "3"), 1):
            flags = ("--data", "rows", "--shard_size", "32", "--devices", "cpu", "--out", root / str(number))
            view = ("--view", f"row:noise=0.{number}", "--views", views)
            command("extract", "--teacher", "rows", *flags, *view, "--codec", "float32").succeeds()
    yield f"{root / '1'}=1,{root / '2'}=2,{root / '3'}=0.5"
    shutil.rmtree(root)


@pytest.fixture
def data(three_caches: str, monkeypatch: pytest.MonkeyPatch) -> CacheData:
    rows_modality.register(monkeypatch)
    recipe = make_recipe(batch_size=BATCH, student="linear_rows", validation_fraction=0.0)
    return CacheData(open_training(three_caches, "rows-logits-float32", False), recipe, 1)


def stored_rows(data: CacheData) -> dict[Seen, np.ndarray]:
    """By component, view and sample what a view is, computed without a cache."""
    source, found = open_source("rows", "train"), {}
    for component, views in enumerate((2, 1, 3)):
        maker = RowViews(float(f"0.{component + 1}"))
        for view in range(views):
            for sample in range(len(source.keys)):
                found[component, view, sample] = maker.make(source.read(sample), view)[0]["row"]
    return found


def read_step(data: CacheData, world: int, step: int, held: dict[Seen, np.ndarray]) -> list[Seen]:
    """What all ranks of a world are handed in a step in which they are resumed; each row is the one that it says."""
    seen: list[Seen] = []
    for rank in range(world):
        batches = data.training_batches(world, rank)
        batches.position = step
        iterator = iter(batches)
        batch = next(iterator)
        rows = rows_of(batch.readings)
        expected = np.stack([held[component, view, sample] for component, _, view, sample in rows])
        np.testing.assert_array_equal(batch.fields["row"], expected)
        (stored,) = batch.targets.values()
        np.testing.assert_array_equal(stored["values"], expected[:, :3])  # what the teacher says of a row
        iterator.close()
        seen += rows
    return sorted(seen)


def test_a_run_that_moves_at_each_step_is_the_run_of_one(data: CacheData) -> None:
    """Through the loader: eight steps, each by another number of ranks, with one to eight threads."""
    held, order = stored_rows(data), data.order(1)
    for step, world in enumerate(WORLDS[:8]):
        data.num_threads = THREADS[step % len(THREADS)]
        epoch, batch = divmod(step, order.num_batches)
        assert read_step(data, world, step, held) == sorted(rows_of(order.epoch(epoch).readings(batch)))


@pytest.mark.slow
def test_all_numbers_of_ranks_take_up_every_step(data: CacheData) -> None:
    """Each of them, in six steps, with each number of threads."""
    held, order = stored_rows(data), data.order(1)
    for step in range(num_steps(order)):
        epoch, batch = divmod(step, order.num_batches)
        expected = sorted(rows_of(order.epoch(epoch).readings(batch)))
        for number, world in enumerate(WORLDS):
            data.num_threads = THREADS[(step + number) % len(THREADS)]
            assert read_step(data, world, step, held) == expected
