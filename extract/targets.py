"""Target: what is kept of a teacher's outputs, checked before anything of it is stored."""

import torch
from jaxtyping import Shaped
from torch import Tensor

from shards.errors import BadInput


def check_finite(rows: Shaped[Tensor, "batch ..."], keys: list[str], target: str) -> None:
    """Every row is finite; else BadInput names the first sample that is not, and nothing of its shard is committed."""
    finite = torch.isfinite(rows).flatten(1).all(1)
    if not finite.all():
        key = keys[int((~finite).nonzero()[0, 0])]
        raise BadInput(
            f"the teacher's {target} of {key} holds NaN or infinity; nothing of this shard was committed: "
            "try --precision float32 or bfloat16, or check the weights"
        )
