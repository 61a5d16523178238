"""`folder:PATH`: images in folders, PATH/split/class/image, PATH/class/image or without the classes."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from extract.photo import IMAGE_SUFFIXES
from extract.sources.base import Content, Source
from extract.sources.caption_files import USAGE, find_caption_file
from extract.sources.captions import paired
from extract.sources.columns import parse_options
from extract.sources.left_out import LeftOut, is_system, shown, unreadable_note
from extract.sources.naming import content_revision, folder_safe_name, tar_safe_key
from shards.command.progress import counted
from shards.errors import BadInput
from shards.splits import SPLIT_NAMES, canonical_split, choose_split

_DANGLING = -1


def open_split(path: str, split: str, data_dir: str | None) -> Source:
    """The images under PATH, by name; each first folder is a class (see `open_folder`)."""
    there = Path(path).expanduser().is_dir()
    root, options = (path, {}) if there else parse_options("folder", path, USAGE)
    return open_folder(f"--data folder:{path}", root, split, options.get("captions"))


def open_folder(flag: str, path: str, split: str, captions: str | None = None) -> Source:
    """The images of one split in the order of their names, links followed, hidden and system files left out.

    With the captions of the file of that name (empty: none; None: of a usual one) in the split's folder or in PATH.

    Classes are numbered by the train split's folders that hold an image (else by the split's own), so a validation
    split that lacks a class still numbers the others alike. The revision covers the classes and each image's name and
    size; what the images show is compared when views are added (see `extract.same_source`).
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        raise BadInput(f"{flag}: no folder is found at {root}: give one that holds images")
    splits = {name: root / name for name in _folders(root) if canonical_split(name) in SPLIT_NAMES}
    chosen = choose_split(flag, split, splits or {"train": root})
    base, left_out = splits.get(chosen, root), LeftOut()
    images = sorted(_walk(flag, base, left_out))
    if not images:
        raise BadInput(f"{flag}: no image is found under {base}: {_instead(path, left_out)}")
    names = [name for name, _ in images]
    if base != root:
        _check_split(flag, root, splits, chosen, names)
        left_out.beside = _beside(root, splits, chosen)
    class_names = _class_names(flag, names, _train(splits, chosen))
    if class_names:
        left_out.empty = sorted(set(_folders(base)) - {name.partition("/")[0] for name in names})
    file = find_caption_file(flag, tuple(dict.fromkeys((base, root))), captions)
    texts = [] if file is None else file.of(base, names)
    if file is not None:
        left_out.take_back(file.path.name)
    labels = {name: label for label, name in enumerate(class_names)} if class_names else {}
    keys, clashes = _keys(names)
    dangling = tuple(index for index, (_, size) in enumerate(images) if size == _DANGLING)

    def fetch(index: int) -> Content:
        name = names[index]
        if images[index][1] == _DANGLING:
            raise BadInput(f"{flag}: the link {base / name} leads nowhere: restore its target or remove it")
        label = labels.get(name.partition("/")[0])
        return Content((base / name).read_bytes(), label, texts[index] if texts else ())

    source = Source(
        name=folder_safe_name(f"folder-{root.resolve().name}"),
        revision=content_revision([str(class_names), *(part for image in images for part in image)]),
        split=canonical_split(chosen),
        keys=keys,
        class_names=class_names,
        fetch=fetch,
        notes=(
            *left_out.notes(flag),
            *(f"{flag}: {clash}" for clash in clashes),
            *_order_note(flag, class_names or ()),
            *((f"{flag}: {unreadable_note(len(dangling), len(keys), keys[dangling[0]])}",) if dangling else ()),
        ),
        unreadable=dangling,
    )
    if file is None:
        return source
    where = f"{flag}: {file.path.name}"
    lost = f"{where}: {counted(len(file.lost), 'name')} of no image here, or of several ({shown(file.lost)})"
    source = replace(source, notes=(*source.notes, *((lost,) if file.lost else ())))
    return paired(source, where, captions is not None, texts)


def _folders(root: Path) -> list[str]:
    return sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not is_system(entry.name))


def _instead(path: str, left_out: LeftOut) -> str:
    """What to give in the place of a folder without an image."""
    schemes = {".tar": "wds", ".parquet": "parquet"}
    if scheme := next((scheme for ending, scheme in schemes.items() if left_out.endings[ending]), None):
        return f"write --data {scheme}:{path}"
    left = "; ".join(left_out.notes("reading it"))
    return f"give a folder of images{left and f' ({left})'}"


