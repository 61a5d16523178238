"""Label classes: which classes the values of a table's label column mean, with their numbers and names."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from extract.sources.base import numbered_classes
from shards.errors import BadInput

_MOST_NAMES_SHOWN = 3
_NUMBER = re.compile("-?[0-9]{1,18}")

Values = Iterable[Any]


@dataclass(frozen=True)
class Classes:
    """The classes' names (None: no sample has a label), the number of each text label, and what the user must know."""

    names: tuple[str, ...] | None = None
    numbers: Mapping[str, int] | None = None
    notes: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    """What a revision must cover beside the table: the names, where labels are no whole numbers."""

    def number(self, value: Any) -> int | None:
        """The class of one stored label; None where there is none."""
        if _is_missing(value):
            return None
        return int(value) if self.numbers is None else self.numbers[value]


def read_classes(
    flag: str, column: str, declared: tuple[str, ...] | None, values: Values, train_values: Callable[[], Values]
) -> Classes:
    """The classes of the labels `values` of one split, in the column `column`.

    Whole numbers (also as floats or text) are class numbers, true is 1, and `declared` names the classes where the data
    does. Other text is sorted and numbered by the train split, so that another split that lacks a class numbers the
    rest alike. Raises BadInput for a label that means no class.
    """
    counts = Counter[Any](None if _is_missing(value) else value for value in values)
    num_missing, num_samples = counts.pop(None, 0), counts.total()
    kinds = {type(value) for value in counts}
    names: tuple[str, ...] | None
    numbers, note = None, ""
    if str in kinds and (texts := _texts(flag, counts, train_values)):
        names, numbers = texts, {name: number for number, name in enumerate(texts)}
        note = f"are text: {len(names):,} classes in sorted order {_shown(names)}"
    elif bool in kinds:
        names = ("false", "true")
        note = f"are true or false: classes {_shown(names)}"
    else:
        if odd := next((value for value in counts if isinstance(value, float) and not value.is_integer()), None):
            raise BadInput(f"{flag}: column {column} holds {odd}, which is no class: mend it, or choose another column")
        names = declared or numbered_classes(flag, [int(value) for value in counts])
        note = "are numbers written as text, and are read as numbers" if str in kinds else ""
    notes = [f"{flag}: the labels in column {column} {note}"] if note else []
    if num_missing:
        num_all = num_missing + num_samples
        notes.append(f"{flag}: {num_missing:,} of {num_all:,} samples have no label in column {column}")
    parts = names or () if kinds - {int} else ()
    return Classes(names, numbers, tuple(notes), parts)


def _is_missing(value: Any) -> bool:
    """Whether a label is null, empty, not a number, or hidden by a negative number (ImageNet's test split)."""
    if value is None or value == "":
        return True
    if isinstance(value, str):
        return value.startswith("-") and _NUMBER.fullmatch(value) is not None
    return not value >= 0


def _texts(flag: str, counts: Mapping[Any, int], train_values: Callable[[], Values]) -> tuple[str, ...]:
    """The sorted text labels of the train split, or of this split where there is none; () where all are numbers."""
    train = {str(value) for value in train_values() if not _is_missing(value)}
    if all(map(_NUMBER.fullmatch, train | counts.keys())):
        return ()
    if train and (unknown := min(counts.keys() - train, default=None)):
        raise BadInput(f"{flag}: class {unknown!r} is in no row of the train split: add one, or remove the class")
    names = tuple(sorted(train or counts))
    numbered_classes(flag, [len(names) - 1])  # refuses captions, of which there are more than there may be classes
    return names


def _shown(names: tuple[str, ...]) -> str:
    shown = ", ".join(f"{number} {name}" for number, name in enumerate(names[:_MOST_NAMES_SHOWN]))
    return f"({shown}{f' ... {len(names) - 1} {names[-1]}' if len(names) > _MOST_NAMES_SHOWN else ''})"
