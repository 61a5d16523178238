"""What every objective does, and what all objectives on features share."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from shards.codecs.features import Features


@runtime_checkable
class Objective(Protocol):
    """A loss on one or more outputs of the student and, last, what they are to match, where a term names that."""

    target: str | None
    """The one kind of target it is defined on; None for any features, or for labels alone."""

    def __call__(self, *outputs_and_target: Any) -> Float[Tensor, ""]:
        """The mean over the batch; the target is decoded (Features, TopKProbabilities) or the labels (int64)."""
        ...


@dataclass(frozen=True)
class FeatureObjective:
    """`loss` of (student, target), a mean over batch, stored tokens that are no padding, and channels."""

    loss: Callable[[Tensor, Tensor], Tensor]
    target: ClassVar[str | None] = None

    def __call__(self, student: Float[Tensor, "batch *rows"], target: Features) -> Float[Tensor, ""]:
        """The mean over the batch."""
        compared, wanted = target.beside(student)
        return self.loss(compared.float(), wanted.float())
