"""Columns: which columns of a table hold an image or text, captions and the label, guessed or chosen in `--data`."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from extract.photo import IMAGE_SUFFIXES
from extract.sources.naming import content_revision, tar_safe_key
from shards.errors import BadInput

USAGE = "[:image=COLUMN,captions=COLUMN,group=COLUMN|text=COLUMN,label=COLUMN]"
"""What may follow the table's name in `--data`."""

_LABEL_NAMES = ("label", "labels", "fine_label", "cls")
CAPTION_NAMES = ("caption", "captions", "text", "texts", "txt", "sentence", "sentences", "sentences_raw", "alt_text")
_NONE = ""
_TEXT_NAME = "text"


@dataclass(frozen=True)
class ColumnChoice:
    """The columns that `--data` names (None: to be guessed; empty: there is none), and which to guess first."""

    data: str
    """What --data names, without the columns."""
    image: str | None = None
    captions: str | None = None
    text: str | None = None
    label: str | None = None
    group: str | None = None
    """Rows of one value show one image, each with captions of it."""
    usual_captions: str | None = None
    usual_label: str | None = None

    def revised(self, revision: str) -> str:
        """`revision` of a whole table, made another one by chosen columns; captions have a revision of their own."""
        if self.image is None and self.label is None and self.text is None:
            return revision
        content = ("image", str(self.image)) if self.text is None else ("text", self.text)
        return content_revision([revision, *content, "label", str(self.label)])

    def chosen(self) -> dict[str, str]:
        """The columns that `--data` names, by their roles."""
        roles = {"image": self.image, "captions": self.captions, "group": self.group}
        roles |= {"text": self.text, "label": self.label}
        return {role: column for role, column in roles.items() if column is not None}

    def remedy(self, role: str, column: str = "COLUMN") -> str:
        """The flag that names `column` for `role`, beside what is chosen already."""
        spec = ",".join(f"{name}={value}" for name, value in (self.chosen() | {role: column}).items())
        return f"--data {self.data}:{spec}"


@dataclass(frozen=True)
class Columns:
    """The image or text column, that of captions and of labels if any, what labels are, and their classes if named."""

    content: str
    is_text: bool
    captions: str | None = None
    label: str | None = None
    label_kind: str | None = None
    class_names: tuple[str, ...] | None = None

    def image_of(self, row: Mapping[str, Any]) -> tuple[bytes | None, str | None]:
        """A row's encoded image and the path of its file, each None where the row has none."""
        value = row[self.content]
        if isinstance(value, dict):
            return value.get("bytes"), value.get("path")
        return (None, value) if isinstance(value, str) else (value, None)


def parse_options(scheme: str, text: str, usage: str) -> tuple[str, dict[str, str]]:
    """What `--data SCHEME:` names, apart from the ROLE=NAME at its end that `usage` shows."""
    path, *specs = re.split(r":(?=\w+=)", text, maxsplit=1)
    chosen = dict(part.split("=", 1) for part in re.split(r",(?=\w+=)", specs[0])) if specs else {}
    if odd := next((name for name in chosen if f"{name}=" not in usage), None):
        raise BadInput(f"--data {scheme}:{text}: {odd}= is no column's role: write --data {scheme}:{path}{usage}")
    return path, chosen


def parse_columns(scheme: str, text: str, usage: str = USAGE) -> tuple[str, ColumnChoice]:
    """What `--data SCHEME:` names, apart from the columns at its end, as `usage` shows them."""
    path, chosen = parse_options(scheme, text, usage)
    flag, remedy = f"--data {scheme}:{text}", f"write --data {scheme}:{path}{usage}"
    if empty := next((name for name in ("image", "text", "group") if chosen.get(name) == _NONE), None):
        raise BadInput(f"{flag}: {empty}= names no column: {remedy}")
    if "text" in chosen and chosen.keys() & {"image", "captions", "group"}:
        raise BadInput(f"{flag}: samples are images or texts: {remedy}")
    return path, ColumnChoice(f"{scheme}:{path}", **chosen)


def find_columns(
    flag: str, features: Mapping[str, Any], choice: ColumnChoice, texts: Callable[[str], Iterable[str | None]]
) -> Columns:
    """The chosen columns, else the only ones whose type fits; `texts` reads the first rows of a text column.

    Images are of the Hugging Face type Image, else structs with `bytes`, else plain bytes, else text that names image
    files; without any, a text column called text is meant. Captions are texts, or lists of them, in the only column of
    a usual name. A label is a ClassLabel, else a column called label, labels, fine_label or cls: whole numbers before
    others.
    """
    for role, column in choice.chosen().items():
        if column and column not in features:
            raise BadInput(f"{flag}: no column {column!r} for {role}=, only {', '.join(features)}: name one of these")
    content, is_text = _find_content(flag, features, choice, texts)
    captions = None if is_text else _find_captions(flag, features, choice, content)
    label = choice.label if choice.label is not None else _only(flag, "label", _label_columns(features, choice), choice)
    if not label:
        return Columns(content, is_text, captions)
    kind = _label_kind(features[label])
    if kind is None:
        raise BadInput(
            f"{flag}: column {label} holds {_type(features[label])}, which is no class: "
            f"write {choice.remedy('label')}, or {choice.remedy('label', _NONE)} for none"
        )
    names = getattr(features[label], "names", None)
    return Columns(content, is_text, captions, label, kind, tuple(names) if names else None)


