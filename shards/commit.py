"""Commit: a file appears whole or not at all, whatever kills the process (temp file, fsync, rename, fsync folder)."""

import contextlib
import errno
import os
import uuid
from pathlib import Path
from typing import Any

from shards.identity import sha256_of
from shards.records import FileRecord
from shards.sealed import sealed

TEMPORARY_PREFIX = ".partial-"
_PROCESS = uuid.uuid4().hex[:8]
"""Machines that share a folder have processes of the same number."""


def write_atomically(path: Path, data: bytes | bytearray | memoryview) -> FileRecord:
    """`path` holds exactly `data`, durably, when this returns; until then it is absent or what it was before.

    Returns the file's record. Written with one call: a file written in small pieces
    reads back at half the speed from the page cache.
    """
    # a name of its own for each process: a child that outlived a killed command must not rename another's half file
    temporary = path.parent / f"{TEMPORARY_PREFIX}{_PROCESS}-{os.getpid()}-{path.name}"
    try:
        make_folder(path.parent)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        # os.write and os.fsync name no file; the user needs one
        raise OSError(error.errno, error.strerror, str(path)) from error
    return FileRecord(len(memoryview(data)), sha256_of(data))


def create(path: Path, data: bytes | bytearray) -> bytes | None:
    """None: `path` was absent and holds `data` now, whole, by this call. Else what was there before, and stays.

    A hard link is made or refused in one step, on NFS too. Where a retried request finds its own link, the file has
    two names and is ours. A file system without hard links gets a rename.
    """
    draft = path.parent / f"{TEMPORARY_PREFIX}{_PROCESS}-{uuid.uuid4().hex}-{path.name}"
    try:
        write_atomically(draft, data)
        os.link(draft, path)
    except FileExistsError:
        if not (draft.stat().st_nlink > 1 and draft.samefile(path)):
            return path.read_bytes()
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
            raise
        if path.exists():
            return path.read_bytes()
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    sync_name(path)
    return None


def write_sealed(path: Path, document: dict[str, Any]) -> FileRecord:
    """Write `document`, sealed with its own hash; returns the file's record."""
    return write_atomically(path, sealed(document))


_SYNCED = set[Path]()
"""Folders that were there, and whose names this process has synced: few, as it makes a shard's own folders itself."""


def make_folder(folder: Path) -> None:
    """`folder` is on the disk when this returns, and so is the name of every folder made on the way to it.

    A folder that is there may be one that another thread or process has made in this moment, or made before it was
    killed: its name is synced once, too. What it lies in was safe before it was made.
    """
    if not folder.is_dir():
        _SYNCED.discard(folder)  # it was removed; who makes it again has not synced it yet
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_name(folder)
    elif folder not in _SYNCED:
        try:
            sync_name(folder)
        except OSError as error:  # it may lie on a disk of another kind, which syncs no folder
            if error.errno in (errno.EIO, errno.ENOSPC, errno.EDQUOT):
                raise
        _SYNCED.add(folder)


def sync_name(path: Path) -> None:
    """The name of a file or folder is on the disk when this returns, unless it lies where we may write and not read."""
    try:
        sync_folder(path.parent)
    except PermissionError:
        return
    except OSError as error:  # os.fsync names no file; the user needs one
        raise OSError(error.errno, error.strerror, str(path)) from error


def sync_folder(folder: Path) -> None:
    """The names in `folder` are on the disk when this returns."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_leftovers(folder: Path) -> None:
    """No temporary file of a killed run is left under `folder`."""
    for leftover in folder.rglob(f"{TEMPORARY_PREFIX}*"):
        leftover.unlink()
