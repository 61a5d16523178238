"""Parent: the processes that a command starts end with it, also when it is killed."""

import contextlib
import os
import threading
import time
from collections.abc import Iterator

_PARENT = "TEACHER_SHARDS_PARENT"
"""The number of the process that started this one and that it ends with."""
_INTERVAL_S = 0.2


@contextlib.contextmanager
def starting_children() -> Iterator[None]:
    """Commands of this project that are started in the block, by whatever library, end with this process."""
    os.environ[_PARENT] = str(os.getpid())
    try:
        yield
    finally:
        del os.environ[_PARENT]


def end_with_parent() -> None:
    """This process ends within a second of the one that started it in `starting_children`, if one did.

    An orphan would go on writing, or wait for the other ranks forever. Asking the system for the parent's number works
    on any Unix, needs no open file in a child that Lightning starts, and outlives no kill.
    """
    parent = os.environ.pop(_PARENT, None)
    if parent is not None:
        threading.Thread(target=_watch, args=(int(parent),), name="parent", daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_INTERVAL_S)
    os._exit(1)  # at once, without a message: what is half written is a temporary file
