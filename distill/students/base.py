"""Students: the request for one (its spec, start, targets and input), and the network with what rebuilds it."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from extract.modalities.base import InputSpec
from shards.reader import TargetSet


@dataclass(frozen=True)
class StudentRequest:
    """A student's spec and what it is to learn."""

    spec: str
    init: str
    """teacher, random, or a file with the teacher's weights."""
    targetsets: list[TargetSet]
    num_classes: int | None
    """Of the logits or labels it learns; None without either."""
    inputs: InputSpec
    """What it is fed."""
    weights_needed: bool = True
    """False where a checkpoint will replace the weights, so that the teacher's need not be at hand."""

    @property
    def targets(self) -> dict[str, tuple[int, ...]]:
        """Each target's name and one sample's shape."""
        return {targetset.manifest.target: targetset.row_shape for targetset in self.targetsets}

    @property
    def widths(self) -> dict[str, int]:
        """The width of a row of each target."""
        return {name: shape[-1] for name, shape in self.targets.items()}


@dataclass(frozen=True)
class Student:
    """A network whose outputs are named as the targets are, and what rebuilds it (extract.networks.build_network)."""

    network: nn.Module
    inputs: InputSpec
    architecture: str
    arguments: dict[str, Any]
    num_classes: int | None
    note: str = ""
    """What is to be said before it is trained."""
