"""A full, broken or read-only disk: one line, exit status 2, nothing torn, and the same command resumes."""

import errno
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from caches import SMALL, command, contents
from killing import Interrupted

SAYS = {
    errno.ENOSPC: "no space left: free some",
    errno.EIO: "I/O error: nothing committed is lost",
    errno.EDQUOT: "quota is used up",
    errno.EROFS: "file system is read-only",
    errno.EACCES: "check the path and its permissions",
}


def fails_at(patch: pytest.MonkeyPatch, step: str, number: int, error: int) -> Iterator[int]:
    """From the `number`th call on, the system call `step` raises; a write puts half of its bytes first."""
    counter = itertools.count(1)
    call = getattr(os, step)

    def one(*arguments: Any, **options: Any) -> Any:
        writes = step != "open" or arguments[1] & os.O_CREAT
        if writes and next(counter) >= number:
            if step == "write":
                call(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
            named = () if step in ("write", "fsync") else (str(arguments[0]),)  # as the kernel's errors are
            raise OSError(error, os.strerror(error), *named)
        return call(*arguments, **options)

    patch.setattr(os, step, one)
    return counter


@pytest.mark.parametrize(
    ("step", "error"),
    [
        ("write", errno.ENOSPC),
        ("fsync", errno.EIO),
        ("replace", errno.EDQUOT),
        ("open", errno.EROFS),
        ("mkdir", errno.EACCES),
    ],
)
def test_an_error_of_the_disk_at_any_call_is_one_line_and_the_same_command_resumes(
    pristine: Path, teacher: Path, tmp_path: Path, step: str, error: int
) -> None:
    cache, whole = tmp_path / "cache", contents(pristine)
    flags = ("--teacher", f"run:{teacher}", "--out", cache, *SMALL, "--views", "2", "--codec", "float32")
    for attempt in range(40):
        with pytest.MonkeyPatch.context() as patch:
            fails_at(patch, step, 1 + 3 * attempt, error)
            outcome = command("extract", *flags)
        if outcome.status == 0:
            break
        outcome.refuses(f"extract: {os.strerror(error)} ({cache}", SAYS[error])
        held = contents(cache) if cache.exists() else {}
        assert all(data == whole[name] for name, data in held.items()), "torn or left over"
    assert attempt >= 3
    assert contents(cache) == whole


@pytest.mark.slow
def test_a_limit_that_the_kernel_keeps_is_one_line_too(interrupted: Interrupted) -> None:
    """RLIMIT_FSIZE: the kernel itself refuses the write of a tar, in a process of its own."""
    job, outcome = interrupted["limit"]
    cache, whole = Path(job.cache), contents(Path(job.reference))
    assert outcome["status"] == 2
    (line,) = outcome["err"].splitlines()
    assert line.startswith(f"extract: {os.strerror(errno.EFBIG)} ({cache}") and "run the same command again" in line
    held = contents(cache)
    assert held and all(data == whole[name] for name, data in held.items())
    assert not any(name.endswith(".tar") for name in held)
    command("extract", *job.flags, "--out", cache).succeeds()
    assert contents(cache) == whole


def test_a_place_where_nothing_can_be_made_is_one_line(teacher: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for place in ("/proc/cache", tmp_path / "file", tmp_path / "file" / "cache"):
        outcome = command("extract", "--teacher", "none", "--out", place, *SMALL)
        outcome.refuses("extract: ", str(place), "check the path")


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes into a folder that is closed to writing")
def test_a_folder_closed_to_writing_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir(mode=0o555)
    outcome = command("extract", "--teacher", "none", "--out", tmp_path / "cache", *SMALL)
    outcome.refuses("Permission denied", str(tmp_path / "cache"))


@pytest.mark.parametrize("call", ["open", "mkdir"])
def test_a_folder_that_root_cannot_write_either_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """What a read-only mount answers, at the system call: root passes over permissions."""
    original = getattr(os, call)

    def refuse(path: Any, *arguments: Any, **options: Any) -> Any:
        if str(path).startswith(str(tmp_path)):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return original(path, *arguments, **options)

    monkeypatch.setattr(os, call, refuse)
    outcome = command("extract", "--teacher", "none", "--out", tmp_path / "cache", *SMALL)
    outcome.refuses("Read-only file system", str(tmp_path / "cache"), "give a folder that can be written")
