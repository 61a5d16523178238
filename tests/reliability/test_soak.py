"""Random rows of every codec and storage, and flipped bits; `python -m tests.reliability soak` reads more."""

from pathlib import Path

import pytest
from soak import soak
from soak_caches import write_caches

from shards.codecs import REGISTRY as CODECS
from shards.mirror import LOCAL_CACHE
from shards.storage import REGISTRY as STORAGES


@pytest.mark.slow
def test_random_rows_are_what_other_libraries_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LOCAL_CACHE, str(tmp_path / "home"))
    stored = write_caches(tmp_path)
    assert all(any(f"-{codec}" in each.name for each in stored) for codec in CODECS)
    assert len(STORAGES) == 3  # of images, of texts, and of crops
    found = soak(stored, 100_000)
    assert found.rows.keys() == {each.name for each in stored}
    assert found.noticed == found.flips > 5
