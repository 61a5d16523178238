"""Order: every epoch is a permutation that any machine repeats, and splitting batches does not change them."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.errors import BadInput
from shards.order import BatchOrder, held_out, permutation


@given(st.integers(1, 500), st.integers(0, 2**32), st.integers(0, 1000))
def test_a_permutation_is_one(count: int, seed: int, epoch: int) -> None:
    order = permutation(count, seed, epoch)
    np.testing.assert_array_equal(np.sort(order), np.arange(count))
    np.testing.assert_array_equal(order, permutation(count, seed, epoch))


def test_a_permutation_is_this_very_one() -> None:
    # golden values: a run resumes alike with another numpy only while these stay
    assert permutation(8, 0, 0).tolist() == [0, 2, 1, 5, 4, 3, 6, 7]
    assert permutation(8, 0, 1).tolist() == [7, 4, 2, 6, 5, 0, 1, 3]
    assert permutation(8, 7, 0).tolist() == [4, 1, 6, 3, 2, 7, 5, 0]


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    orders = {tuple(permutation(50, seed, epoch)) for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25


def test_the_shuffle_is_global_and_even() -> None:
    """Where a sample stands in an epoch says nothing of where it lies in the plan (mean rank correlation near 0)."""
    places = np.stack([permutation(100, 0, epoch) for epoch in range(400)])
    expected = 49.5
    assert np.abs(places.mean(0) - expected).max() < 6  # 4 standard errors of the mean of a uniform place
    correlations = [np.corrcoef(places[epoch], np.arange(100))[0, 1] for epoch in range(400)]
    assert abs(np.mean(correlations)) < 0.02


orders = st.tuples(st.integers(1, 6), st.sampled_from([1, 2, 3, 4, 6]), st.integers(1, 4), st.integers(0, 5))


@given(orders, st.integers(0, 40), st.integers(0, 9))
def test_any_split_of_the_batches_gives_the_same_batches(
    shape: tuple[int, int, int, int], extra: int, epoch: int
) -> None:
    part_size, num_parts, num_views, seed = shape
    batch_size = part_size * num_parts
    samples = np.arange(batch_size + extra) * 3 + 1
    whole = BatchOrder(samples, batch_size, num_views, seed)
    split = BatchOrder(samples, batch_size, num_views, seed, num_parts)
    parts = split.epoch(epoch)
    assert parts.shape == (whole.num_batches, num_parts, part_size)
    joined = np.sort(parts.reshape(whole.num_batches, -1), axis=-1)
    np.testing.assert_array_equal(joined, whole.epoch(epoch)[:, 0])
    assert (np.diff(parts, axis=-1) > 0).all()  # sorted, no sample twice
    assert len(np.unique(parts)) == parts.size and set(parts.flat) <= set(samples)
    assert split.view(epoch) == epoch % num_views


def test_what_an_epoch_drops_another_one_sees() -> None:
    order = BatchOrder(np.arange(10), 4, 1)
    dropped = [set(range(10)) - set(order.epoch(epoch).flat) for epoch in range(8)]
    assert all(len(one) == 2 for one in dropped)
    assert len(set(map(frozenset, dropped))) > 4


@pytest.mark.parametrize(
    ("batch_size", "num_parts", "says"),
    [(6, 4, "cannot be cut into 4 equal parts"), (11, 1, "10 samples here; give at")],
)
def test_a_batch_that_does_not_fit_is_bad_input(batch_size: int, num_parts: int, says: str) -> None:
    with pytest.raises(BadInput, match=f"--batch_size {batch_size}.*{says}"):
        BatchOrder(np.arange(10), batch_size, 1, 0, num_parts)


@given(st.lists(st.text(min_size=1), min_size=1, max_size=30, unique=True), st.floats(0, 1), st.floats(0, 1))
def test_held_out_samples_are_chosen_by_their_key_alone(keys: list[str], small: float, large: float) -> None:
    small, large = sorted((small, large))
    held = held_out(keys, large)
    np.testing.assert_array_equal(held_out(keys[::-1], large)[::-1], held)
    assert all(held_out([key], large)[0] == one for key, one in zip(keys, held, strict=True))
    assert (held_out(keys, small) <= held).all()  # a larger share holds out the same ones and more


def test_the_share_held_out_is_the_one_asked_for() -> None:
    held = held_out([f"digit-{index:04d}" for index in range(20_000)], 0.1)
    assert held.mean() == pytest.approx(0.1, abs=0.01)
    assert held_out(["a", "b"], 1.0).all() and not held_out(["a", "b"], 0.0).any()


def test_keys_are_looked_at_as_they_come() -> None:
    """A list of them would take 8 bytes a key beside the keys themselves; a boolean takes one."""
    count = 50_000
    tracemalloc.start()
    held_out(map(str, range(count)), 0.1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * count
