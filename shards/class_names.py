"""Class names: what a class is called, and what the classes of a teacher's logits are."""

from collections.abc import Sequence

from shards.reader import TargetSet, ViewSet


def class_name(names: Sequence[str] | None, label: int) -> str:
    """A class by its name, or by its number where it has none."""
    return names[label] if names is not None and 0 <= label < len(names) else f"class {label}"


def logit_names(viewset: ViewSet, targetset: TargetSet) -> list[str] | None:
    """The names of the classes that a target set's logits are for: the teacher's own, else the view set's as many."""
    names = targetset.manifest.class_names or viewset.class_names
    return names if names is not None and targetset.row_shape == (len(names),) else None
