"""Run a command: its exit status is 0 done, 2 the user's mistake in one line, 1 anything else."""

import os
import select
import sys
from collections.abc import Callable
from typing import NoReturn

from shards.command.clash import refuse_hidden_libraries
from shards.command.parent import end_with_parent
from shards.errors import TeacherShardsError, one_line

_READER_GONE = 141
"""What a shell reports of a command that ended since nobody reads its output any more: 128 + SIGPIPE."""


def run_command(main: Callable[[list[str] | None], None], name: str, arguments: list[str] | None = None) -> NoReturn:
    """Run `main` and exit: 0 done, 2 the user's mistake (one line, no traceback), 1 anything else (traceback).

    Where the output goes into `| head`, which has had enough, the command ends in silence, with status 141.
    """
    end_with_parent()
    # threads that decode share the cores with those that compute: a computing thread that waits must not spin
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
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
        sys.exit(_READER_GONE)


def _run(main: Callable[[list[str] | None], None], name: str, arguments: list[str] | None) -> NoReturn:
    try:
        main(arguments)
    except TeacherShardsError as error:
        print(f"{name}: {one_line(error)}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        # no disk left, a read-only folder, a file that went away: the user's to mend, and the path says which
        if error.errno is None or (error.filename is None and error.errno not in _DISK_ERRNOS):
            raise
        where = f" ({error.filename})" if error.filename else ""
        hint = _DISK_ERRNOS.get(error.errno, "check the path and its permissions, then run the same command again")
        print(f"{name}: {os.strerror(error.errno)}{where}: {hint}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"{name}: interrupted; the same command resumes where it stopped", file=sys.stderr)
        sys.exit(130)
    sys.exit(0)


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
