"""Dying: from its Nth write on, whatever this process asks of the disk fails, as if it had been killed there.

A SIGKILL needs a process of its own (`tests/crash/killing.py`), which takes longer than the command. Here the command
ends by an exception that nothing catches, and what it tries to tidy up on its way out fails too: the disk is left as a
kill would leave it. A full disk is another end: then files can still be removed.
"""

import contextlib
import errno
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

WRITES = ("open", "write", "fsync", "replace", "mkdir", "link", "utime")
REMOVES = ("unlink", "rmdir")


class Killed(BaseException):
    """What ends a command in the place of SIGKILL."""


def killed() -> None:
    raise Killed


def full() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/the/disk")


@contextlib.contextmanager
def dying(number: int, end: Callable[[], None] = killed) -> Iterator[None]:
    """In the block the `number`th call that changes the disk ends by `end`, and so do all after it.

    A write puts half of its bytes before.
    """
    counter, over = itertools.count(1), threading.Event()
    there = {name: getattr(os, name) for name in (*WRITES, *(() if end is full else REMOVES))}

    def wrapped(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def one(*arguments: Any, **options: Any) -> Any:
            if (name != "open" or arguments[1] & os.O_CREAT) and next(counter) >= number:
                if name == "write" and not over.is_set():
                    call(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
                over.set()
                end()
            return call(*arguments, **options)

        return one

    for name, call in there.items():
        setattr(os, name, wrapped(name, call))
    try:
        yield
    finally:
        for name, call in there.items():
            setattr(os, name, call)
