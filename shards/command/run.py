"""Run a command: its exit status is 0 done, 2 the user's mistake in one line, 1 anything else.

The processes that a command starts end with it, also when it is killed.
"""

import contextlib
import io
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from shards.command.clash import refuse_hidden_libraries
from shards.errors import TeacherShardsError, one_line

READER_GONE = 141
"""What a shell reports of a command that ended since nobody reads its output any more: 128 + SIGPIPE."""
INTERRUPTED = 130
"""What a shell reports of a command that was interrupted: 128 + SIGINT."""

_PARENT = "TEACHER_SHARDS_PARENT"
"""The number of the process that started this process, which ends with it."""
_INTERVAL_S = 0.2


def run_command(main: Callable[[list[str] | None], None], name: str, arguments: list[str] | None = None) -> NoReturn:
    """Run `main` and exit: 0 done, 2 the user's mistake (one line, no traceback), 1 anything else (traceback).

    Where nobody reads the output any more (`| head`), the command ends in silence, with status 141.
    """
    end_with_parent()
    # threads that decode share the cores with those that compute: a computing thread that waits must not spin
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if isinstance(sys.stdout, io.TextIOWrapper):  # a path, or a name in a document, may hold what no encoding has
        sys.stdout.reconfigure(errors="backslashreplace")
    refuse_hidden_libraries()
    try:
        try:
            _run(main, name, arguments)
        except SystemExit:
            sys.stdout.flush()  # here and not while the interpreter ends, where nothing catches the error
            raise
    except BrokenPipeError:
        unread = _unread_outputs()
        if not unread:  # the pipe to another process broke
            raise
        for descriptor in unread:  # what is left in the buffers needs a place to go
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
        sys.exit(READER_GONE)


def _run(main: Callable[[list[str] | None], None], name: str, arguments: list[str] | None) -> NoReturn:
    try:
        with _ending_when_interrupted():
            main(arguments)
    except (TeacherShardsError, OSError) as error:
        if (mistake := mistake_in(error)) is None:
            raise
        print(f"{name}: {mistake}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"{name}: interrupted; the same command resumes where it stopped", file=sys.stderr)
        sys.exit(INTERRUPTED)
    sys.exit(0)


@contextlib.contextmanager
def _ending_when_interrupted() -> Iterator[None]:
    """An interrupt that arrives while Python finalises an object comes again: there, nothing passes it on.

    Lightning drops an epoch's iterator, whose end waits for threads: Python would say that it ignores the interrupt.
    """
    former, again = sys.unraisablehook, list[threading.Timer]()

    def hook(unraisable: Any) -> None:
        if unraisable.exc_type is not KeyboardInterrupt:
            return former(unraisable)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # SIGTERM may have been what came
        interrupt = signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT)
        again.append(threading.Timer(_INTERVAL_S, *interrupt))
        again[-1].daemon = True
        again[-1].start()

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = former
        for timer in again:  # the command is over already
            timer.cancel()


def mistake_in(error: TeacherShardsError | OSError) -> str | None:
    """What a command says in one line of what is the user's to mend; None of any other error.

    That is also no disk left, a read-only folder, a file that went away: the path says which.
    """
    if not isinstance(error, OSError):
        return one_line(error)
    if error.errno is None or (error.filename is None and error.errno not in _DISK_ERRNOS):
        return None
    where = f" ({error.filename})" if error.filename else ""
    hint = _DISK_ERRNOS.get(error.errno, "check the path and its permissions, then run the same command again")
    return f"{os.strerror(error.errno)}{where}: {hint}"


def _unread_outputs() -> list[int]:
    """Those of standard output and error, by descriptor, that are pipes which nobody reads any more."""
    poll = select.poll()
    for descriptor in (1, 2):
        poll.register(descriptor, select.POLLOUT)
    return [descriptor for descriptor, event in poll.poll(0) if event & select.POLLERR]


_DISK_ERRNOS = {
    28: "no space left: free some, or give another folder; nothing committed is lost, and the same command resumes",
    30: "the file system is read-only: give a folder that can be written",
    5: "the disk reported an I/O error: nothing committed is lost, and the same command resumes",
    122: "the disk quota is used up: free some; nothing committed is lost, and the same command resumes",
}


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

    An orphan would go on writing, or wait for the other ranks forever. To ask the system for the parent's number works
    on any Unix, needs no open file in a child that Lightning starts, and notices a kill -9 of the parent too.
    """
    parent = os.environ.pop(_PARENT, None)
    if parent is not None:
        threading.Thread(target=_watch, args=(int(parent),), name="parent", daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_INTERVAL_S)
    os._exit(1)  # at once, without a message: what is half written is a temporary file
