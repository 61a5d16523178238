"""Readers of foreign files take spoilt ones by our own errors alone; `python -m tests.fuzz --inputs 100000` is more."""

from pathlib import Path

import pytest
from fuzz.campaign import Campaign, Example, campaign_of, read_once
from fuzz.mutations import Spoiling
from fuzz.readers import READERS

from shards.errors import BadInput

FEW, MANY = 40, 2000
FOUND: list[tuple[str, Spoiling]] = [
    ("images", (59, 1, [(4, 13320, 10070, b"`\xc0\xb8\x10\x9b")])),  # 119 million pixels in 62 bytes
    (
        "images",
        (208, 2, [(10, 59482, 23633, b"\xe4P"), (13, 9594, 15241, b"\x80j,\xcfQ")]),
    ),  # a size no C integer holds
    ("parquet", (143, 3, [(7, 26312, 28168, b"\x1b\xda\x08\xe00")])),  # a column shorter than its footer says
    ("parquet", (253, 2, [(7, 16924, 63787, b"\xfdY\xe9")])),  # a column without a type, at which pyarrow aborted
    (
        "parquet",  # paths of images that are bytes
        (177, 3, [(7, 43900, 8662, b"\xa2r<xc"), (13, 11258, 28513, b"\xc5\xa2\xfe"), (15, 13618, 8654, b"")]),
    ),
    ("plans", (124, 3, [(1, 46472, 16793, b""), (1, 3653, 31959, b"^<\xaa\x9a]\xad"), (10, 20513, 7780, b"r\xab")])),
    ("sentences", (173, 3, [(7, 61680, 56113, b"\x84\x18\xe0I\xa8")])),  # two columns of one name
    ("manifests", (146, 1, [(11, 19150, 35408, b"\x05WPw")])),  # an error of a codec that no float holds
]
"""By campaigns at length; each was a fault."""


@pytest.mark.parametrize("name", ["yaml", "karpathy", "images"])
def test_few_spoilt_files_of_the_quick_readers(name: str, tmp_path: Path) -> None:
    assert campaign_of(name, FEW, tmp_path).faults == {}


@pytest.mark.parametrize(("name", "spoiling"), FOUND)
def test_what_was_found_is_no_fault_any_more(name: str, spoiling: Spoiling, tmp_path: Path) -> None:
    campaign = Campaign(name)
    read_once(Example(name, tmp_path), spoiling, campaign)
    assert campaign.faults == {} and campaign.num_inputs == 1


def test_a_column_without_a_type_is_refused(tmp_path: Path) -> None:
    example = Example("parquet", tmp_path)
    example.spoil(FOUND[3][1])
    with pytest.raises(BadInput, match=r"train\.parquet cannot be read as parquet \(its footer says that a column"):
        example.reader.read(example.folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_spoilt_files_are_read_or_refused(name: str, tmp_path: Path) -> None:
    campaign = campaign_of(name, MANY, tmp_path)
    print(campaign.summary())
    assert campaign.faults == {}
    assert campaign.num_inputs >= MANY
