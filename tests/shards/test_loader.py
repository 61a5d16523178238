"""Loader: the batches a training step is given are those of the files, whatever the threads and buffers."""

import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from caches import IMAGE_SIZE, NUM_SAMPLES, copied, targetset_of, viewset_of
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.errors import Damaged
from shards.in_order import in_order
from shards.layout import commit_path
from shards.loader import Batch, BatchLoader, Part
from shards.order import BatchOrder, Reading
from shards.reader import Component, TargetSet, ViewSet
from shards.views import image as images


def loader(cache: Path, batch_size: int, **options: int) -> BatchLoader:
    views, targets = ViewSet(viewset_of(cache)), TargetSet(targetset_of(cache))
    order = BatchOrder([views.usable], batch_size, [views.num_views])

    def parts() -> Iterator[Part]:
        for epoch in range(2):
            for batch in range(order.num_batches):
                yield Part(order.epoch(epoch).readings(batch))

    return BatchLoader([Component(views, [targets])], parts, batch_size, labels=True, **options)


def pixels(views: ViewSet, view: int, sample: int) -> np.ndarray:
    out = np.zeros((IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    images.decode(views.storage.content(view, sample, "jpg"), out)
    return out


def check(batch: Batch, views: ViewSet, targets: TargetSet) -> None:
    ((_, view, *_),) = batch.readings
    expected = np.stack([pixels(views, view, sample) for sample in batch.samples.tolist()])
    np.testing.assert_array_equal(batch.fields["pixels"].numpy(), expected)
    stored = batch.targets[targets.folder.name]["values"]
    np.testing.assert_array_equal(stored.numpy(), targets.read(view, batch.samples)["values"])
    labels = [int(views.storage.content(view, sample, "cls")) for sample in batch.samples.tolist()]
    assert batch.labels is not None and batch.labels.tolist() == labels


@settings(max_examples=12)
@given(st.integers(1, 17), st.integers(1, 4), st.integers(3, 7))
def test_batches_are_what_the_files_hold(pristine: Path, batch_size: int, num_threads: int, ring: int) -> None:
    views, targets = ViewSet(viewset_of(pristine)), TargetSet(targetset_of(pristine))
    order = BatchOrder([views.usable], batch_size, [2])
    batches = [order.epoch(epoch).readings(batch) for epoch in range(2) for batch in range(order.num_batches)]
    expected = [(view, tuple(samples)) for ((samples, view, *_),) in batches]
    found = []
    for batch in loader(pristine, batch_size, num_threads=num_threads, ring=ring):
        check(batch, views, targets)
        found.append((batch.readings[0].view, tuple(batch.samples)))
    assert found == expected


def test_a_batch_stays_valid_while_it_may_be_held(pristine: Path) -> None:
    views, targets = ViewSet(viewset_of(pristine)), TargetSet(targetset_of(pristine))
    recent: list[Batch] = []
    for batch in loader(pristine, 4, ring=3, hold=2):
        recent = [*recent[-2:], batch]
        for held in recent[-2:]:
            check(held, views, targets)


def test_a_first_batch_reads_each_commit_record_once(pristine: Path) -> None:
    """To hash it and to parse it; a volume takes milliseconds for each request."""
    opened, listens = Counter[str](), [True]

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and listens and "/commits/" in str(arguments[0]):
            opened[str(arguments[0])] += 1

    batches = loader(pristine, NUM_SAMPLES // 2)
    sys.addaudithook(hook)  # for ever: there is no way to remove it
    first = next(iter(batches.order()))
    samples, view = first.readings[0].samples, first.readings[0].view
    batches.order = lambda: iter([first])
    for batch in batches:
        assert len(batch.samples) == len(samples)
    listens.clear()
    shards = {sample // batches.components[0].viewset.plan.shard_size for sample in samples.tolist()}
    folders = [each.folder for each in (batches.components[0].viewset, *batches.components[0].targetsets)]
    assert opened == {str(folder / commit_path(view, shard)): 1 for folder in folders for shard in shards}


def test_the_buffers_are_reused(pristine: Path) -> None:
    addresses = {batch.fields["pixels"].data_ptr() for batch in loader(pristine, 4, ring=3, hold=1)}
    assert len(addresses) == 3  # of 20 batches


def test_a_ring_must_be_larger_than_what_is_held(pristine: Path) -> None:
    with pytest.raises(ValueError, match="cannot hold 2 batches"):
        loader(pristine, 4, ring=2, hold=2)


def test_in_order_gives_every_sample_once(pristine: Path) -> None:
    views = ViewSet(viewset_of(pristine))
    batches = list(BatchLoader([Component(views)], in_order(views.usable, 12, view=1), 12))
    assert [len(batch.samples) for batch in batches] == [12, 12, 12, 4]
    assert np.concatenate([batch.samples for batch in batches]).tolist() == list(range(NUM_SAMPLES))
    assert all(batch.readings[0].view == 1 and batch.labels is None and batch.targets == {} for batch in batches)


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
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(Damaged, match="crc32c"):
        list(batches)


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_no_thread_outlives_an_iteration_that_is_left(pristine: Path, taken: int) -> None:
    before = set(threading.enumerate())
    batches = iter(loader(pristine, 2))
    for _ in range(taken):
        next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert set(threading.enumerate()) <= before


def test_a_batch_of_several_sets_is_what_each_gives_alone(cache: Path, tmp_path: Path) -> None:
    """The same sets twice, of which the second one's target set has another name, as of other views."""
    other = copied(cache, tmp_path / "other")
    targetset_of(other).rename(targetset_of(other).with_name("another"))
    components = [
        Component(ViewSet(viewset_of(folder)), [TargetSet(targetset_of(folder))]) for folder in (cache, other)
    ]
    name = components[0].targetsets[0].folder.name
    readings = [
        Reading(np.arange(3, 14), 1, 1),
        Reading(np.array([0, 30]), 0, 2),
        Reading(np.array([5, 17, 39]), 1, 1, 1),
        Reading(np.array([2]), 0, 4, 1),
    ]
    bank = [Reading(np.array([1, 38]), 0, 2, 0), Reading(np.arange(20), 1, 1, 1)]
    parts = [Part(readings[:2], {name: bank}), Part(readings, {name: bank[:1]})]
    batches = BatchLoader(components, lambda: iter(parts), 17, labels=True, banks={name: 22}, num_threads=2)
    for part, batch in zip(parts, batches, strict=True):
        alone = [components[each.component] for each in part.readings]
        pixels = [
            one.viewset.rows(each.view, each.samples.tolist())["pixels"]
            for one, each in zip(alone, part.readings, strict=True)
        ]
        np.testing.assert_array_equal(batch.fields["pixels"].numpy(), np.concatenate(pixels))
        labels = [
            one.viewset.labels(each.view, each.samples.tolist()) for one, each in zip(alone, part.readings, strict=True)
        ]
        assert batch.labels is not None and batch.labels.tolist() == np.concatenate(labels).tolist()
        for stored, read in ((batch.targets, part.readings), (batch.banks, part.banks[name])):
            rows = [components[each.component].targetsets[0].read(each.view, each.samples)["values"] for each in read]
            np.testing.assert_array_equal(stored[name]["values"].numpy(), np.concatenate(rows))
        assert batch.samples.tolist() == np.concatenate([each.samples for each in part.readings]).tolist()
        moved = batch.to(torch.device("cpu"), copy=True)
        assert torch.equal(moved.banks[name]["values"], batch.banks[name]["values"])
        assert moved.banks[name]["values"].data_ptr() != batch.banks[name]["values"].data_ptr()
        assert moved.num_bytes == batch.num_bytes and moved.bank_readings == batch.bank_readings
        of_bank = batch.banks[name]["values"].nbytes
        assert batch.num_bytes == batch.fields["pixels"].nbytes + batch.labels.nbytes + of_bank + (
            batch.targets[name]["values"].nbytes
        )


def test_the_first_batch_has_all_requests_to_itself(pristine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    component = Component(ViewSet(viewset_of(pristine)), [TargetSet(targetset_of(pristine))])
    gather, gathered, when_asked = component.targetsets[0].gather, list[int](), list[int]()

    def slowly(view: int, samples: np.ndarray, *rest: object) -> None:
        time.sleep(0.05)
        gather(view, samples, *rest)  # type: ignore[arg-type]
        gathered.append(len(samples))

    def order() -> Iterator[Part]:
        for start in range(0, 12, 4):
            when_asked.append(len(gathered))
            yield Part([Reading(np.arange(start, start + 4), 0)])

    monkeypatch.setattr(component.targetsets[0], "gather", slowly)
    assert len(list(BatchLoader([component], order, 4))) == 3
    assert when_asked[:2] == [0, 1]  # the second part is asked for when the first was gathered
