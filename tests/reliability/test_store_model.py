"""The store against a plain dict; `python -m tests.reliability model` plays longer."""

import pytest
from store_model import play


def test_a_store_is_a_dict_whatever_happens_to_it() -> None:
    play(examples=3, steps=14, trains=False, derandomize=True)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_a_store_is_a_dict_for_longer(part: int) -> None:
    """In parts that workers share."""
    play(examples=50, steps=75)
