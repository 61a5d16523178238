"""The row cache where the disk or a file may not grow: rows arrive all the same, and it is said once."""

import contextlib
import errno
import fcntl
import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from s3_server import Server
from test_row_cache import BATCH, PAGES, ROW, ROWS, SHARD, Data, on_disk, train

from shards.bucket_rows import Bound, row_cache, set_bound
from shards.errors import BadInput
from shards.mirror import LOCAL_CACHE
from shards.row_cache import RowCache


@pytest.fixture
def data(s3: Server) -> Data:
    return Data(s3.url)


@contextlib.contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[str]:
    """What the kernel says of a file system of so many bytes at `folder`; skips where none may be mounted."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no file system may be mounted here")
    try:
        yield os.strerror(errno.ENOSPC)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextlib.contextmanager
def small_files(folder: Path, size_bytes: int) -> Iterator[str]:
    """What the kernel says of a byte behind that offset of any file (RLIMIT_FSIZE)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield os.strerror(errno.EFBIG)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limited", "size_bytes", "share"), [(small_disk, ROWS * ROW // 2, 0.5), (small_files, SHARD * ROW // 2, 0.0)]
)
def test_where_the_disk_takes_no_more_rows_arrive_all_the_same(
    data: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str], limited: Any, size_bytes: int, share: float
) -> None:
    """What the disk takes is kept; it is said once; nothing that was half written is believed."""
    with limited(tmp_path / "disk", size_bytes) as error:
        cache = RowCache(data.store, tmp_path / "disk/rows", int(ROWS * ROW * PAGES))
        downloaded = train(data, cache, range(4))
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"note: {tmp_path}/disk/rows: {error}: no more rows are kept") and LOCAL_CACHE in line
        assert downloaded[0] == ROWS * ROW
        # of neighbours that are fetched together, and of pages that rows share, a batch more
        assert all(each <= (1 - share) * ROWS * ROW + BATCH * ROW for each in downloaded[1:]), downloaded
        train(data, RowCache(data.store, tmp_path / "disk/rows", int(ROWS * ROW * PAGES)), range(1))


@pytest.mark.slow
def test_where_the_disk_makes_no_hole_rows_arrive_all_the_same(
    data: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file of the local cache can neither be written nor be made a hole in: here a folder has its name."""
    whole = int(ROWS * ROW * PAGES)
    cache = RowCache(data.store, tmp_path / "rows", whole // 2)
    train(data, cache, range(1))
    (tmp_path / "rows/set/0").unlink()
    (tmp_path / "rows/set/0").mkdir()
    cache.let_go_unclaimed()
    assert all(each <= ROWS * ROW for each in train(data, cache, range(1, 4)))
    assert on_disk(tmp_path / "rows") <= whole // 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"note: {tmp_path}/rows: {os.strerror(errno.EISDIR)}: no more rows are kept")


def test_what_another_run_holds_is_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rows cannot be let go for ours; those that nobody holds any more can."""
    monkeypatch.setenv(LOCAL_CACHE, str(tmp_path))
    rows, free = tmp_path / ".rows", 100 * 4096
    (rows / "0").mkdir(parents=True)
    (rows / "0/left").write_bytes(bytes(50 * 4096))
    state = SimpleNamespace(f_bavail=free // 4096, f_frsize=4096)
    monkeypatch.setattr(os, "statvfs", lambda _: state)  # of a disk of its own: this one's changes meanwhile
    try:
        set_bound(Bound(140 * 4096))
        assert row_cache().limit_bytes == 140 * 4096  # a run before left the folder, and this one has it
        set_bound(Bound())
        assert row_cache().limit_bytes == 150 * 4096 // 2
        set_bound(Bound())
        with (rows / "0.lock").open("w") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            assert row_cache().limit_bytes == free // 2
            set_bound(Bound(140 * 4096))
            words = rf"local_cache=573.4 kB: {tmp_path} has room for 409.6 kB; give less"
            with pytest.raises(BadInput, match=words) as refused:
                row_cache()
            set_bound(Bound())
            assert row_cache().limit_bytes == free // 2 and refused.value.__traceback__ is not None
            assert not (rows / "2.lock").exists()  # who was refused holds no folder
    finally:
        set_bound(Bound())
