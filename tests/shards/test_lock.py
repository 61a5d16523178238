"""A folder has one writer at a time, and what was made for its lock is gone when nothing was written."""

import errno
import fcntl
import multiprocessing
import os
import threading
from pathlib import Path

import pytest

from shards import lock
from shards.errors import BadInput
from shards.lock import LOCK, locked, tells_that_it_tidies, writing


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with writing(tmp_path / "cache"):
        with pytest.raises(BadInput, match="another extract is writing"), writing(tmp_path / "cache"):
            pass
        with writing(tmp_path / "other"):
            pass
    with writing(tmp_path / "cache"):
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_volume_without_locks_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """As NFS without its lock daemon and Lustre without `-o flock` answer; none can be mounted for a test."""

    def refuses(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuses)
    says = r"cache: this volume keeps no locks \(.*\): mount it"
    with pytest.raises(BadInput, match=says), writing(tmp_path / "cache"):
        pass


def test_nothing_is_left_where_nothing_was_written(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(ValueError), writing(tmp_path / "mine/made/cache"):
        raise ValueError
    with writing(tmp_path / "mine"):
        pass
    assert list(tmp_path.rglob("*")) == [tmp_path / "mine"]


def test_what_was_written_stays_and_the_lock_goes(tmp_path: Path) -> None:
    with writing(tmp_path / "made/cache"):
        (tmp_path / "made/cache/plan.json").touch()
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["plan.json"]


def test_a_refused_command_leaves_the_lock_of_the_other(tmp_path: Path) -> None:
    with writing(tmp_path):
        with pytest.raises(BadInput), writing(tmp_path):
            pass
        assert (tmp_path / LOCK).exists()
    assert not any(tmp_path.iterdir())


def test_a_descriptor_that_is_shared_keeps_the_lock(tmp_path: Path) -> None:
    """As a child that outlives the command for a moment has it."""
    with locked(tmp_path, "taken") as descriptor:
        shared = os.dup(descriptor)
    with pytest.raises(BadInput, match="taken"), locked(tmp_path, "taken"):
        pass
    os.close(shared)
    with locked(tmp_path, "taken"):
        pass


def test_who_begins_waits_for_one_that_tidies_up(tmp_path: Path) -> None:
    """And for no other: a mark that a killed command left says nothing."""
    begun = threading.Event()

    def begin() -> None:
        with writing(tmp_path, shared=True):
            begun.set()

    with locked(tmp_path, "taken") as descriptor:
        tells_that_it_tidies(descriptor)
        with pytest.raises(BadInput, match="taken"), locked(tmp_path, "taken"):
            pass
        thread = threading.Thread(target=begin)
        thread.start()
        assert not begun.wait(0.3)
    thread.join(60)
    assert begun.is_set() and not any(tmp_path.iterdir())
    (tmp_path / LOCK).write_bytes(b"tidies up")  # by one that was killed
    with writing(tmp_path), pytest.raises(BadInput, match="another extract"), writing(tmp_path, shared=True):
        pass
    (tmp_path / LOCK).write_bytes(b"a file of the user's")
    with writing(tmp_path) as descriptor:
        tells_that_it_tidies(descriptor)
        assert (tmp_path / LOCK).read_bytes() == b"a file of the user's"


def test_who_tidies_up_and_never_ends_is_waited_for_no_longer_than_is_sensible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a process that was stopped, or hangs on a volume that does not answer."""
    monkeypatch.setattr(lock, "_PATIENCE_S", 0.2)
    with locked(tmp_path, "taken") as descriptor:
        tells_that_it_tidies(descriptor)
        with pytest.raises(BadInput, match="another extract is writing here"), writing(tmp_path):
            pass


@pytest.mark.parametrize("error", [PermissionError, KeyboardInterrupt])
def test_who_cannot_tidy_up_and_lives_on_keeps_no_lock(
    error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a notebook that is interrupted in this moment: its next command waited for itself, for ever."""

    def refused(path: Path) -> None:
        raise error

    with monkeypatch.context() as patch, pytest.raises(error), writing(tmp_path):
        patch.setattr(Path, "unlink", refused)
    assert (tmp_path / LOCK).read_bytes() == b"tidies up"
    with writing(tmp_path):
        pass
    assert not any(tmp_path.iterdir())


def _count(folder: Path, rounds: int) -> None:
    done = 0
    while done < rounds:
        try:
            with locked(folder, "taken"):
                (folder / "alone").open("x").close()  # FileExistsError where two are inside
                (folder / "alone").unlink()
                done += 1
        except BadInput:
            pass


def test_removing_the_lock_lets_no_two_in(tmp_path: Path) -> None:
    """Each round makes the folder and the lock and removes both, while others open them."""
    context = multiprocessing.get_context("fork")
    others = [context.Process(target=_count, args=(tmp_path / "cache", 100)) for _ in range(3)]
    for other in others:
        other.start()
    for other in others:
        other.join(60)
    assert [other.exitcode for other in others] == [0, 0, 0]
