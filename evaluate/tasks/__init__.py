"""Tasks by name; naming one here is all that a new one needs.

A module of this folder offers `measure(evaluation) -> dict`: its metrics with num_samples, data and split. Importing
this registry does not import torch.
"""

import importlib
from typing import TYPE_CHECKING

from shards.errors import UnknownName

if TYPE_CHECKING:
    from evaluate.evaluation import Task

REGISTRY = {
    "accuracy": "evaluate.tasks.accuracy",
    "knn": "evaluate.tasks.knn",
    "linear": "evaluate.tasks.linear",
    "fidelity": "evaluate.tasks.fidelity",
}


def task_names(text: str) -> list[str]:
    """The tasks in `text`, separated by commas, once each; UnknownName for one that is not in the registry."""
    names = list(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if name not in REGISTRY:
            raise UnknownName("task", name, REGISTRY)
    return names


def load_task(name: str) -> "Task":
    """The `measure` function of a task."""
    task: Task = importlib.import_module(REGISTRY[name]).measure
    return task
