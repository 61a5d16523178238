"""Loader: the batches a training step is given are those of the files, whatever the threads and buffers."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from caches import IMAGE_SIZE, NUM_SAMPLES, targetset_of, viewset_of
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.errors import Damaged
from shards.loader import Batch, BatchLoader, Reading, in_order
from shards.order import BatchOrder
from shards.reader import TargetSet, ViewSet
from shards.views import image as images


def loader(cache: Path, batch_size: int, **options: int) -> BatchLoader:
    views, targets = ViewSet(viewset_of(cache)), TargetSet(targetset_of(cache))
    order = BatchOrder(views.usable, batch_size, views.num_views)

    def readings():
        for epoch in range(2):
            for samples in order.epoch(epoch)[:, 0]:
                yield Reading(samples, order.view(epoch), epoch)

    return BatchLoader(views, [targets], readings, batch_size, labels=True, **options)


def pixels(views: ViewSet, view: int, sample: int) -> np.ndarray:
    out = np.zeros((IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    images.decode(views.storage.content(view, sample, "jpg"), out)
    return out


def check(batch: Batch, views: ViewSet, targets: TargetSet) -> None:
    expected = np.stack([pixels(views, batch.view, sample) for sample in batch.samples.tolist()])
    np.testing.assert_array_equal(batch.fields["pixels"].numpy(), expected)
    stored = batch.targets[targets.folder.name]["values"]
    np.testing.assert_array_equal(stored.numpy(), targets.read(batch.view, batch.samples)["values"])
    labels = [int(views.storage.content(batch.view, sample, "cls")) for sample in batch.samples.tolist()]
    assert batch.labels is not None and batch.labels.tolist() == labels


@settings(max_examples=12)
@given(st.integers(1, 17), st.integers(1, 4), st.integers(3, 7))
def test_batches_are_what_the_files_hold(pristine: Path, batch_size: int, num_threads: int, ring: int) -> None:
    views, targets = ViewSet(viewset_of(pristine)), TargetSet(targetset_of(pristine))
    order = BatchOrder(views.usable, batch_size, 2)
    expected = [(order.view(epoch), tuple(part)) for epoch in range(2) for part in order.epoch(epoch)[:, 0]]
    found = []
    for batch in loader(pristine, batch_size, num_threads=num_threads, ring=ring):
        check(batch, views, targets)
        found.append((batch.view, tuple(batch.samples)))
    assert found == expected


def test_a_batch_stays_valid_while_it_may_be_held(pristine: Path) -> None:
    views, targets = ViewSet(viewset_of(pristine)), TargetSet(targetset_of(pristine))
    recent: list[Batch] = []
    for batch in loader(pristine, 4, ring=3, hold=2):
        recent = [*recent[-2:], batch]
        for held in recent[-2:]:
            check(held, views, targets)


def test_the_buffers_are_reused(pristine: Path) -> None:
    addresses = {batch.fields["pixels"].data_ptr() for batch in loader(pristine, 4, ring=3, hold=1)}
    assert len(addresses) == 3  # of 20 batches


def test_a_ring_must_be_larger_than_what_is_held(pristine: Path) -> None:
    with pytest.raises(ValueError, match="cannot hold 2 batches"):
        loader(pristine, 4, ring=2, hold=2)


def test_in_order_gives_every_sample_once(pristine: Path) -> None:
    views = ViewSet(viewset_of(pristine))
    batches = list(BatchLoader(views, [], in_order(views.usable, 12, view=1), 12))
    assert [len(batch.samples) for batch in batches] == [12, 12, 12, 4]
    assert np.concatenate([batch.samples for batch in batches]).tolist() == list(range(NUM_SAMPLES))
    assert all(batch.view == 1 and batch.labels is None and batch.targets == {} for batch in batches)


def test_labels_are_the_digits(pristine: Path) -> None:
    from sklearn.datasets import load_digits

    views = ViewSet(viewset_of(pristine))
    rows = [int(key.removeprefix("digit-")) for key in views.plan.keys]
    expected = torch.from_numpy(load_digits().target[rows]).to(torch.int64)
    assert views.labels(0, range(NUM_SAMPLES)).tolist() == expected.tolist()


@pytest.mark.parametrize("spoilt", ["views/v00-00001.tar", "targets"])
def test_an_error_of_the_reading_threads_reaches_the_training_step(cache: Path, spoilt: str) -> None:
    batches = loader(cache, 4)
    path = targetset_of(cache) / "values/c/0/1/0" if spoilt == "targets" else viewset_of(cache) / spoilt
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(Damaged, match="SHA-256"):
        list(batches)


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_no_thread_outlives_an_iteration_that_is_left(pristine: Path, taken: int) -> None:
    before = set(threading.enumerate())
    batches = iter(loader(pristine, 2))
    for _ in range(taken):
        next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert set(threading.enumerate()) <= before
