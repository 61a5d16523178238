"""Remove: view sets and target sets off the disk, in an order that leaves them half written when it is interrupted."""

import re
import shutil
import sys
from pathlib import Path

from shards.cache import names, open_cache
from shards.command.progress import human_bytes
from shards.commit import TEMPORARY_PREFIX, sync_folder
from shards.errors import BadInput
from shards.keys import KEYS
from shards.layout import PLAN, TARGETSET_MANIFEST, VIEWSET_MANIFEST, is_viewset, place_of
from shards.lock import writing
from shards.mirror import origin_of
from shards.stores import is_url

_OF_NO_SHARD = re.compile(r"[^/]+/zarr\.json|[^/]+\.(?:json|yaml|npy|safetensors)")


def remove(paths: tuple[str, ...], yes: bool) -> int | None:
    """The sets that `paths` name are gone when this returns the bytes they took; None when the user declined.

    BadInput, and nothing is removed, for a whole cache, anything that is no set, links, and files of another origin.
    """
    folders = [_named_set(path) for path in paths]
    for folder in folders:
        _refuse_strangers(folder)
    size = sum(file.stat().st_size for folder in folders for file in folder.rglob("*") if file.is_file())
    if not yes:
        if not sys.stdin.isatty():
            raise BadInput(f"there is no terminal to ask on; give --yes to remove {names(folders)}")
        print(*folders, sep="\n")
        if input(f"remove the above with all that is in it ({human_bytes(size)})? [y/N] ").lower() not in ("y", "yes"):
            return None
    for folder in folders:
        with writing(folder.parent if is_viewset(folder) else folder.parents[2]):
            _take_apart(folder)
            sync_folder(folder.parent)
    return size


def _named_set(path: str) -> Path:
    if is_url(path):
        raise BadInput(f"{path}: only sets in a folder are removed; remove it with your store's own command")
    cache = open_cache(Path(path).absolute())
    if (mirror := origin_of(cache.place)) is not None:
        url = mirror.store.url
        raise BadInput(f"{path}: is what this machine keeps of {url}; remove it there with your store's own command")
    if cache.place == cache.root:
        raise BadInput(f"{path}: is a whole cache; name the sets to remove, one or more of {names(cache.viewsets)}")
    # a cache that is itself a link may be meant so; within it none is
    for part in (cache.place, *cache.place.parents):
        if part == cache.root:
            return cache.place
        if part.is_symlink():
            break
    raise BadInput(f"{part}: is a link, and what it points to is not removed; remove the link itself with rm")


def _refuse_strangers(folder: Path) -> None:
    for path in folder.rglob("*"):
        relative = re.sub(r"^targets/[^/]+/", "", path.relative_to(folder).as_posix())
        if path.is_symlink():
            raise BadInput(f"{path}: is a link, which no cache holds; move it away first. Nothing was removed")
        own = place_of(relative) or _OF_NO_SHARD.fullmatch(relative) or path.name.startswith(TEMPORARY_PREFIX)
        if not path.is_dir() and not own:
            raise BadInput(f"{path}: is no part of the cache; move it away first. Nothing was removed")


def _take_apart(folder: Path) -> None:
    """The manifest goes first, commit records before the files that they list, the plan last: a rest is still a set."""
    for name in (VIEWSET_MANIFEST, TARGETSET_MANIFEST):
        (folder / name).unlink(missing_ok=True)
    sync_folder(folder)
    for targetset in (folder / "targets").glob("*"):
        _take_apart(targetset)
    if (folder / "commits").is_dir():
        shutil.rmtree(folder / "commits")
        sync_folder(folder)
    last = (PLAN, "zarr.json", KEYS)
    for path in sorted(folder.iterdir(), key=lambda path: (path.name in last, path.name == KEYS, path.name)):
        if path.name == KEYS:
            sync_folder(folder)  # no plan is left without its keys
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    folder.rmdir()
