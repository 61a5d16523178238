"""Mirror: the local folder of a cache that lies in a store; a file that is missing here, or damaged, is fetched again.

A mirror is an ordinary cache with holes, so that every reader reads it. It lies in the local cache's folder, with a
note of where it comes from: processes started later, and runs that name the folder, fetch what they lack as well.
"""

import contextlib
import json
import os
import threading
from collections.abc import Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from shards.errors import BadInput, Damaged
from shards.identity import sha256_of
from shards.layout import TARGETSET_MANIFEST, VIEWSET_MANIFEST, Place, place_of
from shards.stores import open_store
from shards.stores.base import IN_FLIGHT, Store

LOCAL_CACHE = "TEACHER_SHARDS_LOCAL_CACHE"
"""The folder of all mirrors (default: teacher-shards in XDG_CACHE_HOME, ~/.cache)."""
ATTEMPTS = 3
"""Fetches of a file whose bytes are wrong, before it is called damaged."""
_ORIGIN = ".origin.json"
_DEAD_S = 24 * 3600
"""No living process takes so long to write one file; which of them live no machine can tell of another."""


def home() -> Path:
    """The folder of all mirrors."""
    default = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "teacher-shards"
    return Path(os.environ.get(LOCAL_CACHE, default)).expanduser().absolute()


@contextlib.contextmanager
def writing_there() -> Iterator[None]:
    """The block writes into the local cache; BadInput that names it where its disk takes nothing."""
    try:
        yield
    except OSError as error:
        raise BadInput(
            f"{error.filename or home()}: {error.strerror}: what is read of buckets lies there; free some, or name "
            f"another disk ({LOCAL_CACHE})"
        ) from None


def mirror_path(url: str, shared: bool = False) -> Path:
    """Where the mirror of the cache at `url` is, or would be.

    Extractions that machines share have one of their own: they remove shards, which others would be about to read.
    """
    url = url.rstrip("/")
    return home() / f"{url.rpartition('/')[2]}-{sha256_of(url.encode())[:12]}{'-shared' if shared else ''}"


def mirror_of(url: str, shared: bool = False) -> Path:
    """The folder in which files of the cache at `url` are kept, made if missing."""
    url, root = url.rstrip("/"), mirror_path(url, shared)
    with writing_there():
        root.mkdir(parents=True, exist_ok=True)
    write(root / _ORIGIN, json.dumps({"url": url}).encode(), durably=True)
    now = (root / _ORIGIN).stat().st_mtime  # by the clock that the drafts have; another machine may share the folder
    for draft in root.rglob(".partial-*"):
        with contextlib.suppress(FileNotFoundError):  # it got its own name in this moment
            if now - draft.stat().st_mtime > _DEAD_S:  # of a process that was killed
                draft.unlink()
    return root


def origin_of(folder: Path) -> "Mirror | None":
    """The mirror that `folder` lies in; None for a folder of the user's own."""
    try:
        name = folder.absolute().relative_to(home()).parts[0]
    except (ValueError, IndexError):
        return None
    root = home() / name
    if root not in _MIRRORS and not (root / _ORIGIN).is_file():  # of one that is known all may be removed meanwhile
        return None
    with _OPENING:  # two threads that come first would each have a mirror, and fetch the same files twice
        if root not in _MIRRORS:
            url = str(json.loads((root / _ORIGIN).read_bytes())["url"])
            _MIRRORS[root] = Mirror(root, open_store(url))
        return _MIRRORS[root]


_MIRRORS: dict[Path, "Mirror"] = {}
_OPENING = threading.Lock()


def out_of(cache: Path) -> str:
    """What `extract --out` takes for the cache in this folder: of a mirror its URL."""
    mirror = origin_of(cache)
    return str(cache) if mirror is None else mirror.store.url


class Mirror:
    """Fetches files into `root`; any thread may."""

    def __init__(self, root: Path, store: Store) -> None:
        self.root, self.store = root, store
        self.ahead: Collection[Place] | None = None
        """Whose shards are fetched with a further one of the same view, as they are read next; None: all."""
        self._lock = threading.Lock()
        self._coming: dict[str, Future[None]] = {}
        """What is being fetched now, or waits for a thread."""
        self._pool = ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="fetch")

    def bring(self, folder: Path, relative: str, size: int, sha256: str) -> None:
        """The file of the set in `folder` is here, and is what its record says.

        A shard is read whole, and a shuffled run reads all of its view: the first one that lacks starts to fetch the
        others, many at a time.
        """
        prefix = folder.absolute().relative_to(self.root).as_posix()
        name = f"{prefix}/{relative}"
        with self._lock:
            coming = self._coming.get(name)
            if coming is None:
                if _is_whole(self.root / name, size, sha256):  # another thread has fetched it meanwhile
                    return
                coming = self._submit(name, size, sha256)
                self._fetch_siblings(folder, prefix, relative)
        coming.result()

    def _submit(self, name: str, size: int, sha256: str) -> Future[None]:
        future = self._coming[name] = self._pool.submit(self._fetch, name, size, sha256)
        return future

    def _fetch_siblings(self, folder: Path, prefix: str, relative: str) -> None:
        """The other shards of the same view and array are on their way, or those of them that are read next."""
        place = place_of(relative)
        if place is None:
            return
        manifests = [path for name in (VIEWSET_MANIFEST, TARGETSET_MANIFEST) if (path := folder / name).is_file()]
        if not manifests:  # half written: its commit records say what there is
            return
        manifest = manifests[0]
        files = json.loads(manifest.read_bytes())["files"]
        kind = relative.partition("/")[0]
        alike = [
            each
            for each in files
            if each.startswith(f"{kind}/") and (found := place_of(each)) is not None and found[0] == place[0]
            if self.ahead is None or found in self.ahead
        ]
        for each in alike:
            name, record = f"{prefix}/{each}", files[each]
            if name not in self._coming and not (self.root / name).exists():
                self._submit(name, record["size"], record["sha256"])

    def _fetch(self, name: str, size: int, sha256: str) -> None:
        try:
            for _ in range(ATTEMPTS):
                content = self.store.get(name)
                if len(content) != size:
                    raise self.store.cut_off(name, size, len(content))
                if sha256_of(content) == sha256:
                    write(self.root / name, content)
                    return
            raise wrong_bytes(self.store, name)
        finally:
            with self._lock:  # kept, it would grow with the shards: of 300 views of 2,400 by 720,000
                del self._coming[name]


def wrong_bytes(store: Store, name: str) -> Damaged:
    """What is raised for a file whose bytes stay wrong."""
    return Damaged(
        f"{store.named(name)}: its SHA-256 is not the manifest's after {ATTEMPTS} fetches: altered or swapped; push "
        f"the cache again from a whole copy"
    )


def write(path: Path, content: bytes, durably: bool = False) -> None:
    """`path` holds `content`; without fsync unless `durably`: what is torn after a crash is fetched again.

    BadInput where the disk does not take it: then `path` holds what it did before.
    """
    with writing_there():
        try:
            _write(path, content, durably)
        except FileNotFoundError:  # somebody has emptied the local cache in this moment
            _write(path, content, durably)


def _write(path: Path, content: bytes, durably: bool) -> None:
    temporary = path.parent / f".partial-{os.getpid()}-{threading.get_ident()}-{path.name}"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with temporary.open("wb") as file:
            file.write(content)
            if durably:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _is_whole(path: Path, size: int, sha256: str) -> bool:
    return path.is_file() and path.stat().st_size == size and sha256_of(path.read_bytes()) == sha256
