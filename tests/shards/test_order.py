"""Order: every epoch is a permutation that any machine repeats, and splitting batches does not change them."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.bank import check_bank, draw_bank
from shards.draws import drawn, held_out, permutation
from shards.errors import BadInput
from shards.order import BatchOrder, Reading


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
    whole = BatchOrder([samples], batch_size, [num_views], seed)
    split = BatchOrder([samples], batch_size, [num_views], seed, num_parts)
    seen: list[int] = []
    for batch in range(whole.num_batches):
        parts = [split.epoch(epoch).readings(batch, part) for part in range(num_parts)]
        for ((part, view, number, _),) in parts:
            assert len(part) == part_size and (np.diff(part) > 0).all()
            assert (view, number) == (epoch % num_views, epoch)
        joined = np.sort(np.concatenate([part for ((part, *_),) in parts]))
        np.testing.assert_array_equal(joined, whole.epoch(epoch).readings(batch)[0].samples)
        seen += joined.tolist()
    assert len(set(seen)) == len(seen) and set(seen) <= set(samples.tolist())


def test_what_an_epoch_drops_another_one_sees() -> None:
    order = BatchOrder([np.arange(10)], 4, [1])
    dropped = [set(range(10)) - set(order.epoch(epoch).parts.flat) for epoch in range(8)]
    assert all(len(one) == 2 for one in dropped)
    assert len(set(map(frozenset, dropped))) > 4


@pytest.mark.parametrize(
    ("batch_size", "num_parts", "says"),
    [(6, 4, "cannot be cut into 4 equal parts"), (11, 1, "10 samples here; give at")],
)
def test_a_batch_that_does_not_fit_is_bad_input(batch_size: int, num_parts: int, says: str) -> None:
    with pytest.raises(BadInput, match=f"--batch_size {batch_size}.*{says}"):
        BatchOrder([np.arange(10)], batch_size, [1], 0, num_parts)


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


def test_an_epoch_of_one_set_is_a_permutation_of_its_samples() -> None:
    samples = np.arange(23) * 2
    order = BatchOrder([samples], 5, [3], seed=4)
    for epoch in range(4):
        expected = np.sort(samples[permutation(23, 4, epoch)][:20].reshape(4, 5))
        for batch in range(4):
            ((found, view, number, component),) = order.epoch(epoch).readings(batch)
            assert found.tolist() == expected[batch].tolist()
            assert (view, number, component) == (epoch % 3, epoch, 0)


mixtures = st.tuples(
    st.lists(st.tuples(st.integers(1, 30), st.integers(1, 3), st.floats(0.2, 5)), min_size=1, max_size=4),
    st.booleans(),
    st.integers(0, 5),
)


def mixed(sizes: list[tuple[int, int, float]], weighted: bool, seed: int, num_parts: int = 1) -> BatchOrder | None:
    """An order over sets of such sizes, views and weights; None where they are too few for a batch or a weight."""
    samples = [np.arange(size) * (number + 2) for number, (size, _, _) in enumerate(sizes)]
    weights = [weight for *_, weight in sizes] if weighted else None
    try:
        return BatchOrder(samples, 6, [views for _, views, _ in sizes], seed, num_parts, weights)
    except BadInput:
        return None


@given(mixtures)
def test_each_set_has_its_share_and_each_sample_its_turn(mixture: tuple) -> None:
    sizes, weighted, seed = mixture
    if (order := mixed(sizes, weighted, seed)) is None:
        return
    total, num_epochs = sum(size for size, *_ in sizes), 5
    weights = [weight if weighted else size for size, _, weight in sizes]
    for count, weight in zip(order.counts, weights, strict=True):
        assert abs(count - total * weight / sum(weights)) < 1
    assert sum(order.counts) == total and (weighted or order.counts == [size for size, *_ in sizes])
    times = [np.zeros(int(samples[-1]) + 1, int) for samples in order.samples]
    for number in range(num_epochs):
        draws = order.epoch(number).draws
        for component, count in enumerate(order.counts):
            assert sum(len(draw.samples) for draw in draws if draw.component == component) == count
        for draw in draws:
            assert (np.diff(draw.samples) > 0).all() and draw.view == draw.epoch % order.num_views[draw.component]
            times[draw.component][draw.samples] += 1
    for samples, seen, count in zip(order.samples, times, order.counts, strict=True):
        assert seen.sum() == num_epochs * count == seen[samples].sum()
        assert seen[samples].max() - seen[samples].min() <= 1


def flat(readings: list[Reading]) -> list[tuple[int, int, int]]:
    return sorted((part.component, part.epoch, sample) for part in readings for sample in part.samples.tolist())


@given(mixtures, st.integers(0, 6))
def test_parts_of_a_mixture_are_its_batches_and_these_are_what_was_drawn(mixture: tuple, number: int) -> None:
    if (order := mixed(*mixture)) is None:
        return
    epoch, drawn_then, seen = order.epoch(number), flat(order.epoch(number).draws), []
    for batch in range(order.num_batches):
        whole = flat(epoch.readings(batch))
        for num_parts in (1, 2, 3):
            split = mixed(*mixture, num_parts)
            assert split is not None
            parts = [split.epoch(number).readings(batch, part) for part in range(num_parts)]
            assert all(sum(len(reading.samples) for reading in part) == 6 // num_parts for part in parts)
            places = [[(reading.component, reading.epoch) for reading in part] for part in parts]
            assert all(place == sorted(set(place)) for place in places)  # reading goes forward
            assert flat([reading for part in parts for reading in part]) == whole
        seen += whole
    assert len(set(seen)) == len(seen) and set(seen) <= set(drawn_then)
    assert len(drawn_then) - len(seen) == order.num_samples % 6


def test_sets_without_samples_or_with_hardly_a_share_are_refused() -> None:
    with pytest.raises(BadInput, match="no sample to train on"):
        BatchOrder([np.arange(9), np.arange(0)], 4, [1, 1])
    with pytest.raises(BadInput, match=r"the weight 0\.01 is less than one of the 20 samples"):
        BatchOrder([np.arange(10), np.arange(10)], 4, [1, 1], weights=[1.0, 0.01])


@given(st.integers(2, 200), st.data())
def test_what_is_drawn_is_as_many_others_in_order(total: int, data: st.DataObject) -> None:
    without = np.array(data.draw(st.lists(st.integers(0, total - 1), max_size=total)), dtype=np.int64)
    count = data.draw(st.integers(0, total - len(set(without.tolist()))))
    found = drawn(count, total, without, seed=3, step=data.draw(st.integers(0, 99)))
    assert len(found) == count and (np.diff(found) > 0).all()
    assert not set(found.tolist()) & set(without.tolist()) and (count == 0 or 0 <= found[0] <= found[-1] < total)


@pytest.mark.parametrize("count", [3, 14])
def test_every_choice_is_as_likely(count: int) -> None:
    """Of 17 numbers in range(20) each is drawn in count / 17 of the steps, and each two together as often as others."""
    without, num_steps = np.array([0, 7, 19]), 4000
    times = np.zeros((20, 20))
    for step in range(num_steps):
        found = drawn(count, 20, without, 1, step)
        times[np.ix_(found, found)] += 1
    allowed = np.setdiff1d(np.arange(20), without)
    singles = times[allowed, allowed]
    pairs = times[np.ix_(allowed, allowed)][~np.eye(17, dtype=bool)]
    for seen, share in ((singles, count / 17), (pairs, count * (count - 1) / (17 * 16))):
        deviation = (num_steps * share * (1 - share)) ** 0.5
        assert np.abs(seen - num_steps * share).max() < 5 * deviation  # 153 of them: 5 deviations once in 10,000 tests


def test_a_bank_is_of_others_the_same_for_any_ranks_and_another_in_each_step() -> None:
    samples, weights = [np.arange(30) * 2, np.arange(12)], [1.0, 3.0]
    banks = []
    for num_parts in (1, 2, 4):
        order = BatchOrder(samples, 8, [2, 3], 5, num_parts, weights)
        check_bank(order, "--recipe", 34)
        found = []
        for number in range(3):
            epoch = order.epoch(number)
            for batch in range(order.num_batches):
                bank = draw_bank(epoch, batch, 20)
                read = {(each.component, sample) for each in bank for sample in each.samples.tolist()}
                of_batch = {
                    (each.component, sample) for each in epoch.readings(batch) for sample in each.samples.tolist()
                }
                assert len(read) == 20 and not read & of_batch
                assert all(set(each.samples) <= set(samples[each.component]) for each in bank)
                assert all(each.view < [2, 3][each.component] for each in bank)
                found.append(frozenset(read))
        assert len(set(found)) == len(found) == 15
        banks.append(found)
    assert banks[0] == banks[1] == banks[2]
    assert frozenset.union(*banks[0]) == {(0, index * 2) for index in range(30)} | {(1, index) for index in range(12)}
    with pytest.raises(
        BadInput, match="bank 35: more than the 42 samples here, of which 8 are the batch; give at most 34"
    ):
        check_bank(order, "--recipe", 35)
