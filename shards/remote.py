"""Remote: a cache at a URL as a mirror whose documents are here and whose shards are fetched when they are read."""

import json
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from shards.documents import TargetSetManifest, ViewSetManifest, read_document
from shards.errors import RESTORE, BadInput, Damaged, TeacherShardsError
from shards.identity import sha256_of
from shards.layout import PLAN, TARGETSET_MANIFEST, VIEWSET_MANIFEST, inside, place_of
from shards.mirror import ATTEMPTS, mirror_of, write, wrong_bytes
from shards.records import FileRecord, Files, is_whole, record_of
from shards.sealed import MAX_DOCUMENT_BYTES
from shards.stores import open_store
from shards.stores.base import IN_FLIGHT, Store
from shards.zarrs import metadata_bytes

Kind = type[ViewSetManifest] | type[TargetSetManifest]
_MOST_VIEWS = 10_000
KINDS: dict[str, Kind] = {VIEWSET_MANIFEST: ViewSetManifest, TARGETSET_MANIFEST: TargetSetManifest}


def mirrored(url: str) -> Path:
    """The local folder of the cache, view set or target set at `url`; its documents are those of the store now."""
    url = url.rstrip("/")
    below = open_store(url).sizes()
    up = 3 if TARGETSET_MANIFEST in below else 1 if {VIEWSET_MANIFEST, PLAN} & below.keys() else 0
    parts = url.split("/")
    root_url, place = "/".join(parts[: len(parts) - up]), "/".join(parts[len(parts) - up :])
    store = open_store(root_url)
    root, sizes = mirror_of(root_url), store.sizes() if up else below
    names = [name for name in sizes if Path(name).name in (*KINDS, PLAN)]
    if not names:
        raise BadInput(f"{url}: holds no view set; python -m shards push CACHE {url} brings one there")
    for name in names:
        write(inside(root, name), get_document(store, name, sizes))
    for name in names:
        if (kind := KINDS.get(Path(name).name)) is not None:
            folder = inside(root, name).parent
            _fetch_documents(store, folder, Path(name).parent.as_posix(), files_in(store, name, kind), sizes)
    return root / place if place else root


def get_document(store: Store, name: str, sizes: Mapping[str, int]) -> bytes:
    """The content of a manifest or plan; Damaged where the listing says that it is larger than any of these."""
    if sizes[name] > MAX_DOCUMENT_BYTES:
        raise Damaged(f"{store.named(name)}: {sizes[name]:,} bytes, more than any document has; do not use this cache")
    return store.get(name)


def _fetch_documents(store: Store, folder: Path, name: str, files: Files, sizes: Mapping[str, int]) -> None:
    """What a set holds beside shards and commit records is here, and is what its manifest says."""
    lacking = [each for each in files if place_of(each) is None and not is_whole(folder, each, files[each])]

    def fetch(relative: str) -> None:
        there = f"{name}/{relative}"
        write(inside(folder, relative), fetch_whole(store, there, files[relative], sizes.get(there)))

    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        list(pool.map(fetch, lacking))


def files_in(store: Store, name: str, kind: Kind, content: bytes | None = None) -> Files:
    """The files that a manifest of the store lists; an error names the store's file."""
    return manifest_in(store, name, kind, content).files


def manifest_in(
    store: Store, name: str, kind: Kind, content: bytes | None = None
) -> ViewSetManifest | TargetSetManifest:
    """A manifest of the store; an error names the store's file."""
    content = store.get(name) if content is None else content
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{kind.kind}.json"
        path.write_bytes(content)
        try:
            return read_document(path, kind)
        except TeacherShardsError as error:
            said = str(error).replace(str(path), store.named(name))
            remedy = f"remove it with your store's own command, then python -m shards push CACHE {store.url}"
            raise type(error)(said.replace(RESTORE, remedy)) from None


def fetch_whole(store: Store, name: str, record: FileRecord, listed: int | None) -> bytes:
    """The content of a file that is what its record says; Damaged where it is not after three fetches."""
    if listed is None:
        raise store.missing(name)
    may_have_grown = name.endswith("/zarr.json")
    if listed != record.size and not may_have_grown:
        raise store.cut_off(name, record.size, listed)
    for _ in range(ATTEMPTS):
        content = store.get(name)
        if sha256_of(content) == record.sha256:
            return content
        if may_have_grown and (of_manifest := _before_growth(content, record)) is not None:
            return of_manifest
    raise wrong_bytes(store, name)


def _before_growth(content: bytes, record: FileRecord) -> bytes | None:
    """The zarr.json that the manifest has, where a growth, cut off or at work, announces more views in it already."""
    try:
        metadata = json.loads(content)
        announced, *shape = metadata["shape"]
        for num_views in range(min(int(announced), _MOST_VIEWS), 0, -1):
            of_manifest = metadata_bytes(metadata | {"shape": [num_views, *shape]})
            if record_of(of_manifest) == record:
                return of_manifest
    except (ValueError, LookupError, TypeError):  # it describes no array, or is damaged
        pass
    return None
