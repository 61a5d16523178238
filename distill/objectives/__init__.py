"""Objectives: losses on (student, target), one file each; `make_objective` finds one by its name."""

import importlib
from typing import TYPE_CHECKING

from shards.errors import UnknownName

if TYPE_CHECKING:
    from distill.objectives.base import Objective

REGISTRY = {
    "kl": "distill.objectives.kl",
    "supervised": "distill.objectives.supervised",
}


def learnable_targets() -> set[str]:
    """The kinds of target that some objective is computed against."""
    return {target for name in REGISTRY if (target := make_objective(name, 1.0).target) is not None}


def make_objective(name: str, temperature: float) -> "Objective":
    """The objective called `name`."""
    if name not in REGISTRY:
        raise UnknownName("objective", name, REGISTRY)
    objective: Objective = importlib.import_module(REGISTRY[name]).make(temperature)
    return objective
