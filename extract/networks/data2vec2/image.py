"""The image front end of data2vec 2.0: patches and fixed two-dimensional sine positions.

`ImageEncoder` of fairseq 3d262bb, examples/data2vec/models/modalities/images.py, and `PatchEmbed` and
`get_2d_sincos_pos_embed` of models/mae.py (MAE, He et al. 2021, arXiv:2111.06377).
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from extract.networks.data2vec2.network import Data2Vec2, ModalityEncoder
from extract.networks.data2vec2.settings import ImageSettings
from shards.errors import BadInput


class PatchEmbed(nn.Module):
    """One linear map of every non-overlapping patch."""

    def __init__(self, settings: ImageSettings) -> None:
        super().__init__()
        self.input_shape = (settings.in_chans, settings.input_size, settings.input_size)
        patch = settings.patch_size
        self.proj = nn.Conv2d(settings.in_chans, settings.local_embed_dim, kernel_size=patch, stride=patch)

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch patches dim"]:
        """Patches row by row; raises BadInput for a size that the positions are not for (fairseq interpolates none)."""
        if tuple(images.shape[1:]) != self.input_shape:
            expected, found = ("x".join(map(str, shape)) for shape in (self.input_shape, images.shape[1:]))
            raise BadInput(
                f"this data2vec 2.0 network takes images of {expected}, found {found}; set the image size to it"
            )
        return self.proj(images).flatten(2).transpose(1, 2)


def sine_positions(side: int, dim: int) -> Float[Tensor, "1 patches dim"]:
    """The fixed positions of a `side` x `side` grid, row-major: the first half of the channels encodes the column, the
    second the row, each as [sin(p w), cos(p w)] with w_j = 10000^(-j / (dim/4)), j < dim/4; float64, then float32."""
    frequencies = 10000.0 ** (-torch.arange(dim // 4, dtype=torch.float64) / (dim / 4))
    index = torch.arange(side * side)
    halves = []
    for place in (index % side, index // side):
        angles = place[:, None] * frequencies
        halves += [angles.sin(), angles.cos()]
    return torch.cat(halves, dim=1).float()[None]


def build_image_network(settings: ImageSettings) -> Data2Vec2:
    """A network with fresh weights (PyTorch's default initialisation, not the paper's) and the fixed positions."""
    local_encoder: nn.Module = PatchEmbed(settings)
    if settings.local_embed_dim != settings.embed_dim:
        local_encoder = nn.Sequential(local_encoder, nn.Linear(settings.local_embed_dim, settings.embed_dim))
    side = settings.input_size // settings.patch_size
    positions = sine_positions(side, settings.embed_dim) if settings.fixed_positions else None
    return Data2Vec2(settings, ModalityEncoder(settings, local_encoder, positions))
