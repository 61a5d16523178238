"""Splits by any of their names, in any case."""

import pytest

from shards.errors import BadInput
from shards.splits import choose_split


@pytest.mark.parametrize(
    ("available", "wanted", "chosen"),
    [
        (("Training", "Testing"), "train", "Training"),
        (("Training", "Testing"), "val", "Testing"),
        (("TRAIN", "Val", "test"), "validation", "Val"),
        (("TRAIN", "Val", "test"), "TEST", "test"),
        (("train", "Train"), "train", "train"),
        (("train", "Train"), "Train", "Train"),
        (("Train", "TRAIN"), "train", "may be TRAIN or Train"),
        (("Testing", "extra"), "train", "no split 'train', only Testing, extra"),
        (("Extra", "train"), "extra", "Extra"),
    ],
)
def test_split_names_in_any_case(available: tuple[str, ...], wanted: str, chosen: str) -> None:
    if chosen in available:
        assert choose_split("--data x", wanted, available) == chosen
    else:
        with pytest.raises(BadInput, match=f"--data x: .*{chosen}"):
            choose_split("--data x", wanted, available)
