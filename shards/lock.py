"""Lock: a folder has one writer at a time, and a command that wrote nothing leaves nothing."""

import contextlib
import errno
import fcntl
import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path

from shards.commit import sync_name
from shards.errors import BadInput

LOCK = ".lock"
_TIDIES = b"tidies up"
"""In the lock file, from when its command has done its work."""
_WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""What a volume says that keeps none: NFS without its lock daemon, Lustre without `-o flock`."""
_PAUSE_S = 0.05
_PATIENCE_S = 60
"""Nobody tidies up for longer, unless it was stopped."""
_ATTEMPTS = 20
"""A command that ends removes its lock file, and folders that it made, while the next command opens them."""


def writing(cache: Path, shared: bool = False) -> contextlib.AbstractContextManager[int]:
    """This command is the only writer of `cache` while the block runs (see `locked`), or one of those that share it."""
    way_out = "" if shared else ", share its work (--launch shared in every command)"
    refusal = f"{cache}: another extract is writing here; wait for it{way_out}, or give another --out"
    return locked(cache, refusal, shared, waits=True)


@contextlib.contextmanager
def locked(folder: Path, refusal: str, shared: bool = False, waits: bool = False) -> Iterator[int]:
    """This process alone has the lock of `folder` while the block runs; BadInput with `refusal` when another has it.
    Where it is `shared`, others that share it have it too. It `waits` for one that has done its work and tidies up.

    Gives the lock's descriptor: children that inherit it share the lock, which is free when the last of them has ended.
    After the block the lock file is gone, and so are the folders that were made for it and are empty.
    """
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    descriptor = _take(folder, refusal, shared, waits)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
        _clear(folder, made)


def _clear(folder: Path, made: list[Path]) -> None:
    """Remove the lock file and the empty folders of `made`, unless a child or the next command has the lock."""
    try:
        descriptor = _take(folder, "")
    except BadInput:
        return
    try:
        tells_that_it_tidies(descriptor)
        (folder / LOCK).unlink()
    finally:  # only now: another command could have taken what was to be removed
        os.close(descriptor)
    with contextlib.suppress(OSError):  # the first folder that holds something ends it
        for place in made:
            place.rmdir()


def tells_that_it_tidies(descriptor: int) -> None:
    """Who has the lock alone will do no more than tidy up: commands that begin meanwhile wait for it."""
    with contextlib.suppress(OSError):  # of a full disk: they are refused then
        if os.fstat(descriptor).st_size == 0:
            os.pwrite(descriptor, _TIDIES, 0)
            os.fsync(descriptor)  # else another machine would not see it on a network volume


def _tidies(descriptor: int) -> bool:
    return os.pread(descriptor, len(_TIDIES) + 1, 0) == _TIDIES


def take(descriptor: int, folder: Path, shared: bool = False) -> None:
    """The lock of an open file in `folder`: alone, or together with others that share it.

    Raises BlockingIOError where another has it, and BadInput on a volume that keeps no locks.
    """
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _WITHOUT_LOCKS:
            raise
        told = f"{folder}: this volume keeps no locks ({os.strerror(error.errno)})"
        remedy = "mount it with them (Lustre: -o flock), or give a folder elsewhere or a bucket"
        raise BadInput(f"{told}: {remedy}") from error


def _take(folder: Path, refusal: str, shared: bool = False, waits: bool = False) -> int:
    """A descriptor of the lock file in `folder`, which is made durably if need be, with the lock taken."""
    attempts, until = itertools.count(), time.monotonic() + _PATIENCE_S
    while (attempt := next(attempts)) < _ATTEMPTS:
        try:
            made = [place for place in (folder, *folder.parents) if not place.exists()]
            folder.mkdir(parents=True, exist_ok=True)
            for place in made:
                sync_name(place)
            # not cut, and no link followed: somebody else's cache may hold a lock that points at a file of the user's
            descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        except (FileNotFoundError, FileExistsError):  # another command has just removed the folder, or here is a file
            in_the_way = os.path.lexists(folder) and not folder.is_dir()
            if in_the_way or attempt == _ATTEMPTS - 1:  # no command removes its folder so often
                raise
            continue
        try:
            take(descriptor, folder, shared)
            if os.path.samestat(os.fstat(descriptor), (folder / LOCK).lstat()):
                if _tidies(descriptor):  # and was killed
                    os.ftruncate(descriptor, 0)
                return descriptor
        except BlockingIOError:
            tidies = _tidies(descriptor)
            os.close(descriptor)
            may_end = tidies or attempt == 0  # it may be about to tell
            if not (waits and may_end) or time.monotonic() > until:
                raise BadInput(refusal) from None
            if tidies:
                attempts = itertools.count()
            time.sleep(_PAUSE_S)
            continue
        except FileNotFoundError:
            pass
        except BaseException:  # an interrupt too: a process that lives on would keep the lock
            os.close(descriptor)
            raise
        os.close(descriptor)  # the command before removed this file when it ended: the next one has another
    raise BadInput(refusal)
