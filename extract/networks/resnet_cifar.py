"""CIFAR ResNets: He et al. 2016, "Deep Residual Learning", section 4.2.

6n + 2 layers: a 3x3 convolution, three stages of n blocks at full, half and quarter resolution, a global average pool
and a linear layer; shortcuts without parameters (option A: strided identity, new channels zero). Any image size works.
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

BASE_LR = 8e-3
"""What docs/acceptance.md tried on digits and Fashion-MNIST."""
_BLOCKS_PER_STAGE = {"resnet8": 1, "resnet20": 3, "resnet56": 9}


def build(architecture: str, num_classes: int, width: int = 16) -> nn.Module:
    """The CIFAR ResNet `architecture` with stages of width, 2 width and 4 width channels; pooled is 4 width wide."""
    return CifarResNet(_BLOCKS_PER_STAGE[architecture], num_classes, width)


class CifarResNet(nn.Module):
    """The network of section 4.2 with `num_blocks` residual blocks a stage."""

    def __init__(self, num_blocks: int, num_classes: int, width: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(_convolution(3, width, 1), nn.BatchNorm2d(width), nn.ReLU(inplace=True))
        blocks: list[nn.Module] = []
        channels = width
        for stage in range(3):
            for block in range(num_blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                blocks.append(ResidualBlock(channels, width * 2**stage, stride))
                channels = width * 2**stage
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # the initialisation the paper uses: He et al. 2015, equation 10
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> dict[str, Float[Tensor, "batch _"]]:
        """Logits and the global average that enters the linear layer."""
        pooled = self.blocks(self.stem(images)).mean(dim=(2, 3))
        return {"logits": self.head(pooled), "pooled": pooled}


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and an option-A shortcut (section 3.3)."""

    def __init__(self, channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.convolution1 = _convolution(channels, out_channels, stride)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.convolution2 = _convolution(out_channels, out_channels, 1)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.stride = stride
        self.num_new_channels = out_channels - channels

    def forward(
        self, features: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch out_channels out_height out_width"]:
        """The block's output, after its last ReLU."""
        residual = F.relu(self.norm1(self.convolution1(features)))
        residual = self.norm2(self.convolution2(residual))
        shortcut = features[:, :, :: self.stride, :: self.stride]
        return F.relu(residual + F.pad(shortcut, (0, 0, 0, 0, 0, self.num_new_channels)))


def _convolution(channels: int, out_channels: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(channels, out_channels, 3, stride=stride, padding=1, bias=False)
