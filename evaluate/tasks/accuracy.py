"""accuracy: how often the label is the student's first answer, or among its first five."""

import sys
from typing import Any

from torchmetrics.classification import MulticlassAccuracy

from evaluate.evaluation import Evaluation
from evaluate.student import Student
from evaluate.views import Views
from shards.errors import BadInput


def measure(evaluation: Evaluation, settings: None) -> dict[str, Any]:
    """`top1` and, above five classes, `top5` of the student's own logits."""
    student = evaluation.student
    if student.num_classes is None:
        raise BadInput(
            f"--run {evaluation.run}: its student gives features and no logits; give --task linear, knn, finetune or "
            "fidelity"
        )
    views = evaluation.views(evaluation.config.split)
    check_classes(student, views)
    return {**top_shares(evaluation, views), **views.facts()}


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


def check_classes(student: Student, views: Views) -> None:
    """The labels number the student's classes; BadInput where their count or order says otherwise.

    Names that differ altogether are only told: one source may say n01440764 where another says tench. A split that
    lacks the student's last classes is whole data whose classes were counted, not named.
    """
    known, found = student.class_names, views.class_names
    if len(found) != student.num_classes and (known is None or found != known[: len(found)]):
        raise BadInput(
            f"--data {views.name}: has {len(found)} classes, the student {student.num_classes}; give the data it was "
            "trained for, or --task knn or linear, which bring their own classes"
        )
    if known is None or found == known[: len(found)]:
        return
    if set(known) == set(found):
        at = next(index for index in range(len(found)) if known[index] != found[index])
        raise BadInput(
            f"--data {views.name}: orders the classes otherwise than the student: class {at} is {found[at]!r} there "
            f"and {known[at]!r} here; give the data it was trained for"
        )
    print(
        f"evaluate: the classes of {views.name} have other names than the student's ({found[0]!r}, not {known[0]!r}); "
        "the accuracy is true only if their order is the same",
        file=sys.stderr,
    )
