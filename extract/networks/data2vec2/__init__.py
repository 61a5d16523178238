"""data2vec 2.0 (Baevski et al. 2022, arXiv:2212.07525) in plain PyTorch: networks and a safe loader.

The facts come from facebookresearch/fairseq at commit 3d262bb, `examples/data2vec`; fairseq itself is not needed.
Blocks, attention, ALiBi and targets know no modality: another one is one file like `image.py` and `text.py`.
"""

from extract.networks.data2vec2.checkpoint import load_data2vec2
from extract.networks.data2vec2.image import build_image_network
from extract.networks.data2vec2.named import ImageOutputs, NamedOutputs, TextOutputs, build, named
from extract.networks.data2vec2.network import Data2Vec2, Data2Vec2Output
from extract.networks.data2vec2.settings import Data2Vec2Settings, ImageSettings, TextSettings
from extract.networks.data2vec2.text import build_text_network

__all__ = [
    "Data2Vec2",
    "Data2Vec2Output",
    "Data2Vec2Settings",
    "ImageOutputs",
    "ImageSettings",
    "NamedOutputs",
    "TextOutputs",
    "TextSettings",
    "build",
    "build_image_network",
    "build_text_network",
    "load_data2vec2",
    "named",
]

BASE_LR = 5e-4
"""The thesis's, for all its transformers."""
