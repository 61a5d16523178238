"""torchvision's ResNets as teachers: its own ImageNet weights, or any file for the same architecture.

He et al. 2016, "Deep Residual Learning", Table 1; the weights and their preprocessing are torchvision's.
"""

from pathlib import Path

import torch
from torchvision.models import WeightsEnum, get_model_weights

from extract.modalities.image import ImageInput
from extract.networks import build_network
from extract.networks.state_dict import load_weights, read_state_dict
from extract.teachers.base import Teacher, freeze
from extract.teachers.download import download, located
from shards.errors import BadInput


def load(spec: str, weights: str | None, image_size: int | None, weights_key: str | None = None) -> Teacher:
    """The ResNet `spec` with torchvision's default weights, its weights of that name, or those of a file or URL.

    The head is as wide as the file's; a head of 1000 classes is taken for ImageNet's, any other has no class names.
    """
    named = get_model_weights(spec)
    entry = (
        named["DEFAULT" if weights is None else weights] if weights is None or weights in named.__members__ else None
    )
    path = download(entry.url) if entry else _located(str(weights), named)
    state = read_state_dict(path, weights_key)
    head = state.get("fc.weight")
    published = entry or named["DEFAULT"]
    categories = tuple(published.meta["categories"])
    num_classes = len(head) if head is not None and head.ndim == 2 and len(head) else len(categories)
    with torch.device("meta"):
        network = build_network(spec, num_classes)
    load_weights(network, state, str(path), spec)
    transforms = published.transforms()
    inputs = ImageInput(image_size or transforms.crop_size[0], tuple(transforms.mean), tuple(transforms.std))
    return freeze(spec, spec, network, inputs, categories if num_classes == len(categories) else None)


def _located(weights: str, named: type[WeightsEnum]) -> Path:
    path = located(weights)
    if not path.is_file():
        names = ", ".join(named.__members__)
        raise BadInput(f"--weights {weights}: no such file; give a .pth or .safetensors file, a URL, or one of {names}")
    return path
