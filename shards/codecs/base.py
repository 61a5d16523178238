"""What every codec does: name its arrays, encode rows, decode them, and state its error."""

from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

Encoded = dict[str, Shaped[Tensor, "batch ..."]]


@runtime_checkable
class Codec(Protocol):
    """A pair of functions between a target's rows and the arrays stored for them.

    `encode` and `decode` are vectorised over the batch and run on the device that holds their input.
    """

    @property
    def name(self) -> str:
        """The codec's spec, which makes it again."""
        ...

    def describe(self) -> dict[str, Any]:
        """The codec's part of a target set's identity."""
        ...

    def arrays(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Each stored array's data type and one sample's shape."""
        ...

    def encode(self, rows: Any) -> Encoded:
        """The stored form of `rows`: a float tensor (batch, ...), or with --keep_tokens the KeptTokens of one."""
        ...

    def decode(self, stored: Encoded) -> Any:
        """What an objective is given: a float32 tensor, or the codec's own type (TopKProbabilities, KeptTokens)."""
        ...

    def error(self, rows: Any) -> dict[str, float]:
        """How far decode(encode(rows)) is from `rows`, by measures that suit the codec."""
        ...


def cosine_error(rows: Float[Tensor, "batch ..."], decoded: Float[Tensor, "batch ..."]) -> dict[str, float]:
    """Mean and worst-percentile cosine between vectors (last axis) before and after, and the largest difference."""
    width = rows.shape[-1]
    before, after = rows.double().reshape(-1, width), decoded.double().reshape(-1, width)
    cosines = torch.nn.functional.cosine_similarity(before, after, dim=1)
    return {
        "cosine_mean": round(cosines.mean().item(), 7),
        "cosine_worst_percentile": round(cosines.quantile(0.01).item(), 7),
        "largest_difference": round((before - after).abs().max().item(), 7),
    }
