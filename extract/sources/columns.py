"""Which columns of a table hold the image and the label."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from extract.sources.base import numbered_classes, tar_safe_key
from shards.errors import BadInput

_LABEL_NAMES = ("label", "labels", "fine_label", "cls")


@dataclass(frozen=True)
class Columns:
    """The image column, the label column if there is one, and the classes' names where the data gives them."""

    image: str
    label: str | None
    class_names: tuple[str, ...] | None

    @property
    def names(self) -> list[str]:
        """The columns to read, no others."""
        return [self.image] if self.label is None else [self.image, self.label]

    def classes(self, flag: str, values: Callable[[str], Iterable[int | None]]) -> tuple[str, ...] | None:
        """The classes' names, or their numbers where the data names none; `values` reads a column of labels."""
        if self.class_names or self.label is None:
            return self.class_names
        return numbered_classes(flag, values(self.label))

    def split(self, row: Mapping[str, Any]) -> tuple[dict[str, Any], int | None]:
        """A row's image, as the struct with its bytes or its path (empty where it is null), and its label."""
        return row[self.image] or {}, None if self.label is None else label_or_none(row[self.label])


def find_columns(flag: str, features: Mapping[str, Any], label_column: str | None = None) -> Columns:
    """The columns of the Hugging Face types Image and ClassLabel; `label_column`, where it exists, is the label.

    Without such types: a struct column with `bytes`, and an integer column called label, labels, fine_label or cls.
    """
    from datasets import ClassLabel, Image, Value

    images = [name for name, feature in features.items() if isinstance(feature, Image)]
    images = images or [name for name, feature in features.items() if isinstance(feature, dict) and "bytes" in feature]
    labels = [name for name, feature in features.items() if isinstance(feature, ClassLabel)]
    labels = labels or [
        name
        for name, feature in features.items()
        if name in _LABEL_NAMES and isinstance(feature, Value) and "int" in str(feature.dtype)
    ]
    if label_column is not None and label_column in features:
        labels = [label_column]
    if not images:
        raise BadInput(f"{flag}: no column holds images (Image, or a struct with bytes), only {', '.join(features)}")
    for kind, found in (("image", images), ("label", labels)):
        if len(found) > 1:
            raise BadInput(f"{flag}: {kind} may be any of {', '.join(found)}: write a copy that keeps one")
    label = labels[0] if labels else None
    names = features[label].names if label is not None and isinstance(features[label], ClassLabel) else None
    return Columns(images[0], label, tuple(names) if names else None)


def label_or_none(value: int | None) -> int | None:
    """The label, or None where there is none or a negative number hides it (ImageNet's test split)."""
    return value if value is not None and value >= 0 else None


def keys_from_paths(paths: list[str | None]) -> list[str] | None:
    """The stems of the images' own paths as keys, or None unless every image has one and all differ."""
    stems = [PurePosixPath(path).stem if path else "" for path in paths]
    if not all(stems) or len(set(stems)) < len(stems):
        return None
    return [tar_safe_key(stem) for stem in stems]
