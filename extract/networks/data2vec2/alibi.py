"""ALiBi, attention biases that fall with distance (Press et al. 2021, arXiv:2108.12409), as data2vec 2.0 uses them.

Symmetric, in one or two dimensions, with scales that may be learned: fairseq 3d262bb, `get_alibi` and
`ModalitySpecificEncoder` of examples/data2vec/models/modalities/base.py. No released image or text model turns it on.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from shards.errors import BadInput

_DISTANCES = {"manhattan": lambda rows, columns: rows.abs() + columns.abs(), "euclidean": torch.hypot}


def alibi_slopes(num_heads: int) -> Float[Tensor, "heads"]:
    """m_i = 2^(-8 i / H), i = 1..H, for H a power of two; for others the slopes of the largest power of two below, then
    every second one of twice that power (arXiv:2108.12409, section 3 and its released code)."""
    power = 2 ** int(math.log2(num_heads))
    slopes = [2.0 ** (-8 * i / power) for i in range(1, power + 1)]
    between = [2.0 ** (-4 * i / power) for i in range(1, 2 * power, 2)]
    return torch.tensor(slopes + between[: num_heads - power])


def token_distances(
    num_tokens: int, dims: int, distance: str = "manhattan", device: torch.device | None = None
) -> Float[Tensor, "tokens tokens"]:
    """Distances between tokens: |i - j| for one dimension, between patches of a square row-major grid for two."""
    index = torch.arange(num_tokens, device=device, dtype=torch.float32)
    if dims == 1:
        return (index[:, None] - index[None, :]).abs()
    side = math.isqrt(num_tokens)
    if side * side != num_tokens:
        raise BadInput(f"ALiBi in two dimensions needs a square grid of patches, found {num_tokens} tokens")
    rows, columns = index.div(side, rounding_mode="floor"), index.remainder(side)
    return _DISTANCES[distance](rows[:, None] - rows[None, :], columns[:, None] - columns[None, :])


def alibi_bias(
    distances: Float[Tensor, "tokens tokens"], num_heads: int, num_extra_tokens: int
) -> Float[Tensor, "1 heads all_tokens all_tokens"]:
    """-m_h x distance, with a row and a column of zeros in front for every extra token: at distance 0 to everything."""
    slopes = alibi_slopes(num_heads).to(distances.device)
    bias = -slopes[None, :, None, None] * distances
    return F.pad(bias, (num_extra_tokens, 0, num_extra_tokens, 0))


@dataclass(frozen=True)
class AttentionBias:
    """What is added to the attention logits of each layer, counted from the first prenet block."""

    num_heads: int
    padding: Float[Tensor, "batch 1 1 tokens"] | None = None  # 0, or -inf where a key is padding
    alibi: Float[Tensor, "1 alibi_heads tokens tokens"] | None = None
    scale: Float[Tensor, "layers 1 scale_heads 1 1"] | None = None

    def for_layer(self, layer: int) -> Float[Tensor, "bias_batch bias_heads bias_rows tokens"] | None:
        """One layer's float32 bias, in a shape that broadcasts to (batch, heads, tokens, tokens); None adds nothing.

        Scales below 0 count as 0. Where ALiBi has fewer heads than the attention, the last heads get none.
        """
        if self.alibi is None or self.scale is None:
            return self.padding
        scale = self.scale.clamp_min(0)
        bias = self.alibi * scale[layer if len(scale) > 1 else 0]
        bias = F.pad(bias, (0, 0, 0, 0, 0, self.num_heads - bias.shape[1]))
        return bias if self.padding is None else bias + self.padding


def padding_bias(
    padding_mask: Bool[Tensor, "batch tokens"], num_extra_tokens: int
) -> Float[Tensor, "batch 1 1 all_tokens"]:
    """-inf on the keys that are padding (True), 0 elsewhere; extra tokens, put in front, are never padding."""
    padding_mask = F.pad(padding_mask, (num_extra_tokens, 0))
    bias = torch.zeros(padding_mask.shape, device=padding_mask.device).masked_fill(padding_mask, -math.inf)
    return bias[:, None, None, :]
