"""`folder:PATH`: images in folders, PATH/split/class/image, PATH/class/image or without the classes."""

import os
from collections.abc import Iterator
from pathlib import Path

from extract.sources.base import IMAGE_SUFFIXES, Source, content_revision, folder_safe_name, tar_safe_key
from extract.sources.splits import SPLIT_NAMES, canonical_split, choose_split
from shards.errors import BadInput


def open_split(path: str, split: str, data_dir: str | None) -> Source:
    """The images under PATH, by name; each first folder is a class (see `open_folder`)."""
    return open_folder(f"--data folder:{path}", path, split)


def open_folder(flag: str, path: str, split: str) -> Source:
    """The images of one split in the order of their names, links followed, hidden files left out.

    Classes are numbered by the train split's folders (else by the split's own), so a validation split that lacks a
    class still numbers the others alike. The revision covers the classes and each image's name and size.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        raise BadInput(f"{flag}: no folder is found at {root}: give one that holds images")
    splits = {name: root / name for name in _folders(root) if canonical_split(name) in SPLIT_NAMES}
    chosen = choose_split(flag, split, splits or {"train": root})
    base = splits.get(chosen, root)
    images = sorted(_walk(flag, base, "", frozenset()))
    if not images:
        raise BadInput(f"{flag}: no image is found under {base} (looked for {', '.join(sorted(IMAGE_SUFFIXES))})")
    names = [name for name, _ in images]
    if base != root and not any("/" in name for name in names):
        # without labels, `train` might be a class among others, as it is one of COCO's
        others = [name for name in _folders(root) if name not in splits]
        if mixed := next((other for other in others if any(_walk(flag, root / other, "", frozenset()))), None):
            raise BadInput(
                f"{flag}: {chosen} reads as a split, but {mixed} beside it holds images too: move one elsewhere"
            )
    train = next((splits[name] for name in SPLIT_NAMES["train"] if name in splits), base)
    class_names = _class_names(flag, names, _folders(train))
    labels = {name: label for label, name in enumerate(class_names)} if class_names else {}

    def fetch(index: int) -> tuple[bytes, int | None]:
        name = names[index]
        return (base / name).read_bytes(), labels.get(name.partition("/")[0])

    return Source(
        name=folder_safe_name(f"folder-{root.resolve().name}"),
        revision=content_revision([str(class_names), *(part for image in images for part in image)]),
        split=canonical_split(chosen),
        keys=_keys(flag, names),
        class_names=class_names,
        fetch=fetch,
    )


def _folders(root: Path) -> list[str]:
    return sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _walk(flag: str, folder: Path, prefix: str, above: frozenset[tuple[int, int]]) -> Iterator[tuple[str, int]]:
    """The images below `folder` as (name relative to the split, size in bytes)."""
    status = folder.stat()
    here = (status.st_dev, status.st_ino)
    if here in above:
        raise BadInput(f"{flag}: the link {folder} leads back to a folder that holds it: remove the link")
    with os.scandir(folder) as entries:
        for entry in entries:
            name = prefix + entry.name
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from _walk(flag, folder / entry.name, name + "/", above | {here})
            elif entry.is_symlink() and not entry.is_file():
                raise BadInput(f"{flag}: the link {entry.path} leads nowhere: restore its target or remove it")
            elif os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES:  # noqa: PTH122 (a million Path objects)
                yield name, entry.stat().st_size


def _class_names(flag: str, names: list[str], folders: list[str]) -> tuple[str, ...] | None:
    inside = [name for name in names if "/" in name]
    if not inside:
        return None
    if len(inside) < len(names):
        outside = next(name for name in names if "/" not in name)
        raise BadInput(f"{flag}: {inside[0]} is in a class folder and {outside} is in none: move one kind elsewhere")
    unknown = {name.partition("/")[0] for name in inside} - set(folders)
    if unknown:
        raise BadInput(f"{flag}: class {min(unknown)!r} has no folder in the train split: add one, or remove the class")
    return tuple(folders)


def _keys(flag: str, names: list[str]) -> list[str]:
    owner: dict[str, str] = {}
    for name in names:
        key = tar_safe_key(name.rpartition(".")[0])
        if key in owner:
            raise BadInput(f"{flag}: {owner[key]} and {name} have the same name but for the ending: rename one")
        owner[key] = name
    return list(owner)
