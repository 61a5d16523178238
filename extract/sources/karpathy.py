"""`coco`, `flickr30k`: Karpathy's splits, from the hub, or one json beside the folders of images in --data_dir.

Karpathy & Fei-Fei 2015, "Deep Visual-Semantic Alignments for Generating Image Descriptions", section 4.
"""

import json
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from extract.sources.base import Content, Source
from extract.sources.captions import caption_texts, paired
from extract.sources.hf import open_named as open_from_hub
from extract.sources.left_out import shown
from extract.sources.naming import content_revision, tar_safe_key, without_halves
from shards.command.progress import counted
from shards.errors import BadInput, SourceUnavailable, one_line
from shards.splits import choose_split

_JSON = "https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip"
_SPLITS = {"train": ("train", "restval"), "validation": ("val",), "test": ("test",)}
_SHOWN = 3


class Layout(NamedTuple):
    """A dataset's folders of images, and what to download them from."""

    folders: tuple[str, ...]
    download: str


LAYOUTS = {
    "coco": Layout(
        (".", "images"),
        "train2014 and val2014 (http://images.cocodataset.org/zips/train2014.zip and val2014.zip)",
    ),
    "flickr30k": Layout(
        ("flickr30k-images", "flickr30k_images", "images", "Images", "."),
        "flickr30k-images (https://shannon.cs.illinois.edu/DenotationGraph)",
    ),
}


class Entry(NamedTuple):
    """An image of the json: its file, below a folder of images, and its captions."""

    name: str
    captions: tuple[str, ...]


def open_named(name: str, split: str, data_dir: str | None) -> Source:
    """One split; `train` is Karpathy's train and restval, as is usual. A copy of the hub's files serves as well.

    The revision covers each image's name and size, and the captions. An image that is not there keeps its place:
    --on_error decides. Raises BadInput for a json of another form, and where no image is there.
    """
    file = f"dataset_{name}.json"
    remedy = f"{file} ({_JSON}) and {LAYOUTS[name].download}"
    if data_dir is None:
        try:
            return open_from_hub(name, split, None)
        except SourceUnavailable as error:
            raise SourceUnavailable(f"{error}; such a copy has {remedy}") from error
    flag, root = f"--data_dir {data_dir}", Path(data_dir).expanduser()
    found = next(
        (path for pattern in (file, f"*/{file}") for path in sorted(root.glob(pattern)) if path.is_file()), None
    )
    if found is not None:
        return _open_json(flag, name, root, found, split)
    if any(root.rglob("*.parquet")):
        return open_from_hub(name, split, data_dir)
    raise BadInput(f"{flag}: holds neither {file} nor the hub's parquet files: download {remedy} into it")


def _open_json(flag: str, name: str, root: Path, file: Path, split: str) -> Source:
    chosen = choose_split(flag, split, _SPLITS)
    entries = _entries(f"{flag}: {file.name}", file, _SPLITS[chosen])
    if not entries:
        raise BadInput(f"{flag}: {file.name} has no image of split {chosen}: fetch it again from {_JSON}")
    folder = _folder(root, LAYOUTS[name].folders, entries)
    sizes = [path.stat().st_size if (path := folder / entry.name).is_file() else None for entry in entries]
    missing = tuple(index for index, size in enumerate(sizes) if size is None)
    lost = (
        f"{flag}: {len(missing):,} of {counted(len(entries), 'image')} that {file.name} names for {chosen} are not in "
        f"{folder} ({shown([entries[index].name for index in missing], _SHOWN)})"
    )
    if len(missing) == len(entries):
        raise BadInput(f"{lost}: download {LAYOUTS[name].download}")
    keys = [tar_safe_key(PurePosixPath(entry.name).stem) for entry in entries]
    if len(set(keys)) < len(keys):
        raise BadInput(f"{flag}: {file.name} names an image twice: fetch it again from {_JSON}")

    def fetch(index: int) -> Content:
        if sizes[index] is None:
            raise BadInput(f"{lost}: put them there")
        return Content((folder / entries[index].name).read_bytes(), None, entries[index].captions)

    joined = f"{flag}: train is Karpathy's train and restval, {counted(len(entries), 'image')}"
    source = Source(
        name=name,
        revision=content_revision(
            part for entry, size in zip(entries, sizes, strict=True) for part in (entry.name, str(size))
        ),
        split=chosen,
        keys=keys,
        class_names=None,
        fetch=fetch,
        notes=(*((joined,) if chosen == "train" else ()), *((lost,) if missing else ())),
        unreadable=missing,
    )
    return paired(source, f"{flag}: {file.name}", True, (entry.captions for entry in entries))


def _entries(where: str, file: Path, splits: tuple[str, ...]) -> list[Entry]:
    """The images of `splits`, in the order of the json; BadInput where it is of another form."""
    try:
        images: list[dict[str, Any]] = json.loads(file.read_bytes())["images"]
        entries = [
            Entry(
                without_halves(str(PurePosixPath(image.get("filepath", "")) / image["filename"])),
                _captions(image["sentences"]),
            )
            for image in images
            if image["split"] in splits
        ]
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{where} is no Karpathy split ({one_line(error)}): fetch it again from {_JSON}") from error
    for entry in entries:
        if ".." in PurePosixPath(entry.name).parts or entry.name.startswith("/"):
            raise BadInput(f"{where} names {entry.name}, outside of its folder: fetch it again from {_JSON}")
    return entries


def _captions(sentences: list[dict[str, Any]]) -> tuple[str, ...]:
    raw = [sentence["raw"] for sentence in sentences]
    if not all(isinstance(text, str) for text in raw):
        raise TypeError("a sentence's raw is no text")
    return caption_texts(raw)


def _folder(root: Path, folders: tuple[str, ...], entries: list[Entry]) -> Path:
    """The first of `folders` that holds an image, else the first."""
    there = (root / folder for folder in folders if any((root / folder / entry.name).is_file() for entry in entries))
    return next(there, root / folders[0])
