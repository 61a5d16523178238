"""Readers of foreign files take spoilt ones by our own errors alone; `python -m tests.fuzz --inputs 100000` is more."""

from pathlib import Path

import pytest
from fuzz.campaign import campaign_of
from fuzz.readers import READERS

FEW = 40


@pytest.mark.parametrize("name", ["yaml", "karpathy", "images"])
def test_few_spoilt_files_of_the_quick_readers(name: str, tmp_path: Path) -> None:
    assert campaign_of(name, FEW, tmp_path).faults == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_spoilt_files_are_read_or_refused(name: str, tmp_path: Path) -> None:
    campaign = campaign_of(name, READERS[name].few, tmp_path)
    print(campaign.summary())
    assert campaign.faults == {}
    assert campaign.num_inputs >= READERS[name].few
