"""data2vec 2.0 image networks as teachers: dense features, in which every token of an image is a target."""

import dataclasses
import hashlib
import json
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from extract.teachers.base import Preprocessing, Teacher, freeze
from extract.teachers.data2vec2 import OFFICIAL_URLS
from extract.teachers.data2vec2.checkpoint import load_data2vec2
from extract.teachers.data2vec2.network import Data2Vec2
from extract.teachers.download import download
from shards.errors import BadInput

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class NamedOutputs(nn.Module):
    """A data2vec 2.0 network whose forward gives every target by name.

    layer_mean: (extra + tokens, dim), CLS kept inside the normalisation over tokens, as the thesis distils.
    layer_mean_no_cls: (tokens, dim), CLS dropped before it, as the paper trains; the patches' values differ too.
    tokens: (extra + tokens, dim), the last block's output; cls: (dim,), its first token; pooled: (dim,), the mean of
    its patch tokens.
    """

    def __init__(self, network: Data2Vec2) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> dict[str, Tensor]:
        """Every target of a batch; `cls` only where the network has extra tokens."""
        output = self.network(images)
        num_extra = self.network.settings.num_extra_tokens
        targets = {
            "layer_mean": self.network.layer_mean(output, keep_extra=True),
            "tokens": output.tokens,
            "pooled": output.tokens[:, num_extra:].mean(1),
        }
        if num_extra:
            targets |= {"layer_mean_no_cls": self.network.layer_mean(output, keep_extra=False)}
            targets |= {"cls": output.tokens[:, 0]}
        return targets


def load(spec: str, weights: str | None, image_size: int | None) -> Teacher:
    """The teacher `data2vec2` (base), `data2vec2-large` or `data2vec2-huge`, from the official file or `--weights`.

    A checkpoint says its own size, so the spec names only which official file is meant.
    """
    size = spec.partition("-")[2] or "base"
    path = Path(weights).expanduser() if weights and "://" not in weights else download(weights or OFFICIAL_URLS[size])
    network = load_data2vec2(path)
    settings = network.settings
    if settings.batch_norm_target_layer:
        raise BadInput(f"{path}: its targets depend on the batch (batch_norm_target_layer), so they cannot be stored")
    expected = getattr(settings, "input_size", 224)
    if image_size not in (None, expected):
        raise BadInput(
            f"--image_size {image_size}: the positions stored in {path} are for {expected} pixels; give that"
        )
    described = hashlib.sha256(json.dumps(dataclasses.asdict(settings), sort_keys=True).encode()).hexdigest()[:16]
    preprocessing = Preprocessing(expected, IMAGENET_MEAN, IMAGENET_STD)
    with torch.no_grad():
        return freeze(f"data2vec2-{size}", f"data2vec2/{described}", NamedOutputs(network), preprocessing, None)
