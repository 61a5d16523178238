"""Two heads on the cached rows of two frozen towers, of images and of texts.

SAIL (Zhang et al. 2025, arXiv:2412.04616): a gated linear unit a tower is enough to align encoders that were trained
apart; neither tower is loaded to train or to use them on cached rows.
"""

from collections.abc import Collection, Mapping
from typing import Any

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn
from torch.nn import functional as F

from shards.errors import BadInput

BASE_LR = 2e-3
"""For two linear layers a tower, as docs/acceptance.md tried."""


class Head(nn.Module):
    """W (GELU(G LN(h)) * U LN(h)): a gated unit (Shazeer 2020, arXiv:2002.05202, equation 6) to `width`."""

    def __init__(self, dim: int, hidden: int, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.gate, self.value, self.out = nn.Linear(dim, hidden), nn.Linear(dim, hidden), nn.Linear(hidden, width)

    def forward(self, rows: Float[Tensor, "*rows dim"]) -> Float[Tensor, "*rows width"]:
        """The aligned rows."""
        normed = self.norm(rows)
        projected: Tensor = self.out(F.gelu(self.gate(normed)) * self.value(normed))
        return projected


class AlignNetwork(nn.Module):
    """`image/head` (batch, width), `text/head` (batch, captions, width), `text/valid`: which rows are captions."""

    names: tuple[str, ...] = ("image/head", "text/head", "text/valid")

    def __init__(self, dims: Mapping[str, int], hidden: int, width: int) -> None:
        super().__init__()
        self.image, self.text = (Head(dims[modality], hidden, width) for modality in ("image", "text"))

    def only(self, names: Collection[str]) -> "AlignNetwork":
        """The same network: its heads cost nothing."""
        return self

    def forward(
        self,
        image: Float[Tensor, "batch dim"],
        text: Float[Tensor, "batch captions other"],
        captions: Integer[Tensor, " batch"],
    ) -> dict[str, Tensor]:
        """The outputs for the towers' rows and each sample's number of captions."""
        valid = torch.arange(text.shape[1], device=text.device) < captions[:, None]
        return {"image/head": self.image(image), "text/head": self.text(text), "text/valid": valid}


def build(architecture: str, num_classes: int | None, dims: Mapping[str, Any], width: int, hidden: int) -> nn.Module:
    """Heads for towers of `dims` {"image": 1280, "text": 384}, freshly initialised."""
    if num_classes is not None:
        raise BadInput(f"network {architecture}: gives features by name, so num_classes must be null")
    if dims.keys() != {"image", "text"} or not all(type(dim) is int and dim > 0 for dim in dims.values()):
        raise BadInput(f"network {architecture}: dims cannot be {str(dims)[:80]}")
    return AlignNetwork(dims, hidden, width)
