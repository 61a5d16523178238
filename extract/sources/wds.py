"""`wds:PATTERN`: WebDataset tars, indexed once by their headers and then read in place, never extracted."""

import json
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from extract.sources.base import (
    IMAGE_SUFFIXES,
    Source,
    content_revision,
    folder_safe_name,
    numbered_classes,
    tar_safe_key,
)
from extract.sources.columns import label_or_none
from extract.sources.splits import find_files, pick_split
from shards.errors import BadInput

_MOST_LABEL_BYTES = 1 << 20


@dataclass
class _Group:
    """The members of one tar that share a key, next to each other: ending -> (offset, size in bytes)."""

    tar: Path
    key: str
    members: dict[str, tuple[int, int]] = field(default_factory=dict)


def open_split(path: str, split: str, data_dir: str | None) -> Source:
    """The samples of a tar, a folder of tars, a glob or a range such as train-{00000..00003}.tar, in stored order.

    The label is `.cls`, else the `label` in `.json`. The revision covers each tar's name and size, each member's name
    and size, and the labels. Raises BadInput for a key found twice, a sample without one image, a cut or damaged tar.
    """
    flag = f"--data wds:{path}"
    root, tars = find_files(flag, path, ".tar")
    chosen, tars = pick_split(flag, root, tars, split)
    parts: list[str | int | bytes] = []
    owners: dict[str, Path] = {}
    images: list[tuple[Path, int, int]] = []
    labels: list[int | None] = []
    for tar in tars:
        contents: list[str | int | bytes] = []
        for group in _groups(flag, tar):
            if group.key in owners:
                raise BadInput(f"{flag}: {tar.name} has key {group.key!r}, as has {owners[group.key].name}: rename one")
            owners[group.key] = tar
            images.append((tar, *_image(flag, group)))
            labels.append(_label(flag, group))
            contents += [group.key, str(labels[-1]), len(group.members)]
            for ending, (_, size) in group.members.items():
                contents += [ending, size]
        parts += [tar.relative_to(root).as_posix(), tar.stat().st_size, content_revision(contents)]

    def fetch(index: int) -> tuple[bytes, int | None]:
        return _read(*images[index]), labels[index]

    return Source(
        name=folder_safe_name(f"wds-{root.resolve().name}"),
        revision=content_revision(parts),
        split=chosen,
        keys=[tar_safe_key(key) for key in owners],
        class_names=numbered_classes(flag, labels),
        fetch=fetch,
    )


def _groups(flag: str, tar: Path) -> Iterator[_Group]:
    """The tar's samples as webdataset groups them: neighbours alike up to the first dot of the file's name."""
    group = _Group(tar, "")
    for member in _members(flag, tar):
        folder, slash, base = member.name.rpartition("/")
        stem, _, ending = base.partition(".")
        if not member.isreg() or not stem or not ending or (base.startswith("__") and base.endswith("__")):
            continue
        if group.key != folder + slash + stem:
            if group.members:
                yield group
            group = _Group(tar, folder + slash + stem)
        if ending.lower() in group.members:
            raise BadInput(f"{flag}: {tar.name} holds {member.name} twice: rename one")
        group.members[ending.lower()] = (member.offset_data, member.size)
    if group.members:
        yield group


def _members(flag: str, tar: Path) -> Iterator[tarfile.TarInfo]:
    """The headers of a tar that is whole: `tarfile` alone takes a damaged header for the end."""
    try:
        with tarfile.open(tar, "r:") as opened:
            yield from opened
            end = opened.offset
    except tarfile.TarError as error:
        raise BadInput(f"{flag}: {tar.name} is no whole, uncompressed tar ({error}): fetch it again") from error
    if _read(tar, end, tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise BadInput(f"{flag}: {tar.name} is cut or damaged at byte {end} (no end-of-archive mark): fetch it again")


def _image(flag: str, group: _Group) -> tuple[int, int]:
    endings = [ending for ending in group.members if f".{ending}" in IMAGE_SUFFIXES]
    if len(endings) != 1:
        found = ", ".join(group.members)
        raise BadInput(f"{flag}: sample {group.key!r} of {group.tar.name} must have one image, but has {found}")
    return group.members[endings[0]]


def _label(flag: str, group: _Group) -> int | None:
    ending = next((ending for ending in ("cls", "json") if ending in group.members), None)
    if ending is None:
        return None
    offset, size = group.members[ending]
    where = f"{flag}: {group.key}.{ending} of {group.tar.name}"
    if size > _MOST_LABEL_BYTES:
        raise BadInput(f"{where} has {size} bytes, which is no label (at most {_MOST_LABEL_BYTES}): mend the tar")
    text = _read(group.tar, offset, size)
    try:
        value = json.loads(text) if ending == "json" else int(text)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{where} cannot be read ({error}): mend the tar") from error
    if isinstance(value, dict):
        value = value.get("label")
    return label_or_none(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _read(tar: Path, offset: int, size: int) -> bytes:
    """`size` bytes at `offset`, fewer only at the file's end; no shared file position, so threads may call it."""
    with tar.open("rb", buffering=0) as stream:
        return os.pread(stream.fileno(), size, offset)
