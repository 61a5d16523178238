"""A text encoder of one-dimensional convolutions over word embeddings, as SHRe's (Aytar et al. 2017, arXiv:1706.00932,
section 4: convolutions over a sentence's words); after Kim 2014 (arXiv:1408.5882), a maximum over time ends it."""

from collections.abc import Mapping
from typing import Any

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from shards.command.ranges import COUNT
from shards.errors import BadInput

BASE_LR = 2e-3
"""As docs/acceptance.md tried for small networks from random weights."""


def build(
    architecture: str, num_classes: int | None, settings: Mapping[str, Any], width: int = 256, depth: int = 2
) -> nn.Module:
    """`depth` convolutions of 3 tokens over as many embeddings of `width` as `settings` says: {"vocabulary": 30522}."""
    if num_classes is not None:
        raise BadInput(f"network {architecture}: gives features, no classes, so num_classes must be null")
    vocabulary = settings.get("vocabulary")
    COUNT.check(f"network {architecture}: vocabulary", vocabulary)
    return TextConv(int(str(vocabulary)), width, depth)


class TextConv(nn.Module):
    """Embeddings, then residual convolutions over 3 tokens, then the maximum over the tokens that are no padding."""

    def __init__(self, vocabulary: int, width: int, depth: int) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(vocabulary, width)
        nn.init.normal_(self.embeddings.weight, std=width**-0.5)
        self.blocks = nn.ModuleList(nn.Conv1d(width, width, 3, padding=1) for _ in range(depth))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(depth))

    def forward(
        self, input_ids: Int[Tensor, "batch tokens"], attention_mask: Bool[Tensor, "batch tokens"]
    ) -> dict[str, Float[Tensor, "batch _"]]:
        """`pooled`; padding does not change it."""
        mask = attention_mask[..., None]
        rows = self.embeddings(input_ids) * mask
        for block, norm in zip(self.blocks, self.norms, strict=True):
            rows = (rows + block(norm(rows).mul(mask).transpose(1, 2)).transpose(1, 2).relu()) * mask
        return {"pooled": rows.masked_fill(~mask, float("-inf")).amax(1)}
