"""There: every byte of a cache in a store against its manifests, as `verify` of a folder; nothing is kept here."""

import collections
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from shards.command.progress import counted
from shards.documents import ViewSetManifest
from shards.errors import BadInput, Damaged
from shards.layout import PLAN, commit_path, place_of
from shards.records import FileRecord
from shards.remote import KINDS, fetch_whole, manifest_in
from shards.stores import open_store
from shards.stores.base import IN_FLIGHT
from shards.verify.rendering import Rendered, without_pixels


class Found(NamedTuple):
    """What a look at every file of the sets at a URL came to; damage and unfinished sets in lines."""

    damage: list[str]
    unfinished: list[str]
    num_sets: int
    num_files: int
    num_bytes: int
    rendered: Rendered
    """Nothing is rendered here."""


def verify_there(url: str, num_threads: int) -> Found:
    """Every file of every whole set at `url` has been read and hashed when this returns."""
    store = open_store(url)
    sizes = store.sizes()
    manifests = [name for name in sizes if Path(name).name in KINDS]
    if not manifests:
        raise BadInput(f"{url}: holds no whole set; python -m shards push CACHE {url} brings one there")
    lines, nums, records = list[str](), list[int](), dict[str, FileRecord]()
    for name in manifests:
        try:
            manifest = manifest_in(store, name, KINDS[Path(name).name])
            of_set = {f"{name.rpartition('/')[0]}/{each}": record for each, record in manifest.files.items()}
            records |= {each.lstrip("/"): record for each, record in of_set.items()}
            if isinstance(manifest, ViewSetManifest):
                nums.append(without_pixels(manifest))
        except Damaged as error:
            lines.append(str(error))

    def damage(name: str) -> str | None:
        try:
            fetch_whole(store, name, records[name], sizes.get(name))
        except Damaged as error:
            return str(error)
        return None

    with ThreadPoolExecutor(max(num_threads, IN_FLIGHT)) as pool:
        lines += [line for line in pool.map(damage, records) if line]
    unfinished: collections.Counter[str] = collections.Counter()
    for name in sorted(sizes.keys() - records.keys() - set(manifests)):
        if name.startswith("."):  # a note of commands that share an extraction (.sharing), a probe or a trial
            continue
        if (folder := _unfinished(name, sizes, records)) is not None:
            unfinished[folder] += 1
        else:
            lines.append(f"{store.named(name)}: is in no manifest: a foreign file; move it away")
    growing = [
        f"{store.named(folder)}: {counted(number, 'file')} of a set, or of a growth, that is cut off or at work; its "
        f"extract command finishes it"
        for folder, number in unfinished.items()
    ]
    num_bytes = sum(record.size for record in records.values())
    rendered = Rendered(sum(nums), most=max(nums, default=0))
    return Found(lines, growing, len(manifests), len(records), num_bytes, rendered)


def _unfinished(name: str, sizes: Mapping[str, int], records: Mapping[str, FileRecord]) -> str | None:
    """The folder of the set that an extraction is about to make, or to grow, by this file of no manifest; else None."""
    parts = name.split("/")
    folder = "/".join(parts[:3] if parts[1:2] == ["targets"] else parts[:1])
    if name == folder or f"{parts[0]}/{PLAN}" not in sizes:
        return None
    if not any(f"{folder}/{manifest}" in sizes for manifest in KINDS):
        return folder
    place = place_of(name.removeprefix(f"{folder}/"))
    return folder if place is not None and f"{folder}/{commit_path(place[0], 0)}" not in records else None
