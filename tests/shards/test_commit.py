"""Commit: a file is there whole or as it was before, whatever the disk says at whatever step."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from shards import commit
from shards.commit import TEMPORARY_PREFIX, make_folder, remove_leftovers, write_atomically, write_sealed
from shards.identity import sha256_of
from shards.records import FileRecord
from shards.sealed import unsealed

STEPS = ("open", "write", "fsync", "replace")


@pytest.mark.parametrize("data", [b"", b"x", bytearray(b"yy"), memoryview(b"zzz"), os.urandom(1 << 20)])
def test_the_file_holds_the_data_and_the_record_tells_it(tmp_path: Path, data: bytes) -> None:
    record = write_atomically(tmp_path / "a" / "b" / "file", data)
    assert (tmp_path / "a" / "b" / "file").read_bytes() == bytes(data)
    assert record == FileRecord(len(data), sha256_of(bytes(data)))
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["file"]


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    write_atomically(tmp_path / "file", b"a long old content")
    write_atomically(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"


def test_a_write_that_stops_short_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, bytes(data)[:7]))
    write_atomically(tmp_path / "file", b"0123456789" * 10)
    assert (tmp_path / "file").read_bytes() == b"0123456789" * 10


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT])
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("old", [None, b"what it was before"])
def test_an_error_of_the_disk_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, number: int, old: bytes | None
) -> None:
    path = tmp_path / "file"
    if old is not None:
        path.write_bytes(old)

    def fail(*arguments: Any, **options: Any) -> Any:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch, pytest.raises(OSError) as raised:
        patch.setattr(os, step, fail)
        write_atomically(path, b"new")
    assert raised.value.errno == number
    assert raised.value.filename == str(path)
    assert {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()} == ({} if old is None else {"file": old})


def test_data_is_on_the_disk_before_its_name_and_the_name_before_the_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, Any]] = []
    originals = {step: getattr(os, step) for step in STEPS}
    opened: dict[int, str] = {}

    def spy(step: str, *arguments: Any, **options: Any) -> Any:
        result = originals[step](*arguments, **options)
        if step == "open":
            opened[result] = Path(arguments[0]).name
        subject = opened.get(arguments[0]) if step in ("write", "fsync") else Path(arguments[step == "replace"]).name
        calls.append((step, "TEMPORARY" if str(subject).startswith(TEMPORARY_PREFIX) else subject))
        return result

    folder = tmp_path / "folder"
    for _ in range(2):
        make_folder(folder)  # and then finds it there, once
    for step in STEPS:
        monkeypatch.setattr(os, step, lambda *a, _step=step, **o: spy(_step, *a, **o))
    write_atomically(folder / "file", b"data")
    steps = [call for call in calls if call[0] != "open"]
    assert steps == [("write", "TEMPORARY"), ("fsync", "TEMPORARY"), ("replace", "file"), ("fsync", "folder")]


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What is synced from now on."""
    paths, fsync = list[Path](), os.fsync

    def spy(descriptor: int) -> None:
        paths.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", spy)
    return paths


def test_new_folders_are_on_the_disk_too(tmp_path: Path, synced: list[Path]) -> None:
    write_atomically(tmp_path / "a" / "b" / "file", b"data")
    assert {tmp_path, tmp_path / "a", tmp_path / "a" / "b"} <= set(synced)


def test_a_folder_that_another_made_in_this_moment_is_on_the_disk_too(tmp_path: Path, synced: list[Path]) -> None:
    """Who made it may not have synced its name yet, or have been killed before it did; once is enough."""
    folder = tmp_path / "folder"
    for _ in range(2):
        folder.mkdir()
        write_atomically(folder / "file", b"data")
        assert tmp_path in synced
        synced.clear()
        write_atomically(folder / "file", b"data")
        assert tmp_path not in synced
        (folder / "file").unlink()
        folder.rmdir()
        write_atomically(folder / "file", b"data")  # it is made again
        assert tmp_path in synced
        (folder / "file").unlink()
        folder.rmdir()
        synced.clear()
        commit._SYNCED.clear()  # as another process begins


def test_what_is_remembered_of_folders_does_not_grow_with_the_shards(tmp_path: Path) -> None:
    before = len(commit._SYNCED)
    for shard in range(100):
        write_atomically(tmp_path / f"c/0/{shard}/0", b"data")
    assert len(commit._SYNCED) - before <= 3


def test_a_volume_that_syncs_no_folder_takes_a_cache_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder that the user made may lie on a disk of another kind; one that tells of lost data is refused."""

    def refused(folder: Path) -> None:
        if folder == tmp_path:
            raise OSError(number, os.strerror(number))
        sync_folder(folder)

    sync_folder = commit.sync_folder
    monkeypatch.setattr(commit, "sync_folder", refused)
    (tmp_path / "cache").mkdir()
    number = errno.EIO
    with pytest.raises(OSError, match="Input/output error"):
        write_atomically(tmp_path / "cache/file", b"data")
    number = errno.EINVAL
    write_atomically(tmp_path / "cache/file", b"data")


def test_only_leftovers_are_removed(tmp_path: Path) -> None:
    for name in ("views/v00-00000.tar", f"views/{TEMPORARY_PREFIX}v00-00001.tar", f"{TEMPORARY_PREFIX}plan.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"half")
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["v00-00000.tar"]


def test_a_sealed_document_is_written_whole(tmp_path: Path) -> None:
    record = write_sealed(tmp_path / "note.json", {"kind": "note", "format": 1, "keys": ["a"]})
    assert unsealed(tmp_path / "note.json", "note")["keys"] == ["a"]
    assert record.sha256 == sha256_of((tmp_path / "note.json").read_bytes())
