"""The store against a plain dict; `python -m tests.reliability model` plays longer."""

import pytest
from store_model import play


def test_a_store_is_a_dict_whatever_happens_to_it() -> None:
    play(examples=3, steps=14, trains=False, derandomize=True)


@pytest.mark.slow
def test_a_store_is_a_dict_for_longer() -> None:
    play(examples=200, steps=75)
