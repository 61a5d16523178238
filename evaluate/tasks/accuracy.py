"""accuracy: how often the label is the student's first answer, or among its first five."""

import re
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

from torchmetrics.classification import MulticlassAccuracy

from evaluate.evaluation import Evaluation
from evaluate.student import TrainedStudent
from evaluate.views import Views
from shards.errors import BadInput


def measure(evaluation: Evaluation, settings: None) -> dict[str, Any]:
    """`top1` and, above five classes, `top5` of the student's own logits."""
    student = evaluation.student
    if student.num_classes is None:
        raise BadInput(
            f"{evaluation.folder}: its student gives features and no logits; give --task linear, knn, finetune or "
            "fidelity"
        )
    views = evaluation.views(evaluation.config.split)
    assumed = {} if check_classes(student, views) else {"classes": "assumed to be in the same order"}
    return {**top_shares(evaluation, views), **views.facts(), **assumed}


def top_shares(evaluation: Evaluation, views: Views) -> dict[str, float]:
    """`top1` and, above five classes, `top5`, as shares of all samples (not means over classes)."""
    student = evaluation.student
    assert student.num_classes is not None
    metrics = {
        f"top{k}": MulticlassAccuracy(student.num_classes, top_k=k, average="micro").to(student.device)
        for k in (1, 5)
        if k == 1 or student.num_classes > k
    }
    for logits, labels in evaluation.outputs(views, "logits"):
        for metric in metrics.values():
            metric.update(logits, labels)
    return {name: round(metric.compute().item(), 6) for name, metric in metrics.items()}


def check_classes(student: TrainedStudent, views: Views) -> bool:
    """Whether the labels are known to number the student's classes; BadInput where their count or order says otherwise.

    Other names are a warning alone: a source may have n01440764 where another has tench. A split may lack the student's
    last classes: its classes were counted, not named.
    """
    known, names = student.class_names, views.class_names
    plain, expected = _plain(names), _plain(known or ())
    in_order = plain == expected[: len(plain)]
    if len(names) != student.num_classes and (known is None or not in_order):
        raise BadInput(
            f"--data {views.name}: has {len(names)} classes, the student {student.num_classes}; give the data it was "
            "trained for, or --task knn or linear, which bring their own classes"
        )
    if known is not None and in_order:
        return True
    if (at := _misplaced(plain, expected)) is not None:
        here = f"number {at}" if known is None else repr(known[at])
        raise BadInput(
            f"--data {views.name}: orders the classes otherwise than the student: class {at} is {names[at]!r} there "
            f"and {here} here; give the data it was trained for"
        )
    other = "no names for its classes" if known is None else f"other names ({known[0]!r}, not {names[0]!r})"
    print(
        f"evaluate: the student has {other}: the accuracy on {views.name} is true only if the order of its classes is "
        "the same",
        file=sys.stderr,
    )
    return False


def _misplaced(names: list[str], expected: list[str]) -> int | None:
    """The first class that cannot be the student's of the same number, as far as names tell."""
    counts = Counter(expected)
    places = {name: index for index, name in enumerate(expected) if counts[name] == 1}
    if all(name.isdecimal() for name in names):
        numbers = sorted(names, key=int)  # in the order of text 10 stands before 2, and is class 2 of a folder
        places = {name: index for index, name in enumerate(numbers)} | places
    return next((index for index, name in enumerate(names) if places.get(name, index) != index), None)


def _plain(names: Sequence[str]) -> list[str]:
    """The names without what two copies of one data set write differently: Ankle boot, ankle_boot."""
    return [re.sub(r"[\W_]+", "", name.casefold()) or name for name in names]
