"""A bucket on a real S3 server for every test of stores."""

from pathlib import Path

import pytest
from caches import command
from s3_server import Server, s3, s3_ports

from shards.bucket_rows import Bound, set_bound
from shards.mirror import LOCAL_CACHE

__all__ = ["s3", "s3_ports"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The local cache, empty, and as large as it is where nobody says otherwise; a test before may have."""
    set_bound(Bound())
    monkeypatch.setenv(LOCAL_CACHE, str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def url(pristine: Path, s3: Server, home: Path) -> str:
    """A bucket that holds `pristine`."""
    command("shards", "push", pristine, s3.url).succeeds()
    s3.faults.requests.clear()
    s3.faults.bytes_out = 0
    return s3.url
