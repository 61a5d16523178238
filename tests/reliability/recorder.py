"""Recorder: what a command asks of the disk, call by call, and a disk on which these calls are carried out again.

It wraps the functions of `os` that this project writes with. What another way of writing does would be missing:
`Recorder.ended` compares the folder with what its calls make of it.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from posixpath import dirname
from typing import Any

ROOT = "."


@dataclass(frozen=True)
class Call:
    """One call. `path` is the name that it makes, changes or removes, relative to the root; of data there is none."""

    kind: str
    """create, link, rename, unlink, mkdir, rmdir: of a folder's names; write, cut: of a file's data; sync of either."""
    path: str = ""
    file: int = -1
    """The number of the file that is meant; of a sync -1 where it is that of the folder `path`."""
    former: str = ""
    """What a renamed file was called."""
    data: bytes = b""

    @property
    def is_of_names(self) -> bool:
        return self.kind in ("create", "link", "rename", "unlink", "mkdir", "rmdir")

    @property
    def place(self) -> str:
        """The folder whose names it changes."""
        return dirname(self.path) or ROOT


@dataclass
class Disk:
    """Folders, and files by name; a file may have several names."""

    folders: set[str] = field(default_factory=lambda: {ROOT})
    names: dict[str, int] = field(default_factory=dict)
    data: dict[int, bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, root: Path) -> "Disk":
        """What lies in a folder."""
        disk = cls()
        for number, path in enumerate(sorted(root.rglob("*"))):
            relative = path.relative_to(root).as_posix()
            if path.is_dir():
                disk.folders.add(relative)
            else:
                disk.names[relative], disk.data[number] = number, path.read_bytes()
        return disk

    def copy(self) -> "Disk":
        return Disk(set(self.folders), dict(self.names), dict(self.data))

    def apply(self, call: Call) -> None:
        """Carry out a call; one that needs a name which was lost has no effect."""
        if call.kind == "write":
            self.data[call.file] = self.data.get(call.file, b"") + call.data
        elif call.kind == "cut":
            self.data[call.file] = b""
        elif call.kind in ("unlink", "rmdir"):
            self.names.pop(call.path, None)
            if call.kind == "rmdir":
                self._remove(call.path)
        elif call.place in self.folders and call.kind == "mkdir":
            self.folders.add(call.path)
        elif call.place in self.folders and call.is_of_names:
            self.names.pop(call.former, None)
            self.names[call.path] = call.file
            self.data.setdefault(call.file, b"")

    def _remove(self, folder: str) -> None:
        """With all that is in it: its files' names may not have been removed yet on this disk."""
        self.folders = {each for each in self.folders if each != folder and not each.startswith(f"{folder}/")}
        self.names = {name: file for name, file in self.names.items() if not name.startswith(f"{folder}/")}

    def files(self) -> dict[str, bytes]:
        """The content of each file that can be reached."""
        folders = {ROOT, *self.reached()}
        return {name: self.data[file] for name, file in self.names.items() if (dirname(name) or ROOT) in folders}

    def reached(self) -> list[str]:
        """The folders, each after the one that it lies in."""
        found = {ROOT: None}
        for folder in sorted(self.folders - {ROOT}):
            if (dirname(folder) or ROOT) in found:
                found[folder] = None
        return list(found)[1:]

    def write_to(self, root: Path) -> None:
        """This disk as a folder, which must not be there."""
        root.mkdir()
        for folder in self.reached():
            (root / folder).mkdir()
        for name, content in self.files().items():
            (root / name).write_bytes(content)


