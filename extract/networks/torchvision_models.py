"""torchvision's networks, unchanged but for a head that also reports its input.

ResNet: He et al. 2016, "Deep Residual Learning", Table 1 (torchvision strides the 3x3 convolution of a bottleneck
instead of its first 1x1, "v1.5"). MobileNetV3: Howard et al. 2019, Tables 1 and 2. State dicts keep torchvision's
names, so its .pth files load without renaming.
"""

from torch import nn
from torchvision.models import get_model

from extract.networks.heads import split_head

BASE_LR = 2e-3
"""By the square root rule from what Wightman et al. 2021 (arXiv:2110.00476, table 2, A2 and A3) take for 2048."""
_HEADS = {
    "resnet18": "fc",
    "resnet34": "fc",
    "resnet50": "fc",
    "resnet101": "fc",
    "resnet152": "fc",
    "mobilenet_v3_small": "classifier",
    "mobilenet_v3_large": "classifier",
}


def build(architecture: str, num_classes: int) -> nn.Module:
    """torchvision's `architecture`; `pooled` is the global average that enters its head (`fc` or `classifier`)."""
    network = get_model(architecture, weights=None, num_classes=num_classes)
    split_head(network, _HEADS[architecture])
    return network
