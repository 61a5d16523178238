"""Staging: what a machine must know of a cache in a store before it extracts there: documents and commit records."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from shards.bill.bucket import remove_trials
from shards.documents import Commit, read_document
from shards.errors import BadInput, Damaged
from shards.layout import TARGETSET_MANIFEST, VIEWSET_MANIFEST, inside, place_of
from shards.mirror import mirror_of, write
from shards.stores import open_store
from shards.stores.base import IN_FLIGHT, Store

MANIFESTS = (VIEWSET_MANIFEST, TARGETSET_MANIFEST)


def stage(url: str, shared: bool) -> set[str]:
    """The mirror of the cache at `url` has its documents and commit records; the names of these records.

    BadInput where the mirror holds a commit record of other bytes, and where machines that share a store need it to
    create files only if absent, which it does not.
    """
    store, root = open_store(url), mirror_of(url, shared)
    if not store.creates_only_if_absent():
        ignores = f"{url} ignores If-None-Match"
        if shared:
            raise BadInput(f"{ignores}, without which machines would replace each other's files; give --launch local")
        print(f"extract: note: {ignores}: let no second machine write there before this one ends")
    here = list(root.rglob("commits/v*.json"))  # before it is listed what is there: others bring records meanwhile
    there = list(store.sizes())
    remove_trials(store, there)
    _forget_what_is_lost(here, there, root)
    return fetch_documents(store, there, root)


def _forget_what_is_lost(records: Iterable[Path], there: Iterable[str], root: Path) -> None:
    """None of `records` is left whose files are neither here nor in the store, where somebody removed them."""
    stored = set(there)
    for path in records:
        folder, name = path.parent.parent, path.relative_to(root).as_posix()
        if name in stored or place_of(in_set(name)) is None:
            continue
        if _is_torn(path):
            path.unlink()
            continue
        files = [folder / relative for relative in read_document(path, Commit).files]
        if not all(each.exists() or each.relative_to(root).as_posix() in stored for each in files):
            path.unlink()
            for manifest in MANIFESTS:  # of what is no more
                (folder / manifest).unlink(missing_ok=True)


def fetch_documents(store: Store, there: Iterable[str], root: Path) -> set[str]:
    """`root` has the documents and commit records of all that is `there` in the store; the names of these records."""
    places = {name: place_of(in_set(name)) for name in there if not name.startswith(".")}
    names = [name for name, place in places.items() if place is None or in_set(name).startswith("commits/")]
    fetch(store, root, names)
    return {name for name in names if places[name] is not None}


def fetch(store: Store, root: Path, names: Iterable[str]) -> None:
    """These files are in the mirror `root`; BadInput where it holds a commit record of other bytes."""

    def bring(name: str) -> None:
        content, path = store.get(name), inside(root, name)
        is_record = place_of(in_set(name)) is not None
        if is_record and path.exists() and path.read_bytes() != content and not _is_torn(path):
            raise another(store, name)
        write(path, content)

    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        list(pool.map(bring, names))


def _is_torn(path: Path) -> bool:
    """Whether a commit record is none: what was fetched is not synced, and a loss of power may have cut it off."""
    try:
        read_document(path, Commit)
    except Damaged:
        return True
    return False


def in_set(name: str) -> str:
    """The path of a file in its set, by its name in the cache."""
    parts = name.split("/")
    return "/".join(parts[3:] if parts[1:2] == ["targets"] else parts[1:])


def another(store: Store, name: str) -> BadInput:
    """What is raised where a file of the store is not what this machine has made."""
    return BadInput(
        f"{store.named(name)}: another machine wrote other bytes there (another type of device?); give another --out, "
        f"or use machines of one type"
    )
