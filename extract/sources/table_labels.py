"""Table labels: what the values of a table's label column mean, as the numbers and names of classes."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from extract.sources.columns import Columns
from extract.sources.labels import Label, number_labels
from shards.errors import BadInput


@dataclass(frozen=True)
class TableLabels:
    """Each row's class (empty: the table has no label column), the classes' names, and what the user must know."""

    numbers: list[int | None]
    names: tuple[str, ...] | None
    notes: tuple[str, ...]
    parts: tuple[str, ...]
    """What a revision must cover beside the table: the names, where labels are no whole numbers."""

    def of(self, row: int) -> int | None:
        """The class of a row; None where it has none."""
        return self.numbers[row] if self.numbers else None


NO_LABELS = TableLabels([], None, (), ())


def read_table_labels(
    flag: str, columns: Columns, read: Callable[[], Iterable[Any]], train: Callable[[], Iterable[Any]]
) -> TableLabels:
    """The labels of one split, whose label column `read` reads; `train` reads that of the train split.

    Raises BadInput for a label that means no class.
    """
    if columns.label is None:
        return NO_LABELS
    where = f"{flag}: column {columns.label}"
    values = list(read())
    labels = [_label(where, value) for value in values]
    numbers, names, notes = number_labels(
        where, labels, columns.class_names, lambda: (_label(where, value) for value in train())
    )
    if names is None:
        notes = (*notes, f"{where}: no sample has a label")
    are_numbers = all(value is None or type(value) is int for value in values)
    return TableLabels(numbers, names, notes, () if are_numbers else names or ())


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
