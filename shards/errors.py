"""The errors of this project: one tree, and every message says what to do next."""

import difflib
import os
import sys
from collections.abc import Callable, Iterable
from typing import NoReturn

RESTORE = "restore it from a copy, or remove its set (python -m shards remove FOLDER) and extract again"
"""What helps against damage: to extract again alone does not, for what has its commit record is not made anew."""


class TeacherShardsError(Exception):
    """Something the user can mend; a command prints it as one line and exits with status 2."""


class BadInput(TeacherShardsError):
    """A flag, a file or a dataset is not what the command needs."""


class UnknownName(BadInput):
    """A name is in no registry; the message lists the near ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        super().__init__(f"unknown {kind} {name!r}: {hint}known are {', '.join(known)}")


class SourceUnavailable(BadInput):
    """A dataset cannot be opened here (offline, gated, or not where it was said to be)."""


class IdentityMismatch(TeacherShardsError):
    """What the cache holds is not what was asked for; the message is the field-by-field difference."""


class Incomplete(TeacherShardsError):
    """The cache is half written: the manifest, which is written last, is missing."""


class Damaged(TeacherShardsError):
    """A file of the cache is missing, truncated, altered, swapped or foreign."""


def one_line(error: BaseException) -> str:
    """The message of `error` on one line, whatever it held."""
    return " ".join(str(error).split()) or type(error).__name__


def run_command(main: Callable[[list[str] | None], None], name: str, arguments: list[str] | None = None) -> NoReturn:
    """Run `main` and exit: 0 done, 2 the user's mistake (one line, no traceback), 1 anything else (traceback)."""
    # threads that decode share the cores with those that compute: a computing thread that waits must not spin
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
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


_DISK_ERRNOS = {
    28: "no space left: free some, or give another folder; nothing committed is lost, and the same command resumes",
    30: "the file system is read-only: give a folder that can be written",
    5: "the disk reported an I/O error: nothing committed is lost, and the same command resumes",
    122: "the disk quota is used up: free some; nothing committed is lost, and the same command resumes",
}
