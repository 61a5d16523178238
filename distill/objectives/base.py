"""What every objective does, and what all objectives on features share."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from shards.codecs import PROBABILITIES
from shards.codecs.features import Features


@runtime_checkable
class Objective(Protocol):
    """A loss on one or more outputs of the student and, last, what they are to match, where a term names that.

    `compares_samples = True` on one that is no mean over samples: the parts of a batch are not the whole.
    """

    def refusal(self, target: str, codec: str) -> str | None:
        """What keeps it from learning from a target set of this target and codec; None where it can."""
        ...

    def __call__(self, *outputs_and_target: Any) -> Float[Tensor, ""]:
        """The mean over the batch; the target is decoded (Features) or the labels (int64)."""
        ...


@dataclass(frozen=True)
class FeatureObjective:
    """`loss` of (student, target), a mean over batch, stored tokens that are no padding, and channels."""

    loss: Callable[[Tensor, Tensor], Tensor]

    def refusal(self, target: str, codec: str) -> str | None:
        """Probabilities of a few classes are no features."""
        return (
            "needs features, not probabilities (kl takes these)" if codec.partition(":")[0] in PROBABILITIES else None
        )

    def __call__(self, student: Float[Tensor, "batch *rows"], target: Features) -> Float[Tensor, ""]:
        """The mean over the batch."""
        compared, wanted = target.beside(student)
        return self.loss(compared.float(), wanted.float())
