"""Target: what is kept of a teacher's outputs, checked before anything of it is stored."""

from collections.abc import Mapping

import torch
from jaxtyping import Shaped
from torch import Tensor

from shards.errors import BadInput


def default_target(outputs: Mapping[str, tuple[int, ...]]) -> str:
    """What is kept of a teacher that gives `outputs` when --target does not say."""
    return next(name for name in ("logits", "layer_mean", "tokens", "pooled") if name in outputs)


def check_finite(rows: Shaped[Tensor, "batch ..."], keys: list[str], target: str) -> None:
    """Every row is finite; else BadInput names the first sample that is not, and nothing of its shard is committed."""
    finite = torch.isfinite(rows).flatten(1).all(1)
    if not finite.all():
        key = keys[int((~finite).nonzero()[0, 0])]
        raise BadInput(
            f"the teacher's {target} of {key} holds NaN or infinity; nothing of this shard was committed: "
            "try --precision float32 or bfloat16, or check the weights"
        )
