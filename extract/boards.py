"""Boards: where commands that share an extraction leave notes for each other, in the cache's folder or in its bucket.

A note is a lease on a shard (`extract/leases.py`), or the type of device that a target set is made on. All lie in
`.sharing/VIEWSET/` of the cache, until the extraction is finished.
"""

import contextlib
import os
import re
import uuid
from collections.abc import Callable, Container, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from shards.commit import TEMPORARY_PREFIX, create, make_folder
from shards.errors import Damaged
from shards.layout import Place
from shards.mirror import origin_of

if TYPE_CHECKING:
    from extract.upload import Upload

SHARING = ".sharing"
"""In a cache, while commands share the work on it."""
DEVICE_NOTE = re.compile(r"(?P<targetset>.+)\.device(?:\.(?P<number>[1-9]\d{0,8}))?")
"""The names of `device_note`."""
_ATTEMPTS = 100


def device_note(targetset: str, number: int = 0) -> str:
    """The name of the note that says which type of device makes a target set, the last one of these: `number`."""
    return f"{targetset}.device" + (f".{number}" if number else "")


def noted_targetset(note: str) -> str | None:
    """The target set that a note is of; None for another note."""
    match = DEVICE_NOTE.fullmatch(note)
    return match and match["targetset"]


class Board:
    """Notes in a folder that all machines see."""

    def __init__(self, viewset: Path, device: str = "") -> None:
        """`device`: the type of this process's device, which its leases name."""
        self._cache, self._device = viewset.parent, device
        self._folder = self._cache / SHARING / viewset.name

    def look(self) -> dict[str, object]:
        """The state of every note, another after each `touch`."""
        notes: dict[str, object] = {}
        with contextlib.suppress(FileNotFoundError):  # a command that has finished removes the folder in this moment
            make_folder(self._folder)
            with os.scandir(self._folder) as entries:
                for entry in entries:
                    if entry.name.startswith(TEMPORARY_PREFIX):
                        continue  # of a living command, whose note would not appear if `clear` removed it
                    with contextlib.suppress(FileNotFoundError):  # removed in this moment
                        status = entry.stat()
                        notes[entry.name] = status.st_ino, status.st_mtime_ns
        return notes

    def take(self, name: str) -> bool:
        """Whether this call made the note, which was not there."""
        try:
            descriptor = os.open(self._folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except (FileExistsError, FileNotFoundError):  # or a command that has finished removed the folder
            return False
        try:
            os.write(descriptor, self._device.encode())
        finally:
            os.close(descriptor)
        return True

    def touch(self, name: str) -> None:
        """The note has another state than before, where it is still there."""
        with contextlib.suppress(FileNotFoundError):
            os.utime(self._folder / name)

    def remove(self, name: str) -> None:
        """The note is gone."""
        (self._folder / name).unlink(missing_ok=True)

    def device_of(self, name: str) -> str:
        """The type of device of who has the lease; "" where it does not say, or is gone."""
        with contextlib.suppress(FileNotFoundError):
            return (self._folder / name).read_text()
        return ""

    def first(self, name: str, content: bytes) -> bytes:
        """What the note says: `content`, or what another wrote before."""
        for _ in range(_ATTEMPTS):
            with contextlib.suppress(FileNotFoundError):  # a command that has finished removed it, or the folder
                before = create(self._folder / name, content)
                return content if before is None else before
        raise Damaged(f"{self._folder / name}: is neither there nor absent, as a link that leads nowhere; remove it")

    def see_commits(self) -> None:
        """`has` knows what is committed now; after `look`, so that no shard is committed and given back between."""

    def has(self, place: Place) -> bool:
        """Whether the shard is committed somewhere else, and needs no look here."""
        return False

    def bring(self, places: Iterable[Place]) -> None:
        """What is committed of `places` can be read here: it can."""

    def look_for(self, places: Iterable[Place]) -> None:
        """As `bring`, of what was committed just now: it can."""

    def send(self, places: Iterable[Place]) -> None:
        """What this process committed of `places` is where others see it: here it is already."""

    def free(self) -> None:
        """This command needs no shard any more; what lies elsewhere takes no room here."""

    def sent(self) -> tuple[int, int]:
        """Files and bytes that were sent to where others see them: none, they are there."""
        return 0, 0

    def count_sent(self, num_files: int, num_bytes: int) -> None:
        """Other processes of this command have sent so many."""

    def clear(self, of_others: Callable[[Iterable[str]], Container[str]] = lambda _: ()) -> None:
        """No note is left but, of all that there are, those `of_others`."""
        names = self.look().keys()
        kept = of_others(names)
        for name in names:
            if name not in kept:
                self.remove(name)
        self._remove_place()

    def _remove_place(self) -> None:
        """Where the notes lay is gone, unless some are left."""
        with contextlib.suppress(OSError):
            self._folder.rmdir()


class BucketBoard(Board):
    """Notes in a bucket; what is committed lies in a mirror of it and is sent from there."""

    def __init__(self, viewset: Path, upload: "Upload", device: str = "") -> None:
        super().__init__(viewset, device)
        self._upload, self._store = upload, upload.store
        self._prefix, self._writer, self._count = f"{SHARING}/{viewset.name}/", uuid.uuid4().hex, 0
        self._committed, self._of_others = set[str](), False

    def look(self) -> dict[str, object]:
        """The notes, with the hash that the store gives of each, by one listing."""
        versions = self._store.versions(self._prefix)
        notes: dict[str, object] = {name.removeprefix(self._prefix): version for name, version in versions.items()}
        ours = {folder.name for folder in self._upload.folders}
        self._of_others = any(targetset not in ours for name in notes if (targetset := noted_targetset(name)))
        return notes

    def take(self, name: str) -> bool:
        """Whether this call made the note, which was not there (If-None-Match)."""
        return self._store.create(self._prefix + name, self._content()) is None

    def touch(self, name: str) -> None:
        """The note has another content; one that was removed in this moment comes back, and costs LEASE_S."""
        self._store.put(self._prefix + name, self._content(), "")

    def remove(self, name: str) -> None:
        """The note is gone."""
        self._store.remove(self._prefix + name)

    def device_of(self, name: str) -> str:
        """The type of device of who has the lease; "" where it does not say, or is gone."""
        try:
            words = self._store.get(self._prefix + name).decode(errors="replace").split(" ", 2)
        except Damaged:
            return ""
        return words[2] if len(words) == 3 else ""

    def first(self, name: str, content: bytes) -> bytes:
        """What the note says: `content`, or what another wrote before."""
        before = self._store.create(self._prefix + name, content)
        return content if before is None else before

    def see_commits(self) -> None:
        """Lists the commit records."""
        self._committed = self._upload.commits_there()

    def has(self, place: Place) -> bool:
        """Whether the store has all commit records of the shard."""
        return self._upload.commits_of(place) <= self._committed

    def bring(self, places: Iterable[Place]) -> None:
        """The commit records of `places` that the store has are in the mirror; their views are read together."""
        places = set(places)
        self._upload.fetch_commits(
            {name for place in places for name in self._upload.commits_of(place)} & self._committed
        )
        if (mirror := origin_of(self._upload.root)) is not None:
            mirror.ahead = places

    def look_for(self, places: Iterable[Place]) -> None:
        """As `bring`, without a listing."""
        self._upload.look_for_commits(places)

    def send(self, places: Iterable[Place]) -> None:
        """What this process committed of `places` is in the store, or the first error says why not.

        Its files are here no more, but the views that a command needs which makes another target set of them, and the
        images that further views are read with.
        """
        places = list(places)
        self._upload.send(places)
        self._upload.free(lambda folder, place: self._keeps(folder, self._upload.needs_first and place[0] == 0), places)

    def free(self) -> None:
        """No shard that the store has is in the mirror, but the views that another command needs."""
        self._upload.free(lambda folder, _: self._keeps(folder))

    def _keeps(self, folder: Path, is_first: bool = False) -> bool:
        return (self._of_others or is_first) and folder == self._upload.folders[0]

    def sent(self) -> tuple[int, int]:
        """What this process sent, and those that it started."""
        return self._upload.num_files, self._upload.num_bytes

    def count_sent(self, num_files: int, num_bytes: int) -> None:
        """They are among those that the command tells of at its end."""
        self._upload.count(num_files, num_bytes)

    def _remove_place(self) -> None:
        """A bucket has no folders."""

    def _content(self) -> bytes:
        self._count += 1
        return f"{self._writer} {self._count} {self._device}".encode()
