"""Columns: which columns of a table hold the image and the label, guessed from their types or chosen in `--data`."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from extract.sources.base import IMAGE_SUFFIXES, content_revision, tar_safe_key
from shards.errors import BadInput

USAGE = "[:image=COLUMN|text=COLUMN,label=COLUMN]"
"""What may follow the table's name in `--data`."""

_LABEL_NAMES = ("label", "labels", "fine_label", "cls")
_NO_LABEL = ""


@dataclass(frozen=True)
class ColumnChoice:
    """The columns that `--data` names (None: to be guessed; an empty label: none), and the label to guess first."""

    data: str
    """What --data names, without the columns."""
    image: str | None = None
    label: str | None = None
    usual_label: str | None = None
    text: str | None = None

    def revised(self, revision: str) -> str:
        """`revision` of a whole table, made another one by chosen columns."""
        if self.image is None and self.label is None and self.text is None:
            return revision
        content = ("image", str(self.image)) if self.text is None else ("text", self.text)
        return content_revision([revision, *content, "label", str(self.label)])

    def remedy(self, role: str, column: str = "COLUMN") -> str:
        """The flag that names `column` for `role`, beside what is chosen already."""
        chosen = {"image": self.image, "text": self.text, "label": self.label} | {role: column}
        spec = ",".join(f"{name}={value}" for name, value in chosen.items() if value is not None)
        return f"--data {self.data}:{spec}"


@dataclass(frozen=True)
class Columns:
    """The image column, the label column if there is one, what its values are, and its classes where they are named."""

    image: str
    label: str | None
    label_kind: str | None
    class_names: tuple[str, ...] | None

    def image_of(self, row: Mapping[str, Any]) -> tuple[bytes | None, str | None]:
        """A row's encoded image and the path of its file, each None where the row has none."""
        value = row[self.image]
        if isinstance(value, dict):
            return value.get("bytes"), value.get("path")
        return (None, value) if isinstance(value, str) else (value, None)


def parse_columns(scheme: str, text: str, usage: str = USAGE) -> tuple[str, ColumnChoice]:
    """What `--data SCHEME:` names, apart from the columns at its end, as `usage` shows them."""
    path, *specs = re.split(r":(?=\w+=)", text, maxsplit=1)
    if not specs:
        return text, ColumnChoice(f"{scheme}:{text}")
    chosen = dict(part.split("=", 1) for part in re.split(r",(?=\w+=)", specs[0]))
    flag, remedy = f"--data {scheme}:{text}", f"write --data {scheme}:{path}{usage}"
    if odd := next((name for name in chosen if f"{name}=" not in usage), None):
        raise BadInput(f"{flag}: {odd}= is no column's role: {remedy}")
    if empty := next((name for name in ("image", "text") if chosen.get(name) == ""), None):
        raise BadInput(f"{flag}: {empty}= names no column: {remedy}")
    if "image" in chosen and "text" in chosen:
        raise BadInput(f"{flag}: samples are images or texts: {remedy}")
    return path, ColumnChoice(f"{scheme}:{path}", **chosen)


def find_columns(
    flag: str, features: Mapping[str, Any], choice: ColumnChoice, texts: Callable[[str], Iterable[str | None]]
) -> Columns:
    """The chosen columns, else the only ones whose type fits; `texts` reads the first rows of a text column.

    Images are of the Hugging Face type Image, else structs with `bytes`, else plain bytes, else text that names image
    files. A label is a ClassLabel, else a column called label, labels, fine_label or cls: whole numbers before others.
    """
    for role, column in (("image", choice.image), ("label", choice.label)):
        if column and column not in features:
            raise BadInput(f"{flag}: no column {column!r} for {role}=, only {', '.join(features)}: name one of these")
    image = choice.image or _only(flag, "image", _image_columns(features, texts), choice)
    if image is None:
        expected = "Image, a struct with bytes, bytes, or names of image files"
        remedy = (
            "img2dataset keeps the images of its addresses in .tar files: write --data wds:PATH"
            if any("url" in name.lower() for name in features)
            else f"name one, as in {choice.remedy('image')}"
        )
        raise BadInput(f"{flag}: no column holds images ({expected}), only {', '.join(features)}: {remedy}")
    if choice.image and not _may_be_image(features[image]):
        raise BadInput(
            f"{flag}: column {image} holds {_type(features[image])}, no images: write {choice.remedy('image')}"
        )
    label = choice.label if choice.label is not None else _only(flag, "label", _label_columns(features, choice), choice)
    if not label:
        return Columns(image, None, None, None)
    kind = _label_kind(features[label])
    if kind is None:
        raise BadInput(
            f"{flag}: column {label} holds {_type(features[label])}, which is no class: "
            f"write {choice.remedy('label')}, or {choice.remedy('label', _NO_LABEL)} for none"
        )
    names = getattr(features[label], "names", None)
    return Columns(image, label, kind, tuple(names) if names else None)


