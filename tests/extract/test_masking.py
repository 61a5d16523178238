"""Masking: how many tokens are hidden, which, and what stands in their place; fixed by (seed, key, view)."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.modalities.masking import masked
from extract.modalities.tokenizer import Vocabulary
from shards.views.text import num_masked

VOCABULARY = Vocabulary(100, "", cls=7, sep=8, pad=0, mask=50)
SPECIAL = [0, 7, 8, 50]


def row(length: int, size: int) -> dict[str, np.ndarray]:
    tokens = np.zeros(size, np.uint16)
    tokens[:length] = [7, *(9 + i % 40 for i in range(length - 2)), 8]
    return {"tokens": tokens, "length": np.array(length, np.uint16)}


@settings(deadline=None)
@given(
    size=st.integers(3, 70), share=st.integers(1, 99), seed=st.integers(0, 9), view=st.integers(0, 3), data=st.data()
)
def test_the_rounded_share_of_a_texts_own_tokens_is_hidden(
    size: int, share: int, seed: int, view: int, data: st.DataObject
) -> None:
    before = row(data.draw(st.integers(3, size)), size)
    length, kept = int(before["length"]), before["tokens"].copy()
    after = masked(before, share / 100, VOCABULARY, seed, "a", view)
    assert np.array_equal(before["tokens"], kept) and "masked" not in before  # the stream's own ids stay
    count = max(1, int(share / 100 * (length - 2) + 0.5))
    positions = after["masked"][:count].astype(int)
    assert after["masked"].shape == (num_masked(share / 100, size - 2),) and not after["masked"][count:].any()
    assert (np.diff(positions) > 0).all() and positions[0] >= 1 and positions[-1] <= length - 2
    elsewhere = np.setdiff1d(np.arange(size), positions)
    assert np.array_equal(after["tokens"][elsewhere], kept[elsewhere])
    assert not np.isin(after["tokens"][positions], [0, 7, 8]).any() and (after["tokens"] < 100).all()
    again = masked(before, share / 100, VOCABULARY, seed, "a", view)
    assert all(np.array_equal(again[name], after[name]) for name in after)


def test_another_seed_key_or_view_hides_others() -> None:
    one = row(66, 66)
    drawn = [masked(one, 0.2, VOCABULARY, *fixed)["masked"] for fixed in ((0, "a", 0), (1, "a", 0), (0, "b", 0))]
    drawn += [masked(one, 0.2, VOCABULARY, 0, "a", view)["masked"] for view in (1, 2)]
    assert len({each.tobytes() for each in drawn}) == 5


def test_eighty_percent_become_mask_ten_another_and_ten_stay() -> None:
    texts, each = 400, num_masked(0.15, 254)
    plain = row(256, 256)
    after = [masked(plain, 0.15, VOCABULARY, 0, str(key), 0) for key in range(texts)]
    chosen = np.concatenate([view["tokens"][view["masked"]] for view in after])
    originals = np.concatenate([plain["tokens"][view["masked"]] for view in after])
    total = texts * each
    assert len(chosen) == total == 400 * 38
    num_plain = 100 - len(SPECIAL)
    shares = {"mask": (chosen == 50, 0.8), "same": (chosen == originals, 0.1 + 0.1 / num_plain)}
    for happened, share in shares.values():  # within 5 deviations of a binomial
        assert abs(happened.sum() - share * total) < 5 * math.sqrt(share * (1 - share) * total)
    others = chosen[(chosen != 50) & (chosen != originals)]
    assert not np.isin(others, SPECIAL).any()
    counts = np.bincount(others, minlength=100)[[i for i in range(100) if i not in SPECIAL]]
    expected = len(others) / num_plain  # each is drawn alike: chi-squared of 95 degrees, mean 95, deviation 13.8
    assert ((counts - expected) ** 2 / expected).sum() < 95 + 5 * 13.8
    hits = np.bincount(np.concatenate([view["masked"] for view in after]), minlength=256)[1:255]
    expected = total / 254  # each position alike; without replacement the variance is smaller still
    assert ((hits - expected) ** 2 / expected).sum() < 253 + 5 * math.sqrt(2 * 253)


@pytest.mark.parametrize(("share", "content", "count"), [(0.15, 254, 38), (0.15, 1, 1), (0.5, 3, 2), (0.999999, 4, 4)])
def test_at_least_one_and_at_most_all(share: float, content: int, count: int) -> None:
    assert num_masked(share, content) == count
    assert masked(row(content + 2, 256), share, VOCABULARY, 0, "a", 0)["masked"][:count].all()
