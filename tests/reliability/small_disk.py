"""Small disk: a file system of a few megabytes of its own, which a file fills up now and then.

`tmpfs` is memory; `ext4` lies in a file in memory, and takes its room when it writes back, as a disk does.
"""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

KINDS = ("tmpfs", "ext4")
_BLOCK = bytes(1 << 16)
_FILLER = "filler"


class NoDisk(Exception):
    """No file system may be mounted here."""


@contextlib.contextmanager
def small_disk(root: Path, kind: str, size_bytes: int) -> Iterator[Path]:
    """The folder of a new file system of `kind`, gone after the block; NoDisk where none may be mounted."""
    with contextlib.ExitStack() as mounted:
        folder = root / kind
        if kind == "tmpfs":
            mounted.enter_context(_mounted(["-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs"], folder))
        else:
            memory = root / "memory"
            mounted.enter_context(_mounted(["-t", "tmpfs", "-o", f"size={size_bytes * 2}", "tmpfs"], memory))
            with (memory / "image").open("wb") as image:
                image.truncate(size_bytes)
            _run(["mkfs.ext4", "-q", "-m", "0", str(memory / "image")])
            mounted.enter_context(_mounted(["-o", "loop", str(memory / "image")], folder))
            (folder / "lost+found").rmdir()
        yield folder


@contextlib.contextmanager
def _mounted(what: list[str], folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    _run(["mount", *what, str(folder)])
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise NoDisk(str(error)) from None
    if done.returncode:
        raise NoDisk(done.stderr.strip())


def fill(folder: Path, left_bytes: int) -> None:
    """The disk of `folder` has about so many bytes left."""
    descriptor = os.open(folder / _FILLER, os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        size = 0
        for step in (1 << 16, 1 << 12):
            with contextlib.suppress(OSError):
                while True:
                    size += os.pwrite(descriptor, _BLOCK[:step], size)
                    if size % (1 << 20) == 0:
                        os.fsync(descriptor)  # what is only promised takes no room yet
        os.ftruncate(descriptor, max(0, size - left_bytes))
    finally:
        os.close(descriptor)


def empty(folder: Path) -> None:
    """The file that filled the disk is gone."""
    (folder / _FILLER).unlink(missing_ok=True)


def used_bytes(folder: Path) -> int:
    """What is taken of the disk."""
    state = os.statvfs(folder)
    return (state.f_blocks - state.f_bfree) * state.f_frsize