def _find_content(
    flag: str, features: Mapping[str, Any], choice: ColumnChoice, texts: Callable[[str], Iterable[str | None]]
) -> tuple[str, bool]:
    """The column of images or texts, and whether it is one of texts."""
    images = [] if choice.image or choice.text else _image_columns(features, texts)
    text = choice.text or _TEXT_NAME
    if not choice.image and not choice.captions and not images and text in features:
        if _is_text(features[text]):
            return text, True
        if choice.text:
            raise BadInput(f"{flag}: column {text} holds {_type(features[text])}, no texts: {choice.remedy('text')}")
    image = choice.image or _only(flag, "image", images, choice)
    if image is None:
        expected = "Image, a struct with bytes, bytes, or names of image files"
        remedy = (
            "img2dataset keeps the images of its addresses in .tar files: write --data wds:PATH"
            if any("url" in name.lower() for name in features)
            else f"name one, as in {choice.remedy('image')} or {choice.remedy('text')}"
        )
        raise BadInput(
            f"{flag}: no column holds images ({expected}) and none called text holds text, only {', '.join(features)}: "
            f"{remedy}"
        )
    if choice.image and not _may_be_image(features[image]):
        raise BadInput(
            f"{flag}: column {image} holds {_type(features[image])}, no images: write {choice.remedy('image')}"
        )
    return image, False


def _find_captions(flag: str, features: Mapping[str, Any], choice: ColumnChoice, content: str) -> str | None:
    """The column of captions beside the images in `content`; None where there is none."""
    if choice.captions is not None:
        if choice.captions and not _holds_texts(features[choice.captions]):
            stored = _type(features[choice.captions])
            raise BadInput(f"{flag}: column {choice.captions} holds {stored}, no captions: {choice.remedy('captions')}")
        return choice.captions or None
    if choice.usual_captions == _NONE or choice.usual_captions in features:
        return choice.usual_captions or None
    fitting = [
        name
        for name, feature in features.items()
        if name.lower() in CAPTION_NAMES and name not in (content, choice.label) and _holds_texts(feature)
    ]
    return _only(flag, "captions", fitting, choice)


def unlabelled_note(flag: str, features: Mapping[str, Any], columns: Columns, choice: ColumnChoice) -> tuple[str, ...]:
    """A line for the user where no column is the label, though others than the image or text are there."""
    others = [name for name in features if name not in (columns.content, columns.captions)]
    if columns.label is not None or choice.label == _NONE or not others:
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
        none = f" ({role}= for none)" if role == "captions" else ""
        raise BadInput(
            f"{flag}: {role} may be any of {listed}: choose one, as in {choice.remedy(role, names[0])}{none}"
        )
    return names[0] if names else None


def _image_columns(features: Mapping[str, Any], texts: Callable[[str], Iterable[str | None]]) -> list[str]:
    from datasets import Image

    return _first_kind(
        features,
        lambda name: isinstance(features[name], Image),
        lambda name: isinstance(features[name], dict) and "bytes" in features[name],
        lambda name: "binary" in _type(features[name]),
        lambda name: _is_text(features[name]) and _are_image_files(texts(name)),
    )


def _first_kind(features: Mapping[str, Any], *kinds: Callable[[str], bool]) -> list[str]:
    """The columns of the first kind that any is of."""
    return next((names for kind in kinds if (names := [name for name in features if kind(name)])), [])


def _are_image_files(texts: Iterable[str | None]) -> bool:
    named = [text for text in texts if text]
    return bool(named) and all(
        "://" not in text and PurePosixPath(text).suffix.lower() in IMAGE_SUFFIXES for text in named
    )


def _may_be_image(feature: Any) -> bool:
    from datasets import Image

    struct = isinstance(feature, dict) and "bytes" in feature
    return struct or isinstance(feature, Image) or "binary" in _type(feature) or _is_text(feature)


def _label_columns(features: Mapping[str, Any], choice: ColumnChoice) -> list[str]:
    from datasets import ClassLabel

    return _first_kind(
        features,
        lambda name: name == choice.usual_label,
        lambda name: isinstance(features[name], ClassLabel),
        lambda name: name in _LABEL_NAMES and "int" in _type(features[name]),
        lambda name: name in _LABEL_NAMES,
    )


def _label_kind(feature: Any) -> str | None:
    """What a label column's values are, alike for widths of numbers; None where they are no classes."""
    kinds = {"int": "number", "float": "number", "double": "number", "null": "number", "string": "text", "bool": "bool"}
    return next((kind for name, kind in kinds.items() if name in _type(feature)), None)


def _is_text(feature: Any) -> bool:
    return "string" in _type(feature)


def _holds_texts(feature: Any) -> bool:
    """Whether values are texts, or lists of them."""
    return _is_text(getattr(feature, "feature", feature))


def _type(feature: Any) -> str:
    """The Arrow type of a plain column; a nested one's description, which is none of those."""
    from datasets import Value

    dtype = getattr(feature, "dtype", None)
    plain = isinstance(feature, Value) or hasattr(feature, "names")
    return str(dtype) if plain else type(feature).__name__
