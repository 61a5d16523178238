"""`--view crop:...` and `resize`: what the flag may say, and that it reads back from an identity."""

from dataclasses import replace

import pytest
from hypothesis import given
from test_augment import augments

from extract.modalities.crop import Augment, parse_augment
from shards.errors import BadInput


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("resize", Augment("resize")),
        ("crop", Augment("crop")),
        ("crop:scale=0.7-1", Augment("crop", scale=(0.7, 1.0))),
        ("crop:flip=0,ratio=.5-2,scale=0.25-0.75", Augment("crop", (0.25, 0.75), (0.5, 2.0), 0.0)),
        ("crop:seed=7", Augment("crop", seed=7)),
        ("crop:scale=0.7-1,seed=-3", Augment("crop", scale=(0.7, 1.0), seed=-3)),
    ],
)
def test_an_augmentation_is_parsed(text: str, expected: Augment) -> None:
    assert parse_augment(text) == expected


@given(augments())
def test_an_augmentation_reads_back_from_an_identity_and_from_its_text(augment: Augment) -> None:
    import json

    assert parse_augment(augment.text()) == augment
    described = Augment.from_description(json.loads(json.dumps(augment.describe())))
    assert described == replace(augment, seed=None)  # an identity holds the seed in a field of its own


@pytest.mark.parametrize(
    "text",
    [
        "",
        "crops",
        "resize:scale=0-1",
        "crop:scale=0.5",
        "crop:scale=0.9-0.1",
        "crop:scale=0-1",
        "crop:scale=0.5-1.5",
        "crop:scale=-0.5-1",
        "crop:scale=1e-2-1",
        "crop:scale=0.5x-1",
        "crop:ratio=4/3-2",
        "crop:ratio=0-1",
        "crop:ratio=1-" + "9" * 400,
        "crop:flip=2",
        "crop:flip=-1",
        "crop:flip=yes",
        "crop:flip=0.5.5",
        "crop:colour=1",
        "crop:flip",
        "crop:flip=0.1,flip=0.9",
        "crop:seed=",
        "crop:seed=one",
        "crop:seed=1.5",
        "crop:seed=1,seed=2",
        "crop:seed=" + "9" * 19,
        "resize:seed=1",
    ],
)
def test_what_is_no_augmentation_is_bad_input(text: str) -> None:
    with pytest.raises(BadInput, match="--view"):
        parse_augment(text)
