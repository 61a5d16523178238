"""Spoilers: what one who means harm can do to a cache that others pull, read by its URL, or copy."""

import json
import os
import socket
import struct
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from caches import reseal, reseal_records, targetset_of, viewset_of
from msgspec import structs

from shards.records import record_of


@dataclass
class Repository:
    """A cache in a folder, which is spoilt there, and what a store's listing says of it beside the truth."""

    cache: Path
    listed: dict[str, int] = field(default_factory=dict)

    @property
    def viewset(self) -> Path:
        return viewset_of(self.cache)

    @property
    def targetset(self) -> Path:
        return targetset_of(self.cache)

    def change(self, path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
        """A sealed document changed, and the manifest above it says so."""
        reseal(path, change)
        self.recorded(path)

    def recorded(self, path: Path) -> None:
        """The manifest of its set tells what the file is now."""
        folder = self.targetset if self.targetset in path.parents else self.viewset
        manifest = "targetset.json" if folder == self.targetset else "viewset.json"
        name = path.relative_to(folder).as_posix()
        if name.startswith("commits/"):  # which may be no JSON now
            record = structs.asdict(record_of(path.read_bytes()))
            reseal(folder / manifest, lambda document: document["files"].update({name: record}))
        elif path.name != manifest:
            reseal_records(folder, manifest, name)

    def set(self, path: Path, content: bytes) -> None:
        path.write_bytes(content)
        self.recorded(path)


FILES = {
    "plan": "plan.json",
    "manifest": "viewset.json",
    "tar": "views/v00-00001.tar",
    "commit": "commits/v00-00001.json",
    "targets": "targets/*/targetset.json",
    "object": "targets/*/values/c/0/1/0",
    "metadata": "targets/*/values/zarr.json",
    "flags": "extract.yaml",
}


def _the(repository: Repository, kind: str) -> Path:
    (path,) = repository.viewset.glob(FILES[kind])
    return path


def name_in_manifest(name: str, of_targets: bool, repository: Repository) -> None:
    folder = repository.targetset if of_targets else repository.viewset
    manifest = folder / ("targetset.json" if of_targets else "viewset.json")
    record = {"size": 1, "sha256": "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"}  # of b"x"
    reseal(manifest, lambda document: document["files"].update({name: record}))
    repository.listed[f"{folder.relative_to(repository.cache).as_posix()}/{name}"] = 1


def name_in_listing(name: str, repository: Repository) -> None:
    repository.listed |= {f"{name}/viewset.json": 100, f"{name}/plan.json": 100}


def listed_size(kind: str, repository: Repository) -> None:
    repository.listed[_the(repository, kind).relative_to(repository.cache).as_posix()] = 1 << 50


def declared_size(kind: str, size: Any, repository: Repository) -> None:
    path = _the(repository, kind)
    folder = repository.targetset if repository.targetset in path.parents else repository.viewset
    manifest, name = next(folder.glob("*set.json")), path.relative_to(folder).as_posix()
    reseal(manifest, lambda document: document["files"][name].update(size=size))
    if type(size) is int and size > 0:
        repository.listed[path.relative_to(repository.cache).as_posix()] = size


def with_field(kind: str, names: tuple[str, ...], value: Any, repository: Repository) -> None:
    def change(document: dict[str, Any]) -> None:
        for name in names[:-1]:
            document = document[name]
        document[names[-1]] = value

    if kind != "metadata":
        return repository.change(_the(repository, kind), change)
    path = _the(repository, kind)
    document = json.loads(path.read_bytes())
    change(document)
    repository.set(path, json.dumps(document).encode())


def holding(kind: str, content: bytes, repository: Repository) -> None:
    repository.set(_the(repository, kind), content)


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    header = (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    every = (header, *chunks, (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in every
    )


def image(content: bytes, repository: Repository) -> None:
    """The first view of a shard is `content`, as far as that fits in its place; all hashes and checksums fit."""
    commit, tar = _the(repository, "commit"), _the(repository, "tar")
    offset, size = json.loads(commit.read_bytes())["members"]["jpg"][0]
    data = bytearray(tar.read_bytes())
    data[offset : offset + size] = content[:size].ljust(size, b"\0")
    repository.set(tar, bytes(data))


def huge_jpeg(repository: Repository) -> None:
    commit, tar = _the(repository, "commit"), _the(repository, "tar")
    offset, size = json.loads(commit.read_bytes())["members"]["jpg"][0]
    jpeg = bytearray(tar.read_bytes()[offset : offset + size])
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at : at + 4] = struct.pack(">HH", 65_500, 65_500)
    image(bytes(jpeg), repository)


def member(ending: str, content: bytes, repository: Repository) -> None:
    """The label or the facts of a view are `content`."""
    commit, tar = _the(repository, "commit"), _the(repository, "tar")
    offset, size = json.loads(commit.read_bytes())["members"][ending][0]
    data = bytearray(tar.read_bytes())
    data[offset : offset + size] = content[:size].ljust(size)
    repository.set(tar, bytes(data))


def swap(kind: str, other: str, resealed: bool, repository: Repository) -> None:
    path = _the(repository, kind)
    (there,) = repository.viewset.glob(other)
    content = path.read_bytes()
    path.write_bytes(there.read_bytes())
    there.write_bytes(content)
    if resealed:
        repository.recorded(path)
        repository.recorded(there)


def many_files(num: int, repository: Repository) -> None:
    record = {"size": 1 << 40, "sha256": "0" * 64}
    more = {f"views/v00-{number:05d}.tar": record for number in range(10, num)}
    reseal(_the(repository, "manifest"), lambda document: document["files"].update(more))


def many_names(num: int, repository: Repository) -> None:
    repository.listed |= {f"junk/{number}": 1 for number in range(num)}


def many_members(num: int, repository: Repository) -> None:
    repository.change(_the(repository, "commit"), lambda document: document["members"].update(jpg=[[0, 10]] * num))


def write_headers(path: Path, num: int, *endings: str) -> None:
    """A tar of `num` empty members, `00000000.ENDING` and on: each sample has all the `endings`."""
    few = 100_000
    with path.open("wb") as file:
        for first in range(0, num, few):
            numbers = np.arange(first, min(first + few, num))
            blocks = np.empty((len(numbers), tarfile.BLOCKSIZE), np.uint8)
            for place, ending in enumerate(endings):
                header = tarfile.TarInfo(f"00000000.{ending}").tobuf(tarfile.USTAR_FORMAT)
                blocks[numbers % len(endings) == place] = np.frombuffer(header, np.uint8)
            blocks[:, :8] = _digits(numbers // len(endings), 10, 8)
            blocks[:, 148:156] = np.frombuffer(b" " * 8, np.uint8)
            blocks[:, 148:154], blocks[:, 154] = _digits(blocks.sum(1, dtype=np.int64), 8, 6), 0
            file.write(blocks)
        file.write(bytes(tarfile.RECORDSIZE))


def _digits(numbers: np.ndarray, base: int, num: int) -> np.ndarray:
    return ord("0") + numbers[:, None] // base ** np.arange(num - 1, -1, -1) % base


def many_headers(num: int, repository: Repository) -> None:
    """The tar of a shard has more members than anyone asked for; all hashes fit."""
    path = _the(repository, "tar")
    write_headers(path, num, "jpg", "json")
    repository.recorded(path)


def another_identity(names: tuple[str, ...], value: Any, repository: Repository) -> None:
    """Plan and manifest agree on an identity that is another's."""
    with_field("plan", names, value, repository)
    with_field("manifest", names, value, repository)


def replaced(kind: str, how: str, repository: Repository) -> None:
    path = _the(repository, kind)
    elsewhere = repository.cache.parent / "elsewhere"
    path.rename(elsewhere)
    match how:
        case "a link":
            path.symlink_to(elsewhere)
        case "a link to itself":
            path.symlink_to(path)
        case "a link to a device":
            path.symlink_to("/dev/zero")
        case "a hard link":  # a plain file, and read as one
            path.hardlink_to(elsewhere)
        case "a pipe":
            os.mkfifo(path)
        case "a socket":
            here = Path.cwd()
            os.chdir(path.parent)  # a socket's name is short
            with socket.socket(socket.AF_UNIX) as bound:
                bound.bind(path.name)
            os.chdir(here)
        case "a folder":
            path.mkdir()


def empty_pipe(repository: Repository) -> None:
    """A pipe where a manifest says that a file has no byte."""
    path = repository.viewset / "views/v00-00009.tar"
    os.mkfifo(path)
    record = {"size": 0, "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}
    reseal(_the(repository, "manifest"), lambda document: document["files"].update({"views/v00-00009.tar": record}))
