"""Dense: data2vec 2.0 teachers of seeded random weights in the official file's layout, as fast as trained ones."""

import dataclasses
from pathlib import Path
from typing import Any

import torch

from extract.networks.data2vec2 import Data2Vec2, ImageSettings, build_image_network

BASE = ImageSettings(
    depth=12,
    prenet_depth=0,
    embed_dim=768,
    num_heads=12,
    num_alibi_heads=12,
    norm_eps=1e-6,
    average_top_k_layers=12,
    num_extra_tokens=1,
    instance_norm_target_layer=True,
    layer_norm_targets=True,
    input_size=224,
    patch_size=16,
    local_embed_dim=768,
)
"""The layout that the released base file seems to have, its targets the mean of all layers, as the thesis distils."""
QUICK = dataclasses.replace(
    BASE, depth=2, embed_dim=32, num_heads=4, num_alibi_heads=4, local_embed_dim=32, input_size=32
)


def settings_for(image_size: int) -> ImageSettings:
    """The base network's settings, or those of a tiny one where images are smaller than its 224 pixels."""
    return BASE if image_size == BASE.input_size else dataclasses.replace(QUICK, input_size=image_size)


def write_data2vec2(path: Path, settings: ImageSettings, seed: int = 0) -> Path:
    """A checkpoint that `--teacher data2vec2 --weights PATH` loads."""
    torch.manual_seed(seed)
    return write_checkpoint(path, build_image_network(settings))


def write_checkpoint(path: Path, network: Data2Vec2) -> Path:
    """An image network in the official file's layout."""
    values: dict[str, Any] = dataclasses.asdict(network.settings)
    image = {**values, "embed_dim": values.pop("local_embed_dim")}
    model = {**values, "modalities": {"image": image}}
    tensors = {_official(name): tensor for name, tensor in network.state_dict().items()}
    torch.save({"cfg": {"model": model}, "model": tensors}, path)
    return path


def _official(name: str) -> str:
    if not name.startswith("encoder."):
        return name
    name = name.replace("encoder.positions", "encoder.fixed_positional_encoder.positions")
    return f"modality_encoders.IMAGE.{name.removeprefix('encoder.')}"