def _train(splits: dict[str, Path], chosen: str) -> Path | None:
    """The folder of the train split where another split is chosen: it numbers the classes."""
    names = [name for name in splits if canonical_split(name) == "train"]
    return splits[min(names, key=str.lower)] if names and canonical_split(chosen) != "train" else None


def _check_split(flag: str, root: Path, splits: dict[str, Path], chosen: str, names: list[str]) -> None:
    """Without labels, `train` might be a class among others, as it is one of COCO's."""
    others = [] if any("/" in name for name in names) else [name for name in _folders(root) if name not in splits]
    if mixed := next((other for other in others if _holds_image(flag, root / other)), None):
        raise BadInput(f"{flag}: {chosen} reads as a split, but {mixed} beside it holds images too: move one elsewhere")


def _beside(root: Path, splits: dict[str, Path], chosen: str) -> list[str]:
    """What lies beside the split folders and is read for no split, or lies in another folder of the chosen split."""
    split = canonical_split(chosen)
    read = {name for name in splits if name == chosen or canonical_split(name) != split}
    return sorted(entry.name for entry in root.iterdir() if entry.name not in read and not is_system(entry.name))


def _holds_image(flag: str, folder: Path) -> bool:
    return next(_walk(flag, folder, LeftOut()), None) is not None


def _walk(
    flag: str, folder: Path, left_out: LeftOut, prefix: str = "", above: frozenset[tuple[int, int]] = frozenset()
) -> Iterator[tuple[str, int]]:
    """The images below `folder` as (name relative to the split, size in bytes); the rest is counted in `left_out`.

    A link that leads nowhere has the size _DANGLING: one lost photo is for --on_error to decide on.
    """
    status = folder.stat()
    here = (status.st_dev, status.st_ino)
    if here in above:
        raise BadInput(f"{flag}: the link {folder} leads back to a folder that holds it: remove the link")
    with os.scandir(folder) as entries:
        for entry in entries:
            name = prefix + entry.name
            if is_system(entry.name):
                left_out.hide(entry.name)
            elif entry.is_dir():
                yield from _walk(flag, folder / entry.name, left_out, name + "/", above | {here})
            elif os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES:  # noqa: PTH122 (a million Path objects)
                there = entry.is_file()
                if not there and not (entry.is_symlink() and not os.path.exists(entry)):  # noqa: PTH110 (as above)
                    left_out.hide(f"{entry.name} (no file)")  # a pipe, a socket or a device, which is never opened
                    continue
                yield name, entry.stat().st_size if there else _DANGLING
            else:
                left_out.file(entry.name)


def _class_names(flag: str, names: list[str], train: Path | None) -> tuple[str, ...] | None:
    """The first folders of `names`; of another split's those of `train` that hold an image, which number them."""
    inside = [name for name in names if "/" in name]
    if not inside:
        return None
    if len(inside) < len(names):
        outside = next(name for name in names if "/" not in name)
        raise BadInput(f"{flag}: {inside[0]} is in a class folder and {outside} is in none: move one kind elsewhere")
    own = sorted({name.partition("/")[0] for name in inside})
    if train is None:
        return tuple(own)
    classes = [name for name in _folders(train) if _holds_image(flag, train / name)]
    if unknown := sorted(set(own) - set(classes)):
        raise BadInput(f"{flag}: class {unknown[0]!r} has no image in the train split: add one, or remove the class")
    return tuple(classes)


def _order_note(flag: str, class_names: tuple[str, ...]) -> tuple[str, ...]:
    """Folders called by numbers are easily taken for the numbers of the classes, which the order of names decides."""
    numbered = all(name.isdecimal() for name in class_names)
    odd = next((i for i, name in enumerate(class_names) if numbered and int(name) != i), None)
    if odd is None:
        return ()
    return (f"{flag}: classes are numbered in the order of their folders' names: {class_names[odd]} is class {odd}",)


def _keys(names: list[str]) -> tuple[list[str], tuple[str, ...]]:
    """A key for each name: the name without its ending, but for names that differ in nothing else the whole name.

    With a note that counts those.
    """
    keys = [name.rpartition(".")[0] for name in names]
    # a whole name may be another's stem: `a.jpg` beside `a.png` and `a.jpg.png`
    while len(counts := Counter(keys)) < len(keys):
        keys = [name if counts[key] > 1 else key for name, key in zip(names, keys, strict=True)]
    clashing = [name for name, key in zip(names, keys, strict=True) if name == key]
    what = f"{counted(len(clashing), 'image')} differ from another in the ending alone ({shown(clashing)})"
    return [tar_safe_key(key) for key in keys], (f"{what}: each is a sample",) if clashing else ()
