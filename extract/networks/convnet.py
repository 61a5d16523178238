"""A plain stack of 3x3 convolutions, for a student of another family than the residual ones.

After VGG (Simonyan and Zisserman 2015, section 2.1: 3x3 convolutions only, channels double as resolution halves), with
three departures: batch normalisation (Ioffe and Szegedy 2015), strided convolutions in the place of max pooling
(Springenberg et al. 2015, section 2) and a global average pool in the place of the wide linear layers (Lin et al. 2014,
section 3.2), so that any image size works.
"""

from jaxtyping import Float
from torch import Tensor, nn

BASE_LR = 8e-3
"""What docs/acceptance.md tried on digits and Fashion-MNIST."""
_MAX_DOUBLINGS = 3


def build(architecture: str, num_classes: int, width: int = 32, depth: int = 4) -> nn.Module:
    """`depth` blocks: the first at full resolution, each further one at half; width to 8 width channels."""
    return ConvNet(num_classes, width, depth)


class ConvNet(nn.Module):
    """3x3 convolution, batch normalisation and ReLU, `depth` times, then a global average and a linear layer."""

    def __init__(self, num_classes: int, width: int, depth: int) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        channels = 3
        for index in range(depth):
            out_channels = width * 2 ** min(index, _MAX_DOUBLINGS)
            stride = 1 if index == 0 else 2
            blocks += [
                nn.Conv2d(channels, out_channels, 3, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(out_channels),
                nn.ReLU(inplace=True),
            ]
            channels = out_channels
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(channels, num_classes)

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> dict[str, Float[Tensor, "batch _"]]:
        """Logits and the global average that enters the linear layer."""
        pooled = self.blocks(images).mean(dim=(2, 3))
        return {"logits": self.head(pooled), "pooled": pooled}
