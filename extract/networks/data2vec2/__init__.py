"""data2vec 2.0 (Baevski et al. 2022, arXiv:2212.07525) in plain PyTorch: the image network and a safe loader.

The facts come from facebookresearch/fairseq at commit 3d262bb, `examples/data2vec`; fairseq itself is not needed.
Blocks, attention, ALiBi and targets know nothing of images: another modality is one file like `image.py`.
"""

from extract.networks.data2vec2.checkpoint import load_data2vec2
from extract.networks.data2vec2.image import build_image_network
from extract.networks.data2vec2.named import NamedOutputs, build
from extract.networks.data2vec2.network import Data2Vec2, Data2Vec2Output
from extract.networks.data2vec2.settings import Data2Vec2Settings, ImageSettings

__all__ = [
    "Data2Vec2",
    "Data2Vec2Output",
    "Data2Vec2Settings",
    "ImageSettings",
    "NamedOutputs",
    "build",
    "build_image_network",
    "load_data2vec2",
]

BASE_LR = 5e-4
"""The thesis's, for all its transformers."""
