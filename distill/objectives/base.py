"""What every objective does."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float, Int64
from torch import Tensor


@runtime_checkable
class Objective(Protocol):
    """A loss on a student's outputs, against a decoded target or the labels."""

    target: str | None
    """The kind of target it is computed against; None when it needs labels only."""

    def __call__(
        self, student: Mapping[str, Tensor], target: Any, labels: Int64[Tensor, " batch"] | None
    ) -> Float[Tensor, ""]:
        """The mean over the batch."""
        ...
