"""Order, with several views of a sample in a part: each draw as often as with one, and what does not fit is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_order import flat, mixtures

from shards.errors import BadInput
from shards.order import BatchOrder


def in_several_views(
    sizes: list[tuple[int, int, float]], weighted: bool, seed: int, repeats: int, num_parts: int = 1
) -> BatchOrder | None:
    """As `mixed`, each set with `repeats` views more, and so many of a sample in each part of a batch of 24."""
    samples = [np.arange(size) * (number + 2) for number, (size, _, _) in enumerate(sizes)]
    weights, views = [weight for *_, weight in sizes] if weighted else None, [repeats + more for _, more, _ in sizes]
    try:
        return BatchOrder(samples, 24, views, seed, num_parts, weights, repeats)
    except BadInput:
        return None


@given(mixtures, st.integers(2, 4), st.integers(0, 6))
def test_a_part_has_several_views_of_each_of_its_samples(mixture: tuple, repeats: int, number: int) -> None:
    if (order := in_several_views(*mixture, repeats)) is None:
        return
    for batch in range(order.num_batches):
        whole = flat(order.epoch(number).readings(batch))
        assert len(whole) == len(set(whole)) == 24
        for num_parts in (1, 2):
            if (split := in_several_views(*mixture, repeats, num_parts)) is None:
                continue
            parts = [split.epoch(number).readings(batch, part) for part in range(num_parts)]
            assert flat([reading for part in parts for reading in part]) == whole
            for part in parts:
                passes: dict[tuple[int, int, int], list[int]] = {}
                for reading in part:
                    assert (np.diff(reading.samples) > 0).all()
                    assert reading.view == reading.epoch % order.num_views[reading.component]
                    for sample in reading.samples.tolist():
                        passes.setdefault((reading.component, sample, reading.epoch // repeats), []).append(
                            reading.epoch
                        )
                first = [epochs[0] for epochs in passes.values()]
                assert list(passes.values()) == [list(range(each, each + repeats)) for each in first]
                assert all(each % repeats == 0 for each in first)


@given(mixtures, st.integers(2, 4))
def test_several_views_a_batch_are_drawn_as_often_as_one(mixture: tuple, repeats: int) -> None:
    """Each set has its share, and each of its views of each sample its turn, whatever epoch that falls in."""
    if (order := in_several_views(*mixture, repeats)) is None:
        return
    drawn_then = [draw for number in range(6) for draw in order.epoch(number).draws]
    for component, (samples, count) in enumerate(zip(order.samples, order.counts, strict=True)):
        of_set = [draw for draw in drawn_then if draw.component == component]
        assert sum(len(draw.samples) for draw in of_set) == 6 * count
        times = np.zeros((int(samples[-1]) + 1, max(draw.epoch for draw in of_set) + 1), int)
        for draw in of_set:
            times[draw.samples, draw.epoch] += 1
        passes = times[samples].reshape(len(samples), -1, repeats)
        assert passes.max() == 1 and (passes == passes[:, :, :1]).all()  # in all views of a pass, or in none of them
        assert passes[:, :-1].all()  # a pass ends before the next one begins
    assert 0 <= order.num_samples - sum(order.counts) < repeats


@pytest.mark.parametrize(
    ("num_views", "num_parts", "says"),
    [
        (2, 1, "--read views_a_batch=3: the cache has 2 views to read; give at most 2"),
        (3, 2, "--batch_size 9: cannot be cut into 2 equal parts .* of samples in 3 views each"),
    ],
)
def test_several_views_that_do_not_fit_are_bad_input(num_views: int, num_parts: int, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        BatchOrder([np.arange(10)], 9, [num_views], 0, num_parts, None, 3)
