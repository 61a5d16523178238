"""Trial: the temporary folder of a plan, on the disk that the run would write to; gone when the plan is."""

import contextlib
import os
import re
import shutil
import signal
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

from shards.errors import BadInput
from shards.lock import LOCK, locked

TRIAL_PREFIX = ".plan-"
"""Of trial folders, and of the temporary objects of a bucket."""
_TRIAL = re.compile(rf"{re.escape(TRIAL_PREFIX)}[0-9a-f]{{12}}")
"""A trial folder's name; it holds the lock file of its plan."""


@contextlib.contextmanager
def trial_folder(out: Path, flag: str = "--out") -> Iterator[Path]:
    """A temporary folder on the file system of `out`, beside it where that can be; gone after the block.

    Also where SIGINT or SIGTERM ends it; what a SIGKILL leaves goes with the next command, since nobody has its lock.
    BadInput, which names the `flag`, where nothing can be written there.
    """
    remove_stale_trials(out)
    beside = _beside(out)
    folder = beside / f"{TRIAL_PREFIX}{uuid.uuid4().hex[:12]}"
    with _ended_by_sigterm(), contextlib.ExitStack() as held:
        try:
            held.enter_context(locked(folder, f"{folder}: another command removes it; type the same command again"))
        except OSError as error:
            where = f"cannot be written ({error.strerror}: {beside})"
            raise BadInput(f"{flag} {out}: {where}; give a folder that can, on the disk to use") from None
        held.callback(shutil.rmtree, folder, ignore_errors=True)
        yield folder


def remove_stale_trials(out: Path) -> None:
    """Beside `out` no trial is left of a plan that was killed; those of plans that run stay."""
    for folder in _beside(out).glob(f"{TRIAL_PREFIX}*"):
        if not (_TRIAL.fullmatch(folder.name) and (folder / LOCK).is_file()):
            continue  # the user's own
        with contextlib.suppress(BadInput, OSError):
            with locked(folder, "a plan works here"):
                shutil.rmtree(folder)
            folder.rmdir()  # who looks whether the lock is free makes it anew


def _beside(out: Path) -> Path:
    """The folder of the trials of `out`: its parent; where `out` is a disk of its own, `out`; or what there is."""
    there = nearest(out.absolute())
    return there.parent if there == out.absolute() and _same_disk(there, there.parent) else there


def nearest(path: Path) -> Path:
    """`path`, or where it is not there the nearest of its parents that is."""
    while not path.exists():
        path = path.parent
    return path


def _same_disk(one: Path, other: Path) -> bool:
    return one.stat().st_dev == other.stat().st_dev and os.access(other, os.W_OK | os.X_OK)


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM ends the block as SIGINT does, and what is to be removed after it is removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    former = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former or signal.SIG_DFL)