class Recorder:
    """Calls below `root`, in the order in which they were made, and the disk before them."""

    def __init__(self, root: Path, beside: str = "") -> None:
        """Nothing is recorded of the folders called `beside`."""
        self.root, self.beside, self.before = root, beside, Disk.of(root)
        self.calls: list[Call] = []
        self._now, self._lock = self.before.copy(), threading.RLock()
        self._open: dict[int, int] = {}

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """What the block does is recorded; AssertionError where the folder is not what the calls make of it."""
        wrapped: Mapping[str, Callable[..., Any]] = {
            name.removeprefix("_os_"): getattr(self, name) for name in dir(self) if name.startswith("_os_")
        }
        there = {name: getattr(os, name) for name in wrapped}
        for name, call in wrapped.items():
            setattr(os, name, self._locked(call, there[name]))
        try:
            yield
        finally:
            for name, call in there.items():
                setattr(os, name, call)
        written = {name: data for name, data in Disk.of(self.root).files().items() if not self._is_beside(name)}
        assert self._now.files() == written, "something was written by another way"

    def _locked(self, wrapped: Callable[..., Any], call: Callable[..., Any]) -> Callable[..., Any]:
        def one(*arguments: Any, **options: Any) -> Any:
            with self._lock:
                return wrapped(call, *arguments, **options)

        return one

    def _add(self, kind: str, path: str = "", **more: Any) -> None:
        call = Call(kind, path, **more)
        self.calls.append(call)
        self._now.apply(call)

    def _name(self, path: Any, folder: int | None = None) -> str | None:
        """The name below the root; None elsewhere."""
        place = Path(f"/proc/self/fd/{folder}").readlink() / path if folder is not None else Path(path).absolute()
        name = place.relative_to(self.root).as_posix() if place.is_relative_to(self.root) else None
        return None if name is None or self._is_beside(name) else name

    def _is_beside(self, name: str) -> bool:
        return self.beside in Path(name).parts

    def _os_open(self, call: Any, path: Any, flags: int, *more: Any, dir_fd: int | None = None, **options: Any) -> int:
        descriptor: int = call(path, flags, *more, dir_fd=dir_fd, **options)
        name = self._name(path, dir_fd)
        if name is not None and name not in self._now.folders and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            if name not in self._now.names:
                self._add("create", name, file=max(self._now.data, default=0) + 1)
            elif flags & os.O_TRUNC:
                self._add("cut", file=self._now.names[name])
            self._open[descriptor] = self._now.names[name]
        return descriptor

    def _os_close(self, call: Any, descriptor: int) -> None:
        self._open.pop(descriptor, None)
        call(descriptor)

    def _os_write(self, call: Any, descriptor: int, data: Any) -> int:
        count: int = call(descriptor, data)
        if descriptor in self._open:
            self._add("write", file=self._open[descriptor], data=bytes(memoryview(data)[:count]))
        return count

    def _os_fsync(self, call: Any, descriptor: int) -> None:
        call(descriptor)
        if descriptor in self._open:
            self._add("sync", file=self._open[descriptor])
        elif (name := self._name("", descriptor)) is not None:
            self._add("sync", name)

    def _os_replace(self, call: Any, path: Any, to: Any, **options: Any) -> None:
        call(path, to, **options)
        former, name = self._name(path), self._name(to)
        if former is not None and name is not None:
            self._add("rename", name, file=self._now.names[former], former=former)

    def _os_link(self, call: Any, path: Any, to: Any, **options: Any) -> None:
        call(path, to, **options)
        former, name = self._name(path), self._name(to)
        if former is not None and name is not None:
            self._add("link", name, file=self._now.names[former])

    def _os_mkdir(self, call: Any, path: Any, *more: Any, **options: Any) -> None:
        call(path, *more, **options)
        if (name := self._name(path)) is not None:
            self._add("mkdir", name)

    def _os_unlink(self, call: Any, path: Any, dir_fd: int | None = None) -> None:
        call(path, dir_fd=dir_fd)
        if (name := self._name(path, dir_fd)) is not None:
            self._add("unlink", name)

    def _os_rmdir(self, call: Any, path: Any, dir_fd: int | None = None) -> None:
        call(path, dir_fd=dir_fd)
        if (name := self._name(path, dir_fd)) is not None:
            self._add("rmdir", name)
