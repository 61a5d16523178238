"""Upload: a cache that is written to a store: shards are made in its mirror, then sent, their commit records last.

A shard is done when its commit record is in the store, where it is created only if absent. So another machine goes on
from what is there, and two that make the same shard agree, or the second is refused.
"""

import contextlib
import json
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from extract.announced import announces
from extract.staging import MANIFESTS, another, fetch
from shards.commit import TEMPORARY_PREFIX
from shards.documents import Commit, read_document
from shards.errors import RESTORE, Damaged, TeacherShardsError, one_line
from shards.layout import CALIBRATION, Place, commit_path, inside, place_of
from shards.listing import SAVED_FLAGS
from shards.mirror import write
from shards.records import FileRecord, record_of
from shards.stores import open_store
from shards.stores.base import IN_FLIGHT, StoreUnavailable

_INTERVAL_S = 0.5
_FIRST_PAUSE_S, _MOST_PAUSE_S = 5.0, 60.0
"""Between two attempts while the store takes nothing: twice as long each time."""


class Upload:
    """Sends what is committed in `folders` (of the mirror `root`): while the block runs, or when `send` is called."""

    def __init__(
        self, url: str, root: Path, folders: Iterable[Path], committed: set[str], needs_first: bool = False
    ) -> None:
        """`committed`: the commit records that the store has already. `needs_first`: further views are read with what
        view 0 of the first folder holds."""
        self.store, self.root, self.folders, self.needs_first = open_store(url), root, list(folders), needs_first
        self.num_files = self.num_bytes = 0
        self._documents_sent = False
        self._done, self._present = set(committed), self.store.sizes()
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._watch, name="upload", daemon=True)

    def __enter__(self) -> "Upload":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        """Sends until the block ends. What cannot be sent now is said once and tried again, at last by `finish`."""
        wait_s, pauses, is_said = _INTERVAL_S, _pauses(), False
        while not self._stop.wait(wait_s):
            try:
                self._send_shards()
                wait_s, pauses = _INTERVAL_S, _pauses()
            except TeacherShardsError as error:
                is_for_good = not isinstance(error, StoreUnavailable)
                if not is_said:
                    kept = "is kept on this machine" + ("" if is_for_good else " until it can be sent")
                    print(f"extract: note: {one_line(error)}; the run goes on: what it makes {kept}", file=sys.stderr)
                if is_for_good:
                    return
                wait_s, is_said = next(pauses), True

    def commits_there(self) -> set[str]:
        """The commit records in the store, by name."""
        return {name for folder in self.folders for name in self.store.sizes(f"{self._name(folder)}/commits/")}

    def commits_of(self, place: Place) -> set[str]:
        """The names of a shard's commit records, one a set."""
        return {f"{self._name(folder)}/{commit_path(*place)}" for folder in self.folders}

    def fetch_commits(self, names: Iterable[str]) -> None:
        """These commit records of other machines are in the mirror."""
        new = sorted(set(names) - self._done)
        fetch(self.store, self.root, new)
        with self._lock:
            self._done.update(new)

    def look_for_commits(self, places: Iterable[Place]) -> None:
        """The commit records of `places` that the store has are in the mirror: a request each, and no listing."""
        for name in sorted({name for place in places for name in self.commits_of(place)} - self._done):
            with contextlib.suppress(Damaged):  # it has none
                self.fetch_commits([name])

    def fetch_statistics(self) -> None:
        """What codecs learnt on another machine is in the mirror."""
        names = {self._name(folder / CALIBRATION) for folder in self.folders if not (folder / CALIBRATION).exists()}
        fetch(self.store, self.root, sorted(names & self.store.sizes().keys()) if names else [])

    def fetch_document(self, path: Path) -> bool:
        """Whether the store has this document of a set; it is in the mirror then."""
        try:
            write(path, self.store.get(self._name(path)))
        except Damaged:  # nobody has written it yet
            return False
        return True

    def send(self, places: Iterable[Place]) -> None:
        """What the sets hold beside shards, and the shards of `places` that are committed, are in the store."""
        if not self._documents_sent:
            for folder in self.folders:
                self._send_documents(folder)
            self._documents_sent = True
        commits = [(folder, inside(folder, commit_path(*place))) for place in places for folder in self.folders]
        new = [(folder, path) for folder, path in commits if path.exists() and self._name(path) not in self._done]
        with ThreadPoolExecutor(IN_FLIGHT) as pool:
            list(pool.map(lambda each: self._send_shard(*each), new))

    def free(self, keeps: Callable[[Path, Place], bool], places: Iterable[Place] | None = None) -> None:
        """No file of a shard that the store has is left here, of `places` or of all, but of those that a set `keeps`.

        The commit records stay. What is read again is fetched again.
        """
        # images that view 0 holds were kept by the processes of this command, each of which knows what it sent itself
        sent = self.commits_there() if self.needs_first and places is None else self._done
        for folder in self.folders:
            here = (folder / "commits").glob("v*.json")
            for path in here if places is None else [inside(folder, commit_path(*place)) for place in places]:
                place = place_of(f"commits/{path.name}")
                if place is None or self._name(path) not in sent or keeps(folder, place):
                    continue
                for relative in read_document(path, Commit).files:
                    inside(folder, relative).unlink(missing_ok=True)

    def finish(self) -> None:
        """All shards are in the store, and then the manifests, those of the target sets last."""
        self._send_shards()
        ended = [folder for folder in self.folders if not self._has_more_views(folder)]
        for folder in self.folders:
            self._send_documents(folder, is_end=folder in ended)
        for folder in ended:
            for name in MANIFESTS:
                if (folder / name).is_file() and not self._has_more_views(folder):
                    self._replace(self._name(folder / name), (folder / name).read_bytes())

    def _has_more_views(self, folder: Path) -> bool:
        """Whether another machine has written a manifest of more views meanwhile, which must stay."""
        for name in MANIFESTS:
            if (folder / name).is_file():
                try:
                    return int(json.loads(self.store.get(self._name(folder / name)))["num_views"]) > int(
                        json.loads((folder / name).read_bytes())["num_views"]
                    )
                except (Damaged, ValueError, LookupError, TypeError):  # there is none, or none that can be read
                    return False
        return False

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def _send_shards(self) -> None:
        for folder in self.folders:
            commits = sorted((folder / "commits").glob("v*.json"))
            new = [path for path in commits if self._name(path) not in self._done]
            if not new:
                continue
            self._send_documents(folder)
            with ThreadPoolExecutor(IN_FLIGHT) as pool:
                list(pool.map(self._send_shard, [folder] * len(new), new))

    def _send_shard(self, folder: Path, commit: Path) -> None:
        sealed = commit.read_bytes()
        for relative, record in read_document(commit, Commit).files.items():
            self._create(folder, relative, record)
        self._create_as(self._name(commit), sealed)
        with self._lock:
            self._done.add(self._name(commit))

    def _create(self, folder: Path, relative: str, record: FileRecord) -> None:
        path = inside(folder, relative)
        name = self._name(path)
        if name in self._present and self.store.holds(name, record.size, record.sha256):
            return
        try:
            content = path.read_bytes()
        except FileNotFoundError:  # another process of this machine has sent it, and freed it
            if record_of(self.store.get(name)) != record:
                raise another(self.store, name) from None
            return
        if record_of(content) != record:
            raise Damaged(f"{path}: is not what its commit record says; {RESTORE}")
        self._create_as(name, content)

    def _create_as(self, name: str, content: bytes) -> None:
        """The file has this content, by this call or by another machine's; BadInput where it has another."""
        before = self.store.create(name, content)
        if before is None:
            self.count(1, len(content))
        elif before != content:
            raise another(self.store, name)

    def _send_documents(self, folder: Path, is_end: bool = False) -> None:
        """What a set holds beside shards and its manifest; a growth changes zarr.json files alone.

        Commands that ask for different numbers of views may begin at once: of the flags the first ones stay, and a
        zarr.json that announces more views stays until the end, when it announces what the manifest has.
        """
        own = (path for path in sorted(folder.rglob("*")) if path.is_file())
        for path in own:
            relative = path.relative_to(folder).as_posix()
            hidden = relative.startswith(("targets/", ".")) or path.name.startswith(TEMPORARY_PREFIX)
            if hidden or place_of(relative) is not None or path.name in MANIFESTS:
                continue
            name, content = self._name(path), path.read_bytes()
            if self.store.holds(name, *_record(content)):
                continue
            before = self.store.create(name, content)
            if before is None:
                self.count(1, len(content))
            elif path.name == "zarr.json":
                if is_end or not announces(before, content):
                    self._replace(name, content)
            elif path.name == SAVED_FLAGS:
                write(path, before)
            elif before != content:
                raise another(self.store, name)

    def _replace(self, name: str, content: bytes) -> None:
        if not self.store.holds(name, *_record(content)):
            self.store.put(name, content, record_of(content).sha256)
            self.count(1, len(content))

    def count(self, num_files: int, num_bytes: int) -> None:
        """So many were sent, by this process or by one that it started."""
        with self._lock:
            self.num_files += num_files
            self.num_bytes += num_bytes


def _record(content: bytes) -> tuple[int, str]:
    record = record_of(content)
    return record.size, record.sha256


def _pauses() -> Iterator[float]:
    pause_s = _FIRST_PAUSE_S
    while True:
        yield pause_s
        pause_s = min(2 * pause_s, _MOST_PAUSE_S)
