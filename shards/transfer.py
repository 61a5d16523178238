"""Transfer: whole caches between folders and stores (`push`, `pull`), each file checked on arrival, manifests last."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from shards.cache import open_cache
from shards.command.progress import Progress
from shards.commit import remove_leftovers, write_atomically
from shards.documents import read_document
from shards.errors import RESTORE, BadInput, Damaged, Incomplete
from shards.layout import TARGETSET_MANIFEST, VIEWSET_MANIFEST, inside
from shards.lock import writing
from shards.records import Files, is_whole, record_of
from shards.remote import KINDS, fetch_whole, files_in, get_document
from shards.stores import is_url, open_store
from shards.stores.base import IN_FLIGHT, Store


@dataclass
class Moved:
    """What a transfer did."""

    num_files: int = 0
    num_bytes: int = 0
    num_present: int = 0
    """Files that were there already, and whole."""
    manifests: list[str] = field(default_factory=list)


def push(path: str, url: str) -> Moved:
    """The view sets and target sets at `path`, which are whole, are in the store at `url`.

    Each file is compared with its manifest before it is sent; what the store holds already is not sent again. A set's
    manifest goes when all its files are there, so that a reader sees a set that is whole or none.
    """
    if is_url(path) or not is_url(url):
        raise BadInput(f"push {path} {url}: expected a folder and a URL, as push cache/ s3://BUCKET/FOLDER")
    store, moved = open_store(url), Moved()
    cache = open_cache(path)
    store.make()
    present = store.sizes()
    for viewset in cache.viewsets:
        folders = [viewset.folder, *(each.folder for each in viewset.targetsets)]
        for folder in folders:
            name = folder.relative_to(cache.root).as_posix()
            manifest = VIEWSET_MANIFEST if folder == viewset.folder else TARGETSET_MANIFEST
            _push_set(store, folder, name, manifest, present, moved)
    return moved


def _push_set(
    store: Store, folder: Path, name: str, manifest_name: str, present: Mapping[str, int], moved: Moved
) -> None:
    path = inside(folder, manifest_name)
    if not path.is_file():
        raise Incomplete(f"{folder}: half written (no {manifest_name}); run the same extract command, then push again")
    kind = KINDS[manifest_name]
    files, sealed = read_document(path, kind).files, path.read_bytes()
    there = f"{name}/{manifest_name}"
    if there in present:
        _refuse_another(files_in(store, there, kind), files, store.named(there))
    records = {f"{name}/{relative}": record for relative, record in files.items()}
    fits = [each for each, record in records.items() if present.get(each) == record.size]
    with ThreadPoolExecutor(2 * IN_FLIGHT) as pool:
        held = pool.map(lambda each: store.holds(each, records[each].size, records[each].sha256), fits)
        whole = {each for each, holds in zip(fits, held, strict=True) if holds}
    lacking = [each for each in records if each not in whole]
    with Progress(f"push {name}", len(lacking), "files") as progress:

        def content(each: str) -> bytes:
            relative = each.removeprefix(f"{name}/")
            data = inside(folder, relative).read_bytes() if inside(folder, relative).is_file() else b""
            if record_of(data) != records[each]:
                raise Damaged(f"{folder / relative}: is not what its manifest says; {RESTORE}")
            progress.advance()
            return data

        store.put_all(lacking, content, {each: record.sha256 for each, record in records.items()})
    manifest = record_of(sealed)
    if not store.holds(there, manifest.size, manifest.sha256):
        store.put_all([there], lambda _: sealed, {there: manifest.sha256})
    moved.num_present += len(whole)
    moved.num_files += len(lacking) + 1
    moved.num_bytes += sum(records[each].size for each in lacking) + len(sealed)
    moved.manifests.append(there)


def _commits_last(name: str) -> tuple[bool, str]:
    """A shard's own file says more than its commit record."""
    return name.startswith("commits/"), name


def _refuse_another(former: Files, files: Files, where: str) -> None:
    """Raises BadInput where the files at `where` are of another set, or of a later state of it.

    A growth by views changes zarr.json files and adds others.
    """
    if more := sorted(former.keys() - files.keys()):
        raise BadInput(f"{where}: has more views already ({more[0]}); bring that state here first, the other way round")
    for name in sorted(former.keys() & files.keys(), key=_commits_last):
        if not name.endswith("zarr.json") and files[name] != former[name]:
            raise BadInput(
                f"{where}: is of another set of the same name: {name} differs (made on another type of device?); take "
                f"another place, or remove that set first"
            )


def pull(url: str, path: str) -> Moved:
    """The whole sets of the store at `url` are in the cache `path`, each file checked by its SHA-256 on arrival.

    What the folder holds already and is whole is not fetched again. A set's manifest is written last.
    """
    if is_url(path) or not is_url(url):
        raise BadInput(f"pull {url} {path}: expected a URL and a folder, as pull s3://BUCKET/FOLDER cache/")
    store, root, moved = open_store(url), Path(path), Moved()
    sizes = store.sizes()
    names = [name for name in sizes if Path(name).name in KINDS and len(Path(name).parts) in (2, 4)]
    if not names:
        raise BadInput(f"{url}: holds no view set; python -m shards push CACHE {url} brings one there")
    with writing(root):
        for viewset in {Path(name).parts[0] for name in names}:
            remove_leftovers(inside(root, viewset))
        # a view set before its target sets, which are nothing without it
        for name in sorted(names, key=lambda name: (len(Path(name).parts), name)):
            _pull_set(store, root, name, sizes, moved)
    return moved


def _pull_set(store: Store, root: Path, there: str, sizes: Mapping[str, int], moved: Moved) -> None:
    name, _, manifest_name = there.rpartition("/")
    folder = inside(root, name)
    sealed = get_document(store, there, sizes)
    kind = KINDS[manifest_name]
    files, path = files_in(store, there, kind, sealed), inside(folder, manifest_name)
    if path.exists():
        _refuse_another(read_document(path, kind).files, files, str(folder))
    with Progress(f"pull {name}", len(files), "files") as progress, ThreadPoolExecutor(IN_FLIGHT) as pool:

        def one(relative: str) -> int:
            fetched = 0
            if not is_whole(folder, relative, files[relative]):
                content = fetch_whole(store, f"{name}/{relative}", files[relative], sizes.get(f"{name}/{relative}"))
                write_atomically(inside(folder, relative), content)
                fetched = len(content)
            progress.advance()
            return fetched

        try:
            # else a pull that is cut off would leave a shard that is committed and not there
            records = {relative for relative in files if relative.startswith("commits/")}
            fetched = list(pool.map(one, [relative for relative in files if relative not in records]))
            fetched += pool.map(one, sorted(records))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if not path.exists() or path.read_bytes() != sealed:
        write_atomically(path, sealed)
    moved.num_present += sum(size == 0 for size in fetched)
    moved.num_files += sum(size > 0 for size in fetched) + 1
    moved.num_bytes += sum(fetched) + len(sealed)
    moved.manifests.append(there)
