"""The errors of this project: one tree, and every message says what to do next."""

import difflib
from collections.abc import Iterable

RESTORE = "restore it from a copy, or remove its set (python -m shards remove FOLDER) and extract again"
"""What helps against damage: to extract again alone does not, for what has its commit record is not made anew."""
_MAX_LISTED = 100


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
        listed = ", ".join(known) if len(known) <= _MAX_LISTED else f"{len(known):,} names"
        super().__init__(f"unknown {kind} {name!r}: {hint}known are {listed}")

    def __reduce__(self) -> tuple[type[BadInput], tuple[str]]:
        """Another process (a task of Ray) gets the message: it has no registry to make it from."""
        return BadInput, (str(self),)


class SourceUnavailable(BadInput):
    """A dataset cannot be opened here (offline, gated, or not where it was said to be)."""


class IdentityMismatch(TeacherShardsError):
    """What the cache holds is not what was asked for; the message is the field-by-field difference."""


class Incomplete(TeacherShardsError):
    """The cache is half written: the manifest, which is written last, is missing."""


class Damaged(TeacherShardsError):
    """A file of the cache is missing, truncated, altered, swapped or foreign."""


class NewerVersion(Damaged):
    """A document of a version of teacher-shards that came later: not damaged, but not to be read here."""


def one_line(error: BaseException) -> str:
    """The message of `error` on one line, whatever it held."""
    return printable(" ".join(str(error).split())) or type(error).__name__


def printable(text: str) -> str:
    """`text` with what a terminal would obey, and what it cannot show, written out: a name may come from anywhere."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
