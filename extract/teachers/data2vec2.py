"""data2vec 2.0 networks as teachers: dense features, in which every token of an image or a text is a target."""

import dataclasses
import hashlib
import json
from pathlib import Path

import torch

from extract.modalities.base import InputSpec
from extract.modalities.image import IMAGENET_MEAN, IMAGENET_STD, ImageInput
from extract.networks.data2vec2 import Data2Vec2, ImageSettings, load_data2vec2, named
from extract.teachers.base import Teacher, freeze
from extract.teachers.download import located
from shards.errors import BadInput

__all__ = ["OFFICIAL_URLS", "load", "load_data2vec2"]

# the pre-trained (not fine-tuned) files that fairseq's examples/data2vec/README.md lists for images
OFFICIAL_URLS = {
    "base": "https://dl.fbaipublicfiles.com/fairseq/data2vec2/base_imagenet.pt",
    "large": "https://dl.fbaipublicfiles.com/fairseq/data2vec2/large_imagenet.pt",
    "huge": "https://dl.fbaipublicfiles.com/fairseq/data2vec2/huge_imagenet.pt",
}


def load(spec: str, weights: str | None, image_size: int | None, weights_key: str = "student") -> Teacher:
    """The teacher `data2vec2` (base), `data2vec2-large` or `data2vec2-huge`, from the official file or `--weights`.

    A checkpoint says its own size, so the spec names only which official file is meant. `weights_key` is `student` (as
    all official feature extraction, and the default) or `ema`.
    """
    size = spec.partition("-")[2] or "base"
    path = located(weights or OFFICIAL_URLS[size])
    network = load_data2vec2(path, weights_key)
    settings = network.settings
    if not isinstance(settings, ImageSettings):
        raise BadInput(f"{path}: expected an image checkpoint, found one for text; give --teacher data2vec2-text")
    expected = settings.input_size
    if image_size not in (None, expected):
        raise BadInput(
            f"--image_size {image_size}: the positions stored in {path} are for {expected} pixels; give that"
        )
    return frozen(f"data2vec2-{size}", path, network, ImageInput(expected, IMAGENET_MEAN, IMAGENET_STD))


def frozen(name: str, path: Path, network: Data2Vec2, inputs: InputSpec) -> Teacher:
    """The network of the file `path` as a teacher; its settings are part of its identity, and build its students."""
    settings = network.settings
    if settings.batch_norm_target_layer:
        raise BadInput(f"{path}: its targets depend on the batch (batch_norm_target_layer), so they cannot be stored")
    described = dataclasses.asdict(settings)
    hashed = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:16]
    with torch.no_grad():
        teacher = freeze(name, f"data2vec2/{hashed}", named(network), inputs, None)
    return dataclasses.replace(teacher, settings=described)
