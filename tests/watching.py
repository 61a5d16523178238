"""Watching: what a block of code does that no reader of foreign input may do.

An audit hook (`sys.addaudithook`; Python cannot take one away again) sees what the interpreter and its own modules do:
programs that are run, connections, pickles that name something, files that are written or moved. A library in C or Rust
that calls the system itself is not seen.
"""

import contextlib
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_RUNS = {"subprocess.Popen", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system", "pty.spawn"}
_NETWORK = {"socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"}
_CODE = {"pickle.find_class"}
_MOVES = {
    *("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "os.chown"),
    *("shutil.copyfile", "shutil.move", "shutil.rmtree", "shutil.unpack_archive", "os.utime", "os.setxattr"),
}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_OURS = ("__pycache__", "/dev/null", "/proc/self/")
"""Compiled modules; where output goes that nobody wants; what this file itself writes."""


@dataclass
class Watched:
    """What happened in the block."""

    allowed: tuple[str, ...]
    """Folders that may be written to."""
    faults: list[str] = field(default_factory=list)
    opened: list[str] = field(default_factory=list)
    """Every path that was opened."""

    def saw(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = arguments
            if isinstance(path, (str, bytes)):
                name = os.fsdecode(path)
                self.opened.append(name)
                if set(mode or "") & set("wax+") or (flags or 0) & _WRITES:
                    self._written(event, name)
        elif event in _RUNS | _NETWORK | _CODE:
            self.faults.append(f"{event} {arguments!r:.200}")
        elif event in _MOVES:
            folder = _folder_of(arguments)
            for name in arguments[: 1 + (event in ("os.rename", "os.link", "shutil.move", "shutil.copyfile"))]:
                if isinstance(name, (str, bytes)) and event != "os.symlink":
                    self._written(event, os.path.join(folder, os.fsdecode(name)))  # noqa: PTH118
        elif event == "exec" and arguments and _is_foreign(arguments[0]):
            self.faults.append(f"exec of code from {arguments[0].co_filename!r:.200}")

    def _written(self, event: str, name: str) -> None:
        whole = os.path.realpath(name)
        if not whole.startswith(self.allowed) and not any(part in whole for part in _OURS):
            self.faults.append(f"{event} outside: {name!r:.300}")


def _folder_of(arguments: tuple[Any, ...]) -> str:
    """The folder of a name that is relative to a descriptor, which comes last."""
    descriptor = arguments[-1] if type(arguments[-1]) is int and arguments[-1] > 2 else None
    return "" if descriptor is None else os.path.realpath(f"/proc/self/fd/{descriptor}")


def _is_foreign(code: Any) -> bool:
    """Whether a code object is of no file of a package, and not made by a class decorator as it is imported."""
    name = getattr(code, "co_filename", "")
    return not name.startswith("<") and not Path(name).exists()


_watched: list[Watched] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _watched:
        _watched[-1].saw(event, arguments)


sys.addaudithook(_hook)


@contextlib.contextmanager
def watching(*allowed: Path) -> Iterator[Watched]:
    """Whatever the block does, in any thread, is noted; it may write below `allowed` and in a temporary folder."""
    former = tempfile.tempdir
    tempfile.tempdir = str(allowed[0])
    watched = Watched(tuple(os.path.realpath(folder) for folder in allowed))
    _watched.append(watched)
    try:
        yield watched
    finally:
        _watched.remove(watched)
        tempfile.tempdir = former


class Hung(BaseException):
    """A block takes longer than anything may."""


@contextlib.contextmanager
def bounded(seconds: float, num_bytes: int) -> Iterator[None]:
    """The block may ask for `num_bytes` more of memory than the process has, and is stopped after `seconds`."""
    limits = resource.getrlimit(resource.RLIMIT_DATA)
    has = int(_status("VmData")) << 10
    former = signal.signal(signal.SIGALRM, _stop)
    resource.setrlimit(resource.RLIMIT_DATA, (has + num_bytes, limits[1]))
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
        resource.setrlimit(resource.RLIMIT_DATA, limits)


def _stop(*_: object) -> None:
    raise Hung


def _status(name: str) -> str:
    """A line of /proc/self/status, in kB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return line.split()[1]
    raise LookupError(name)


_before: list[int] = [0]


def peak_restarts() -> None:
    """`peak_bytes` counts from here on."""
    Path("/proc/self/clear_refs").write_text("5")
    _before[0] = int(_status("VmRSS"))


def peak_bytes() -> int:
    """The most memory that the process had since `peak_restarts`, above what it had then."""
    return (int(_status("VmHWM")) - _before[0]) << 10