def unlabelled_note(flag: str, features: Mapping[str, Any], columns: Columns, choice: ColumnChoice) -> tuple[str, ...]:
    """A line for the user where no column is the label, though others than the image are there."""
    others = [name for name in features if name != columns.image]
    if columns.label is not None or choice.label == _NO_LABEL or not others:
        return ()
    return (f"{flag}: no labels: none of {', '.join(others)} is known as one ({choice.remedy('label')} chooses it)",)


def keys_from_paths(paths: Iterable[str | None]) -> list[str] | None:
    """The stems of the images' own paths as keys, or None unless every image has one and all differ."""
    stems = [PurePosixPath(path).stem if path else "" for path in paths]
    if not all(stems) or len(set(stems)) < len(stems):
        return None
    return [tar_safe_key(stem) for stem in stems]


def _only(flag: str, role: str, names: list[str], choice: ColumnChoice) -> str | None:
    if len(names) > 1:
        listed = ", ".join(names)
        raise BadInput(f"{flag}: {role} may be any of {listed}: choose one, as in {choice.remedy(role, names[0])}")
    return names[0] if names else None


def _image_columns(features: Mapping[str, Any], texts: Callable[[str], Iterable[str | None]]) -> list[str]:
    from datasets import Image

    kinds: tuple[Callable[[str], bool], ...] = (
        lambda name: isinstance(features[name], Image),
        lambda name: isinstance(features[name], dict) and "bytes" in features[name],
        lambda name: "binary" in _type(features[name]),
        lambda name: "string" in _type(features[name]) and _are_image_files(texts(name)),
    )
    return next((names for kind in kinds if (names := [name for name in features if kind(name)])), [])


def _are_image_files(texts: Iterable[str | None]) -> bool:
    named = [text for text in texts if text]
    return bool(named) and all(
        "://" not in text and PurePosixPath(text).suffix.lower() in IMAGE_SUFFIXES for text in named
    )


def _may_be_image(feature: Any) -> bool:
    from datasets import Image

    struct = isinstance(feature, dict) and "bytes" in feature
    return struct or isinstance(feature, Image) or any(kind in _type(feature) for kind in ("binary", "string"))


def _label_columns(features: Mapping[str, Any], choice: ColumnChoice) -> list[str]:
    from datasets import ClassLabel

    if choice.usual_label in features:
        return [str(choice.usual_label)]
    kinds: tuple[Callable[[str], bool], ...] = (
        lambda name: isinstance(features[name], ClassLabel),
        lambda name: name in _LABEL_NAMES and "int" in _type(features[name]),
        lambda name: name in _LABEL_NAMES,
    )
    return next((names for kind in kinds if (names := [name for name in features if kind(name)])), [])


def _label_kind(feature: Any) -> str | None:
    """What a label column's values are, alike for widths of numbers; None where they are no classes."""
    kinds = {"int": "number", "float": "number", "double": "number", "null": "number", "string": "text", "bool": "bool"}
    return next((kind for name, kind in kinds.items() if name in _type(feature)), None)


def _type(feature: Any) -> str:
    """The Arrow type of a plain column; a nested one's description, which is none of those."""
    from datasets import Value

    dtype = getattr(feature, "dtype", None)
    plain = isinstance(feature, Value) or hasattr(feature, "names")
    return str(dtype) if plain else type(feature).__name__
