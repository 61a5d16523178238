"""What every objective does, and how a student's features meet those of a target that kept some tokens only."""

from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float, Int64
from torch import Tensor

from shards.codecs.kept import KeptTokens


@runtime_checkable
class Objective(Protocol):
    """A loss on the student's output of the target's name, against the decoded target or the labels."""

    target: str | None
    """The one kind of target it is defined on; None for any features, or for labels alone."""

    def __call__(
        self, student: Float[Tensor, "batch ..."], target: Any, labels: Int64[Tensor, " batch"] | None
    ) -> Float[Tensor, ""]:
        """The mean over the batch."""
        ...


def matched(
    student: Float[Tensor, "batch *rows"], target: Float[Tensor, "batch *rows"] | KeptTokens
) -> tuple[Float[Tensor, "batch *compared"], Float[Tensor, "batch *compared"]]:
    """Both sides in float32, at the positions that the target kept; the student saw the whole image all the same."""
    if isinstance(target, KeptTokens):
        return target.take_from(student).float(), target.rows.float()
    return student.float(), target
