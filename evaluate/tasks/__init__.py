"""Tasks by name; naming one here is all that a new one needs.

A module of this folder offers `measure(evaluation, settings) -> dict`: its metrics with num_samples, data and split, as
they are put into evaluation.json. A task with hyperparameters names their class `Settings` and has a preset; another
one is given None. `TAKES` names the modality of its data where it is one alone: of a student of pairs, tasks are given
the part that takes it, and the whole for `pair`. Importing this registry does not import torch.
"""

import importlib
from types import ModuleType

from shards.errors import UnknownName

REGISTRY = {
    "accuracy": "evaluate.tasks.accuracy",
    "knn": "evaluate.tasks.knn",
    "linear": "evaluate.tasks.linear",
    "finetune": "evaluate.tasks.finetune",
    "text_classification": "evaluate.tasks.text_classification",
    "glue": "evaluate.tasks.glue",
    "sts": "evaluate.tasks.sts",
    "fidelity": "evaluate.tasks.fidelity",
    "retrieval": "evaluate.tasks.retrieval",
    "zeroshot": "evaluate.tasks.zeroshot",
}


def task_names(text: str) -> list[str]:
    """The tasks in `text`, separated by commas, once each; UnknownName for one that is not in the registry."""
    names = list(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if name not in REGISTRY:
            raise UnknownName("task", name, REGISTRY)
    return names


def load_task(name: str) -> ModuleType:
    """The module of a task."""
    return importlib.import_module(REGISTRY[name])
