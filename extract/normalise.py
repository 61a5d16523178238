"""Normalise: stored uint8 pixels as the float tensor a network takes, on whatever device holds them."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def normalise(
    images: UInt8[Tensor, "batch height width 3"], mean: Sequence[float], std: Sequence[float]
) -> Float[Tensor, "batch 3 height width"]:
    """(x / 255 - mean) / std per channel, float32; channels first in shape, last in memory, as convolutions like it."""
    scale = torch.tensor([1 / (255 * s) for s in std], device=images.device)
    shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], device=images.device)
    return torch.addcmul(shift, images.float(), scale).permute(0, 3, 1, 2)
