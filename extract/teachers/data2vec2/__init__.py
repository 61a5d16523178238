"""data2vec 2.0 (Baevski et al. 2022, arXiv:2212.07525) in plain PyTorch: the image network and a safe loader.

The facts come from facebookresearch/fairseq at commit 3d262bb, `examples/data2vec`; fairseq itself is not needed.
Blocks, attention, ALiBi and targets know nothing of images: another modality is one file like `image.py`.
"""

from extract.teachers.data2vec2.checkpoint import load_data2vec2
from extract.teachers.data2vec2.image import build_image_network
from extract.teachers.data2vec2.network import Data2Vec2, Data2Vec2Output
from extract.teachers.data2vec2.settings import Data2Vec2Settings, ImageSettings

# the pre-trained (not fine-tuned) files that fairseq's examples/data2vec/README.md lists for images
OFFICIAL_URLS = {
    "base": "https://dl.fbaipublicfiles.com/fairseq/data2vec2/base_imagenet.pt",
    "large": "https://dl.fbaipublicfiles.com/fairseq/data2vec2/large_imagenet.pt",
    "huge": "https://dl.fbaipublicfiles.com/fairseq/data2vec2/huge_imagenet.pt",
}

__all__ = [
    "OFFICIAL_URLS",
    "Data2Vec2",
    "Data2Vec2Output",
    "Data2Vec2Settings",
    "ImageSettings",
    "build_image_network",
    "load_data2vec2",
]
