"""Objectives: losses on (student, target), one file each; `make_objective` finds one by its spec."""

import importlib
import inspect
from typing import TYPE_CHECKING

from shards.command.ranges import POSITIVE
from shards.command.specs import parse_spec
from shards.errors import BadInput, UnknownName

if TYPE_CHECKING:
    from distill.objectives.base import Objective

REGISTRY = {
    "kl": "distill.objectives.kl",
    "mse": "distill.objectives.mse",
    "unit_mse": "distill.objectives.unit_mse",
    "smooth_l1": "distill.objectives.smooth_l1",
    "cosine": "distill.objectives.cosine",
    "codes": "distill.objectives.codes",
    "contrastive": "distill.objectives.contrastive",
    "contrastive_distillation": "distill.objectives.contrastive_distillation",
    "sigmoid": "distill.objectives.sigmoid",
    "ranking": "distill.objectives.ranking",
    "supervised": "distill.objectives.supervised",
}


def make_objective(spec: str) -> "Objective":
    """The objective of `spec`, such as `kl:temperature=2`; BadInput where it takes no such argument.

    Every argument there is today is a positive number.
    """
    name, arguments = parse_spec("objective", spec)
    if name not in REGISTRY:
        raise UnknownName("objective", name, REGISTRY)
    make = importlib.import_module(REGISTRY[name]).make
    known = ", ".join(inspect.signature(make).parameters) or "none"
    for argument, value in arguments.items():
        if argument not in inspect.signature(make).parameters:
            raise BadInput(f"--objective {spec}: {name} has no argument {argument!r}; its arguments: {known}")
        POSITIVE.check(f"--objective {spec}: {argument}", value)
    objective: Objective = make(**{argument: float(value) for argument, value in arguments.items()})
    return objective
