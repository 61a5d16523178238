"""Folders as stores: file:///PATH, read through obstore. A folder is made with its first file, and goes with its last.

Files are written here: obstore does not sync them, and a loss of power would take what a push has said to be there.
"""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from obstore.store import LocalStore

from shards import commit
from shards.errors import BadInput
from shards.stores.base import StoreUnavailable
from shards.stores.bucket import Bucket

_ATTEMPTS = 20
"""Of a write, while others remove the folder that it goes to, or the file that was in its way."""
Result = TypeVar("Result")


class Folder(Bucket):
    """A folder of this machine, which may not be there yet. What `put` and `create` wrote is on the disk."""

    _notes = False

    def __init__(self, url: str, root: Path) -> None:
        super().__init__(url, lambda _: None)
        self._root, self._made = root, set[Path]()

    def put(self, name: str, content: bytes, sha256: str) -> None:
        """The file appears whole, by a rename."""
        self._write(name, lambda path: commit.write_atomically(path, content))

    def create(self, name: str, content: bytes) -> bytes | None:
        """By a hard link, which is made or refused in one step."""
        return self._write(name, lambda path: commit.create(path, content))

    def remove(self, name: str) -> None:
        """The file is gone, and so are folders that are empty now, within the store and of those made for it."""
        path = self._root / name
        try:
            path.unlink(missing_ok=True)
        except NotADirectoryError:  # there is no such file
            pass
        except OSError as error:
            raise StoreUnavailable(f"{self.named(name)}: {error.strerror}; let it be removed, then run again") from None
        within = [folder for folder in path.parents if folder.is_relative_to(self._root) and folder != self._root]
        for folders in (within, sorted(self._made, reverse=True)):
            with contextlib.suppress(OSError):  # the first folder that holds something ends it
                for folder in folders:
                    folder.rmdir()

    def _write(self, name: str, write: Callable[[Path], Result]) -> Result:
        self._made |= {folder for folder in (self._root, *self._root.parents) if not folder.exists()}
        try:
            for _ in range(_ATTEMPTS):
                with contextlib.suppress(FileNotFoundError):
                    return write(self._root / name)
            return write(self._root / name)
        except OSError as error:
            raise StoreUnavailable(
                f"{self.named(name)}: {error.strerror}; free some of its disk, or give a folder that can be written"
            ) from None

    def _listed(self, prefix: str) -> list[Any]:
        """Without what a command that was killed has left half written."""
        entries = super()._listed(prefix) if self._root.is_dir() else []
        return [entry for entry in entries if not Path(entry["path"]).name.startswith(commit.TEMPORARY_PREFIX)]

    def _call(self, call: Callable[[], Result], name: str | None) -> Result:
        if self._store is None and self._root.is_dir():
            self._store = LocalStore(self._root, automatic_cleanup=True)
        if self._store is not None:
            return super()._call(call, name)
        if name is None:
            raise FileNotFoundError(self._root)
        raise self.missing(name)


def open_url(url: str) -> Folder:
    """The folder that `url` names; nothing is made yet."""
    path = url.removeprefix("file://")
    if not path.startswith("/"):
        raise BadInput(
            f"{url}: names no folder; give file:///FOLDER with the whole path, or the folder without file://"
        )
    return Folder(url, Path(path))
