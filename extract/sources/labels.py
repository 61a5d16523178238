"""Labels as people store them, as the numbers of classes: numbers stay, names are sorted, a mixture is refused."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from extract.sources.left_out import shown
from extract.sources.naming import numbered_classes
from shards.command.progress import counted
from shards.errors import BadInput

Label = int | str | None


@dataclass(frozen=True)
class Labels:
    """Each sample's class (empty: there are no labels), the classes' names, and what the user must know."""

    numbers: list[int | None]
    names: tuple[str, ...] | None
    notes: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    """What a revision must cover beside a table: the names, where labels are no whole numbers."""

    def of(self, index: int) -> int | None:
        """The class of a sample; None where it has none."""
        return self.numbers[index] if self.numbers else None


NO_LABELS = Labels([], None)


def number_labels(
    flag: str,
    values: Sequence[Label],
    declared: tuple[str, ...] | None = None,
    train: Callable[[], Iterable[Label]] = tuple,
) -> Labels:
    """The labels that `values` mean, with notes on what was guessed; negative numbers mean no label.

    Numbers are classes as they are, also where they are written as text, called as `declared`; other text names the
    classes, numbered in the order of the names in the `train` split, so that a split that lacks a class numbers the
    others alike. Raises BadInput for numbers among names: neither reading would be true of both.
    """
    kinds = Counter(type(value) for value in values if value is not None)
    own = {value for value in values if isinstance(value, str)}
    texts = sorted({value for value in train() if isinstance(value, str)} or own) if own else []
    if len(kinds) > 1:
        number = next(value for value in values if isinstance(value, int))
        raise BadInput(
            f"{flag}: of {counted(kinds.total(), 'label')} {kinds[int]:,} are numbers, as {number}, and others text, "
            f"as {texts[0]!r}: write one kind"
        )
    notes = []
    if not all(re.fullmatch("-?[0-9]{1,18}", text) for text in (*texts, *own)):
        if unknown := own - set(texts):
            raise BadInput(
                f"{flag}: class {min(unknown)!r} is in no sample of the train split: add one, or remove the class"
            )
        named = {text: number for number, text in enumerate(texts)}
        labels = [None if value is None else named[value] for value in values if not isinstance(value, int)]
        classes: tuple[str, ...] | None = tuple(texts)
        numbered_classes(flag, [len(texts) - 1])  # refuses captions, of which there are more than there may be classes
        notes.append(f"labels are names: {len(texts):,} classes in the order of their names ({shown(texts)})")
    else:
        if texts:
            notes.append("labels are numbers written as text, and are read as numbers")
        labels = [None if value is None or int(value) < 0 else int(value) for value in values]
        classes = declared or numbered_classes(flag, labels)
    if classes and (missing := labels.count(None)):
        notes.append(f"{missing:,} of {counted(len(labels), 'sample')} have no label")
    return Labels(labels, classes, tuple(f"{flag}: {note}" for note in notes))


def column_labels(
    flag: str,
    column: str | None,
    declared: tuple[str, ...] | None,
    read: Callable[[], Iterable[Any]],
    train: Callable[[], Iterable[Any]],
) -> Labels:
    """The labels of one split in the column that `read` reads; `train` reads that of the train split.

    Raises BadInput for a label that means no class.
    """
    if column is None:
        return NO_LABELS
    where = f"{flag}: column {column}"
    values = list(read())
    labels = number_labels(
        where, [_label(where, value) for value in values], declared, lambda: (_label(where, value) for value in train())
    )
    if labels.names is None:
        labels = replace(labels, notes=(*labels.notes, f"{where}: no sample has a label"))
    are_numbers = all(value is None or type(value) is int for value in values)
    return labels if are_numbers else replace(labels, parts=labels.names or ())


def _label(where: str, value: Any) -> Label:
    """A stored label as a number or a text; None where it is null, empty or not a number."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None or value == "" or value != value:
        return None
    if isinstance(value, float):
        if not value.is_integer():
            raise BadInput(f"{where} holds {value}, which is no class: mend it, or choose another column")
        return int(value)
    return str(value) if isinstance(value, str) else int(value)
